"""Tests of dropout masks against independent draws of the spec's rate, each with a stated chance of a false alarm.

Masks are given as bits, True where something was dropped, and counted; counts have binomial laws, and the tests are
exact: p is twice the smaller tail, which is at most an honest chance.
"""

import math

import numpy as np

from crosscheck.statistics.distributions import Finding


def dropped(bits: np.ndarray, rate: float, level: float) -> Finding:
    """As many are dropped as the rate says."""
    note = f"share dropped of {bits.size}"
    return _binomial(int(bits.sum()), bits.size, rate, level, note)


def agreement(first: np.ndarray, second: np.ndarray, rates: tuple[float, float], level: float, label: str) -> Finding:
    """Two samples, element by element, are both dropped or both kept as often as independent ones are."""
    one, two = rates
    same = int((first == second).sum())
    note = f"share of equal elements{label}, of {first.size}"
    return _binomial(same, first.size, one * two + (1 - one) * (1 - two), level, note)


def _binomial(count: int, size: int, chance: float, level: float, note: str) -> Finding:
    from scipy import stats

    if not size:
        # Nothing was seen, which says nothing in favour of anybody.
        return Finding("nothing", chance, math.inf, -math.log10(level), 0, note)
    tails = (float(stats.binom.cdf(count, size, chance)), float(stats.binom.sf(count - 1, size, chance)))
    probability = min(2 * min(tails), 1.0)
    unlikely = max(-math.log10(probability), 0.0) if probability else math.inf
    return Finding(count / size, chance, unlikely, -math.log10(level), size, f"{note}; difference is -log10 of p")
