"""Smoothed labels of many classes: each framework adds them up in an order of its own, which is all that may differ."""

import importlib
from functools import cache

import numpy as np
import pytest

from crosscheck.bounds import gradient_noise
from crosscheck.checks import loss
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.request import Request
from spec.experiment import Experiment, load, override
from spec.framework import Precision
from spec.losses import CrossEntropy
from spec.training import RMSprop

CASE = "every step"


@cache
def smoothed() -> Experiment:
    return override(
        load("text-lstm"), training__loss={"name": "CrossEntropy", "reduction": "mean", "label_smoothing": 0.1}
    )


@cache
def recorded(side: str, precision: Precision) -> Arrays:
    request = Request(precision, "cpu", 401, envelope=side == "torch_impl")
    return loss.record(importlib.import_module(side), smoothed(), CASE, request)


def failed(precision: Precision, second: Arrays) -> list[Comparison]:
    place = Place("text-lstm", loss.NAME, precision, CASE, ("torch_impl", "flax_impl"), 401)
    return [one for one in loss.compare(smoothed(), place, recorded("torch_impl", precision), second) if one.failed]


@pytest.mark.needs("torch", "flax")
@pytest.mark.parametrize("precision", loss.PRECISIONS)
def test_honest_sides_agree(precision: Precision) -> None:
    assert failed(precision, recorded("flax_impl", precision)) == []


@pytest.mark.needs("torch", "flax")
def test_what_is_off_by_more_than_sums_are_is_red() -> None:
    """Labels that sum up to 1 + 1e-12, where 256 of them may sum up to 1 + 3e-14."""
    answered = dict(recorded("flax_impl", "float64"))
    answered["huge/gradient"] = answered["huge/gradient"] * (1 + 1e-12)
    assert [one.tensor for one in failed("float64", answered)] == ["gradient (huge)"]


def test_how_many_numbers_are_added_up() -> None:
    targets = np.array([3, 0, -100, 1])
    assert CrossEntropy(reduction="mean").terms(targets, 256) == (3, 1)
    assert CrossEntropy(reduction="mean", label_smoothing=0.1).terms(targets, 256) == (259, 256)


@pytest.mark.parametrize("slot", ["square_avg", "momentum_buffer"])
def test_what_never_had_a_gradient_is_given_no_noise(slot: str) -> None:
    """A recurrent matrix of sequences of one step: what its momentum may be off by would have been beyond comparing."""
    training = override(load("hello-gru"), training__optimizer=RMSprop(learning_rate=0.01, momentum=0.9)).training
    square = np.zeros((5, 2, 2))
    square[:, 0] = 1e-4
    arrays = {"slots/w.square_avg": square, "slots/w.momentum_buffer": square}
    noise = gradient_noise.Noise(training, np.full(5, 1e-7))
    moved = noise.slot(slot, arrays, arrays, "w")
    assert np.all(moved[:, 1] == 0)
    assert np.all(moved[:, 0] > 0)
    # One side that had one has noise in it.
    other = {**arrays, "slots/w.square_avg": np.full((5, 2, 2), 1e-4)}
    assert np.all(noise.slot(slot, arrays, other, "w") > 0)
