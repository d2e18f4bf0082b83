"""What enters the operations at which two sides part, so that it can be told what each computes."""

from collections.abc import Mapping, Sequence

import numpy as np

from crosscheck.mapping.bench import Bench
from crosscheck.mapping.forcing import Forced
from crosscheck.mapping.link import Link
from crosscheck.mapping.results import OperationPart
from spec.pair import Intermediate

LARGEST = 1_000_000
"""Numbers of a value at most, whose operation is looked into."""


def parts(forced: Forced, bench: Bench, links: Mapping[str, Link]) -> tuple[OperationPart, ...]:
    """Both sides' operations, each with the other side's value in its layout."""
    before = forced.before.intermediates
    if forced.other.number >= len(before) or forced.value.value.size > LARGEST:
        return ()
    ours, theirs = forced.value, before[forced.other.number]
    shape = [ours.value.shape[axis] for axis in forced.axes]
    back = theirs.value.reshape(shape).transpose(np.argsort(forced.axes))
    there = ours.value.transpose(forced.axes).reshape(theirs.value.shape)
    one = _part(ours, back, bench.forward.intermediates, bench.values, True, bench.tolerance)
    two = _part(theirs, there, before, bench.pushed(links), False, bench.tolerance)
    return one, two


def of_outputs(ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> tuple[OperationPart, ...]:
    """Two outputs of which nothing more is known."""
    return (OperationPart("output", "", ours, theirs, (ours,), (), (), True, tolerance),)


def _part(
    entry: Intermediate,
    other: np.ndarray,
    entries: Sequence[Intermediate],
    values: Mapping[str, np.ndarray],
    first: bool,
    tolerance: float,
) -> OperationPart:
    inputs = [entries[number] for number in entry.operands]
    behind = [entries[number].value for number in inputs[0].operands] if inputs else []
    leaves = [values[path] for path in entry.leaves if path in values]
    return OperationPart(
        entry.op,
        entry.module,
        entry.value,
        other,
        tuple(one.value for one in inputs),
        tuple(behind),
        tuple(leaves),
        first,
        tolerance,
    )
