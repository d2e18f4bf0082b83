"""Values of one side found among the other's, whatever their layout: by their numbers in sorted order."""

from collections.abc import Iterable, Sequence

import numpy as np

from crosscheck.mapping.layouts import bounded
from spec.pair import Intermediate

SMALLEST = 2
"""Numbers that a value needs to be told from others."""


def widened(value: np.ndarray) -> np.ndarray:
    """As float64. Memory that is not written yet may hold signalling NaNs, of which NumPy would warn."""
    with np.errstate(invalid="ignore"):
        return np.asarray(value, np.float64)


def key(value: np.ndarray) -> np.ndarray:
    """The numbers in sorted order, as one float64 array; infinities as in `layouts.bounded`."""
    return np.sort(bounded(widened(value)), axis=None)


def is_plain(sorted_numbers: np.ndarray) -> bool:
    """Whether nothing is to be seen in a value: all its numbers are one, as in an initial state of zeros."""
    return sorted_numbers.size == 0 or bool(sorted_numbers[0] == sorted_numbers[-1])


class Pool:
    """The intermediates of a run, to be asked for one that holds the same numbers.

    tolerance: largest difference, in units of the value's largest absolute number.
    """

    def __init__(self, entries: Sequence[Intermediate], tolerance: float) -> None:
        self.tolerance = tolerance
        self._by_size: dict[int, tuple[np.ndarray, list[tuple[np.ndarray, Intermediate]]]] = {}
        held: dict[int, list[tuple[np.ndarray, Intermediate]]] = {}
        for entry in entries:
            held.setdefault(entry.value.size, []).append((key(entry.value), entry))
        for size, ones in held.items():
            ones.sort(key=lambda one: _sum(one[0]))
            self._by_size[size] = np.array([_sum(one[0]) for one in ones]), ones

    def find(self, numbers: np.ndarray) -> list[Intermediate]:
        """Every intermediate with the same sorted numbers, in the order of computation."""
        if numbers.size not in self._by_size or not np.isfinite(numbers).all():
            return []
        sums, ones = self._by_size[numbers.size]
        allowed = self.tolerance * max(float(np.abs(numbers[[0, -1]]).max()), 1e-300)
        middle = _sum(numbers)
        # A difference of `allowed` in each number is one of at most that much in their mean absolute value.
        first, last = np.searchsorted(sums, [middle - allowed, middle + allowed])
        found = [entry for held, entry in ones[first:last] if np.abs(held - numbers).max() <= allowed]
        return sorted(found, key=lambda entry: entry.number)


def _sum(numbers: np.ndarray) -> float:
    middle = float(np.abs(numbers).mean())
    return np.inf if np.isnan(middle) else middle


def found_in(entries: Iterable[tuple[np.ndarray, Intermediate]], pool: Pool) -> dict[int, Intermediate | None]:
    """Number of each intermediate that the pool has too -> where; of values in which nothing is to be seen, None."""
    found: dict[int, Intermediate | None] = {}
    for numbers, entry in entries:
        if is_plain(numbers):
            found[entry.number] = None
        elif others := pool.find(numbers):
            found[entry.number] = others[0]
    return found
