"""What an answer consists of, and that it is all plain NumPy: nothing else can be written down as it is."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

NUMBERS = "biuf"
"""Kinds of dtypes that can be written down and compared: bool, signed and unsigned integers, floats."""

WIDEST = 8
"""Bytes of a number, at most: no file has a place for longer floats."""


class NotPlain(Exception):
    """An answer that holds something other than NumPy's own arrays of numbers."""


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The arrays and scalars of an answer, each with its name: "parameters/rnn.bias_ih_l0", "losses"."""
    below = f"{name}/" if name else ""
    match value:
        case Mapping():
            for key, item in value.items():
                yield from leaves(item, f"{below}{key}")
        case tuple() if fields := getattr(value, "_fields", ()):
            for key, item in zip(fields, value, strict=True):
                yield from leaves(item, f"{below}{key}")
        case tuple() | list():
            for index, item in enumerate(value):
                yield from leaves(item, f"{below}{index}")
        case _:
            yield name, value


def check(function: str, answer: Any) -> None:
    """Raise NotPlain unless the answer to that function of the contract is plain throughout.

    A masked array would lose its mask and show what stands beneath; other subclasses may have an arithmetic or shapes
    of their own; a framework's own arrays may round, copy or wait when they are converted.
    """
    for name, value in leaves(answer):
        if problem := _problem(value):
            where = f"{function}: {name}" if name else function
            raise NotPlain(f"{where}: expected a plain numpy.ndarray of numbers, got {problem}")


def _problem(value: Any) -> str:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if value is None or isinstance(value, (bool, int, float, str)):
        return ""
    if isinstance(value, np.ma.MaskedArray):
        return f"a masked array ({kind}), whose mask would be lost"
    if isinstance(value, np.ndarray) and type(value) is not np.ndarray:
        return f"a subclass of it, {kind}"
    if not isinstance(value, (np.ndarray, np.generic)):
        return f"{kind}"
    if value.dtype.kind not in NUMBERS or value.dtype.itemsize > WIDEST:
        return f"one of dtype {value.dtype}"
    return "" if value.dtype.isnative else f"one of foreign byte order, {value.dtype.str}"
