"""Losses of numbers against torch's own, what is missing among them, and what may be missing without a trace."""

import importlib
from typing import Any

import msgspec
import numpy as np
import pytest

from crosscheck.faults import given
from spec import reference
from spec.experiment import load, override
from spec.framework import Settings
from spec.parameters import draw
from spec.training import MeanSquaredError, initial_state

pytestmark = pytest.mark.needs("torch", "flax")

SIDES = ("torch_impl", "flax_impl")
FLOAT64 = Settings("float64")


def drawn(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and targets, of which some are missing."""
    generator = np.random.default_rng(0)
    outputs, targets = generator.normal(size=(2, *shape))
    targets[0, ..., 0] = targets[-1, -1] = np.nan
    return outputs, targets


@pytest.mark.parametrize("shape", [(4, 6, 3), (7, 1), (5, 2)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_losses_are_torchs(shape: tuple[int, ...], reduction: Any) -> None:
    """What is missing is left out by hand: torch has nothing for that."""
    import torch

    outputs, targets = drawn(shape)
    kept = ~np.isnan(targets)
    given_outputs = torch.tensor(outputs[kept], requires_grad=True)
    expected = torch.nn.MSELoss(reduction=reduction)(given_outputs, torch.tensor(targets[kept]))
    expected.backward()
    assert given_outputs.grad is not None
    gradient = np.zeros(shape)
    gradient[kept] = given_outputs.grad.numpy()
    loss = MeanSquaredError(reduction)
    assert loss.value(outputs, targets) == pytest.approx(expected.item(), rel=1e-14)
    experiment = given.load("squares")
    experiment = experiment.with_training(msgspec.structs.replace(experiment.training, loss=loss))
    for side in (*map(importlib.import_module, SIDES), reference):
        found = side.open(experiment, FLOAT64).loss_gradient(outputs, targets)
        assert found.loss == pytest.approx(expected.item(), rel=1e-14)
        np.testing.assert_allclose(found.logits, gradient, rtol=1e-13, atol=0)


@pytest.mark.parametrize("side", SIDES)
def test_what_is_missing_leaves_no_trace(side: str) -> None:
    """Nor where nothing at all is asked, nor from outputs that are infinite where nothing is asked."""
    found = importlib.import_module(side).open(given.load("squares"), FLOAT64)
    outputs, targets = drawn((4, 6, 2))
    outputs[np.isnan(targets)] = np.inf
    one = found.loss_gradient(outputs, targets)
    assert np.isfinite(one.loss)
    assert np.isfinite(one.logits).all()
    assert not one.logits[np.isnan(targets)].any()
    nothing = found.loss_gradient(outputs, np.full_like(targets, np.nan))
    assert (nothing.loss, nothing.logits.any()) == (0, False)


@pytest.mark.by_default("torch_impl")
@pytest.mark.parametrize("side", SIDES)
def test_parts_are_the_whole(side: str) -> None:
    """A step in parts of unequal counts is that of the whole batch, alone and among many."""
    experiment = given.load("squares-in-parts")
    found = []
    for parts in (1, 2, 4):
        made = override(experiment, training__accumulate=parts)
        opened = importlib.import_module(side).open(made, FLOAT64)
        start = draw(made.model.parameters(), 0, "float64")
        found.append(opened.train(initial_state(made.training.optimizer, start), 1, 0))
        seeds = list(range(3))
        many = opened.train_ensemble(seeds)
        assert (many.first_solved == -1).all()
        alone = opened.train(initial_state(made.training.optimizer, opened.initialize(1)), made.training.epochs, 1)
        np.testing.assert_allclose(many.losses[1], alone.losses, rtol=1e-12)
    for other in found[1:]:
        np.testing.assert_allclose(other.losses, found[0].losses, rtol=1e-12)


def test_many_members_are_the_runs_of_their_seeds() -> None:
    """Those that are compiled together, in JAX."""
    experiment = override(load("oscillation-gru"), training__epochs=1, training__steps_per_epoch=3)
    opened = importlib.import_module("flax_impl").open(experiment, FLOAT64)
    many = opened.train_ensemble(list(range(64)))
    assert many.method == "jit(vmap(scan))"
    alone = opened.train(initial_state(experiment.training.optimizer, opened.initialize(9)), 1, 9)
    np.testing.assert_allclose(many.losses[9], alone.losses, rtol=1e-12)
    assert (many.first_solved == -1).all()
