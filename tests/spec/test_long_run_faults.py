"""Faults in what long runs rest on, planted one at a time: each must be seen by what test_long_runs.py looks at."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest

from spec import parameters
from spec.command.run_directory import Checkpoint, Progress, RunDirectory
from spec.experiment import Experiment
from spec.training import State

Run = Callable[..., Any]
"""See the fixture `run` in conftest.py."""

ARGUMENTS = ("ragged-lstm", "--epochs", 12, "--seed", 5, "--checkpoint-steps", 4, "--patience", 3)
"""Evaluations fall up to step 30, so that patience ends the run after step 60."""

Plant = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def falling(fake: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fake.answer

    def answer(experiment: Experiment, batch: Any, state: State) -> np.ndarray:
        return real(experiment, batch, state) * (1.0 / (1 + abs(state.step - 30)) + 0.01)

    monkeypatch.setattr(fake, "answer", answer)


def outcome(directory: str) -> dict[str, Any]:
    """What a run came to: every array, where the best and the last stand."""
    found: dict[str, Any] = {}
    for file in ("checkpoint.safetensors", "best.safetensors"):
        arrays, metadata = parameters.load(Path(directory, file))
        found[file] = ({name: array.tobytes() for name, array in arrays.items()}, metadata["steps"])
    return found


def resumed(run: Run, fake: ModuleType) -> bool:
    """Whether a run that is stopped in the middle of patience comes to what one comes to that is not."""
    fake.behaviour.interrupted_at_step = 47
    run(*ARGUMENTS, "--out", "a")
    fake.behaviour.interrupted_at_step = None
    run("--resume", "--out", "a")
    run(*ARGUMENTS, "--out", "b")
    return outcome("a") == outcome("b")


def best_is_lowest(run: Run, fake: ModuleType) -> bool:
    """Whether the best one is of the step at which the evaluation is lowest."""
    del fake
    run(*ARGUMENTS, "--out", "a")
    return outcome("a")["best.safetensors"][1] == "30"


def damage_is_seen(run: Run, fake: ModuleType) -> bool:
    """Whether a bit that is another in a checkpoint is noticed."""
    fake.behaviour.interrupted_at_step = 47
    run(*ARGUMENTS, "--out", "a")
    fake.behaviour.interrupted_at_step = None
    file = Path("a/checkpoint.safetensors")
    changed = bytearray(file.read_bytes())
    changed[-3] ^= 4
    file.write_bytes(changed)
    return "it was changed" in run("--resume", "--out", "a").err


def changed(change: Callable[[Checkpoint], Checkpoint]) -> Plant:
    """A resumption that loses something."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        load = RunDirectory.load_checkpoint
        patch.setattr(RunDirectory, "load_checkpoint", lambda self, experiment: change(load(self, experiment)))

    return plant


def with_state(**fields: Callable[[State], Any]) -> Plant:
    return changed(
        lambda found: found._replace(state=found.state._replace(**{n: f(found.state) for n, f in fields.items()}))
    )


def with_progress(**fields: Any) -> Plant:
    def change(found: Checkpoint) -> Checkpoint:
        progress = msgspec.structs.replace(found.origin.progress, **fields)
        return found._replace(origin=msgspec.structs.replace(found.origin, progress=progress))

    return changed(change)


def worst_is_kept(patch: pytest.MonkeyPatch) -> None:
    def judged(self: Progress, loss: float, step: int) -> Progress:
        if self.best is None or loss > self.best:
            return Progress(best=loss, best_step=step)
        return msgspec.structs.replace(self, losses=0.0, worse=self.worse + 1)

    patch.setattr(Progress, "judged", judged)


def no_checksum(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(parameters, "checksum", lambda *_: "the same for all")


FAULTS: dict[str, tuple[Plant, Callable[[Run, ModuleType], bool]]] = {
    "the place in the data is lost": (with_state(step=lambda state: state.step - 4), resumed),
    "slots are lost": (with_state(slots=lambda s: {n: np.zeros_like(a) for n, a in s.slots.items()}), resumed),
    "parameters are rounded": (
        with_state(parameters=lambda s: {n: a.astype(np.float16).astype(a.dtype) for n, a in s.parameters.items()}),
        resumed,
    ),
    "the count of patience is lost": (with_progress(worse=0), resumed),
    "the best so far is lost": (with_progress(best=None), resumed),
    "the worst is kept as the best": (worst_is_kept, best_is_lowest),
    "checksums are not looked at": (no_checksum, damage_is_seen),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_seen(run: Run, fake: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    plant, holds = FAULTS[name]
    with monkeypatch.context() as patch:
        plant(patch)
        assert not holds(run, fake)


@pytest.mark.parametrize("holds", [resumed, best_is_lowest, damage_is_seen])
def test_without_a_fault_all_hold(run: Run, fake: ModuleType, holds: Callable[[Run, ModuleType], bool]) -> None:
    assert holds(run, fake)
