"""Do losses tell seeds apart? Asked of the equations, where a side's losses do not.

Seeds are known to be others by what they give: another start, other batches, other masks. Where logits are the same
whatever comes in, since every unit is dead or there is one class alone, all give the same, and no side is at fault.
"""

import numpy as np

from crosscheck.subject import Subject
from spec.framework import Settings
from spec.parameters import Parameters, generator_for

OTHERS = 100
"""Seeds that the equations are asked for. What gives two seeds the same losses with a chance above 1 in 1,000 does so
for some of these 4,950 pairs in all but 1 of 100 cases."""

DIGITS = 9
"""Of a loss that count: what rounding makes of the same loss is no other one."""


def count(subject: Subject, seeds: list[int], steps: int, start: Parameters) -> int:
    """How many of the seeds, whose batches are others, differ in the losses of so many steps before anything is
    learned; without dropout, which can only make more of them. All where nobody knows the equations."""
    if subject.reference is None:
        return len(seeds)
    return len({_losses(subject, seed, steps, start, masks=False) for seed in seeds})


def all_differ(subject: Subject, first: int, steps: int, start: Parameters | None = None) -> bool:
    """Whether OTHERS seeds from the first on all differ in these losses, with masks of the spec. A side's own masks
    and starts are others, so no more can be said: that it is as unlikely for them that two are alike.

    start: None for each seed's own draw. True where nobody knows the equations.
    """
    if subject.reference is None:
        return True
    known: set[tuple[str, ...]] = set()
    for other in range(OTHERS):
        known.add(_losses(subject, first + other, steps, start, masks=subject.has_dropout))
        if len(known) == other:
            return False
    return True


def _losses(subject: Subject, seed: int, steps: int, start: Parameters | None, masks: bool) -> tuple[str, ...]:
    side = subject.reference.open(subject, Settings("float64"))
    start = side.initialize(seed) if start is None else start
    found: list[str] = []
    for step in range(steps):
        batch = subject.batch(seed, step, "float64")
        size, time = batch.inputs.shape[:2]
        drawn = subject.keep_masks(size, time, generator_for(seed, "telling", step)) if masks else None
        logits: np.ndarray = side.forward(start, batch, dropout=drawn)["logits"]
        found.append(f"{subject.training.loss.value(logits, batch.targets):.{DIGITS}g}")
    return tuple(found)
