"""Every named intermediate of the forward pass, at every point of crosscheck.probes.sample_points."""

import numpy as np

from crosscheck.bounds import tolerances
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.probes import equations, sample_points
from crosscheck.request import Request
from crosscheck.subject import Subject
from spec.framework import Framework, Precision, Side
from spec.points import CLEAN, DECODED, PERMUTED, ROUNDED, Point
from spec.tasks import logits_shape

NAME: str = "forward"
QUESTION: str = (
    "does every stage of the forward pass compute the same, whatever the batch, and does padding change nothing?"
)
PRECISIONS: tuple[Precision, ...] = ("float64", "float32")
SAME_INPUTS: bool = True


def inapplicable(subject: Subject) -> str:
    del subject
    return ""


def cases(subject: Subject, precision: Precision, thorough: bool) -> tuple[str, ...]:
    found = subject.cases(precision, thorough)
    return (*found, DECODED) if subject.decodes and precision == "float64" else found


def record(framework: Framework, subject: Subject, case: str, request: Request) -> Arrays:
    def compute(side: Side, point: Point) -> Arrays:
        if case != DECODED:
            return side.forward(point.parameters, point.batch, **sample_points.mode(point))
        return {DECODED: side.need("predict")(point.parameters, point.batch)}

    points = subject.points(case, request.seed, request.precision)
    # In float32 another symbol may be the best, and what follows is then of another size than rounding.
    return sample_points.record(framework, points, compute, request, chosen=case == DECODED)


def compare(subject: Subject, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
    points = subject.points(place.case, place.seed, place.precision)
    tensors = [DECODED] if place.case == DECODED else list(points[0].subject.stages())
    found: list[Comparison] = []

    def close(here: Place, point: Point, name: str, where: str, one: np.ndarray | None, two: np.ndarray | None) -> None:
        entered = tolerances.largest(one, two, np.array(tolerances.ENTERED))
        allowed = tolerances.allowed(place.precision, sample_points.measured(point, name, first), entered)
        shape = _shape(point, name, one, two)
        found.append(here.close(name, one, two, allowed=allowed, shape=shape).at(where, point.prefix + name))

    for point in points:
        for name in tensors:
            key = point.prefix + name
            close(place, point, name, point.name, first.get(key), second.get(key))
    for point in points:
        if point.name == ROUNDED:
            found += sample_points.same(point, place, tensors, first, second)
        if point.name not in (CLEAN, PERMUTED):
            continue
        for side, arrays in zip(place.sides, (first, second), strict=True):
            for name in tensors:
                here, there = arrays.get(name), arrays.get(point.prefix + name)
                if here is not None and point.name == PERMUTED:
                    here = sample_points.permuted(point, name, here)
                alone = place.within(side, "first point", point.name)
                close(alone, point, name, f"{point.name} against the first point", here, there)
    if equations.asked(subject, place):
        found += equations.stages(subject, place, first, second)
    return found + place.only(sample_points.names(points, tensors), first, second)


def _shape(point: Point, name: str, one: np.ndarray | None, two: np.ndarray | None) -> tuple[int, ...] | None:
    """What the spec says it must be, where it says so: of logits, and of what does not have each sequence's values."""
    logits = logits_shape(point.batch.targets, point.subject.classes)
    if name in ("logits", DECODED):
        return logits
    sequences = len(point.batch.inputs)
    if one is None or two is None or one.shape != two.shape or sequences in one.shape:
        return None
    return (sequences, *one.shape[1:])
