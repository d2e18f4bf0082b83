"""`--resume --epochs N` trains longer, and gives the bits of an uninterrupted run of N epochs."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import msgspec
import pytest

from spec import parameters
from spec.command import run_directory
from spec.command.run_directory import RunDirectory
from spec.experiment import load
from spec.training import ConstantSchedule, Cosine, StepDecay, Training, WarmUp

Run = Callable[..., Any]
"""See the fixture `run` in conftest.py."""


def files(directory: str) -> dict[str, Any]:
    """What is compared: arrays and metadata, epochs, the experiment."""
    found: dict[str, Any] = {}
    for name in ("checkpoint.safetensors", "parameters.safetensors"):
        arrays, metadata = parameters.load(Path(directory, name))
        found[name] = ({key: array.tobytes() for key, array in arrays.items()}, metadata)
    lines = [json.loads(line) for line in Path(directory, "metrics.jsonl").read_text().splitlines()]
    found["epochs"] = [line for line in lines if line["event"] == "epoch"]
    found["experiment"] = Path(directory, "experiment.json").read_text()
    return found


@pytest.mark.parametrize("stops", [None, 25])
def test_a_prolonged_run_is_the_long_run(run: Run, fake: ModuleType, stops: int | None) -> None:
    fake.behaviour.interrupted_at_step = stops
    assert run("hello-gru", "--epochs", 40, "--out", "a").code == (0 if stops is None else 130)
    fake.behaviour.interrupted_at_step = None
    outcome = run("--resume", "--out", "a", "--epochs", 77)
    assert outcome.code == 0
    assert "prolonged to 77 epochs" in outcome.out
    assert run("hello-gru", "--epochs", 77, "--out", "b").code == 0
    assert files("a") == files("b")
    assert run("--resume", "--out", "a").code == 0  # It is that run from then on.
    assert "--epochs: expected at least 77" in run("--resume", "--out", "a", "--epochs", 40).err


def test_a_prolonged_run_may_be_interrupted(run: Run, fake: ModuleType) -> None:
    run("hello-gru", "--epochs", 40, "--out", "a")
    fake.behaviour.interrupted_at_step = 60
    assert run("--resume", "--out", "a", "--epochs", 77).code == 130
    fake.behaviour.interrupted_at_step = None
    assert run("--resume", "--out", "a").code == 0
    run("hello-gru", "--epochs", 77, "--out", "b")
    assert files("a") == files("b")


@pytest.mark.parametrize("stage", ["save_checkpoint", "write_experiment"])
def test_killed_while_it_is_prolonged(run: Run, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    run("hello-gru", "--epochs", 40, "--out", "a")

    def kill(*_: object) -> None:
        raise RuntimeError("as good as a kill")

    owner = RunDirectory if stage == "save_checkpoint" else run_directory
    with monkeypatch.context() as patch:
        patch.setattr(owner, stage, kill)
        assert run("--resume", "--out", "a", "--epochs", 77).code == 3
    epochs = 40 if stage == "save_checkpoint" else 77
    outcome = run("--resume", "--out", "a", "--json")
    assert (outcome.code, outcome.events[0]["epochs"]) == (0, epochs)
    run("hello-gru", "--epochs", epochs, "--out", "b")
    assert files("a") == files("b")


def test_a_schedule_that_depends_on_the_total_cannot_be_prolonged(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("hello-gru", "--epochs", 40, "--out", "a")
    before = files("a")
    with monkeypatch.context() as patch:
        patch.setattr(ConstantSchedule, "uses_epochs", True)
        outcome = run("--resume", "--out", "a", "--epochs", 77)
    assert outcome.code == 2
    assert "--epochs: expected 40, as in a, got 77: the learning rates of the schedule ConstantSchedule" in outcome.err
    assert files("a") == before


SCHEDULES = {
    ConstantSchedule: ConstantSchedule(),
    WarmUp: WarmUp(steps=10),
    Cosine: Cosine(steps=15, reached="at the last step", warm_up=2),
    StepDecay: StepDecay(every=3, gamma=0.5),
}


def test_what_every_schedule_says_of_the_total_is_so() -> None:
    assert set(SCHEDULES) == set(get_type_hints(Training)["schedule"].__args__)
    for schedule in SCHEDULES.values():
        recipe = msgspec.structs.replace(load("hello-gru").training, schedule=schedule)
        rates = [
            [msgspec.structs.replace(recipe, epochs=epochs).learning_rate(step) for step in range(20)]
            for epochs in (20, 90)
        ]
        assert (rates[0] != rates[1]) == schedule.uses_epochs


def test_a_run_that_never_began_may_be_begun(run: Run) -> None:
    Path("a").mkdir()
    for name in ("experiment.json", "metrics.jsonl", ".lock", ".0123.partial"):
        Path("a", name).write_text("left by a process that was killed")
    assert run("hello-gru", "--out", "a").code == 0
    assert sorted(path.name for path in Path("a").iterdir()) == [
        "best.safetensors",
        "checkpoint.safetensors",
        "checkpoints",
        "experiment.json",
        "loss.png",
        "metrics.jsonl",
        "parameters.safetensors",
    ]
