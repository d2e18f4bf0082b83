"""Training on from a checkpoint, by either implementation, is the training in one, to the bit."""

from pathlib import Path

import pytest

from spec import parameters
from spec.command import main, session

EXPERIMENT = ("hello-stacked-lstm-dropout", "--seed", "3")
IMPLEMENTATIONS = ("torch_impl", "flax_impl")


def arrays(directory: str) -> dict[str, bytes]:
    found, _ = parameters.load(Path(directory, "checkpoint.safetensors"))
    return {name: array.tobytes() for name, array in found.items()}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_prolonged_run_is_the_long_run(implementation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "loss_plot", lambda *_: b"a plot")
    assert main(implementation, [*EXPERIMENT, "--epochs", "8", "--out", "a"]) in (0, 1)
    assert main(implementation, ["--resume", "--out", "a", "--epochs", "20"]) in (0, 1)
    assert main(implementation, [*EXPERIMENT, "--epochs", "20", "--out", "b"]) in (0, 1)
    assert arrays("a") == arrays("b")


@pytest.mark.needs("torch", "flax")
@pytest.mark.parametrize("first", IMPLEMENTATIONS)
def test_the_other_one_may_prolong_it(first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "loss_plot", lambda *_: b"a plot")
    second = next(name for name in IMPLEMENTATIONS if name != first)
    assert main(first, [*EXPERIMENT, "--epochs", "8", "--out", "a"]) in (0, 1)
    assert main(second, ["--resume", "--out", "a", "--epochs", "20"]) in (0, 1)
    assert main(second, ["--resume", "--out", "a"]) in (0, 1)
