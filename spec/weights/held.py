"""What every reader gives."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from spec.weights import small_floats


class Held(NamedTuple):
    """What a reader gives.

    arrays: by name, the parts of a name joined by dots or slashes; of NumPy's own numeric types. said: what was done to
    them, a sentence each. requires: what else the file states of its model, by the model's field: a model that has such
    a field with another value computes something else.
    """

    arrays: dict[str, np.ndarray]
    said: tuple[str, ...] = ()
    requires: Mapping[str, Any] = {}


def widen(arrays: Mapping[str, tuple[np.ndarray, str]]) -> Held:
    """Arrays with the names of their types, those that NumPy has not given as their bits: floating numbers as float32.

    Others stay as they are.
    """
    counts = Counter(name for _, name in arrays.values() if name in small_floats.SMALL)
    said = tuple(f"{name} widened to float32 ({count} arrays)" for name, count in counts.items())
    made = {
        name: small_floats.widened(array, kind) if kind in small_floats.SMALL else array
        for name, (array, kind) in arrays.items()
    }
    return Held(made, said)
