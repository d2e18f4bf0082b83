"""Planted faults that ensembles of trainings see: which clean ensembles they need, how strictly they are judged, and
how many members it takes.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crosscheck.checks import convergence
from crosscheck.checks.wanted import Wanted
from crosscheck.comparison import Comparison, Place
from crosscheck.faults.fault import Fault
from crosscheck.faults.findings import DetectedShare, Power
from crosscheck.judging.verdict import RecordedSide, Verdict, settle
from crosscheck.request import DEFAULT_IMPLEMENTATIONS
from crosscheck.statistics import ensembles, equivalence
from spec import experiment as experiments
from spec.convergence import CONVERGENCE
from spec.experiment import Experiment
from spec.parameters import generator_for

MEMBERS = (25, 50, 100, 200, 400)
"""Of each side, so many are drawn; and then all of them."""

DRAWS = 60
"""Of each number of members."""

WANTED = Wanted([convergence.NAME], list(convergence.PRECISIONS))
"""What a recording of an ensemble has, and no more."""


class Key(NamedTuple):
    """A clean ensemble. side: the index of its implementation."""

    experiment: str
    seed: int
    side: int


def seen(fault: Fault) -> bool:
    """Whether it is ensembles that should see it."""
    return fault.check == convergence.NAME


def pairs(faults: Sequence[Fault], seed: int) -> list[tuple[Key, Key]]:
    """The clean ensembles that must not be different.

    On each experiment, both implementations' with the seed of the faults, with which the planted faults are compared
    too; and those of each implementation that a fault is planted in with two seeds.
    """
    places = sorted({(fault.experiment, DEFAULT_IMPLEMENTATIONS.index(fault.implementation)) for fault in faults})
    between = [(Key(name, seed, 0), Key(name, seed, 1)) for name in sorted({name for name, _ in places})]
    return between + [(Key(name, seed, side), Key(name, seed + 1, side)) for name, side in places]


def in_a_whole_run(experiment: Experiment, verdict: Verdict, clean: Verdict) -> Verdict:
    """The verdict as strict as it is in a run of all experiments, of which the others look as `clean` does."""
    count = _trained()
    return settle([experiment] * count, [verdict] + [clean] * (count - 1), DEFAULT_IMPLEMENTATIONS)[0]


def curve(
    experiment: Experiment, sides: tuple[RecordedSide, RecordedSide], planted: int, clean: Verdict
) -> Power | None:
    """How often the fault is DIFFERENT with fewer members, judged as above; None where an ensemble is missing.

    planted: which of the sides has the fault. A draw is of the same members of both sides: they have the same seeds,
    as in a run with fewer. Draws share members, so the intervals say how exactly the rate of draws from these members
    is known, and no more.
    """
    precision, case = convergence.PRECISIONS[0], convergence.cases(experiment, convergence.PRECISIONS[0], False)[0]
    place = Place(experiment.name, convergence.NAME, precision, case, (sides[0].name, sides[1].name))
    prefix = f"{precision}/{convergence.NAME}/{case}/"
    arrays = [
        {key.removeprefix(prefix): array for key, array in side.arrays.items() if key.startswith(prefix)}
        for side in sides
    ]
    everything = convergence.undecided(experiment, place, arrays[0], arrays[1])
    if not any(comparison.evidence for comparison in everything):
        return None
    others = [clean.comparisons] * (_trained() - 1)
    members = len(arrays[0]["loss_auc"])
    points = []
    for count in [count for count in MEMBERS if count < members]:
        generator = generator_for(0, "power", count)
        found = 0
        for _ in range(DRAWS):
            drawn = generator.choice(members, count, replace=False)
            first, second = ({name: array[drawn] for name, array in side.items()} for side in arrays)
            found += _beyond(convergence.undecided(experiment, place, first, second), others)
        points.append(_point(count, found, DRAWS))
    points.append(_point(members, int(_beyond(everything, others)), 1))
    faulty, right = arrays[planted], arrays[1 - planted]
    one, two = (np.log(side["loss_auc"].astype(np.float64)) for side in (right, faulty))
    difference, spread = float(two.mean() - one.mean()), float(min(one.std(ddof=1), two.std(ddof=1)))
    return Power(
        effect=difference / spread if spread else math.copysign(math.inf, difference),
        solved=float(faulty["solved"].mean()),
        solved_clean=float(right["solved"].mean()),
        points=points,
    )


def _beyond(found: list[Comparison], others: list[list[Comparison]]) -> bool:
    """Whether any is DIFFERENT, next to the comparisons of the other experiments."""
    broken = any(comparison.failed and comparison.evidence is None for comparison in found)
    own = {id(comparison) for comparison in found}
    return broken or any(id(comparison) in own for comparison in ensembles.beyond([found, *others]))


def _point(members: int, detected: int, draws: int) -> DetectedShare:
    low, high = equivalence.exact_interval((detected, draws), CONVERGENCE.level)
    return DetectedShare(members=members, detected=detected, draws=draws, low=low, high=high)


def _trained() -> int:
    """Experiments of a whole run that this check judges."""
    return sum(not convergence.inapplicable(experiments.load(name)) for name in experiments.shipped())
