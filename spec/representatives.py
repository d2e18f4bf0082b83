"""Which experiments stand for others, where to ask each would take seconds: the fewest that have all kinds together.

What is a kind, each check says itself: how units are dropped, for one, or what a batch has beside its inputs.
"""

from collections.abc import Callable, Sequence
from functools import cache

from spec import experiment as experiments
from spec import options
from spec.experiment import Experiment


@cache
def at_hand() -> dict[str, Experiment]:
    """The experiments that are compared by default, by name: those that are shipped, then those that were drawn."""
    return {name: experiments.load(name) for name in [*experiments.shipped(), *experiments.drawn()]}


@cache
def representatives(kinds: Callable[[Experiment], Sequence[str]]) -> set[str]:
    """Names of few experiments that have all kinds together: always the one with the most kinds that are still missing.

    Of equals the first. What a side may leave out training of, and what was drawn, stands for what no other has.
    """
    drawn = set(experiments.drawn())
    able = {name: each for name, each in at_hand().items() if each.training.epochs}
    ranks = {name: (name in drawn, bool(options.had(each, options.OPTIONS))) for name, each in able.items()}
    chosen: dict[str, set[str]] = {}
    for rank in sorted(set(ranks.values())):
        kinds_of = {name: set(kinds(each)) for name, each in able.items() if ranks[name] == rank}
        missing = set().union(*kinds_of.values()).difference(*chosen.values())
        while missing:
            best = max(kinds_of, key=lambda name: len(missing & kinds_of[name]))
            chosen[best] = kinds_of[best]
            missing -= kinds_of[best]
    return set(chosen)
