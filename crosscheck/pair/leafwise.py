"""Arrays of which few are in memory at a time: of a large model, all leaves together are gigabytes."""

import math
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np

from crosscheck.comparison import Comparison, Place

BLOCK = 2**20
"""Numbers of an array that are worked on at once."""


class Computed(Mapping[str, np.ndarray]):
    """Arrays by name, each made anew when it is asked for."""

    def __init__(self, names: Iterable[str], made: Callable[[str], np.ndarray]) -> None:
        self._names, self._made = dict.fromkeys(names), made

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        return self._made(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class File:
    """A file that is there for its reader alone: it has no name any more, and is gone when nobody refers to this."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        weakref.finalize(self, self._file.close)
        path.unlink()
        self.size = os.fstat(self._file.fileno()).st_size

    def array(self, dtype: np.dtype, shape: tuple[int, ...], offset: int) -> np.ndarray:
        """One that stands there, as an array of its own, which may be written to."""
        self._file.seek(offset)
        return np.fromfile(self._file, dtype, math.prod(shape)).reshape(shape)


def blocks(size: int) -> Iterator[slice]:
    """All of a flat array of that size, a block at a time."""
    for start in range(0, size, BLOCK):
        yield slice(start, min(start + BLOCK, size))


def by_block(one: Callable[[np.ndarray, slice], np.ndarray], array: np.ndarray) -> np.ndarray:
    """Each of a flat array's blocks as float64, and where it stands, put through a function; in the array's shape."""
    flat = np.reshape(array, -1)
    found = np.empty(flat.shape)
    for block in blocks(flat.size):
        found[block] = one(flat[block].astype(np.float64), block)
    return found.reshape(np.shape(array))


def close(
    place: Place,
    tensor: str,
    first: np.ndarray,
    second: np.ndarray,
    allowed: float | np.ndarray,
    keep: np.ndarray | None = None,
) -> Comparison:
    """`Place.close` of two arrays of any floating dtype, rounded to the place's precision; a large one by blocks.

    allowed, keep: of one shape with the arrays, or one for all.
    """
    shape = first.shape
    if first.size <= BLOCK or second.shape != shape:
        return _close(place, tensor, first, second, allowed, keep)
    one, two = first.reshape(-1), second.reshape(-1)
    found: Comparison | None = None
    elements = 0
    for block in blocks(first.size):
        kept = keep.reshape(-1)[block] if keep is not None else None
        if kept is None or kept.any():
            bound = allowed if np.ndim(allowed) == 0 else np.reshape(allowed, -1)[block]
            other = _close(place, tensor, one[block], two[block], bound, kept)
            elements += other.elements
            if found is None or (other.ratio or 0.0) > (found.ratio or 0.0):
                (at,) = other.index
                index = tuple(map(int, np.unravel_index(block.start + at, shape)))
                found = msgspec.structs.replace(other, index=index)
    if found is None:
        return place.failed(tensor, "nothing to compare: the tensor has no elements")
    return msgspec.structs.replace(found, elements=elements)


def _close(
    place: Place,
    tensor: str,
    first: np.ndarray,
    second: np.ndarray,
    allowed: float | np.ndarray,
    keep: np.ndarray | None,
) -> Comparison:
    one, two = (side.astype(place.precision)[None] for side in (first, second))
    bound = np.asarray(allowed)[None]
    return msgspec.structs.replace(
        place.close(tensor, one, two, allowed=bound, stepwise=True, keep=keep), step=None, growth=None
    )
