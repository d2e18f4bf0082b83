"""What comes at the end of a run: a file that cannot be written costs itself, neither verdict nor checkpoint."""

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from spec import files, parameters
from spec.command import ensemble, session
from spec.command.run_directory import RunDirectory
from spec.errors import UsageError
from spec.exit_codes import REACHED, UNDERPOWERED
from spec.experiment import load

Run = Callable[..., Any]
"""See the fixture `run` in conftest.py."""


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the disk be full for files whose path ends so."""

    def fill(name: str) -> None:
        real = files.replacing

        def replacing(path: Path, lasting: bool = True) -> Any:
            if str(path).endswith(name):
                raise UsageError(f"{path}: cannot be written: No space left on device")
            return real(path, lasting)

        monkeypatch.setattr(files, "replacing", replacing)

    return fill


@pytest.mark.parametrize(("solves", "code", "words"), [(1, 0, "Reached: "), (None, 1, "Missed: ")])
@pytest.mark.parametrize(
    "error", [ImportError("no matplotlib"), ValueError("Key backend: 'foo'"), OSError(28, "No space"), MemoryError()]
)
def test_a_picture_that_cannot_be_drawn_costs_the_picture(
    run: Run, fake: ModuleType, monkeypatch: pytest.MonkeyPatch, error: Exception, solves: Any, code: int, words: str
) -> None:
    def fail(*_: object) -> bytes:
        raise error

    fake.behaviour.solves_at_step = solves
    monkeypatch.setattr(session, "loss_plot", fail)
    monkeypatch.setattr(ensemble, "ensemble_plot", fail)
    for arguments, picture in (((), "a/loss.png"), (("--seeds", 3), "b/ensemble.png")):
        outcome = run("hello-gru", *arguments, "--out", picture[0])
        # Three seeds that all learn are too few to say so of 99 %.
        few = bool(arguments) and code == REACHED
        assert outcome.code == (UNDERPOWERED if few else code)
        assert outcome.out.splitlines()[-1].startswith("Underpowered: " if few else words)
        assert outcome.err.startswith(f"warning: no {picture}: {type(error).__name__}")
        assert outcome.err.count("\n") == 1
        assert not Path(picture).exists()
    assert Path("a/parameters.safetensors").exists()
    assert Path("b/summary.json").exists()


def test_a_picture_that_cannot_be_written_costs_the_picture(run: Run, full: Callable[[str], None]) -> None:
    full("loss.png")
    outcome = run("hello-gru", "--out", "a")
    assert outcome.code == 0
    assert outcome.err == "warning: no a/loss.png: a/loss.png: cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("file", "arguments"),
    [
        ("a/parameters.safetensors", ()),
        ("w.safetensors", ("--export-weights", "w.safetensors")),
        ("a/summary.json", ("--seeds", 3)),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_file_that_cannot_be_written_at_the_end_is_told_after_the_verdict(
    run: Run, full: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, file: str, arguments: Any, as_json: bool
) -> None:
    monkeypatch.setattr(ensemble, "ensemble_plot", lambda *_: b"a plot")
    full(file)
    outcome = run("hello-gru", *arguments, "--out", "a", *(["--json"] if as_json else []))
    assert outcome.code == 2
    assert f"{file}: cannot be written: No space left on device" in outcome.err
    assert outcome.err.count("\n") == 1
    if as_json:
        assert (outcome.events[-1]["event"], outcome.events[-1]["reached"]) == ("end", "--seeds" not in arguments)
    else:
        word = "Underpowered" if "--seeds" in arguments else "Reached"
        assert outcome.out.splitlines()[-1].startswith(f"{word}: ")
    if "--seeds" not in arguments:
        assert RunDirectory(Path("a")).load_checkpoint(load("hello-gru")).origin.epochs == 60
    monkeypatch.undo()


def test_weights_are_exported_through_a_link(run: Run) -> None:
    Path("kept").mkdir()
    Path("link").symlink_to("kept/w")
    assert run("hello-gru", "--epochs", 2, "--export-weights", "link", "--out", "a").code == 0
    assert os.readlink("link") == "kept/w"
    assert os.listdir("kept") == ["w"]
    exported, _ = parameters.load(Path("kept/w"))
    final, _ = parameters.load(Path("a/parameters.safetensors"))
    assert {n: a.tobytes() for n, a in exported.items()} == {n: a.tobytes() for n, a in final.items()}


def test_a_second_resumption_is_told_who_has_the_directory(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("hello-gru", "--epochs", 2, "--out", "a")
    real, second = session.loss_plot, []

    def meanwhile(*arguments: Any) -> bytes:
        if not second:
            second.append(None)
            second[0] = run("--resume", "--out", "a")
        return real(*arguments)

    monkeypatch.setattr(session, "loss_plot", meanwhile)
    assert run("--resume", "--out", "a").code == 0
    assert second[0].code == 2
    assert f"a: expected a directory that nobody uses, got one in use by process {os.getpid()} on " in second[0].err


@pytest.mark.parametrize("arguments", [(), ("--seeds", 2)])
def test_a_second_run_in_a_new_directory_is_told_who_has_it(
    run: Run, fake: ModuleType, monkeypatch: pytest.MonkeyPatch, arguments: Any
) -> None:
    real, second = fake.train, []

    def meanwhile(*given: Any, **options: Any) -> Any:
        if not second:
            second.append(None)
            Path("a/checkpoint.safetensors").unlink(missing_ok=True)  # As if it had not begun yet.
            Path("a/ensemble.json").unlink(missing_ok=True)
            second[0] = run("hello-gru", *arguments, "--out", "a")
        return real(*given, **options)

    monkeypatch.setattr(ensemble, "ensemble_plot", lambda *_: b"a plot")
    monkeypatch.setattr(fake, "train", meanwhile)
    run("hello-gru", *arguments, "--out", "a")
    assert second[0].code == 2
    assert "--out a" in second[0].err or "expected a directory that nobody uses" in second[0].err
