"""What a blame consists of."""

import msgspec

from crosscheck.comparison import Value


class Departure(msgspec.Struct, frozen=True, kw_only=True):
    """Where one side departs from the equations by itself, given what it had computed before.

    stage: what of the computation is wrong, such as an intermediate's name, or the module of a wrong gradient.
    step: optimizer step. time: time step of a recurrence. expected: what the equations make of this side's own inputs.
    index, value, expected: of `tensor`, where it is furthest off. ratio: that distance in units of its bound.
    wrong: everything that is wrong in itself, in order of computation. downstream: what is off through them alone.
    """

    side: str
    stage: str
    tensor: str
    step: int | None = None
    time: int | None = None
    index: tuple[int, ...] = ()
    value: Value | None = None
    expected: Value | None = None
    ratio: float | None = None
    wrong: list[str] = []
    downstream: list[str] = []


class Blame(msgspec.Struct, frozen=True, kw_only=True):
    """Who departs from the equations at an experiment's first failure.

    at_fault: a side's name, "both", or "undecided". reason: how that was found, or why it was not.
    reference: the reference's value there, where it has one. departures: of each side that departs.
    """

    at_fault: str
    reason: str
    reference: Value | None = None
    departures: list[Departure] = []
