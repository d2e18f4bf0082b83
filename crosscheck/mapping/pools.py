"""Values of one side found among the other's, whatever their layout: by their numbers in sorted order."""

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

from crosscheck.mapping.layouts import bounded, orders
from spec.pair import Intermediate

SMALLEST = 2
"""Numbers that a value needs to be told from others."""

LARGE = 2**14
"""Numbers from which sorting takes longer than looking whether the axes stand in another order."""


def widened(value: np.ndarray) -> np.ndarray:
    """As float64. Memory that is not written yet may hold signalling NaNs, of which NumPy would warn."""
    with np.errstate(invalid="ignore"):
        return np.asarray(value, np.float64)


class Fingerprint:
    """A value's numbers, whatever their order.

    value: as float64; infinities as in `layouts.bounded`. middle: the mean absolute number, infinite where there is a
    NaN. plain: whether nothing is to be seen in it: all numbers are one, as in an initial state of zeros.
    """

    def __init__(self, value: np.ndarray) -> None:
        self.value = bounded(widened(value))
        self.size = value.size
        sizes = np.abs(self.value)
        self.largest = float(sizes.max(initial=0.0))
        self.middle = float(sizes.mean()) if self.size and np.isfinite(self.largest) else np.inf
        self.plain = self.size == 0 or bool((self.value == self.value.flat[0]).all())

    @cached_property
    def numbers(self) -> np.ndarray:
        """In sorted order."""
        return np.sort(self.value, axis=None)

    def same(self, other: "Fingerprint", allowed: float) -> bool:
        """Whether all numbers are those of another, of as many, but for a difference in each."""
        if self.size >= LARGE and _stands(self.value, other.value, allowed):
            return True
        return bool(np.abs(other.numbers - self.numbers).max() <= allowed)


def _stands(value: np.ndarray, other: np.ndarray, allowed: float) -> bool:
    """Whether a value is the other with its axes in some order: seen sooner than by sorting both, where it is so."""
    for axes in orders(value.ndim):
        moved = value.transpose(axes)
        if moved.shape != other.shape:
            if axes != tuple(range(value.ndim)):
                continue
            moved = value.reshape(other.shape)
        corner = (slice(0, 2),) * other.ndim
        if np.abs(moved[corner] - other[corner]).max() <= allowed and np.abs(moved - other).max() <= allowed:
            return True
    return False


class Pool:
    """The intermediates of a run, to be asked for one that holds the same numbers.

    tolerance: largest difference, in units of the value's largest absolute number.
    """

    def __init__(self, entries: Sequence[Intermediate], tolerance: float) -> None:
        self.tolerance = tolerance
        self._by_size: dict[int, tuple[np.ndarray, list[tuple[Fingerprint, Intermediate]]]] = {}
        held: dict[int, list[tuple[Fingerprint, Intermediate]]] = {}
        for entry in entries:
            held.setdefault(entry.value.size, []).append((Fingerprint(entry.value), entry))
        for size, ones in held.items():
            ones.sort(key=lambda one: one[0].middle)
            self._by_size[size] = np.array([one.middle for one, _ in ones]), ones

    def find(self, wanted: Fingerprint) -> list[Intermediate]:
        """Every intermediate with the same numbers, in the order of computation."""
        if wanted.size not in self._by_size or not np.isfinite(wanted.largest):
            return []
        middles, ones = self._by_size[wanted.size]
        allowed = self.tolerance * max(wanted.largest, 1e-300)
        # A difference of `allowed` in each number is one of at most that much in their mean absolute value.
        first, last = np.searchsorted(middles, [wanted.middle - allowed, wanted.middle + allowed])
        found = [entry for held, entry in ones[first:last] if wanted.same(held, allowed)]
        return sorted(found, key=lambda entry: entry.number)


def found_in(entries: Iterable[tuple[Fingerprint, Intermediate]], pool: Pool) -> dict[int, Intermediate | None]:
    """Number of each intermediate that the pool has too -> where; of values in which nothing is to be seen, None."""
    found: dict[int, Intermediate | None] = {}
    for wanted, entry in entries:
        if wanted.plain:
            found[entry.number] = None
        elif others := pool.find(wanted):
            found[entry.number] = others[0]
    return found
