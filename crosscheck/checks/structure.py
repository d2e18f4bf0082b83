"""Names, shapes, dtypes and count of the parameters, against the spec's table; and that no two of them are one."""

from collections.abc import Iterator, Sequence

import msgspec

from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.request import Request
from crosscheck.subject import Subject
from spec.framework import Framework, Precision

NAME: str = "structure"
QUESTION: str = "are the parameters' names, shapes and dtypes those of the spec, and none tied to another?"
PRECISIONS: tuple[Precision, ...] = ("float64", "float32")
SAME_INPUTS: bool = True


def inapplicable(subject: Subject) -> str:
    del subject
    return ""


def cases(subject: Subject, precision: Precision, thorough: bool) -> tuple[str, ...]:
    del subject, precision, thorough
    return ("initialized", "returned")


def record(framework: Framework, subject: Subject, case: str, request: Request) -> Arrays:
    side = framework.open(subject, request.settings)
    if case == "initialized":
        return side.initialize(request.seed)
    # Other numbers than the check round-trip sends: one that gives its first answer for ever is seen there.
    other = msgspec.structs.replace(request, seed=request.seed + 1)
    return side.round_trip(other.start(subject))


def compare(subject: Subject, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
    table = subject.parameters()
    found = [
        place.expected(p.name, _kind(place.precision, p.shape), _found(first, p.name), _found(second, p.name))
        for p in table
    ]
    found += place.only([p.name for p in table], first, second)
    if place.case == "returned":
        for side, arrays in zip(place.sides, (first, second), strict=True):
            found += _tied(place, side, [p.name for p in table], arrays)
    counts = [sum(array.size for array in side.values()) for side in (first, second)]
    return [*found, place.expected("parameter count", subject.parameter_count, *counts)]


def _tied(place: Place, side: str, names: Sequence[str], arrays: Arrays) -> Iterator[Comparison]:
    """Tensors that came back as one: every value that was sent is different, so equal ones share their memory."""
    held: dict[bytes, str] = {}
    for name in names:
        if name not in arrays or not arrays[name].size:
            continue
        other = held.setdefault(arrays[name].tobytes(), name)
        if other != name:
            note = f"tied to {other} in {side}: they were sent with different values and came back with the same"
            yield place.failed(f"{name}, tied", note)


def _found(arrays: Arrays, name: str) -> str:
    return _kind(str(arrays[name].dtype), arrays[name].shape) if name in arrays else "missing"


def _kind(dtype: str, shape: tuple[int, ...]) -> str:
    return f"{dtype}[{', '.join(map(str, shape))}]"
