"""What two ensembles are held to: each endpoint as a comparison that carries its p-values.

A comparison is decided only once all experiments have theirs, see `settle`.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from crosscheck.comparison import Comparison, Evidence, Place
from crosscheck.statistics import equivalence
from crosscheck.statistics.equivalence import Equivalence, Rate
from spec.convergence import CONVERGENCE, stated, stated_rate
from spec.training import AnyOutcome, Learns, LearnsSometimes


def settle(groups: Sequence[Sequence[Comparison]], level: float = CONVERGENCE.level) -> list[list[Comparison]]:
    """Decide the comparisons of all experiments together; each group is an experiment's.

    DIFFERENT: comparisons whose difference is beyond the margin, by Holm over all comparisons of all experiments.
    SAME: experiments whose comparisons are all within their margins (intersection-union: the largest p-value, with no
    correction within an experiment), by Holm over experiments. Either way the chance of any false one is at most
    `level`. A comparison in between is underpowered. Controls may be different, but need not be shown to be the same.
    """
    different = {id(comparison) for comparison in beyond(groups, level)}
    judged = [[c.evidence for c in group if c.evidence and not c.evidence.control] for group in groups]
    tested = [index for index, found in enumerate(judged) if found]
    same = equivalence.holm([max(evidence.same for evidence in judged[index]) for index in tested], level)
    alike = {index for index, fell in zip(tested, same, strict=True) if fell}
    # An experiment that is not alike has at least one comparison above the first step of Holm's procedure.
    strict = level / max(1, len(tested))
    return [
        [_settled(c, id(c) in different, index in alike, strict) for c in group] for index, group in enumerate(groups)
    ]


def beyond(groups: Sequence[Sequence[Comparison]], level: float = CONVERGENCE.level) -> list[Comparison]:
    """Those whose difference is beyond the margin, by Holm over all comparisons of all groups."""
    flat = [comparison for group in groups for comparison in group]
    fallen = equivalence.holm([c.evidence.different if c.evidence else 1.0 for c in flat], level)
    return [comparison for comparison, fell in zip(flat, fallen, strict=True) if fell]


def _settled(comparison: Comparison, different: bool, alike: bool, strict: float) -> Comparison:
    evidence = comparison.evidence
    if evidence is None:
        return comparison
    still_open = not different and not evidence.control and not alike and not evidence.same <= strict
    evidence = msgspec.structs.replace(evidence, needed=_needed(comparison, evidence, strict) if still_open else 0)
    return msgspec.structs.replace(
        comparison, passed=not different and not still_open, underpowered=still_open, evidence=evidence
    )


def _needed(comparison: Comparison, evidence: Evidence, level: float) -> int:
    """Members a side that would do, if the sides are alike; 0 where the difference seen leaves little hope of it.

    Where as many were there, the sides may well differ by what is seen, and more are needed to tell that from the
    margin.
    """
    margin, difference = comparison.bound or 0.0, comparison.difference or 0.0
    if not margin:
        # One side's members are all alike: no number of them would do.
        return 0

    def seeds(margin: float) -> int:
        if evidence.rate is not None:
            return equivalence.seeds_for_rates(evidence.rate, margin, level, CONVERGENCE.power)
        return equivalence.seeds_for_means(evidence.deviations, margin, level, CONVERGENCE.power)

    planned = seeds(margin)
    if planned > min(evidence.members):
        return planned
    return seeds(margin - difference) if difference < margin else 0


def log_means(
    place: Place,
    name: str,
    first: np.ndarray,
    second: np.ndarray,
    margin: float | None = None,
    control: bool = False,
) -> Comparison:
    """The means of logarithms, (members,) each.

    Without a margin of its own, it is in units of the samples' spread. That adds next to nothing to the error rates:
    to the variance of the test's statistic, effect^2 / 8 = 0.8 %, whatever the number of members (a noncentral t's).
    """
    deviations = (float(first.std(ddof=1)), float(second.std(ddof=1)))
    # The smaller one: a fault that spreads the runs must not widen its own margin.
    margin = CONVERGENCE.effect * min(deviations) if margin is None else margin
    found = equivalence.means(first, second, margin)
    evidence = Evidence(
        same=found.same,
        different=found.different,
        members=(len(first), len(second)),
        deviations=deviations,
        control=control,
    )
    more = f"KS distance {_distance(first, second):.3f}"
    return _compared(place, name, (_mean(first), _mean(second)), found, evidence, more)


def rates(place: Place, name: str, first: Rate, second: Rate, margin: float, control: bool = False) -> Comparison:
    """Two solved rates."""
    found = equivalence.rates(first, second, margin)
    evidence = Evidence(
        same=found.same,
        different=found.different,
        members=(first[1], second[1]),
        rate=(first[0] + second[0]) / (first[1] + second[1]),
        control=control,
    )
    return _compared(place, name, (_rate(first), _rate(second)), found, evidence)


def learned(place: Place, outcome: AnyOutcome, rate: Rate) -> Comparison:
    """One side's solved rate against what the experiment says, see spec.convergence.stated."""
    count, of = rate
    margin, expected = CONVERGENCE.rate_margin(outcome), stated_rate(outcome)
    difference, words = count / of - expected, "never"
    match outcome:
        case Learns():
            words, difference = f"at least {expected:g}", min(difference, 0.0)
        case LearnsSometimes():
            words = f"about {expected:g}"
    same, different = stated(outcome, count, of)
    found = Equivalence(difference, margin, same, different)
    evidence = Evidence(same=same, different=different, members=(of,), rate=count / of)
    return _compared(place, "solved, as stated", (_rate(rate), words), found, evidence)


def noted(comparison: Comparison, more: str) -> Comparison:
    """The same with something more to read."""
    return msgspec.structs.replace(comparison, note="; ".join(filter(None, (comparison.note, more))))


def _compared(
    place: Place, name: str, values: tuple[str, str], found: Equivalence, evidence: Evidence, more: str = ""
) -> Comparison:
    members = " and ".join(map(str, evidence.members))
    notes = [f"n = {members}; p = {found.same:.2g} for within the margin, {found.different:.2g} for beyond it", more]
    elements = sum(evidence.members)
    note = "; ".join(filter(None, notes))
    limited = place.limited(name, values, abs(found.difference), found.margin, elements, note)
    return msgspec.structs.replace(limited, evidence=evidence)


def _mean(values: np.ndarray) -> str:
    """The mean with its confidence interval, by Student's t."""
    from scipy.special import stdtrit

    half = float(stdtrit(len(values) - 1, 1 - CONVERGENCE.level / 2) * values.std(ddof=1) / math.sqrt(len(values)))
    mean = float(values.mean())
    return f"{mean:.4f} [{mean - half:.4f}, {mean + half:.4f}]"


def _rate(rate: Rate) -> str:
    """The rate with its exact confidence interval."""
    low, high = equivalence.exact_interval(rate, CONVERGENCE.level)
    return f"{rate[0] / rate[1]:.4g} [{low:.4f}, {high:.4f}]"


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """Kolmogorov and Smirnov's largest distance between the two distributions. It informs and does not judge."""
    values = np.concatenate([first, second])
    shares = (np.searchsorted(np.sort(sample), values, side="right") / len(sample) for sample in (first, second))
    return float(np.abs(np.subtract(*shares)).max())
