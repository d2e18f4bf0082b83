"""Are two ensembles alike? Tests of equivalence, which fail for want of evidence, unlike "no difference found".

Two one-sided tests (TOST): the difference is below the margin, and it is above minus the margin. Both must hold.
Source: Schuirmann (1987), "A comparison of the two one-sided tests procedure and the power approach"; for rates the
interval is Newcombe's (1998, method 10), made of two Wilson intervals.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

Rate = tuple[int, int]
"""How many did, of how many."""


class Equivalence(NamedTuple):
    """What two samples say of the difference between where they come from, second minus first.

    margin: the largest difference that counts as none. same, different: p-values; the chance, at most, of evidence as
    strong as this for a difference within the margin when it is not, and for one beyond it when it is not.
    """

    difference: float
    margin: float
    same: float
    different: float


def means(first: np.ndarray, second: np.ndarray, margin: float) -> Equivalence:
    """The means of two samples, (values,) each, by Welch's t-test, which lets the variances differ."""
    return _judge(
        float(second.mean() - first.mean()),
        margin,
        lambda shift: _mean_above(first, second, shift),
        lambda shift: _mean_above(second, first, shift),
    )


def rates(first: Rate, second: Rate, margin: float) -> Equivalence:
    """Two rates."""
    return _judge(
        second[0] / second[1] - first[0] / first[1],
        margin,
        lambda shift: _rate_above(first, second, shift),
        lambda shift: _rate_above(second, first, shift),
    )


def exact_interval(rate: Rate, level: float) -> tuple[float, float]:
    """Beyond which the true rate lies with a chance of at most `level`. Source: Clopper and Pearson (1934)."""
    # Not SciPy's binomtest, which searches for the same ends and takes fifty times as long.
    from scipy.special import betaincinv

    count, of = rate
    low = float(betaincinv(count, of - count + 1, level / 2)) if count else 0.0
    high = float(betaincinv(count + 1, of - count, 1 - level / 2)) if count < of else 1.0
    return low, high


def holm(chances: Sequence[float], level: float) -> list[bool]:
    """Which hypotheses fall, so that the chance that any true one does is at most `level`. Source: Holm (1979)."""
    fallen = [False] * len(chances)
    for rank, index in enumerate(np.argsort(chances, kind="stable").tolist()):
        if not chances[index] <= level / (len(chances) - rank):  # False for NaN.
            break
        fallen[index] = True
    return fallen


def seeds_for_means(deviations: tuple[float, float], margin: float, level: float, power: float) -> int:
    """Values a side with which two equal means are found within the margin with that chance.

    deviations: the standard deviation on either side. By the normal approximation of TOST's power,
    2 Phi(margin / error - z(level)) - 1 with error^2 = (sum of variances) / n.
    """
    return max(2, math.ceil(sum(d**2 for d in deviations) * (_reach(level, power) / margin) ** 2))


def seeds_for_rates(rate: float, margin: float, level: float, power: float) -> int:
    """The same for two rates that are both `rate`."""
    # Near 0 and 1 the normal formula would ask for none; what the test itself asks for when no other outcome is seen
    # is the least.
    least = next(n for n in _growing() if rates((n, n), (n, n), margin).same <= level)
    deviation = math.sqrt(rate * (1 - rate))
    return max(least, seeds_for_means((deviation, deviation), margin, level, power))


def _judge(
    difference: float, margin: float, above: Callable[[float], float], below: Callable[[float], float]
) -> Equivalence:
    """above, below: shift -> the p-value of a difference, or of a difference the other way round, of at most that."""
    same = max(above(-margin), below(-margin))
    # Twice, since either tail will do.
    return Equivalence(difference, margin, same, min(2 * min(above(margin), below(margin)), 1.0))


def _mean_above(first: np.ndarray, second: np.ndarray, shift: float) -> float:
    from scipy import stats

    if not max(np.ptp(first), np.ptp(second)) > 0:
        # Without any spread there is no t: what is seen is all there is.
        return 0.0 if float(second[0] - first[0]) > shift else 1.0
    # Of the moments: of the samples, SciPy takes ten times as long.
    high, low = ((float(sample.mean()), float(sample.std(ddof=1)), len(sample)) for sample in (second, first))
    moments = (*high, low[0] + shift, *low[1:])
    return float(np.asarray(stats.ttest_ind_from_stats(*moments, equal_var=False, alternative="greater")[1]))


def _rate_above(first: Rate, second: Rate, shift: float) -> float:
    """The level at which the interval's lower end is just at `shift`, by halving: it falls as the level does."""
    from scipy.special import expit

    low, high = -40.0, 0.0  # Of the level's logit: 4e-18 to a half, beyond which no one-sided interval goes.
    if _lowest(first, second, 0.5) <= shift:
        return 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if _lowest(first, second, float(expit(middle))) > shift else (middle, high)
    return float(expit(high))


def _lowest(first: Rate, second: Rate, level: float) -> float:
    """The lower end of the interval for second minus first, beyond which the truth lies with a chance of `level`."""
    (low, _), (_, high) = _wilson(second, level), _wilson(first, level)
    one, two = first[0] / first[1], second[0] / second[1]
    return two - one - math.hypot(two - low, high - one)


def _wilson(rate: Rate, level: float) -> tuple[float, float]:
    """Wilson's interval with a chance of `level` beyond either end. Source: Wilson (1927)."""
    from scipy.special import ndtri

    count, of = rate
    z = float(ndtri(level))
    centre, squared = (count + z * z / 2) / (of + z * z), z * z / of
    half = abs(z) / (1 + squared) * math.sqrt(count / of * (1 - count / of) / of + squared / (4 * of))
    return centre - half, centre + half


def _reach(level: float, power: float) -> float:
    from scipy.special import ndtri

    return -float(ndtri(level) + ndtri((1 - power) / 2))


def _growing() -> Iterator[int]:
    n = 2
    while True:
        yield n
        n = math.ceil(n * 1.05)
