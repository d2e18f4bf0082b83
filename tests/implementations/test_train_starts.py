"""The recipe from several starts together is the recipe from each of them alone."""

import importlib
from typing import Any

import numpy as np
import pytest

from spec import parameters
from spec.experiment import Experiment, load, override
from spec.framework import Settings, Trajectory
from spec.parameters import Parameters
from spec.training import initial_state

SETTINGS = Settings("float64")
NAMES = [
    "hello-embedding-max-norm",
    "hello-gru-clipping",
    "hello-rnn-sgd-momentum",
    "hello-stacked-lstm-dropout",
    "hello-transformer-dropout",
    "last-step-classifier",
    "ragged-lstm",
]
LARGEST = 1e-10
"""Of a relative difference: rounding grows a thousandfold in these few steps at most, and starts differ by 0.1."""


def short(name: str) -> Experiment:
    return override(load(name), training__epochs=4)


def draw(experiment: Experiment, count: int) -> list[Parameters]:
    return [parameters.draw(experiment.model.parameters(), seed, "float64", 0.1) for seed in range(count)]


def arrays(run: Trajectory) -> dict[str, np.ndarray]:
    state = {f"last {name}": array for name, array in {**run.state.parameters, **run.state.slots}.items()}
    return {"losses": run.losses, "logits": run.logits, **run.parameters, **run.slots, **state}


def differing(one: Trajectory, other: Trajectory) -> list[str]:
    """The names of what differs by more than rounding."""
    first, second = arrays(one), arrays(other)
    assert first.keys() == second.keys()
    assert one.state.step == other.state.step
    wrong = []
    for name, array in first.items():
        assert array.shape == second[name].shape
        assert array.dtype == second[name].dtype
        if not np.abs(array - second[name]).max() <= LARGEST * max(1.0, np.abs(array).max()):
            wrong.append(name)
    return wrong


@pytest.mark.by_default("torch_impl-last-step-classifier", "flax_impl-ragged-lstm")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("implementation", ["torch_impl", "flax_impl"])
def test_each_is_what_it_is_alone(implementation: str, name: str) -> None:
    framework: Any = importlib.import_module(implementation)
    experiment = short(name)
    starts = draw(experiment, 3)
    together = framework.train_starts(experiment, starts, 5, SETTINGS)
    assert len(together) == 3
    for start, found in zip(starts, together, strict=True):
        state = initial_state(experiment.training.optimizer, start)
        alone = framework.train(experiment, state, 4, 5, SETTINGS, record=True, masks="spec")
        assert differing(found, alone) == []
    assert "losses" in differing(together[0], together[1])


@pytest.mark.needs("torch")
@pytest.mark.parametrize(
    ("name", "place", "fault"),
    [
        ("hello-gru-clipping", "members.clip_members", lambda spec, gradients: None),
        ("hello-embedding-max-norm", "members.renormalized", lambda spec, rows, indices: rows),
        ("hello-stacked-lstm-dropout", "training.generator_for", lambda seed, *labels: np.random.default_rng(0)),
    ],
)
def test_a_fault_shows(name: str, place: str, fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble = importlib.import_module("torch_impl.ensemble")
    experiment = short(name)
    starts = draw(experiment, 2)
    clean = ensemble.train_starts(experiment, starts, 5, SETTINGS)
    monkeypatch.setattr(f"torch_impl.{place}", fault)
    assert differing(clean[1], ensemble.train_starts(experiment, starts, 5, SETTINGS)[1])


def test_the_reference_goes_one_by_one() -> None:
    reference = importlib.import_module("spec.reference")
    experiment = override(load("course-rnn-cell"), training__epochs=2)
    starts = draw(experiment, 2)
    together = reference.train_starts(experiment, starts, 5, SETTINGS)
    state = initial_state(experiment.training.optimizer, starts[1])
    alone = reference.train(experiment, state, 2, 5, SETTINGS, record=True, masks="spec")
    assert differing(together[1], alone) == []
