"""Each side against the equations, at points where both sides may have made the same mistake.

The other side cannot show that. `Subject.reference` can, in float64: every stage of a forward pass, and the loss's
slope along directions. A slope takes one more forward pass, where all gradients would take one for each parameter;
along signs that are drawn, each element of a tensor's gradient counts as much as any other, so that a mistake in one
shows. Nothing more is asked of the sides.
"""

from collections.abc import Iterator

import numpy as np

from crosscheck.bounds import tolerances
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.probes import sample_points
from crosscheck.subject import Subject
from spec.framework import Settings
from spec.parameters import generator_for
from spec.points import INITIAL, Point
from spec.tasks import Batch

LOOKED_AT = "ragged"
"""The case of forward and gradients whose first points are looked at."""

EXACT = "spec.reference"

LARGEST = 10**9
"""Multiplications up to which the equations are asked for all of a model's gradients: each takes a forward pass."""


def asked(subject: Subject, place: Place) -> bool:
    """Whether it is that case, in float64, and somebody knows the equations."""
    return subject.reference is not None and place.case == LOOKED_AT and place.precision == "float64"


def affordable(subject: Subject, batch: Batch) -> bool:
    """Whether they are asked for all gradients of a loss of that batch: as many forward passes as parameters."""
    rows, time = batch.inputs.shape[:2]
    return rows * time * subject.parameter_count**2 <= LARGEST


def _points(subject: Subject, place: Place) -> list[Point]:
    found = subject.points(place.case, place.seed, place.precision)
    return [point for point in found if point.name in ("", INITIAL)]


def stages(subject: Subject, place: Place, first: Arrays, second: Arrays) -> Iterator[Comparison]:
    """What each side computed at these points, with the first side's envelopes."""
    for point in _points(subject, place):
        exact = subject.reference.open(point.subject, Settings(precision="float64")).forward(
            point.parameters, point.batch
        )
        for side, arrays in zip(place.sides, (first, second), strict=True):
            here = place.against(side, EXACT)
            for name in point.subject.stages():
                entered = tolerances.largest(exact[name], np.array(tolerances.ENTERED))
                allowed = tolerances.allowed(place.precision, sample_points.measured(point, name, first), entered)
                key = point.prefix + name
                yield here.close(name, arrays.get(key), exact[name], allowed=allowed).at(point.name, key)


def slopes(subject: Subject, place: Place, first: Arrays, second: Arrays) -> Iterator[Comparison]:
    """Each tensor's gradient along a direction of signs. What rounding may do to each element, it may do to all."""
    for point in _points(subject, place):
        directions = {
            name: generator_for(place.seed, "direction", name).choice((-1.0, 1.0), size=value.shape)
            for name, value in point.parameters.items()
        }
        settings = Settings(precision="float64")
        exact = subject.reference.slopes(point.subject, point.parameters, point.batch, settings, directions)
        # A gradient that is smaller than the others has the rounding of what cancelled.
        keys = {name: point.prefix + name for name in directions}
        entered = tolerances.largest(*(side.get(key) for key in keys.values() for side in (first, second)))
        for side, arrays in zip(place.sides, (first, second), strict=True):
            here = place.against(side, EXACT)
            for name, key in keys.items():
                found, direction = arrays.get(key), directions[name]
                if found is None or found.shape != direction.shape:
                    shape = None if found is None else found.shape
                    yield here.failed(name, f"expected shape {direction.shape}, got {shape} in {side}")
                    continue
                envelope = sample_points.measured(point, name, first)
                allowed = found.size * tolerances.allowed(place.precision, envelope, entered)
                one, other = np.array([np.sum(found * direction)]), np.array([exact[name]])
                yield here.close(f"{name}, along a direction", one, other, allowed=allowed).at(point.name, key)
