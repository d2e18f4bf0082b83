"""Patterns in what a side recorded twice: named where all of it has one, silent at honest draws and at two at once."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from crosscheck.checks import members
from crosscheck.comparison import Arrays, Comparison
from crosscheck.explain import repetitions
from crosscheck.explain.explanation import Budget
from spec.experiment import load

SEEDS, SHAPE, RATE = 6, (8, 5, 12), 0.1
DROPS = load("hello-transformer-dropout")
SITES = ("encoder.layers.0.dropout1", "encoder.layers.0.dropout2")


def failed(check: str, tensor: str, case: str = "own", **fields: Any) -> Comparison:
    return Comparison(
        experiment="any",
        check=check,
        precision="float64",
        case=case,
        tensor=tensor,
        sides=("one", "other"),
        passed=False,
        elements=1,
        **fields,
    )


def said(subject: Any, failure: Comparison, arrays: Arrays, run: float = 1e4) -> str:
    found = repetitions.explain(subject, failure, "other", arrays, Budget(run))
    assert found is not None
    assert found.tried or not run
    return found.looks_like


def drawn(random: np.random.Generator, rate: float = RATE, scale: float | None = None) -> np.ndarray:
    kept = random.random((SEEDS, *SHAPE)) >= rate
    return kept * (1 / (1 - rate) if scale is None else scale)


def masks(change: Callable[[np.ndarray], np.ndarray], both: bool = False) -> str:
    random = np.random.default_rng(1)
    arrays = {f"masks/{site}": drawn(random) for site in SITES}
    for site in SITES if both else SITES[:1]:
        arrays[f"masks/{site}"] = change(arrays[f"masks/{site}"])
    return said(DROPS, failed("dropout", f"{SITES[0]}, values"), arrays)


def test_the_rate_is_the_model_s():
    rates = {name: site.rate for name, site in DROPS.dropout_sites(1, 1).items()}
    assert all(rates[site] == RATE for site in SITES)


def of(rate: float, scale: float | None = None) -> Callable[[np.ndarray], np.ndarray]:
    return lambda mask: drawn(np.random.default_rng(2), rate, scale)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda mask: np.ones_like(mask), f"nothing were dropped at {SITES[0]}"),
        (of(RATE, 1.0), "what is kept were not divided by 1 - rate"),
        (of(1 - RATE), "units were kept with the rate's probability"),
        (of(0.3), "the rate were 0.3 at encoder.layers.0.dropout1 (0.1 in the model)"),
        (lambda mask: np.broadcast_to(mask[:1], mask.shape), "every seed had the same masks"),
        (lambda mask: np.broadcast_to(mask[:, :1], mask.shape), "one mask served all of the batch"),
        (lambda mask: np.broadcast_to(mask[:, :, :1], mask.shape), "one mask served all of time"),
        (lambda mask: np.broadcast_to(mask[..., :1], mask.shape), "one mask served all of features"),
    ],
)
def test_a_pattern_of_masks_is_named(change: Callable[[np.ndarray], np.ndarray], words: str):
    assert words in masks(change)


def test_one_mask_for_all_sites():
    assert "several sites had the same masks" in masks(lambda mask: drawn(np.random.default_rng(7)), both=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda mask: mask,
        lambda mask: mask * 1.07,  # A factor that no rate has here.
        lambda mask: np.where(np.isfinite(mask), np.nan, mask),  # Nothing was seen.
        lambda mask: np.broadcast_to(mask[:1, :1], mask.shape),  # Two at once.
        lambda mask: np.where(np.arange(12) % 2, mask, mask * 2),
    ],
)
def test_masks_without_one_pattern_are_not_named(change: Callable[[np.ndarray], np.ndarray]):
    assert masks(change) == ""


def test_without_time_nothing_is_named():
    arrays = {f"masks/{site}": np.ones((SEEDS, *SHAPE)) for site in SITES}
    assert said(DROPS, failed("dropout", SITES[0]), arrays, run=0.0) == ""


LOSSES = 1 + np.random.default_rng(3).random(8)


def unrecorded(plain: np.ndarray, slots: float = 1.0) -> str:
    experiment = load("hello-rnn")
    (name, *_) = (parameter.name for parameter in experiment.parameters())
    arrays = {"start/plain/loss": plain, "start/recorded/loss": LOSSES}
    for slot in experiment.training.optimizer.slots:
        arrays[f"start/plain/final/{name}.{slot}"] = np.full(3, slots)
        arrays[f"start/recorded/final/{name}.{slot}"] = np.ones(3)
    return said(experiment, failed("shipped-path", "start/plain/loss"), arrays)


def test_trainings_that_record_nothing():
    assert "reported the loss of the one before" in unrecorded(np.concatenate([[9.0], LOSSES[:-1]]))
    assert "reported the loss of the next" in unrecorded(np.concatenate([LOSSES[1:], [9.0]]))
    assert "gave back the slots that it was given" in unrecorded(LOSSES, slots=0.0)
    assert unrecorded(LOSSES) == ""
    assert unrecorded(LOSSES + 1e-3) == ""
    assert unrecorded(LOSSES[::-1]) == ""
    # Losses that stand still are those of any step.
    assert unrecorded(np.concatenate([[9.0], LOSSES[:-1]]), slots=0.0) == ""


def ensemble(order: Callable[[int], int]) -> str:
    random = np.random.default_rng(4)
    runs = random.random((3, 6))
    arrays = {"losses": np.stack([runs[order(member)] for member in range(3)])}
    arrays |= {f"{member}/losses": runs[member] for member in members.looked_at("few")}
    return said(load("hello-rnn"), failed("members", "losses of member 0", "few"), arrays)


def test_members_that_are_others():
    assert "members were given back in reverse" in ensemble(lambda member: 2 - member)
    assert "each member were the next one" in ensemble(lambda member: (member + 1) % 3)
    assert "each member were the one before" in ensemble(lambda member: (member - 1) % 3)
    assert ensemble(lambda member: member) == ""
    assert ensemble(lambda member: 0) == ""


def test_a_time_to_solve_that_is_one_less():
    arrays = {"losses": np.ones((3, 2)), "0/losses": np.ones(2), "2/losses": np.ones(2)}
    for values, words in (((4, 5), "counted from 0"), ((5, 4), ""), ((3, 5), "")):
        found = said(load("hello-rnn"), failed("members", "first_solved of member 0", "few", values=values), arrays)
        assert words in found
        assert bool(words) == bool(found)


def test_other_checks_are_not_looked_at():
    assert repetitions.explain(DROPS, failed("forward", "logits"), "other", {}, Budget(1.0)) is None
