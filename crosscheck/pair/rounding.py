"""How far rounding alone carries a side: it is asked again at values that are moved by a unit in the last place.

As in crosscheck.bounds.rounding_spread, for models of any dtype, and where constants that a model holds in float32
enter a computation in float64. Either side has rounded such a table by half a unit of float32, so that the two are a
unit apart at most where both rounded the same numbers. Tables cannot be moved from outside; but what a unit in them
does to the results is of the size of what a unit of float32 does in the leaves, which the table's values are
multiplied with or added to. So there the leaves are moved by that much, once for all of it, and FACTOR times the
result is the bound: in float64 as in float32 it is measured, not chosen. No more of a result than the square root of
the unit, half of its digits, is ever allowed for it.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from crosscheck.bounds import tolerances
from crosscheck.bounds.rounding_spread import FACTOR, RUNS
from crosscheck.pair import leafwise
from crosscheck.pair.leafwise import Computed
from spec.framework import Precision
from spec.pair import LARGE, Leaf, Values, narrowed

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""Distance of 1 from the next larger number."""

FEW = 2
"""Perturbed runs of a large model, each of which takes seconds. The largest of 2 deviations over thousands of numbers
hardly differs from that of 5; it does where a tensor is small, so that of few runs FACTOR is taken twice."""

HUGE = 30_000_000
"""Numbers in the leaves from which a perturbed run takes a minute, and is made once. Of a tensor of 100 numbers and
more the largest deviation in one run is within a tenth of that in two (2.75 and 2.97 standard deviations of 100 and 200
numbers), so the factor stays. A single number, as a loss, may move by little for once: for it there is what is allowed
at least, the roundings of what entered it."""


class Unit(NamedTuple):
    """eps: what values are moved by, and what a rounding is at least. widest: share of a result that may be allowed."""

    eps: float
    widest: float
    runs: int
    factor: float


def unit_of(precision: Precision, leaves: Sequence[Leaf], pinned: bool, computed: Iterable[str] = ()) -> Unit:
    """Of a precision, for two models with these leaves; pinned: whether constants are held in float32.

    computed: dtypes of what is computed where leaves have their own. Who computes in bfloat16 with leaves in float32
    has rounded these to bfloat16 first: a unit of float32 in them is lost there, and one of bfloat16 is what rounding
    moves.
    """
    numbers = sum(int(np.prod(leaf.shape)) for leaf in leaves) / 2
    runs, factor = (FEW, 2 * FACTOR) if numbers > LARGE else (RUNS, FACTOR)
    runs = 1 if numbers > HUGE else runs
    if precision == "float64":
        eps = EPS["float32"] if pinned else EPS["float64"]
        return Unit(eps, np.sqrt(eps), runs, factor)
    dtypes = [*(leaf.dtype for leaf in leaves), *computed]
    eps = max((EPS.get(dtype, EPS["float32"]) for dtype in dtypes if dtype != "float64"), default=0.0)
    return Unit(max(eps, EPS["float32"]), tolerances.HORIZON, runs, factor)


def rounded(values: Values, leaves: Iterable[Leaf]) -> dict[str, np.ndarray]:
    """The values as numbers of the coarsest dtype among the leaves, so that no side rounds them further."""
    eps = max((EPS.get(leaf.dtype, EPS["float32"]) for leaf in leaves), default=EPS["float64"])
    return {path: _rounded(value, eps) for path, value in values.items()}


def _rounded(value: np.ndarray, eps: float) -> np.ndarray:
    if value.dtype == np.float32 and eps <= EPS["float32"]:
        return value

    def one(block: np.ndarray, _: slice) -> np.ndarray:
        part, exponent = np.frexp(block)
        return np.ldexp(np.rint(part * (2 / eps)) * (eps / 2), exponent)

    return narrowed(leafwise.by_block(one, value))


def nudged(values: Values, unit: Unit, seed: int, still: Iterable[str] = ()) -> Iterator[Values]:
    """Copies with every number but zeros moved up or down by a unit in its last place. still: leaves that stay."""
    kept, numbers = set(still), {path: number for number, path in enumerate(values)}

    def moved(run: int, path: str) -> np.ndarray:
        if path in kept:
            return values[path]
        return _moved(values[path], unit.eps, np.random.default_rng((seed, run, numbers[path])))

    for run in range(unit.runs):
        yield Computed(numbers, partial(moved, run))


def _moved(value: np.ndarray, eps: float, random: np.random.Generator) -> np.ndarray:
    def one(block: np.ndarray, _: slice) -> np.ndarray:
        step = np.ldexp(eps, np.frexp(block)[1] - 1)
        up = random.integers(0, 2, block.shape, dtype=np.int8)
        return np.where(block == 0, block, block + np.where(up, step, -step))

    return narrowed(leafwise.by_block(one, value))


class Deviations:
    """Largest deviations of runs from the one that is compared, by name."""

    def __init__(self) -> None:
        self.found: dict[str, float] = {}

    def add(self, arrays: Values, others: Values) -> None:
        """What is not finite counts as no deviation; that it is there is for others to find."""
        for name, array in arrays.items():
            one, two = np.reshape(array, -1), np.reshape(others[name], -1)
            for block in leafwise.blocks(one.size):
                with np.errstate(invalid="ignore"):
                    away = np.abs(two[block].astype(np.float64) - one[block])
                far = float(np.nan_to_num(away, nan=0.0, posinf=0.0).max(initial=0.0))
                self.found[name] = max(self.found.get(name, 0.0), far)
            self.found.setdefault(name, 0.0)

    def allowed(self, name: str, unit: Unit, entered: float) -> float:
        """The difference that rounding explains, of a result of that size. See tolerances.allowed."""
        measured = min(unit.factor * self.found.get(name, 0.0), unit.widest * entered)
        return max(measured, tolerances.ROUNDINGS * unit.eps * entered)
