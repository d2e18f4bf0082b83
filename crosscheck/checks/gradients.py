"""The loss and its gradient by every parameter and by the inputs, at every point of crosscheck.probes.sample_points."""

from functools import partial

import numpy as np

from crosscheck.bounds import tolerances, zero_gradients
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.probes import equations, sample_points
from crosscheck.probes.dead_parameters import dead
from crosscheck.request import Request
from crosscheck.subject import Subject
from spec.framework import Framework, Precision, Settings, Side
from spec.points import CLEAN, INPUTS, PERMUTED, ROUNDED, Point

NAME: str = "gradients"
QUESTION: str = "do the loss and its gradients agree, at random points and where everything is exactly zero?"
PRECISIONS: tuple[Precision, ...] = ("float64", "float32")
SAME_INPUTS: bool = True

LOSS = "loss"
"""What is recorded beside the gradients by the parameters and the batch's inputs."""


def inapplicable(subject: Subject) -> str:
    del subject
    return ""


def cases(subject: Subject, precision: Precision, thorough: bool) -> tuple[str, ...]:
    return subject.cases(precision, thorough)


def record(framework: Framework, subject: Subject, case: str, request: Request) -> Arrays:
    def compute(side: Side, point: Point) -> Arrays:
        found = side.gradients(point.parameters, point.batch, **sample_points.mode(point))
        inputs = {} if found.inputs is None else {INPUTS: found.inputs}
        return {LOSS: np.array([found.loss], request.precision), **found.parameters, **inputs}

    return sample_points.record(framework, subject.points(case, request.seed, request.precision), compute, request)


def compare(subject: Subject, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
    points = subject.points(place.case, place.seed, place.precision)
    found: list[Comparison] = []
    for point in points:
        one, two = _at(point, first), _at(point, second)
        found += _judge(place, point, point.name, first, one, two)
    for point in points:
        if point.name == ROUNDED:
            found += sample_points.same(point, place, list(shapes(point)), first, second)
        if point.name not in (CLEAN, PERMUTED):
            continue
        for side, arrays in zip(place.sides, (first, second), strict=True):
            expected = _at(points[0], arrays)
            if point.name == PERMUTED and INPUTS in expected:
                expected[INPUTS] = sample_points.permuted(point, INPUTS, expected[INPUTS])
            here = place.within(side, "first point", point.name)
            where = f"{point.name} against the first point"
            found += _judge(here, point, where, first, expected, _at(point, arrays))
    if points[0].live:
        asked = subject.reference is not None and equations.affordable(subject, points[0].batch)
        exact = partial(_exact, subject, place) if asked else None
        found += dead(place, subject.parameters(), _at(points[0], first), _at(points[0], second), exact)
    if equations.asked(subject, place):
        found += equations.slopes(subject, place, first, second)
    return found + place.only(sample_points.names(points, list(shapes(points[0]))), first, second)


def _exact(subject: Subject, place: Place) -> Arrays:
    """The parameters' gradients at the case's first point, by the equations."""
    point = subject.points(place.case, place.seed, "float64")[0]
    side = subject.reference.open(point.subject, Settings("float64"))
    return side.gradients(point.parameters, point.batch, dropout=point.dropout).parameters


def _judge(place: Place, point: Point, where: str, recorded: Arrays, one: Arrays, two: Arrays) -> list[Comparison]:
    """Everything that was found at one point. recorded: the side that has the envelopes."""
    found: list[Comparison] = []
    table = {parameter.name: parameter for parameter in point.subject.parameters()}
    largest = tolerances.largest(*(side.get(name) for name in table for side in (one, two)))
    loss = point.subject.training.loss
    asked = int(loss.asked(point.batch.targets).sum())
    # The loss's gradient by all logits is 1 for a mean, and 1 for each target of a sum; more where targets weigh more.
    # That of squares is as large as their root: the smaller loss, so that no side widens what it is held to.
    losses = [side[LOSS] for side in (one, two) if LOSS in side]
    values = [float(each.max()) for each in losses if each.size and np.isfinite(each).all()]
    by_logits = loss.slope(point.batch.targets, min(values, default=0.0))
    for name, shape in shapes(point).items():
        envelope = sample_points.measured(point, name, recorded)
        here, there = one.get(name), two.get(name)
        entered = max(tolerances.SHARE * largest, point.added.get(name, 0.0) * by_logits)
        floor, terms = (tolerances.ENTERED, asked) if name == LOSS else (entered, asked if point.repeated else 1)
        allowed = tolerances.allowed(place.precision, envelope, tolerances.largest(here, there, np.array(floor)), terms)
        keep = zero_gradients.kept(table[name]) if name in table else None
        if keep is None or keep.any() or here is None or there is None:
            close = place.close(name, here, there, allowed=allowed, shape=shape, keep=keep)
            found.append(close.at(where, point.prefix + name))
        if keep is not None and here is not None and there is not None and here.shape == there.shape == shape:
            # Such a gradient is what is left of others that cancel, so it has their rounding.
            noise = tolerances.allowed(place.precision, envelope, max(largest, entered))
            judged = zero_gradients.noise(place, table[name], here, there, noise)
            found.append(judged.at(where, point.prefix + judged.tensor))
    return found


def _at(point: Point, arrays: Arrays) -> dict[str, np.ndarray]:
    """What one side found at that point, by the tensors' own names."""
    return {name: arrays[point.prefix + name] for name in shapes(point) if point.prefix + name in arrays}


def shapes(point: Point) -> dict[str, tuple[int, ...]]:
    """What is recorded at a point, in the order of the report."""
    inputs = {INPUTS: point.batch.inputs.shape} if point.subject.has_numeric_inputs else {}
    return {LOSS: (1,), **{parameter.name: parameter.shape for parameter in point.subject.parameters()}, **inputs}
