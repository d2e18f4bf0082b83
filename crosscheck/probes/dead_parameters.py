"""Dead parameters: tensors that no gradient reaches, although the equations say that one does.

An implementation that holds a parameter and forgets to use it, or cuts its gradient off, gives exact zeros for all of
it. Elements may be zero for a good reason (a unit behind a relu, a row of an embedding that is not looked up). In small
models a whole tensor may be too: with a single class, one unit behind a relu, or one feature in a norm. So where a
tensor's gradient is zero everywhere, the equations are asked. Rows whose exact gradient is zero by the spec
(`Parameter.zero_gradient`) are left out.
"""

from collections.abc import Callable, Sequence

import numpy as np

from crosscheck.bounds.zero_gradients import kept
from crosscheck.comparison import Arrays, Comparison, Place
from spec.parameters import Parameter

ROUNDING = 1e-12
"""What rounding may make of an exact zero, as a share of the largest gradient: some thousand roundings in float64."""


def dead(
    place: Place,
    table: Sequence[Parameter],
    first: Arrays,
    second: Arrays,
    exact: Callable[[], Arrays] | None = None,
) -> list[Comparison]:
    """A failure for each tensor whose recorded gradient is exactly zero everywhere, on the side where it is.

    Gradients have the parameters' names. Says nothing about what is missing or has another shape: others do.
    exact: what the equations give at the same point in float64, where they can be asked; a tensor whose gradient is
    zero there too is not dead.
    """
    zeros = [
        (side, parameter)
        for side, arrays in zip(place.sides, (first, second), strict=True)
        for parameter in table
        if _is_zero(parameter, arrays.get(parameter.name))
    ]
    expected = exact() if zeros and exact else None
    found = []
    for side, parameter in zeros:
        if expected is not None and not _is_reached(parameter, expected):
            continue
        note = f"dead: its gradient is exactly zero everywhere in {side}; expected one that reaches it"
        found.append(place.against(side, "spec").failed(f"{parameter.name}, dead", note))
    return found


def _is_zero(parameter: Parameter, gradient: np.ndarray | None) -> bool:
    if gradient is None or gradient.shape != parameter.shape:
        return False
    judged = _judged(parameter, gradient)
    return bool(judged.size) and not np.any(judged)


def _is_reached(parameter: Parameter, expected: Arrays) -> bool:
    largest = max(float(np.max(np.abs(gradient), initial=0.0)) for gradient in expected.values())
    return bool(np.any(np.abs(_judged(parameter, expected[parameter.name])) > ROUNDING * largest))


def _judged(parameter: Parameter, gradient: np.ndarray) -> np.ndarray:
    keep = kept(parameter)
    return gradient if keep is None else gradient[keep]
