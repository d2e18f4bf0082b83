"""Parts of a batch: its first rows, and what in it is padding."""

from typing import Any

import numpy as np

from crosscheck.pair.codec import arrays_in
from spec.errors import UsageError

LOUD = 10.0
"""Size of the noise that takes the place of padding: nothing that it enters stays as it was."""


def rows_of(drawn: Any) -> int | None:
    """Rows of the first axis that all arrays have in common; None where they differ."""
    found = {array.shape[0] if array.ndim else 0 for array in arrays_in(drawn)}
    return found.pop() if len(found) == 1 and 0 not in found else None


def first_rows(drawn: Any, rows: int) -> Any:
    """The same structure with the first rows of each array; as it is where arrays differ in their rows."""
    return _mapped(lambda array: array[:rows], drawn) if rows_of(drawn) is not None else drawn


def valid(drawn: Any, lengths: Any, mask: Any, where: str) -> np.ndarray | None:
    """Which positions count, (batch, time): by the argument of lengths or of a mask that a pair names, if it does.

    Raises UsageError where there is no such argument, or it is none of these.
    """
    for name, said in (("lengths", lengths), ("mask", mask)):
        if said is None:
            continue
        try:
            found = drawn[said]
        except (KeyError, IndexError, TypeError):
            raise UsageError(f"{where}: {name}: expected an argument of inputs, got {said!r}") from None
        if name == "mask":
            if not isinstance(found, np.ndarray) or found.ndim != 2:
                raise UsageError(f"{where}: mask: expected an array (batch, time) as argument {said!r}, got another")
            return found.astype(bool)
        if not isinstance(found, np.ndarray) or found.ndim != 1 or found.dtype.kind not in "iu":
            raise UsageError(f"{where}: lengths: expected integers (batch,) as argument {said!r}, got another")
        longest = max((array.shape[1] for array in arrays_in(drawn) if array.ndim > 1), default=0)
        return np.arange(longest)[None, :] < found[:, None]
    return None


def with_noise(drawn: Any, kept: np.ndarray, random: np.random.Generator) -> Any:
    """Other values wherever an array (batch, time, ...) is padding; the lengths or the mask stay as they are."""

    def one(array: np.ndarray) -> np.ndarray:
        if array.shape[:2] != kept.shape or array.dtype == bool or np.array_equal(array.astype(bool), kept):
            return array
        if array.dtype.kind == "f":
            other = (LOUD * random.standard_normal(array.shape)).astype(array.dtype)
        else:
            other = random.permutation(array.reshape(-1)).reshape(array.shape)
        return np.where(kept.reshape(*kept.shape, *[1] * (array.ndim - 2)), array, other)

    return _mapped(one, drawn)


def _mapped(one: Any, value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return one(value)
    if isinstance(value, dict):
        return {key: _mapped(one, item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_mapped(one, item) for item in value)
    return value
