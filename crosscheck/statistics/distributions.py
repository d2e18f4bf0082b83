"""Tests of drawn values against the law that they should come from, each with a stated chance of a false alarm.

Mean 0 and the standard deviation are known from the law, and nothing is estimated that need not be. Both laws are
bounded by a normal one in the sense of their moment generating functions ("strictly sub-Gaussian"), so that a sum of n
independent values with weights w exceeds z standard_deviation ||w|| with a chance of 2 exp(-z^2 / 2) at most. No limit
here is an approximation for large samples.
"""

import math
from typing import NamedTuple

import numpy as np

from spec.parameters import Normal, Uniform

Random = Uniform | Normal
"""The laws that have something to draw."""


class Finding(NamedTuple):
    """What was found and what the law says; how far apart they are, and how far they may be; of how many values."""

    observed: float | str
    expected: float | str
    difference: float
    bound: float
    size: int
    note: str


def deviation(law: Random) -> float:
    """The law's standard deviation."""
    return law.bound / math.sqrt(3) if isinstance(law, Uniform) else law.standard_deviation


def sample_size(law: Random, relative_error: float) -> int:
    """How many values give the standard deviation with that relative standard error: (kurtosis - 1) / (4 error^2)."""
    kurtosis = 9 / 5 if isinstance(law, Uniform) else 3
    return math.ceil((kurtosis - 1) / (4 * relative_error**2) * (1 - 1e-12))


def reach(level: float) -> float:
    """z with 2 exp(-z^2 / 2) = level."""
    return math.sqrt(2 * math.log(2 / level))


def within(values: np.ndarray, law: Random, level: float) -> Finding:
    """Nothing lies outside the law's range; a normal law has one that holds so many values but for the level."""
    from scipy import stats

    largest = _largest(values)
    if isinstance(law, Uniform):
        # Rounded like the values were; rounding is monotonic, so no honest value can be beyond it.
        limit = float(values.dtype.type(law.bound))
        return Finding(largest, limit, max(largest - limit, 0.0), 0.0, values.size, "largest value")
    limit = law.standard_deviation * float(stats.norm.isf(level / (2 * values.size)))
    return Finding(largest, limit, largest, limit, values.size, "largest value")


def extent(values: np.ndarray, law: Random, level: float) -> Finding:
    """The largest value is about as large as that of so many should be: all are below q with a chance of F(q)^n."""
    from scipy import stats

    quantile = level ** (1 / values.size)
    if isinstance(law, Uniform):
        limit, least = law.bound, law.bound * quantile
    else:
        limit = law.standard_deviation * float(stats.norm.isf(level / (2 * values.size)))
        least = law.standard_deviation * float(stats.norm.isf((1 - quantile) / 2))
    largest = _largest(values)
    note = f"the largest of {values.size} values must be {least:.3g} at least"
    return Finding(largest, limit, max(limit - largest, 0.0), limit - least, values.size, note)


def mean(values: np.ndarray, law: Random, level: float) -> Finding:
    """The mean is zero."""
    found = float(values.mean(dtype=np.float64))
    bound = reach(level) * deviation(law) / math.sqrt(values.size)
    return Finding(found, 0.0, abs(found), bound, values.size, f"mean of {values.size} values")


def spread(values: np.ndarray, law: Random, level: float) -> Finding:
    """The standard deviation, about the known mean of zero, is the law's."""
    count, expected = values.size, deviation(law)
    found = math.sqrt(float(np.square(values, dtype=np.float64).mean()))
    low, high = _mean_squares(law, count, level)
    bound = expected * (math.sqrt(high) - 1 if found > expected else 1 - math.sqrt(low))
    error = 0.02 * math.sqrt(sample_size(law, 0.02) / count)
    note = f"standard deviation of {count} values, whose standard error is {error:.1%}"
    return Finding(found, expected, abs(found - expected), bound, count, note)


def each(samples: np.ndarray, law: Random, level: float, what: str) -> Finding:
    """Mean and standard deviation of each of several samples, (values, samples): the furthest off of them.

    Both are tested of every sample at an equal share of the level.
    """
    count, number = samples.shape
    share = level / (2 * number)
    expected = deviation(law)
    means = samples.mean(axis=0, dtype=np.float64)
    spreads = np.sqrt(np.square(samples, dtype=np.float64).mean(axis=0))
    low, high = _mean_squares(law, count, share)
    away = np.where(spreads > expected, math.sqrt(high) - 1, 1 - math.sqrt(low)) * expected
    shift = reach(share) * expected / math.sqrt(count)
    ratios = (np.abs(means) / shift, np.divide(np.abs(spreads - expected), away, where=away > 0, out=np.zeros(number)))
    kind = int(ratios[1].max() > ratios[0].max())
    worst = int(ratios[kind].argmax())
    found, wanted, bound = [
        (float(means[worst]), 0.0, shift),
        (float(spreads[worst]), expected, float(away[worst])),
    ][kind]
    name = ("mean", "standard deviation")[kind]
    return Finding(found, wanted, abs(found - wanted), bound, samples.size, f"{name} of {what} {worst}, {count} values")


def alike(samples: np.ndarray, level: float, what: str) -> Finding:
    """No two of several samples, (values, samples) in units of their standard deviation, are correlated.

    As in `correlation`, at an equal share of the level for each two.
    """
    count, number = samples.shape
    unit = samples.astype(np.float64)
    norms = np.linalg.norm(unit, axis=0)
    scale = np.maximum(math.sqrt(count), norms)[:, None] * np.where(norms > 0, norms, 1.0)[None, :]
    found = np.triu(np.abs(unit.T @ unit) / scale, 1)
    worst = np.unravel_index(int(found.argmax()), found.shape)
    bound = reach(level / max(number * (number - 1) / 2, 1)) / math.sqrt(count)
    note = f"correlation of {what} {int(worst[0])} with {what} {int(worst[1])} over {count} values"
    return Finding(float(found[worst]), 0.0, float(found[worst]), bound, samples.size, note)


def _mean_squares(law: Random, count: int, level: float) -> tuple[float, float]:
    """Between which the mean square of so many values lies, in units of the law's."""
    from scipy import stats

    if isinstance(law, Normal):
        low, high = float(stats.chi2.ppf(level / 2, count)) / count, float(stats.chi2.isf(level / 2, count)) / count
    else:
        # Bernstein's inequality for the mean square of uniform values: mean 1/3, variance 4/45, at most 2/3 from it.
        least = math.log(2 / level)
        away = (2 / 9 * least + math.sqrt((2 / 9 * least) ** 2 + 8 / 45 * count * least)) / count
        low, high = max(1 - 3 * away, 0.0), 1 + 3 * away
    return low, high


def distribution(values: np.ndarray, law: Random, level: float) -> Finding:
    """Kolmogorov and Smirnov's test, exact; difference and bound are -log10 of p and of the level."""
    from scipy import special, stats

    def chance(sample: np.ndarray) -> np.ndarray:
        if isinstance(law, Uniform):
            return np.clip(sample / (2 * law.bound) + 0.5, 0.0, 1.0)
        return np.asarray(special.ndtr(sample / law.standard_deviation))

    result = stats.ks_1samp(values.astype(np.float64).ravel(), chance, method="exact")
    distance, probability = float(np.asarray(result[0])), float(np.asarray(result[1]))
    # max: -log10 of 1 is -0.
    unlikely = max(-math.log10(probability), 0.0) if probability else math.inf
    note = f"Kolmogorov-Smirnov distance {distance:.3g} from the law of {values.size} values; difference is -log10 of p"
    return Finding(f"p = {probability:.2g}", f"p > {level:.2g}", unlikely, -math.log10(level), values.size, note)


def correlation(first: np.ndarray, second: np.ndarray, level: float, label: str = "") -> Finding:
    """Two samples, in units of their standard deviations, are independent: Pearson's r with the law's moments."""
    one, two = (side.astype(np.float64).ravel() for side in (first, second))
    # max: a sample that is larger than its law allows is not this test's business.
    scale = max(math.sqrt(one.size), float(np.linalg.norm(one))) * float(np.linalg.norm(two))
    found = float(one @ two) / scale if scale else 0.0
    note = f"correlation{label} over {one.size} values"
    return Finding(found, 0.0, abs(found), reach(level) / math.sqrt(one.size), one.size, note)


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max())
