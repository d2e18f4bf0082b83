"""How far two honest sides may part where operands are rounded to bfloat16 (spec.mixed_precision).

An operand on which two sides differ by a rounding is rounded to the same bfloat16, unless the middle of two lies
between: then one side has the one and the other its neighbour, 2^-8 to 2^-7 of it away. The chance of that is the
difference in units of that distance.

In float64 it is about 1e-16 / 2^-8, and of a million operands in 10^7 comparisons one meets it. Sums of products of
bfloat16 are mostly exact there: 16 bits each, in 53. So the bounds are those of other experiments, from the same
derivations: what is rounded where it should not be, and not where it should be, is off by 10^10 of them.

In float32 it is about 1e-7 / 2^-8: one operand of 10^4 to 10^5, which a training of a second meets. So a bound must
allow a neighbour for any operand. Repetitions are therefore not started from numbers that differ in their last bit but
by SHARE of themselves: FACTOR of that is 2^-6.7, more than any neighbour is away, for every parameter and input at
once; and it has a quarter of all other operands rounded to their neighbours in each repetition. What such bounds still
see is a departure of some percent of a stage or a gradient: a formula, not a rounding.

A trajectory is not compared step by step in float32: Adam makes a full step of a gradient that was zero but for one
neighbour, from where on two sides are apart by the learning rate. It is in float64, with the bounds of rounding, by the
same code. What float32 alone could change of a training are numbers that are kept in too few bits, and those show by
themselves: a number of 24 significant bits is by chance also one of 8 once in 65,536 times (`digits`).
"""

from collections.abc import Iterator

import numpy as np

from crosscheck.comparison import Comparison, Place
from crosscheck.subject import Subject
from spec.framework import Precision
from spec.mixed_precision import bfloat16

SHARE = 2.0**-10
"""Of each number, by which repetitions in float32 start apart."""


MOST = 0.5
"""Share of a tensor's elements that may be numbers of bfloat16. Some are without having been rounded, as what a tanh
gives at its end; a tensor that is kept in bfloat16 has no others."""

FEWEST = 8
"""Elements from which on a share says something: five of so many are by chance once in 10^22 times."""


def rounds(subject: Subject) -> bool:
    """Whether operands are rounded. A stranger's models do not say."""
    return getattr(subject, "mixed_precision", None) is not None


def share(subject: Subject, precision: Precision) -> float:
    """By which share of themselves numbers are moved to measure what rounding does; 0 for their last bits."""
    return SHARE if precision == "float32" and rounds(subject) else 0.0


def alone(subject: Subject, precision: Precision) -> bool:
    """Whether a trajectory is looked at on each side alone."""
    return precision == "float32" and rounds(subject)


def digits(place: Place, name: str, recorded: np.ndarray) -> Iterator[Comparison]:
    """That a tensor of a trajectory, (steps, ...), which is to be kept in full is not kept in bfloat16.

    Of the second half of the steps, since what has had one gradient is that gradient, in some elements a product of two
    numbers alone.
    """
    last = recorded[len(recorded) // 2 :]
    numbers = last[np.isfinite(last) & (last != 0)]
    if numbers.size < FEWEST or len(recorded) < 2:
        return
    narrow = int((bfloat16(numbers) == numbers).sum())
    note = "elements that are numbers of bfloat16, where all are to be kept in full"
    limit = MOST * numbers.size
    yield place.limited(f"digits of {name}", (narrow, int(limit)), narrow, limit, numbers.size, note)
