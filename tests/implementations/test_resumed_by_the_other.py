"""A run that one framework began, within an epoch, and the other goes on with: the same next steps, by both.

In float64 six steps from the same state agree to rounding: a slot, a step's number or a batch that is lost on the way
is off by its own size.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spec import parameters
from spec.command import main, session
from spec.command.events import Start
from spec.command.run_directory import Checkpoint, RunDirectory
from spec.command.session import Saver
from spec.experiment import load, override, to_toml

ARGUMENTS = ("--seed", "3", "--epochs", "2", "--precision", "float64", "--checkpoint-steps", "4")

NAME = "ragged-lstm"
"""Ten steps an epoch, with lengths, states that batches begin with, and batches that differ."""

MIXED = "mixed.toml"
"""The same, with products of numbers rounded to bfloat16."""

IMPLEMENTATIONS = ("torch_impl", "flax_impl")

ROUNDING = 1e-12
"""Relative to each tensor's largest element, after six steps. Seen: 1.4e-15. Losses of a whole trajectory agree to 1e-9
in float64 by the check of that name."""

STOPPED_AT = 14
"""The step of the last checkpoint: in the second epoch."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "loss_plot", lambda *_: b"a plot")
    Path(MIXED).write_text(to_toml(override(load(NAME), model__mixed_precision="bfloat16")))
    return tmp_path


def begin(implementation: str, directory: str, monkeypatch: pytest.MonkeyPatch, experiment: str = NAME) -> None:
    """Train, and be stopped after that step."""
    offer = Saver.offer

    def stop(saver: Saver, checkpoint: Checkpoint) -> None:
        offer(saver, checkpoint)
        if checkpoint.origin.steps == STOPPED_AT:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Saver, "offer", stop)
        assert main(implementation, [experiment, *ARGUMENTS, "--out", directory]) == 130


def final(directory: str) -> dict[str, np.ndarray]:
    """Parameters and slots."""
    arrays, metadata = parameters.load(Path(directory, "checkpoint.safetensors"))
    assert metadata["steps"] == "20"
    return arrays


def largest_difference(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """Of any tensor, relative to its largest element."""
    assert one.keys() == other.keys()
    return max(float(np.abs(a - other[name]).max() / np.abs(a).max()) for name, a in one.items() if a.any())


@pytest.mark.by_default("*-ragged-lstm")
@pytest.mark.needs("torch", "flax")
@pytest.mark.parametrize("experiment", [NAME, MIXED])
@pytest.mark.parametrize("first", IMPLEMENTATIONS)
def test_both_go_on_alike(
    first: str, experiment: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    second = next(name for name in IMPLEMENTATIONS if name != first)
    begin(first, "a", monkeypatch, experiment)
    begin(first, "b", monkeypatch, experiment)
    assert main(first, ["--resume", "--out", "a"]) in (0, 1)
    capsys.readouterr()
    assert main(second, ["--resume", "--out", "b"]) in (0, 1)
    assert f"resumed after step {STOPPED_AT} by {first}\n" in capsys.readouterr().out
    assert largest_difference(final("a"), final("b")) < ROUNDING
    starts = [event.implementation for event in RunDirectory(Path("b")).events() if isinstance(event, Start)]
    assert starts == [first, second]


@pytest.mark.by_default("*flax*")
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_rounded_products_go_on_to_the_bit(implementation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(implementation, "a", monkeypatch, MIXED)
    assert main(implementation, ["--resume", "--out", "a"]) in (0, 1)
    assert main(implementation, [MIXED, *ARGUMENTS, "--out", "b"]) in (0, 1)
    assert main(implementation, [NAME, *ARGUMENTS, "--out", "full"]) in (0, 1)
    one, other, full = final("a"), final("b"), final("full")
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], name)
    assert largest_difference(one, full) > 1e-4


def no_slots(checkpoint: Checkpoint) -> Checkpoint:
    """Of a resumption that forgets what the optimizer kept."""
    slots = {name: np.zeros_like(array) for name, array in checkpoint.state.slots.items()}
    return checkpoint._replace(state=checkpoint.state._replace(slots=slots))


def no_place(checkpoint: Checkpoint) -> Checkpoint:
    """Of one that begins the epoch's batches anew, and the schedule."""
    return checkpoint._replace(state=checkpoint.state._replace(step=STOPPED_AT - 4))


@pytest.mark.needs("torch")
@pytest.mark.parametrize("loses", [no_slots, no_place])
def test_what_is_lost_is_seen(loses: Callable[[Checkpoint], Checkpoint], monkeypatch: pytest.MonkeyPatch) -> None:
    begin("torch_impl", "a", monkeypatch)
    begin("torch_impl", "b", monkeypatch)
    assert main("torch_impl", ["--resume", "--out", "a"]) in (0, 1)
    whole = RunDirectory.load_checkpoint
    monkeypatch.setattr(RunDirectory, "load_checkpoint", lambda self, experiment: loses(whole(self, experiment)))
    main("torch_impl", ["--resume", "--out", "b"])
    one, other = (parameters.load(Path(name, "checkpoint.safetensors"))[0] for name in "ab")
    assert largest_difference(one, other) > 1e6 * ROUNDING
