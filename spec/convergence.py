"""When do two ensembles converge alike? The margins and error rates, set before any ensemble is looked at."""

import math

import msgspec

from spec.training import AnyOutcome, Learns, LearnsSometimes


class Convergence(msgspec.Struct, frozen=True):
    """What difference counts as none, and how sure a verdict must be. Two sides are compared on two endpoints:

    - the mean over members of log loss-AUC, where a member's loss-AUC is the mean of its losses over all steps;
    - the solved rate, the share of members that predict everything right after the last epoch.

    log_auc_margin: 0.07 is 7 % of the loss that a training goes through on average, or one epoch more in fifteen, as
    many as the shortest recipes have. The log's standard deviation is 0.06 to 0.3 in the shipped experiments, the
    Transformers' being the largest.
    solved_rate_effect: a rate's margin in units of a single run's standard deviation at the stated rate,
    sqrt(rate (1 - rate)). 0.2 is what Cohen (1988, "Statistical power analysis for the behavioral sciences") calls a
    small effect: 0.1 at a rate of 0.45, where nobody can tell more from a few runs.
    least_rate_margin: the smallest margin of a rate, where the stated rate is near 0 or 1: one run in fifty.
    level: the chance, at most, that any experiment of a whole run is called SAME where an endpoint differs by its margin
    or more; and as much for any being called DIFFERENT where all are within their margins.
    power: the chance that an experiment whose sides are alike is called SAME.
    seeds: members a side. For a standard deviation of 0.3, a level shared by 33 experiments, and that power, 800 would
    do.
    """

    log_auc_margin: float = 0.07
    solved_rate_effect: float = 0.2
    least_rate_margin: float = 0.02
    level: float = 0.05
    power: float = 0.9
    seeds: int = 1000

    def rate_margin(self, outcome: AnyOutcome) -> float:
        """The margin of the solved rate, by the rate that the experiment states."""
        rate = stated_rate(outcome)
        return max(self.least_rate_margin, self.solved_rate_effect * math.sqrt(rate * (1 - rate)))


CONVERGENCE = Convergence()
"""What every experiment is held to."""


def stated_rate(outcome: AnyOutcome) -> float:
    """The share of seeds that solves it, as the experiment says; 0 where none can."""
    match outcome:
        case Learns(solved_rate_at_least=rate) | LearnsSometimes(solved_rate=rate):
            return rate
        case _:
            return 0.0
