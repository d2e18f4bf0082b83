"""How far a side's array is from the reference's, in units of what rounding can do."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from crosscheck.comparison import Value
from spec.framework import Precision

UNIT: dict[Precision, float] = {"float64": 2.0**-53, "float32": 2.0**-24}
"""The largest relative error of one rounding."""

ROUNDINGS = 256
"""So many roundings, of numbers as large as a tensor's largest, a stage or a gradient may have: sums of a hundred
products, several deep. Used where no comparison has a bound."""

CLEARLY = 10.0
"""A side that is this many times further off than the other is the one that departs, where the other is hardly beyond
its bound: a tight bound leaves room for the two sides' rounding, not for the reference's as well."""

NEARER = 3.0
"""Where both are within the bound of the reference but not of each other, the one so many times further off departs."""


class Distance(NamedTuple):
    """Where an array is furthest from the reference's. ratio: in units of the bound; infinite where it cannot be told.

    note: what is wrong, where that is not a distance. reference: the whole of it.
    """

    ratio: float
    at: tuple[int, ...] = ()
    value: Value | None = None
    expected: Value | None = None
    note: str = ""
    reference: np.ndarray | None = None


def measure(
    side: np.ndarray | None,
    reference: np.ndarray,
    bound: float | np.ndarray,
    dtype: str,
    focus: Callable[[np.ndarray], np.ndarray] = lambda ratios: ratios,
) -> Distance:
    """Where `side` is furthest from `reference`, in units of the bound, which may differ by element.

    focus: from every element's ratio to those among which the furthest is looked for; zero elsewhere.

    A tensor that is missing, or of another shape or dtype, is infinitely far off, as is a NaN where there is none.
    """
    if side is None:
        return Distance(math.inf, note="missing")
    if side.shape != reference.shape:
        return Distance(math.inf, note=f"expected shape {reference.shape}, got {side.shape}")
    if side.dtype != dtype and side.dtype.kind == "f":
        return Distance(math.inf, note=f"expected dtype {dtype}, got {side.dtype}")
    if not side.size:
        return Distance(0.0)
    away = np.abs(side.astype(np.float64) - reference)
    ratio = np.divide(away, bound, out=np.where(away > 0, np.inf, 0.0), where=np.broadcast_to(bound, away.shape) > 0)
    # A number where both have none is only downstream.
    ratio = focus(np.where(np.isfinite(reference), np.where(np.isfinite(side), ratio, np.inf), 0.0))
    index = tuple(int(i) for i in np.unravel_index(int(ratio.argmax()), ratio.shape))
    return Distance(float(ratio[index]), index, float(side[index]), float(reference[index]), "", reference)


def rounding(reference: np.ndarray, precision: Precision, largest: float = 1.0) -> float:
    """What rounding can do to a stage or a loss: sums of terms of order 1, or of the tensor's largest."""
    finite = np.abs(reference[np.isfinite(reference)])
    return ROUNDINGS * UNIT[precision] * float(finite.max(initial=largest))


def decide(ratios: Mapping[str, float]) -> str:
    """Which of two sides departs, from how far each is off: a side's name, "both", or "undecided"."""
    (near_side, near), (far_side, far) = sorted(ratios.items(), key=lambda item: item[1])
    del near_side
    if far <= 1.0:
        return far_side if far > NEARER * near and far > 1 / NEARER else "undecided"
    return "both" if near > CLEARLY or (near > 1.0 and far < CLEARLY * near) else far_side
