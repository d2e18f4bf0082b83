"""When do two ensembles converge alike? The margins and error rates, set before any ensemble is looked at."""

import math

import msgspec

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
