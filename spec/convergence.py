"""When do two ensembles converge alike? The margins and error rates, set before any ensemble is looked at."""

import math
from typing import NamedTuple

import msgspec
import numpy as np

from spec.training import AnyOutcome, Learns, LearnsSometimes


class Convergence(msgspec.Struct, frozen=True):
    """What difference counts as none, and how sure a verdict must be. Two sides are compared on two endpoints:

    - the mean over members of log loss-AUC, where a member's loss-AUC is the mean of its losses over all steps;
    - the solved rate, the share of members that predict everything right after the last epoch.

    effect: the margin of either, in units of the standard deviation from one run to the next: of the log loss-AUC, the
    smaller one of the two ensembles'; of being solved, sqrt(rate (1 - rate)) at the rate that the experiment states. A
    quarter is little for a user, whose next seed changes four times as much. In the shipped experiments it is 1.5 to
    7.5 % of the loss, and 0.12 where half of all runs are solved. And it is what `seeds` can show: their standard error
    is 0.045 of these units. (Cohen, 1988, "Statistical power analysis for the behavioral sciences", calls 0.2 small.)
    floor_margin: of the mean log final loss of negative controls, 1 %. Nine in ten end within 2 % of each other, one
    in a thousand is stuck far above, and the standard deviation is a matter of whether it came.
    least_rate_margin: the smallest margin of a rate, where the stated rate is near 0 or 1: one run in fifty.
    level: the chance, at most, that any experiment of a whole run is called SAME where an endpoint differs by its
    margin or more; and as much for any being called DIFFERENT where all are within their margins.
    power: the chance that an experiment whose sides are alike is called SAME.
    seeds: members a side. At a level that is shared by 31 experiments, 680 would do for that power.
    """

    effect: float = 0.25
    floor_margin: float = 0.01
    least_rate_margin: float = 0.02
    level: float = 0.05
    power: float = 0.9
    seeds: int = 1000

    def rate_margin(self, outcome: AnyOutcome) -> float:
        """The margin of the solved rate, by the rate that the experiment states."""
        rate = stated_rate(outcome)
        return max(self.least_rate_margin, self.effect * math.sqrt(rate * (1 - rate)))


CONVERGENCE = Convergence()
"""What every experiment is held to."""


def stated_rate(outcome: AnyOutcome) -> float:
    """The share of seeds that solves it, as the experiment says; 0 where none can."""
    match outcome:
        case Learns(solved_rate_at_least=rate) | LearnsSometimes(solved_rate=rate):
            return rate
        case _:
            return 0.0


class Stated(NamedTuple):
    """What a solved rate says for the experiment's statement and against it, by exact binomial tests.

    same, different: p-values; the chance, at most, of evidence as strong as this for a rate within the margin of what
    is stated when it is not, and for one beyond it when it is not.
    """

    same: float
    different: float

    @property
    def underpowered(self) -> bool:
        """Whether it is shown neither that the rate is as stated nor that it is not."""
        return min(self.same, self.different) > CONVERGENCE.level


def stated(outcome: AnyOutcome, solved: int, of: int) -> Stated:
    """`solved` of `of` runs against what the experiment says.

    At least r: within the margin where a rate of r - margin is ruled out, different where r is. About r: within where
    r - margin and r + margin are both ruled out, different where all between them are. Never: different at the first
    that is solved, within where a rate of the margin is ruled out.
    """
    margin, rate = CONVERGENCE.rate_margin(outcome), stated_rate(outcome)

    def at_most(chance: float) -> float:
        return float(at_most_of_each(chance, of)[solved])

    def at_least(chance: float) -> float:
        # Of the others, so that a small chance keeps its digits.
        return float(at_most_of_each(1 - chance, of)[of - solved])

    match outcome:
        case Learns():
            return Stated(at_least(rate - margin), at_most(rate))
        case LearnsSometimes():
            beyond = (at_most(rate - margin), at_least(rate + margin) if rate + margin < 1 else 1.0)
            same = max(at_least(rate - margin), at_most(rate + margin) if rate + margin < 1 else 0.0)
            return Stated(same, min(2 * min(beyond), 1.0))
        case _:
            return Stated(at_most(margin), 0.0 if solved else 1.0)


def runs_to_show(outcome: AnyOutcome) -> int:
    """Runs with which a rate that is just as stated is shown to be so, with a chance of CONVERGENCE.power."""
    rate, runs = stated_rate(outcome), 4
    while True:
        shown = [stated(outcome, solved, runs).same <= CONVERGENCE.level for solved in range(runs + 1)]
        if float(np.sum(chances(rate, runs)[shown])) >= CONVERGENCE.power:
            return runs
        runs = math.ceil(runs * 1.1)


def at_most_of_each(rate: float, of: int) -> np.ndarray:
    """The chance of so many successes or fewer, (of + 1,), of `of` runs at that rate."""
    return np.minimum(np.cumsum(chances(rate, of)), 1.0)


def chances(rate: float, of: int) -> np.ndarray:
    """The binomial law: the chance of each number of successes, (of + 1,)."""
    rate = min(max(rate, 0.0), 1.0)
    if rate in (0.0, 1.0):
        return (np.arange(of + 1) == rate * of).astype(np.float64)
    # By logarithms: the factorials of a thousand runs are beyond any float.
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, of + 1)))])
    count = np.arange(of + 1)
    logs = factorials[of] - factorials - factorials[::-1] + count * math.log(rate) + (of - count) * math.log1p(-rate)
    return np.exp(logs)
