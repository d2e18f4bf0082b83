"""Which stage of a forward pass is wrong in itself, and which gradients are."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from crosscheck.comparison import Arrays
from crosscheck.diagnosis.arbiter import Call
from crosscheck.diagnosis.distance import Distance, measure
from crosscheck.diagnosis.finding import Departure
from crosscheck.subject import Subject
from spec.framework import Precision

Bound = Callable[[str, np.ndarray], float]
"""(name of a recorded array, the reference's) -> what rounding can do to it."""

INPUTS = "inputs"
"""The name of the loss's gradient by the batch's inputs."""

Places = list[dict[str, str]]
"""For each call of `forward` in turn: intermediate -> the name that it was recorded under."""


def places(calls: list[Call], recorded: Arrays) -> Places:
    """Where a check put what `forward` gave it, found by the arrays: names may be prefixed, arrays copied."""
    found: Places = []
    taken: set[str] = set()
    for call in (call for call in calls if call.name == "forward"):
        names: dict[str, str] = {}
        for name, values in call.result.items():
            ends = [key for key in recorded if key.endswith(name) and key not in taken]
            itself = [key for key in ends if recorded[key] is values]
            equal = (key for key in ends if np.array_equal(recorded[key], values, equal_nan=True))
            # Batches that differ in their padding alone give equal arrays, but not the same ones.
            if key := next(iter(itself), None) or next(equal, None):
                names[name] = key
                taken.add(key)
        found.append(names)
    return found


def force(
    ask: Callable[[Sequence[Arrays]], Arrays], where: Places, arrays: Arrays, plain: Arrays
) -> dict[str, np.ndarray]:
    """What the equations make of each stage, given this side's own earlier ones; by the name it is recorded under.

    Where the side lacks a stage, or has it in another shape, later ones follow from the reference's.
    """
    stages = [
        {
            name: arrays[key].astype(np.float64)
            for name, key in names.items()
            if key in arrays and arrays[key].shape == plain[key].shape
        }
        for names in where
    ]
    return dict(ask(stages))


def stage(
    subject: Subject,
    side: str,
    names: Mapping[str, str],
    own: Mapping[str, Distance],
    plain: Mapping[str, Distance],
) -> Departure:
    """The first stage of one forward pass that is wrong in itself.

    names: as in Places. own: distances from what follows from the side's own earlier stages. plain: from the
    reference's own.
    """
    wrong = [name for name, key in names.items() if own[key].ratio > 1]
    wrong = wrong or [max(names, key=lambda name: own[names[name]].ratio)]
    first = wrong[0]
    at = own[names[first]]
    return Departure(
        side=side,
        stage=first,
        tensor=names[first],
        time=at.at[1] if at.at and subject.recurrence(first) else None,
        index=at.at,
        value=at.value if at.value is not None else at.note,
        expected=at.expected,
        ratio=at.ratio,
        wrong=wrong,
        downstream=[name for name, key in names.items() if plain[key].ratio > 1 and name not in wrong],
    )


def in_order(subject: Subject, name: str, values: np.ndarray) -> np.ndarray:
    """The first time step, in order of computation, at which a recurrence is beyond its bound, and zeros elsewhere.

    values: ratios, (batch, time, ...).
    """
    beyond = np.flatnonzero((values > 1).any(axis=(0, *range(2, values.ndim))))
    direction = subject.recurrence(name)
    if not beyond.size or not direction:
        return values
    time = int(beyond[0] if direction > 0 else beyond[-1])
    kept = np.zeros_like(values)
    kept[:, time] = values[:, time]
    return kept


def gradient(subject: Subject, side: str, plain: Mapping[str, Distance], failed: str) -> Departure:
    """The module where a backward pass, which goes from the last to the first, departs first.

    Earlier modules may only be downstream, which gradients alone cannot tell.
    """
    table = [parameter.name for parameter in subject.parameters()]
    wrong = [name for name, at in plain.items() if at.ratio > 1] or [failed]
    last = [name for name in reversed(table) if name in wrong]
    # A backward pass begins at the loss and ends at the inputs.
    loss = [name for name in wrong if name not in table and name != INPUTS]
    module = last[0].rpartition(".")[0] if last and not loss else ""
    inside = loss or [name for name in wrong if module and name.rpartition(".")[0] == module] or wrong
    # What the loss hands back is nowhere recorded, and shows first in the last module.
    where = f"{module} or the loss" if table[-1] in inside else module or inside[0]
    tensor = failed if failed in inside else inside[0]
    at = plain[tensor]
    return Departure(
        side=side,
        stage=where,
        tensor=tensor,
        index=at.at,
        value=at.value if at.value is not None else at.note,
        expected=at.expected,
        ratio=at.ratio,
        wrong=inside,
        downstream=[name for name in wrong if name not in inside],
    )


def distances(
    arrays: Arrays,
    reference: Arrays,
    bound: Bound,
    precision: Precision,
    focus: Callable[[str, np.ndarray], np.ndarray] = lambda name, ratios: ratios,
) -> dict[str, Distance]:
    """How far each of a side's arrays is from the reference's, in the order of computation. focus: see `measure`."""
    return {
        name: measure(arrays.get(name), values, bound(name, values), precision, lambda r, name=name: focus(name, r))
        for name, values in reference.items()
    }
