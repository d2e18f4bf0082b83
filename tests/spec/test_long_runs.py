"""Checkpoints within an epoch, by time and by step, the best and those before; and what becomes of damaged ones."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from spec import files, parameters
from spec.command import routine, session
from spec.command.routine import Routine, Segment, due, segments
from spec.command.run_directory import Progress, RunDirectory
from spec.experiment import Experiment, load, override
from spec.training import State

Run = Callable[..., Any]
"""See the fixture `run` in conftest.py."""

HERE = Path(__file__).parent
LSTM = load("ragged-lstm")
"""Ten steps an epoch."""

EVERY_FOUR = ("ragged-lstm", "--epochs", 3, "--seed", 5, "--checkpoint-steps", 4)


def metrics(directory: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(directory, "metrics.jsonl").read_text().splitlines()]


def arrays(file: str) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in parameters.load(Path(file))[0].items()}


def steps(directory: str) -> list[str]:
    """Of the checkpoints that are kept beside the newest."""
    return [str(int(path.stem.removeprefix("step-"))) for path in kept(directory)]


def kept(directory: str) -> list[Path]:
    return RunDirectory(Path(directory)).kept_files()


def epochs_of(epochs: int, each: int) -> Experiment:
    return override(LSTM, training__epochs=epochs, training__steps_per_epoch=each)


@pytest.mark.parametrize("each", [1, 3, 10, 90])
@pytest.mark.parametrize("saved", [None, 1, 3, 4, 10, 25])
@pytest.mark.parametrize("patience", [None, 2])
@pytest.mark.parametrize("longest", [1, 7, 10**5])
def test_segments_are_cut_at_the_same_steps_wherever_a_training_stands(
    each: int, saved: int | None, patience: int | None, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routine, "MOST_STEPS", longest)
    experiment = epochs_of(13, each)
    asked = Routine(checkpoint_steps=saved, patience=patience)
    found = list(segments(experiment, asked, 0))
    lengths = [segment.steps(experiment.training) for segment in found]
    assert sum(lengths) == 13 * each
    cuts = np.cumsum(lengths).tolist()
    for index, at in enumerate([0, *cuts[:-1]]):
        if index % max(1, len(found) // 20) == 0:
            assert list(segments(experiment, asked, at)) == found[index:]
    # Who compiles does so once for each of few lengths; a part is never compiled as an epoch.
    assert len(set(found)) <= 4
    assert all(segment.part is None or 0 < segment.part < each for segment in found)
    if saved is not None and saved < each:
        assert {epoch * each + step for epoch in range(13) for step in range(saved, each, saved)} <= set(cuts)
    if patience:
        assert {each * epoch for epoch in range(1, 14)} <= set(cuts)


def test_an_epoch_that_is_too_long_for_a_call_is_cut_into_equal_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routine, "MOST_STEPS", 8)
    assert list(segments(epochs_of(1, 24), Routine(), 0)) == [Segment(1, 8)] * 3
    monkeypatch.setattr(routine, "MOST_STEPS", 100_000)
    large = override(LSTM, model__hidden_size=500, task__batch_size=100, training__epochs=1)
    large = override(large, training__steps_per_epoch=1000)
    most = max(segment.part or 1000 for segment in segments(large, Routine(), 0))
    assert most * large.multiplications_per_step <= routine.MOST_MULTIPLICATIONS


@pytest.mark.parametrize(
    ("asked", "step", "minutes", "expected"),
    [
        (Routine(), 10, 0.0, True),
        (Routine(), 7, 0.0, False),
        (Routine(), 7, routine.MINUTES, True),
        (Routine(checkpoint_steps=4), 8, 0.0, True),
        (Routine(checkpoint_steps=4), 10, 0.0, True),
        (Routine(checkpoint_steps=4), 12, 0.0, False),
        (Routine(checkpoint_steps=4), 12, 1e9, False),
        (Routine(checkpoint_steps=25), 10, 0.0, False),
        (Routine(checkpoint_steps=25), 20, 0.0, True),
        (Routine(checkpoint_minutes=2.0), 10, 1.9, False),
        (Routine(checkpoint_minutes=2.0), 7, 2.0, True),
        (Routine(checkpoint_minutes=2.0, checkpoint_steps=4), 4, 0.0, True),
        (Routine(checkpoint_minutes=2.0), 30, 0.0, True),
    ],
)
def test_when_a_checkpoint_is_due(asked: Routine, step: int, minutes: float, expected: bool) -> None:
    assert due(asked, epochs_of(3, 10).training, step, minutes) is expected


def test_a_run_with_checkpoints_within_epochs_has_the_records_of_one_without(run: Run, fake: ModuleType) -> None:
    assert run(*EVERY_FOUR, "--out", "a").code == 0
    assert [call for call in fake.calls if call[0] == "train"] == [("train", 1)] * 9
    assert run("ragged-lstm", "--epochs", 3, "--seed", 5, "--out", "b").code == 0
    a, b = ([event for event in metrics(name) if event["event"] == "epoch"] for name in "ab")
    assert [event["loss"] for event in a] == pytest.approx([event["loss"] for event in b], rel=1e-12)
    assert [event["evaluation_loss"] for event in a] == [event["evaluation_loss"] for event in b]
    assert arrays("a/parameters.safetensors") == arrays("b/parameters.safetensors")


@pytest.mark.parametrize("stop", range(2, 30, 3))
def test_a_run_that_is_stopped_anywhere_has_the_bits_of_one_that_is_not(run: Run, fake: ModuleType, stop: int) -> None:
    fake.behaviour.interrupted_at_step = stop
    outcome = run(*EVERY_FOUR, "--out", "a")
    assert outcome.code == 130
    saved = max(cut for cut in (0, 4, 8, 10, 14, 18, 20, 24, 28) if cut < stop)
    assert (f"step {saved} of 30 is saved" if saved % 10 else f"epoch {saved // 10} of 3 is saved") in outcome.err
    fake.behaviour.interrupted_at_step = None
    outcome = run("--resume", "--out", "a")
    assert outcome.code == 0
    assert (f"resumed after step {saved}\n" if saved % 10 else f"resumed after epoch {saved // 10}\n") in outcome.out
    run(*EVERY_FOUR, "--out", "b")
    for file in ("checkpoint.safetensors", "parameters.safetensors", "best.safetensors"):
        assert parameters.load(Path("a", file))[1] == parameters.load(Path("b", file))[1]
        assert arrays(f"a/{file}") == arrays(f"b/{file}")
    epochs = [[event for event in metrics(name) if event["event"] == "epoch"] for name in "ab"]
    assert epochs[0] == epochs[1]
    starts = [event["steps_done"] for event in metrics("a") if event["event"] == "start"]
    assert starts == ([0, saved] if saved else [0])


def test_as_many_are_kept_as_are_asked_for(run: Run) -> None:
    assert run(*EVERY_FOUR, "--keep", 4, "--out", "a").code == 0
    assert steps("a") == ["28", "24", "20"]
    assert run(*EVERY_FOUR, "--out", "b").code == 0
    assert steps("b") == ["28"]
    assert run(*EVERY_FOUR, "--keep", 1, "--out", "c").code == 0
    assert steps("c") == []
    assert run("--resume", "--out", "a", "--keep", 2).code == 0
    for file in kept("a"):
        saved = RunDirectory(Path("a"))
        saved.checkpoint_file = file
        assert saved.load_checkpoint(saved.experiment()).state.step in (20, 24, 28)


def test_by_time_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Progress, "judged", lambda self, *_: self)  # None is the best, which would be a reason too.
    assert run("ragged-lstm", "--epochs", 3, "--checkpoint-minutes", 60, "--out", "a").code == 0
    assert steps("a") == ["0"]
    assert run("ragged-lstm", "--epochs", 3, "--checkpoint-minutes", 1e-9, "--out", "b").code == 0
    assert steps("b") == ["20"]


def test_what_was_not_due_is_saved_when_a_signal_comes(run: Run, fake: ModuleType, monkeypatch: Any) -> None:
    monkeypatch.setattr(Progress, "judged", lambda self, *_: self)
    fake.behaviour.interrupted_at_step = 25
    outcome = run("ragged-lstm", "--epochs", 3, "--checkpoint-minutes", 60, "--out", "a")
    assert outcome.code == 130
    assert "interrupted; epoch 2 of 3 is saved" in outcome.err


def test_where_it_cannot_be_saved_then_the_line_says_so(run: Run, fake: ModuleType, monkeypatch: Any) -> None:
    monkeypatch.setattr(Progress, "judged", lambda self, *_: self)
    fake.behaviour.interrupted_at_step = 25
    real = RunDirectory.save_checkpoint

    def full(directory: RunDirectory, checkpoint: Any) -> None:
        if checkpoint.origin.steps:
            raise session.UsageError("a: cannot be written: No space left on device")
        real(directory, checkpoint)

    monkeypatch.setattr(RunDirectory, "save_checkpoint", full)
    outcome = run("ragged-lstm", "--epochs", 3, "--checkpoint-minutes", 60, "--out", "a")
    assert outcome.err.startswith(
        "interrupted; the newest checkpoint is lost (a: cannot be written: No space left on device); epoch 0 of 3 is "
    )
    assert outcome.err.count("\n") == 1


def cut_short(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[-3] ^= 4
    return bytes(changed)


@pytest.fixture
def stopped(run: Run, fake: ModuleType) -> str:
    """A run whose newest checkpoint is of step 18, the one before of step 14."""
    fake.behaviour.interrupted_at_step = 19
    assert run(*EVERY_FOUR, "--out", "a").code == 130
    fake.behaviour.interrupted_at_step = None
    assert steps("a") == ["14"]
    return "a"


@pytest.mark.parametrize("damage", [cut_short, flipped, lambda _: b"", lambda _: b"a text"])
def test_a_damaged_checkpoint_falls_back_on_the_one_before(
    run: Run, stopped: str, damage: Callable[[bytes], bytes]
) -> None:
    newest = Path(stopped, "checkpoint.safetensors")
    newest.write_bytes(damage(newest.read_bytes()))
    wrong = newest.read_bytes()
    outcome = run("--resume", "--out", stopped)
    assert outcome.code == 0
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("warning: a/checkpoint.safetensors: expected ")
    assert outcome.err.endswith("; going on from the checkpoint before it, of step 14\n")
    assert Path(stopped, "checkpoint.damaged").read_bytes() == wrong
    run(*EVERY_FOUR, "--out", "b")
    for file in ("checkpoint.safetensors", "best.safetensors"):
        assert arrays(f"a/{file}") == arrays(f"b/{file}")


def test_one_that_is_gone_falls_back_too(run: Run, stopped: str) -> None:
    Path(stopped, "checkpoint.safetensors").unlink()
    assert "of step 14" in run("--resume", "--out", stopped).err
    assert not Path(stopped, "checkpoint.damaged").exists()


def test_where_all_are_damaged_it_is_refused_and_nothing_is_lost(run: Run, stopped: str) -> None:
    for file in [Path(stopped, "checkpoint.safetensors"), *kept(stopped)]:
        file.write_bytes(cut_short(file.read_bytes()))
    before = {path: path.read_bytes() for path in Path(stopped).rglob("*") if path.is_file()}
    outcome = run("--resume", "--out", stopped)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "error: a/checkpoint.safetensors: expected a safetensors file, got one that cannot be read" in outcome.err
    assert {path: path.read_bytes() for path in Path(stopped).rglob("*") if path.is_file()} == before


def test_a_foreign_checkpoint_is_refused_even_where_there_is_one_to_fall_back_on(run: Run, stopped: str) -> None:
    run("ragged-lstm", "--epochs", 3, "--seed", 6, "--out", "other")
    foreign = Path("other/checkpoint.safetensors").read_bytes()
    Path(stopped, "checkpoint.safetensors").write_bytes(foreign)
    outcome = run("--resume", "--out", stopped)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "got" in outcome.err
    assert Path(stopped, "checkpoint.safetensors").read_bytes() == foreign


def test_a_checkpoint_of_the_format_before_is_refused(run: Run, stopped: str) -> None:
    file = Path(stopped, "checkpoint.safetensors")
    found, metadata = parameters.load(file)
    parameters.save(file, found, {**metadata, "format": "2"})
    outcome = run("--resume", "--out", stopped)
    assert outcome.err == f"error: {file}: expected a checkpoint of format 3, got format 2: of another version\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--checkpoint-steps", 5), "--checkpoint-steps: expected 4, as in a, got 5"),
        (("--patience", 5), "--patience: expected none, as in a, got 5"),
        (
            ("--validate-epochs", 5),
            "--validate-epochs: expected an experiment whose task keeps data for it, got ragged-lstm, whose task is "
            "Echo: its evaluation after each epoch has all there is",
        ),
    ],
)
def test_what_decides_about_cuts_and_ends_stays(run: Run, stopped: str, arguments: Any, message: str) -> None:
    outcome = run("--resume", "--out", stopped, *arguments)
    assert (outcome.code, outcome.err) == (2, f"error: {message}\n")


def test_the_best_is_the_lowest_evaluation_and_not_the_newest(run: Run, fake: ModuleType) -> None:
    """The fake implementation's evaluations fall and rise; the best of a chunk's ends is kept with all its slots."""
    fake.behaviour.solves_at_step = None
    assert run(*EVERY_FOUR, "--keep", 9, "--out", "a").code == 1
    losses = {event["epoch"]: event["evaluation_loss"] for event in metrics("a") if event["event"] == "epoch"}
    best = min(losses, key=lambda epoch: losses[epoch])
    directory = RunDirectory(Path("a"))
    directory.checkpoint_file = directory.best_file
    found = directory.load_checkpoint(directory.experiment())
    assert (found.origin.epochs, found.origin.progress.best) == (best, losses[best])
    assert len(found.state.slots) == 2 * len(found.state.parameters)


def falling_until(fake: ModuleType, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Have the fake implementation's evaluations fall up to that step, and rise from then on."""
    real = fake.answer

    def answer(experiment: Experiment, batch: Any, state: State) -> np.ndarray:
        return real(experiment, batch, state) * (1.0 / (1 + abs(state.step - step)) + 0.01)

    monkeypatch.setattr(fake, "answer", answer)


@pytest.mark.parametrize("stop", [None, 5, 25, 33, 45, 55])
def test_patience_ends_a_run_and_is_resumed(
    run: Run, fake: ModuleType, monkeypatch: pytest.MonkeyPatch, stop: int | None
) -> None:
    falling_until(fake, monkeypatch, 30)
    fake.behaviour.interrupted_at_step = stop
    outcome = run("ragged-lstm", "--epochs", 12, "--patience", 3, "--out", "a")
    if stop:
        assert outcome.code == 130
        fake.behaviour.interrupted_at_step = None
        outcome = run("--resume", "--out", "a")
    assert outcome.code == 0
    assert "stopped after epoch 6: no lower loss in 3 evaluations than" in outcome.out
    assert [event["epoch"] for event in metrics("a") if event["event"] == "epoch"] == [1, 2, 3, 4, 5, 6]
    assert metrics("a")[-1] == {"event": "end", "reached": True, "exit_code": 0, "stopped_after": 6}
    assert parameters.load(Path("a/best.safetensors"))[1]["steps"] == "30"
    assert parameters.load(Path("a/checkpoint.safetensors"))[1]["steps"] == "60"
    again = run("--resume", "--out", "a")
    assert (again.code, "stopped after epoch 6 already" in again.out) == (0, True)
    assert metrics("a")[-1]["stopped_after"] == 6


def test_without_patience_it_goes_on(run: Run, fake: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    falling_until(fake, monkeypatch, 30)
    assert run("ragged-lstm", "--epochs", 12, "--out", "a").code == 0
    assert [event["epoch"] for event in metrics("a") if event["event"] == "epoch"] == list(range(1, 13))


def test_a_loss_that_is_not_finite_within_an_epoch(run: Run, fake: ModuleType) -> None:
    fake.behaviour.nan_at_step = 16
    outcome = run(*EVERY_FOUR, "--out", "a")
    assert outcome.code == 4
    assert "the loss is nan in epoch 2, at step 16; a/checkpoint.safetensors stands at step 14" in outcome.err


def test_killed_at_every_write() -> None:
    """At every fourth of them; `make test-kills` has all."""
    done = subprocess.run(
        [sys.executable, str(HERE / "kill_everywhere.py"), "--stride", "5"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    for operation in ("fsync", "replace", "unlink", "write_bytes"):
        assert operation in done.stdout


def test_a_file_system_without_links(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    assert run(*EVERY_FOUR, "--keep", 3, "--out", "a").code == 0
    assert steps("a") == ["28", "24"]
    assert arrays("a/best.safetensors")


@pytest.mark.parametrize("number", [28, 122])
def test_a_full_disk_while_one_is_kept(run: Run, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", none)
        outcome = run(*EVERY_FOUR, "--out", "a")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert os.strerror(number) in outcome.err
    assert run("--resume", "--out", "a").code == 0
    run(*EVERY_FOUR, "--out", "b")
    assert arrays("a/checkpoint.safetensors") == arrays("b/checkpoint.safetensors")


def test_a_link_replaces_what_stands_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    files.link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "new"
    with pytest.raises(files.UsageError, match="cannot be written"):
        files.link(tmp_path / "none", tmp_path / "b")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
