"""How a difference grows over the stages of the computation that a cause is about, for a picture of it."""

import math
from collections.abc import Collection, Iterable

from crosscheck.comparison import GROWTH_DIGITS, Comparison, StageGrowth

CHECKS = ("forward", "gradients")
"""Those that look at one stage, or at one tensor, after the other."""

MOST = 30
"""Stages that are kept."""

FEWEST = 2
"""Stages that make a picture."""


def of_comparisons(first: Comparison, comparisons: Iterable[Comparison], wrong: Collection[str]) -> StageGrowth | None:
    """Of what was compared where `first` failed. wrong: tensors or stages that are wrong in themselves, if any are
    known."""
    if first.check not in CHECKS:
        return None
    held = [one for one in comparisons if _place(one) == _place(first) and one.bound is not None]
    growth = StageGrowth(
        names=[_name(one) for one in held],
        difference=[_rounded(math.inf if one.difference is None else one.difference) for one in held],
        bound=[_rounded(one.bound or 0.0) for one in held],
        own=[one.recorded in wrong or _name(one) in wrong for one in held],
    )
    return thinned(growth)


def thinned(growth: StageGrowth) -> StageGrowth | None:
    """The same, of so many stages as there is room for; None where that makes no picture.

    Those that are wrong in themselves come first, with the one before each, then the ends, then others evenly.
    """
    count = len(growth.names)
    if count < FEWEST:
        return None
    own = [place for place, wrong in enumerate(growth.own) if wrong]
    wanted = [*own, *(place - 1 for place in own if place), 0, count - 1]
    wanted += [place * (count - 1) // (MOST - 1) for place in range(MOST)]
    kept = sorted(list(dict.fromkeys(wanted))[:MOST])
    return StageGrowth(
        names=[growth.names[place] for place in kept],
        difference=[growth.difference[place] for place in kept],
        bound=[growth.bound[place] for place in kept],
        own=[growth.own[place] for place in kept],
    )


def _place(one: Comparison) -> tuple[str, ...]:
    return one.check, one.precision, one.case, one.point, one.alone, one.other


def _name(one: Comparison) -> str:
    """Without the point at which it was looked at."""
    return one.tensor.removesuffix(f" ({one.point})") if one.point else one.tensor


def _rounded(value: float) -> float:
    return float(f"{value:.{GROWTH_DIGITS}g}")
