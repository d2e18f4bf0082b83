"""Comparisons: what passes, what does not, and where the worst element is."""

import math

import numpy as np
import pytest

from crosscheck.comparison import GROWTH, Place

PLACE = Place("hello-gru", "forward", "float64", "own", ("first", "second"))


def test_equal_arrays_pass_with_every_element_counted():
    array = np.arange(6.0).reshape(2, 3)
    comparison = PLACE.close("logits", array, array.copy(), bound=1e-13)
    assert comparison.passed
    assert comparison.elements == 6
    assert comparison.ratio == 0.0
    assert comparison.headroom is None


def test_the_worst_element_is_named_with_both_values():
    first = np.ones((2, 3))
    second = first.copy()
    second[1, 2] += 1e-3
    second[0, 0] += 1e-4
    comparison = PLACE.close("logits", first, second, bound=1e-5)
    assert not comparison.passed
    assert comparison.index == (1, 2)
    assert comparison.values == (1.0, 1.001)
    assert comparison.difference == pytest.approx(1e-3)
    assert comparison.bound == pytest.approx(1.001e-5)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_the_bound_is_relative_to_the_largest_element(size: float):
    first = np.array([size, 0.0])
    assert PLACE.close("g", first, first + [0.0, 0.9e-9 * size], bound=1e-9).passed
    assert not PLACE.close("g", first, first + [0.0, 1.1e-9 * size], bound=1e-9).passed


def test_the_floor_is_the_smallest_scale():
    first, second = np.array([1e-12]), np.array([2e-12])
    assert not PLACE.close("g", first, second, bound=1e-9).passed
    assert PLACE.close("g", first, second, bound=1e-9, floor=1.0).passed


def test_a_trajectory_names_the_first_step_beyond_its_bound_though_later_ones_are_worse():
    first = np.ones((5, 2))
    second = first.copy()
    second[2, 1] += 1e-6
    second[4, 0] += 1.0
    comparison = PLACE.close("loss", first, second, bound=1e-9, stepwise=True)
    assert (comparison.step, comparison.index) == (2, (1,))
    assert comparison.ratio is not None
    assert comparison.ratio > 1e8


def test_a_step_without_scale_does_not_hide_behind_a_larger_one():
    first = np.array([[1e6], [1e-6]])
    second = np.array([[1e6], [2e-6]])
    assert PLACE.close("v", first, second, bound=1e-3, stepwise=True).step == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("sides", ["first", "second", "both"])
def test_what_is_not_finite_fails_on_either_side_and_on_both(value: float, sides: str):
    first, second = np.ones(3), np.ones(3)
    if sides != "second":
        first[1] = value
    if sides != "first":
        second[1] = value
    comparison = PLACE.close("logits", first, second, bound=1.0)
    assert not comparison.passed
    assert comparison.index == (1,)
    assert comparison.note == ("not finite on both sides" if sides == "both" else f"not finite in {sides}")


@pytest.mark.parametrize(
    ("first", "second", "note"),
    [
        (None, np.ones(2), "missing in first"),
        (np.ones(2), None, "missing in second"),
        (None, None, "missing on both sides"),
        (np.ones(2), np.ones(3), "shapes differ: (2,) in first, (3,) in second"),
        (np.ones(2), np.ones(2, np.float32), "expected dtype float64, got float32 in second"),
        (np.ones(2, np.float32), np.ones(2, np.float32), "expected dtype float64, got float32 in first"),
        (np.ones((0, 2)), np.ones((0, 2)), "nothing to compare: the tensor has no elements"),
    ],
)
def test_what_cannot_be_compared_fails(first: np.ndarray | None, second: np.ndarray | None, note: str):
    comparison = PLACE.close("logits", first, second, bound=1.0)
    assert not comparison.passed
    assert comparison.elements == 0
    assert comparison.note == note


def test_a_shape_that_is_wrong_on_both_sides_fails():
    comparison = PLACE.close("g", np.ones(3), np.ones(3), bound=1.0, shape=(4,))
    assert comparison.note == "expected shape (4,), got (3,) in first"


def test_bits_must_be_the_same_where_nothing_is_computed():
    zero, array = np.array([0.0, 1.0]), np.array([1.0, np.nextafter(2.0, 3.0)])
    assert PLACE.against("first", "sent", first=True).identical("p", array, array.copy()).passed
    assert PLACE.against("first", "sent", first=True).identical("p", array, np.array([1.0, 2.0])).index == (1,)
    assert not PLACE.against("first", "sent", first=True).identical("p", zero, -zero).passed
    assert not PLACE.against("first", "sent", first=True).identical("p", zero, None).passed


def test_extra_arrays_fail():
    (extra,) = PLACE.only(["a"], {"a": np.ones(1)}, {"a": np.ones(1), "b": np.ones(1)})
    assert not extra.passed
    assert extra.note == "not in the spec, but in second"


def test_a_limit_is_not_met_by_nan():
    assert not PLACE.limited("drift", (math.nan, 0.0), math.nan, 1.0, 1, "").passed


def test_how_a_trajectory_went_keeps_the_steps_that_come_nearest_to_their_bounds() -> None:
    steps = 1000
    one = np.zeros((steps, 3))
    two = one.copy()
    two[:, 1] = 1e-3
    two[417, 2] = 5.0
    allowed = np.full(steps, 1.0)
    allowed[900:] = np.inf
    growth = PLACE.close("x", one, two, allowed=allowed, stepwise=True).growth
    assert growth is not None
    assert len(growth.steps) == GROWTH == len(growth.difference) == len(growth.bound)
    assert growth.steps == sorted(set(growth.steps))
    assert growth.difference[growth.steps.index(417)] == 5.0
    assert {d for d in growth.difference if d != 5.0} == {1e-3}
    assert {b for s, b in zip(growth.steps, growth.bound, strict=True) if s < 900} == {1.0}
    assert {b for s, b in zip(growth.steps, growth.bound, strict=True) if s >= 900} == {np.inf}
    assert growth.first == []


def test_values_are_kept_where_there_is_one_a_step() -> None:
    losses = np.array([2.0, 1.5, 1.25])
    growth = PLACE.close("loss", losses, losses + 1e-3, allowed=0.1, stepwise=True).growth
    assert growth is not None
    assert growth.steps == [0, 1, 2]
    assert growth.first == losses.tolist()
    assert growth.second == (losses + 1e-3).tolist()
    assert growth.difference == [1e-3] * 3
    assert PLACE.close("loss", losses, losses, allowed=0.1).growth is None
