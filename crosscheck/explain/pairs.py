"""Where a stranger's pair parts: one side's operation is computed again from what enters it, by known formulas.

A formula is taken for an operation's only where it gives that operation's own value to rounding. What it looks like is
then said of another formula only where that gives the other side's value to rounding.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from crosscheck.explain import catalogue, known
from crosscheck.explain.explanation import STOPPED, Budget, Explanation, Fit, OutOfTime, settled
from crosscheck.mapping.results import OperationPart


class Candidate(NamedTuple):
    """Two formulas for one operation. what: that in which they differ. here, there: what it is in the first formula,
    which should be the operation's own, and in the second, which may be the other side's; words. own, other: values."""

    what: str
    here: str
    there: str
    own: np.ndarray
    other: np.ndarray
    source: str = ""

    def words(self, first: bool) -> str:
        """What it looks like. first: whether the operation is the original's."""
        port, original = (self.there, self.here) if first else (self.here, self.there)
        return f"{self.what} were {port} in the port ({original} in the original)"


def explain(parts: Sequence[OperationPart], budget: Budget) -> Explanation | None:
    """What a difference of a forward pass looks like; None where nothing was tried. Raises nothing."""
    begin = budget.spent
    fits: list[Fit] = []
    tried: list[str] = []
    stopped = ""
    before = 0.0
    try:
        with np.errstate(all="ignore"):
            for part in parts:
                before = max(before, distance(part.value, part.other, part.tolerance))
                for file, candidate in catalogue.of_pair(part):
                    budget.check()
                    if distance(candidate.own, part.value, part.tolerance) > 1:
                        continue
                    words = candidate.words(part.first)
                    tried.append(words)
                    ratio = distance(candidate.other, part.other, part.tolerance)
                    if ratio <= 1:
                        beside = known.beside(candidate.what, (candidate.here, candidate.there))
                        fits.append(Fit(file=file, words=words, source=candidate.source, ratio=ratio, known=beside))
    except OutOfTime:
        fits, stopped = [], STOPPED
    except Exception:
        return None
    if not tried or before <= 1:
        return None
    return settled(fits, list(dict.fromkeys(tried)), stopped, "", before, budget.spent - begin)


def distance(one: Any, other: np.ndarray, tolerance: float) -> float:
    """The largest difference in units of what equal values may differ by; infinite where only one is a number."""
    made = np.asarray(one)
    if made.shape != other.shape:
        return np.inf
    if not made.size:
        return 0.0
    known = np.isfinite(other)
    if not np.array_equal(known, np.isfinite(made)):
        return np.inf
    largest = float(np.abs(other[known]).max(initial=0.0))
    away = float(np.abs(made[known] - other[known]).max(initial=0.0))
    return away / (tolerance * max(largest, 1e-300))
