"""Interrupting and resuming, and what is left of a training that went wrong."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from spec import parameters
from spec.command import session
from spec.command.run_directory import RunDirectory
from spec.experiment import load

Run = Callable[..., Any]
"""See the fixture `run` in conftest.py."""

GRU = load("hello-gru")


def metrics(directory: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(directory, "metrics.jsonl").read_text().splitlines()]


def arrays(file: str) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in parameters.load(Path(file))[0].items()}


@pytest.fixture
def interrupted(run: Run, fake: ModuleType) -> str:
    """A run of 61 epochs (seven a chunk) that was stopped in the middle of its fifth chunk."""
    fake.behaviour.interrupted_at_step = 32
    outcome = run("hello-gru", "--epochs", 61, "--seed", 5, "--out", "stopped")
    assert outcome.code == 130
    assert outcome.err == (
        "interrupted; epoch 28 of 61 is saved, go on with: python -m fake_impl.train --resume --out stopped\n"
    )
    assert "epoch 25/61" in outcome.out
    fake.behaviour.interrupted_at_step = None
    fake.calls.clear()
    return "stopped"


def test_an_interrupted_run_keeps_its_last_chunk(interrupted: str) -> None:
    saved = RunDirectory(Path(interrupted)).load_checkpoint(RunDirectory(Path(interrupted)).experiment())
    assert (saved.origin.epochs, saved.state.step) == (28, 28)
    events = metrics(interrupted)
    assert [event.get("epoch") for event in events] == [None, *range(1, 29), None]
    assert (events[-1]["event"], events[-1]["exit_code"]) == ("end", 130)
    assert {path.name for path in Path(interrupted).iterdir()} == {
        "experiment.json",
        "metrics.jsonl",
        "checkpoint.safetensors",
        "best.safetensors",
        "checkpoints",
    }


def test_resuming_gives_the_bits_of_an_uninterrupted_run(run: Run, fake: ModuleType, interrupted: str) -> None:
    outcome = run("--resume", "--out", interrupted)
    assert outcome.code == 0
    assert "resumed after epoch 28\n" in outcome.out
    assert [n for function, n in fake.calls if function == "train"] == [7, 7, 7, 7, 5]
    assert run("hello-gru", "--epochs", 61, "--seed", 5, "--out", "whole").code == 0
    for file in ("checkpoint.safetensors", "parameters.safetensors"):
        assert arrays(f"{interrupted}/{file}") == arrays(f"whole/{file}")
        ours, theirs = (parameters.load(Path(directory, file))[1] for directory in (interrupted, "whole"))
        assert ours == theirs
    epochs = [[e for e in metrics(directory) if e["event"] == "epoch"] for directory in (interrupted, "whole")]
    assert epochs[0] == epochs[1]
    assert [e["epochs_done"] for e in metrics(interrupted) if e["event"] == "start"] == [0, 28]


def test_a_run_stopped_between_metrics_and_checkpoint_repeats_no_epoch(run: Run, interrupted: str) -> None:
    line = {"event": "epoch", "epoch": 29, "loss": 9.0, "evaluation_loss": 9.0, "solved": False, "predicted": "?"}
    with Path(interrupted, "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line) + '\n{"event":"ep')
    assert run("--resume", "--out", interrupted).code == 0
    epochs = [event for event in metrics(interrupted) if event["event"] == "epoch"]
    assert [event["epoch"] for event in epochs] == list(range(1, 62))
    assert epochs[28]["loss"] != 9.0


def test_a_run_interrupted_before_its_first_chunk_can_be_resumed(run: Run, fake: ModuleType) -> None:
    fake.behaviour.interrupted_at_step = 2
    assert "epoch 0 of 60 is saved" in run("hello-gru", "--out", "a").err
    fake.behaviour.interrupted_at_step = None
    assert run("--resume", "--out", "a").code == 0
    run("hello-gru", "--out", "b")
    assert arrays("a/checkpoint.safetensors") == arrays("b/checkpoint.safetensors")
    assert [event["event"] for event in metrics("a")] == ["start", *["epoch"] * 60, "end"]


def test_interrupted_before_anything_began(run: Run, fake: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fake, "initialize", interrupt)
    outcome = run("--json")
    assert (outcome.code, outcome.err) == (130, "interrupted before anything was trained: Ctrl-C\n")
    assert outcome.events == [
        {
            "event": "end",
            "reached": False,
            "exit_code": 130,
            "error": "interrupted before anything was trained: Ctrl-C",
        }
    ]
    assert list(Path().iterdir()) == []


def test_interrupted_while_the_plot_is_drawn(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(session, "loss_plot", interrupt)
        outcome = run("hello-gru", "--out", "a")
    assert outcome.code == 130
    assert "epoch 60 of 60 is saved" in outcome.err
    assert run("--resume", "--out", "a").code == 0
    assert Path("a/loss.png").exists()


@pytest.mark.parametrize("solves", [1, None])
def test_resuming_a_finished_run_says_so_and_judges_it_again(run: Run, fake: ModuleType, solves: int | None) -> None:
    fake.behaviour.solves_at_step = solves
    first = run("hello-gru", "--out", "a")
    before = metrics("a")
    fake.calls.clear()
    again = run("--resume", "--out", "a", "--export-weights", "w.safetensors")
    assert again.code == first.code == (1 if solves is None else 0)
    assert "all 60 epochs are done already" in again.out
    assert again.out.splitlines()[-1] == first.out.splitlines()[-1]
    assert [name for name, _ in fake.calls] == ["describe"]
    assert metrics("a") == before
    assert arrays("w.safetensors") == arrays("a/parameters.safetensors")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seed", "6"), "--seed: expected 5, as in stopped, got 6"),
        (("--precision", "float64"), "--precision: expected float32, as in stopped, got float64"),
        (("--epochs", "60"), "--epochs: expected at least 61, as in stopped, got 60"),
        (("--epochs", "70", "--learning-rate", "0.5"), "optimizer.learning_rate: expected 0.05, got 0.5"),
        (("hello-lstm", "--epochs", "70"), "name: expected 'hello-gru', got 'hello-lstm'"),
        (("--learning-rate", "0.5"), "training.optimizer.learning_rate: expected 0.05, got 0.5"),
        (("hello-gru",), "training.epochs: expected 61, got 60"),
        (("hello-lstm",), "name: expected 'hello-gru', got 'hello-lstm'"),
    ],
)
def test_resuming_as_something_else_is_refused(
    run: Run, fake: ModuleType, interrupted: str, arguments: tuple[str, ...], message: str
) -> None:
    before = Path(interrupted, "metrics.jsonl").read_bytes()
    outcome = run(*arguments, "--resume", "--out", interrupted)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert fake.calls == []
    assert Path(interrupted, "metrics.jsonl").read_bytes() == before


def test_a_refused_experiment_is_named_with_both_hashes(run: Run, interrupted: str) -> None:
    there = RunDirectory(Path(interrupted)).experiment().hash
    err = run("hello-gru", "--resume", "--out", interrupted).err
    assert f"expected hello-gru (spec {there})" in err
    assert f"got hello-gru (spec {GRU.hash})" in err


def test_saying_the_same_again_is_fine(run: Run, interrupted: str) -> None:
    arguments = ("hello-gru", "--epochs", 61, "--seed", 5, "--precision", "float32")
    assert run(*arguments, "--resume", "--out", interrupted).code == 0


def test_another_implementation_may_go_on_and_is_recorded(
    run: Run, fake: ModuleType, interrupted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "other_impl", fake)
    outcome = run("--resume", "--out", interrupted, implementation="other_impl")
    assert outcome.code == 0
    assert "resumed after epoch 28 by fake_impl" in outcome.out
    starts = [event for event in metrics(interrupted) if event["event"] == "start"]
    assert [(s["implementation"], s["epochs_done"]) for s in starts] == [("fake_impl", 0), ("other_impl", 28)]
    assert parameters.load(Path(interrupted, "checkpoint.safetensors"))[1]["implementation"] == "other_impl"


def test_a_non_finite_loss_is_exit_4_and_keeps_what_was_finite(run: Run, fake: ModuleType) -> None:
    fake.behaviour.nan_at_step = 27
    outcome = run("hello-gru", "--json", "--out", "a")
    assert outcome.code == 4
    message = "the loss is nan in epoch 27, at step 27; a/checkpoint.safetensors stands at epoch 24"
    assert outcome.err == f"error: {message}\n"
    assert [event.get("epoch") for event in outcome.events] == [None, *range(1, 27), None]
    assert outcome.events[-1] == {"event": "end", "reached": False, "exit_code": 4, "error": message}
    assert metrics("a") == outcome.events
    saved = RunDirectory(Path("a")).load_checkpoint(GRU)
    assert saved.origin.epochs == 24
    assert all(np.isfinite(array).all() for array in saved.state.parameters.values())
    assert not Path("a/parameters.safetensors").exists()


def test_a_non_finite_evaluation_is_exit_4(run: Run, fake: ModuleType) -> None:
    fake.behaviour.infinite_logits_at_step = 60
    outcome = run("hello-gru")
    assert outcome.code == 4
    assert "the evaluation loss is nan after epoch 60" in outcome.err


def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = Path.write_bytes, []

    def fill_up(self: Path, data: bytes) -> int:
        calls.append(self.name)
        if len(calls) > 5:  # A run's first three files, and the checkpoints of two chunks.
            real(self, data[:10])
            raise OSError(28, "No space left on device")
        return real(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fill_up)
        outcome = run("hello-gru", "--out", "a")
    assert outcome.code == 2
    assert outcome.err == "error: a/checkpoint.safetensors: cannot be written: No space left on device\n"
    assert RunDirectory(Path("a")).load_checkpoint(GRU).origin.epochs == 12
    assert not [path for path in Path("a").iterdir() if path.name.endswith(".partial")]
    assert run("--resume", "--out", "a").code == 0
