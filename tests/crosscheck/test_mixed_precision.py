"""What the bounds of mixed precision say, and what they do not. The faults are in crosscheck/faults/table."""

from collections.abc import Iterator

import numpy as np
import pytest

from crosscheck.bounds import mixed_precision, rounding_spread
from crosscheck.bounds.rounding_spread import FACTOR
from crosscheck.comparison import Comparison, Place
from crosscheck.faults.table import mixed_precision as table
from spec.experiment import load, override
from spec.mixed_precision import bfloat16
from spec.points import ROUNDED, points

MIXED = load("hello-gru-bfloat16")
PLACE = Place("hello-gru-bfloat16", "trajectory", "float32", "recipe", ("one", "other")).within("one")


def kept(values: np.ndarray) -> list[Comparison]:
    found: Iterator[Comparison] = mixed_precision.digits(PLACE, "loss", values.astype(np.float32))
    return list(found)


def test_only_float32_is_moved_by_a_share() -> None:
    assert mixed_precision.share(MIXED, "float32") == mixed_precision.SHARE
    assert mixed_precision.share(MIXED, "float64") == 0
    assert mixed_precision.share(load("hello-gru"), "float32") == 0
    assert mixed_precision.share(object(), "float32") == 0  # type: ignore[arg-type]


def test_a_bound_allows_a_neighbour_of_any_operand() -> None:
    rounded = bfloat16(np.exp(np.linspace(-5, 5, 10_000)).astype(np.float32))
    neighbours = (rounded.view(np.uint32) + np.uint32(1 << 16)).view(np.float32)
    assert np.all(neighbours > rounded)
    assert np.all((neighbours - rounded) / rounded <= FACTOR * mixed_precision.SHARE)
    # And no more than that: twice as far is out of every bound.
    assert np.any(2 * (neighbours - rounded) / rounded > FACTOR * mixed_precision.SHARE)


def test_repetitions_move_operands_to_their_neighbours() -> None:
    start = {"w": np.random.default_rng(0).normal(size=10_000).astype(np.float32)}
    by_bits = next(rounding_spread.perturbed(start, 0))["w"]
    by_share = next(rounding_spread.perturbed(start, 0, share=mixed_precision.SHARE))["w"]
    assert by_share.dtype == np.float32
    assert np.mean(bfloat16(by_bits) != bfloat16(start["w"])) < 1e-3
    assert 0.1 < np.mean(bfloat16(by_share) != bfloat16(start["w"])) < 0.4


def test_what_is_kept_in_bfloat16_is_seen_and_what_is_not_is_not() -> None:
    values = np.random.default_rng(0).normal(size=(40, 3))
    (honest,) = kept(values)
    (narrow,) = kept(bfloat16(values))
    assert honest.passed
    assert not narrow.passed
    assert narrow.difference == 60
    # Ends of a tanh, and zeros, are numbers of bfloat16 by themselves.
    (ends,) = kept(np.where(values > 0.5, 1.0, values))
    assert ends.passed
    assert kept(np.where(values > 0, 0.0, bfloat16(values)))[0].passed is False
    # Of too few numbers nothing is said.
    assert kept(bfloat16(values[:4, :1])) == []
    assert kept(np.zeros((40, 3))) == []


@pytest.mark.parametrize(
    "name", ["hello-gru-bfloat16", "hello-embedding-padding", "hello-lstm-tied", "hello-transformer"]
)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_weights_that_are_rounded_already_are_looked_at(name: str, precision: str) -> None:
    experiment = override(load(name), model__mixed_precision="bfloat16")
    found = {point.name: point for point in points(experiment, "ragged", 0, precision)}  # type: ignore[arg-type]
    rounded = found[ROUNDED].parameters
    for parameter, value in found[""].parameters.items():
        narrow = bool(np.all(bfloat16(rounded[parameter]) == rounded[parameter]))
        operand = value.ndim == 2 and parameter not in ("embedding.weight", "positions.weight")
        assert narrow == operand, parameter
    assert ROUNDED not in {point.name for point in points(load("hello-gru"), "ragged", 0, "float64")}


def test_every_part_of_a_training_has_a_fault() -> None:
    assert {fault.check for fault in table.FAULTS} == {
        "round-trip",
        "forward",
        "loss",
        "gradients",
        "optimizer",
        "trajectory",
        "dropout",
    }
    assert {fault.precision for fault in table.FAULTS} == {"float64", "float32"}
