"""Forward and gradients at the points of a case, see spec.points, and how far rounding carries them there."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import msgspec
import numpy as np

from crosscheck.bounds import mixed_precision, rounding_spread
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.probes.witness import aside
from crosscheck.request import Request
from spec.errors import Unsupported
from spec.framework import Framework, Precision, Side
from spec.parameters import Parameters
from spec.points import Point, permutation


def mode(point: Point) -> dict[str, Parameters]:
    """What says so, where a point has masks: who drops nothing need not take any."""
    return {} if point.dropout is None else {"dropout": point.dropout}


def permuted(point: Point, name: str, values: np.ndarray) -> np.ndarray:
    """A tensor of the first point with its rows in the other order; as it is, where it has no such rows."""
    returned = [state.removesuffix("_0") + "_n" for state in point.batch.initial or {}]
    axis, order = -2 if name in returned else 0, permutation(len(point.batch.inputs))
    if values.ndim < 2 or values.shape[axis] != len(order):
        return values
    return np.take(values, order, axis)


def record(
    framework: Framework,
    points: list[Point],
    compute: Callable[[Side, Point], Arrays],
    request: Request,
    chosen: bool = False,
) -> dict[str, np.ndarray]:
    """What `compute` finds at each point, and what rounding does to it where this side measures that.

    chosen: whether something is chosen in between, so that the result is no smooth function of what goes in.
    """

    def named(asked: Framework, point: Point, precision: Precision = request.precision) -> dict[str, np.ndarray]:
        side = asked.open(point.subject, msgspec.structs.replace(request.settings, precision=precision))
        return {point.prefix + name: array for name, array in compute(side, point).items()}

    recorded: dict[str, np.ndarray] = {}
    for point in points:
        found = named(framework, point)
        recorded |= found
        if request.envelope and point.measured:
            moved = _perturbed(point, request.seed, mixed_precision.share(point.subject, request.precision))
            spread = rounding_spread.measure(found, (named(aside(framework), perturbed) for perturbed in moved))
            if request.precision == "float64" and not chosen:
                with suppress(Unsupported):
                    coarse = [_as(point, "float32"), *_perturbed(_as(point, "float32"), request.seed)]
                    coarse = coarse[: rounding_spread.COARSE]
                    exact = (named(aside(framework), _as(each, "float64")) for each in coarse)
                    rounded = (named(aside(framework), each, "float32") for each in coarse)
                    spread = rounding_spread.larger(spread, rounding_spread.of_all_operations(exact, rounded))
            recorded |= spread
    return recorded


def measured(point: Point, name: str, arrays: Arrays) -> float:
    """The envelope that holds for that tensor at that point: its own, or the first point's."""
    # A file has no scalars but arrays of one element.
    return float(np.max(arrays.get(f"{rounding_spread.PREFIX}{point.prefix if point.measured else ''}{name}", 0.0)))


def same(point: Point, place: Place, tensors: list[str], first: Arrays, second: Arrays) -> Iterator[Comparison]:
    """Each side's answers at a point that is the first one to the bit, for whoever rounds what is rounded there."""
    for side, arrays in zip(place.sides, (first, second), strict=True):
        here = place.within(side, "first point", point.name)
        for name in tensors:
            key = point.prefix + name
            found = here.identical(name, arrays.get(name), arrays.get(key))
            yield found.at(f"{point.name} against the first point", key)


def names(points: list[Point], tensors: list[str]) -> list[str]:
    """Everything that `record` may have left."""
    recorded = [point.prefix + tensor for point in points for tensor in tensors]
    return recorded + [rounding_spread.PREFIX + name for name in recorded]


def _as(point: Point, precision: Precision) -> Point:
    """The point with its numbers in that precision."""

    def rounded(values: np.ndarray) -> np.ndarray:
        return values.astype(precision) if values.dtype.kind == "f" else values

    batch, initial = point.batch, point.batch.initial
    moved = None if initial is None else {name: rounded(state) for name, state in initial.items()}
    batch = batch._replace(inputs=rounded(batch.inputs), initial=moved)
    return point._replace(parameters={name: rounded(value) for name, value in point.parameters.items()}, batch=batch)


def _perturbed(point: Point, seed: int, share: float = 0.0) -> Iterator[Point]:
    """The point with parameters and inputs moved in their last bits, or by that share of themselves. A zero is exact,
    and stays."""
    batch, initial = point.batch, point.batch.initial or {}
    given = {**point.parameters, _INPUTS: batch.inputs, **initial}
    for moved in rounding_spread.perturbed(given, seed, share=share):
        kept = {name: np.where(given[name] == 0, given[name], value) for name, value in moved.items()}
        batch = batch._replace(inputs=kept.pop(_INPUTS), initial={name: kept.pop(name) for name in initial} or None)
        yield point._replace(parameters=kept, batch=batch)


_INPUTS = "batch.inputs"
