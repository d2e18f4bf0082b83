"""Dead parameters: tensors that no gradient reaches, although the equations say that one does.

An implementation that holds a parameter and forgets to use it, or cuts its gradient off, gives exact zeros for all of
it. Elements may be zero for a good reason (a unit behind a relu, a row of an embedding that is not looked up), a whole
tensor is not. Rows whose exact gradient is zero by the spec (`Parameter.zero_gradient`) are left out.
"""

from collections.abc import Sequence

import numpy as np

from crosscheck.bounds.zero_gradients import kept
from crosscheck.comparison import Arrays, Comparison, Place
from spec.parameters import Parameter


def dead(place: Place, table: Sequence[Parameter], first: Arrays, second: Arrays) -> list[Comparison]:
    """A failure for each tensor whose recorded gradient is exactly zero everywhere, on the side where it is.

    Gradients have the parameters' names. Says nothing about what is missing or has another shape: others do.
    """
    found = []
    for side, arrays in zip(place.sides, (first, second), strict=True):
        for parameter in table:
            gradient, keep = arrays.get(parameter.name), kept(parameter)
            if gradient is None or gradient.shape != parameter.shape:
                continue
            judged = gradient if keep is None else gradient[keep]
            if judged.size and not np.any(judged):
                note = f"dead: its gradient is exactly zero everywhere in {side}; expected one that reaches it"
                found.append(place.against(side, "spec").failed(f"{parameter.name}, dead", note))
    return found
