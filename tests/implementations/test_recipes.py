"""Recipes that no shipped experiment has: losses against torch's own and by hand, and batches taken in parts."""

import importlib
from typing import Any

import msgspec
import numpy as np
import pytest

from crosscheck.faults import given
from spec.ensemble import member_bytes
from spec.experiment import Experiment, load, override
from spec.framework import Settings, Trajectory
from spec.tasks import IGNORED
from spec.training import CrossEntropy, initial_state

pytestmark = pytest.mark.needs("torch", "flax")

SIDES = ("torch_impl", "flax_impl")
FLOAT64 = Settings("float64")

LOSSES = [
    CrossEntropy("mean", label_smoothing=0.3),
    CrossEntropy("sum", label_smoothing=0.1, class_weights=(0.5, 1.0, 4.0)),
    CrossEntropy("mean", class_weights=(0.5, 1.0, 4.0), ignore_index=2),
    CrossEntropy("mean", label_smoothing=0.1, class_weights=(0.5, 1.0, 4.0), ignore_index=0),
]


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_losses_are_torchs(loss: CrossEntropy) -> None:
    """Where torch has one class to ignore at a time, padding is left out by hand."""
    import torch

    generator = np.random.default_rng(0)
    logits, targets = 3 * generator.normal(size=(4, 6, 3)), generator.integers(0, 3, (4, 6))
    targets[0, 3:] = targets[2, 1] = IGNORED
    kept = targets != IGNORED
    ignored = IGNORED if loss.ignore_index is None else loss.ignore_index
    weights = None if loss.class_weights is None else torch.tensor(loss.class_weights, dtype=torch.float64)
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(logits[kept]),
        torch.tensor(targets[kept]),
        weights,
        ignore_index=ignored,
        reduction=loss.reduction,
        label_smoothing=loss.label_smoothing,
    ).item()
    assert loss.value(logits, targets) == pytest.approx(expected, rel=1e-14)
    experiment = given.load("recipe-loss")
    experiment = experiment.with_training(msgspec.structs.replace(experiment.training, loss=loss))
    for side in SIDES:
        found = importlib.import_module(side).open(experiment, FLOAT64)
        assert found.loss_gradient(logits, targets).loss == pytest.approx(expected, rel=1e-14)


def test_a_loss_by_hand() -> None:
    logits = np.log(np.array([[[1.0, 3.0], [1.0, 1.0]]]))
    targets = np.array([[0, 1]])
    one, two, half = np.log(4), np.log(4 / 3), np.log(2)
    smoothed = CrossEntropy("sum", label_smoothing=0.2).value(logits, targets)
    assert smoothed == pytest.approx(0.9 * one + 0.1 * two + half, rel=1e-15)
    weighted = CrossEntropy("mean", class_weights=(3.0, 1.0)).value(logits, targets)
    assert weighted == pytest.approx((3 * one + half) / 4, rel=1e-15)
    assert CrossEntropy("mean", ignore_index=1).value(logits, targets) == pytest.approx(one, rel=1e-15)
    # Nothing counts, and nothing is 0 / 0.
    assert CrossEntropy("mean", ignore_index=1).value(logits, np.array([[1, IGNORED]])) == 0


@pytest.mark.parametrize("loss", [*LOSSES, CrossEntropy("mean"), CrossEntropy("sum")], ids=repr)
def test_no_logits_have_less_than_the_least_loss(loss: CrossEntropy) -> None:
    targets = np.array([[0, 1, 2, 1], [2, 2, IGNORED, 0]])
    least = loss.least(targets, 3)
    weights = np.ones(3) if loss.class_weights is None else np.array(loss.class_weights)
    best = loss.label_smoothing / 3 * weights + (1 - loss.label_smoothing) * np.eye(3)[np.maximum(targets, 0)] * weights
    reached = loss.value(np.log(np.maximum(best, 1e-12)), targets)
    assert reached == pytest.approx(least, abs=1e-10)
    generator = np.random.default_rng(1)
    moved = [loss.value(np.log(best + 1e-12) + generator.normal(size=best.shape), targets) for _ in range(20)]
    assert min(moved) > least


def whole(experiment: Experiment) -> Experiment:
    return override(experiment, training__accumulate=1)


def trained(side: str, experiment: Experiment, masks: Any = "spec") -> Trajectory:
    start = initial_state(experiment.training.optimizer, experiment.start(0, "float64"))
    opened = importlib.import_module(side).open(experiment, FLOAT64)
    return opened.train(start, experiment.training.epochs, 0, record=True, masks=masks)


@pytest.mark.parametrize("name", ["recipe-loss", "recipe-parts"])
@pytest.mark.parametrize("side", SIDES)
def test_parts_take_the_step_of_the_whole_batch(side: str, name: str) -> None:
    """Sequences of several lengths, of which parts have unlike shares; clipping; masks of the whole batch."""
    experiment = given.load(name)
    targets = [experiment.batch(0, step, "float64").targets for step in range(6)]
    loss, parts = experiment.training.loss, experiment.training.accumulate
    assert any(len({loss.divisor(part) for part in np.split(of_step, parts)}) > 1 for of_step in targets)
    cut, at_once = trained(side, experiment), trained(side, whole(experiment))
    np.testing.assert_allclose(cut.losses, at_once.losses, rtol=1e-13)
    for one, two in ((cut.parameters, at_once.parameters), (cut.slots, at_once.slots)):
        for tensor, array in two.items():
            np.testing.assert_allclose(one[tensor], array, rtol=1e-11, atol=1e-14, err_msg=tensor)


@pytest.mark.parametrize("side", SIDES)
def test_members_train_in_parts_too(side: str) -> None:
    experiment = given.load("recipe-loss")
    opened = importlib.import_module(side).open(experiment, FLOAT64)
    ensemble = opened.train_ensemble([3, 4])
    for member, seed in enumerate((3, 4)):
        start = initial_state(experiment.training.optimizer, opened.initialize(seed))
        alone = opened.train(start, experiment.training.epochs, seed)
        np.testing.assert_allclose(ensemble.losses[member], alone.losses, rtol=1e-12)
    start = experiment.start(0, "float64")
    (first, _) = opened.train_starts([start, start], 0)
    np.testing.assert_allclose(first.losses, trained(side, experiment).losses, rtol=1e-12)
    assert member_bytes(experiment, "float64") > 0


def test_every_site_of_dropout_is_cut_by_its_sequences() -> None:
    for name in ("hello-stacked-lstm-dropout", "hello-transformer-dropout"):
        sites = load(name).model.dropout_sites(6, 5)
        assert {site.shape[0] for site in sites.values()} == {6}
    attention = override(load("hello-transformer-dropout"), model__attention_dropout=0.1).model.dropout_sites(6, 5)
    assert {site.shape[0] for site in attention.values()} == {6}


@pytest.mark.parametrize("side", SIDES)
def test_own_masks_of_parts_are_a_function_of_seed_and_step(side: str) -> None:
    experiment = given.load("recipe-parts")
    one, two = (trained(side, experiment, "own").losses for _ in range(2))
    np.testing.assert_array_equal(one, two)
    # Masks that every part shared would be those of a batch whose halves are alike.
    assert not np.allclose(one, trained(side, whole(experiment), "own").losses)
