"""Trees of arrays between a side's process and crosscheck: a line of JSON, and the arrays' bytes in a file beside it.

Nothing here can carry code, and what is read is held to what it says of itself. A large mapping of arrays stays in its
file: each is read when it is asked for.
"""

import hashlib
import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from crosscheck import plain
from crosscheck.pair.leafwise import Computed, File
from spec.errors import OhlolError

ALIGNED = 64
"""Bytes to a multiple of which every array begins."""

LARGE = 2**24
"""Bytes of a mapping's arrays from which it stays in the file."""

KINDS = {np.dtype(code).str for code in "?bhiqBHIQefd"}
"""Dtypes that cross, as NumPy spells them."""

PARENT, CHILD = "to-side", "from-side"
"""How files are called that crosscheck and that a side has written."""


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """Where an array stands in the file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """A tree whose arrays are in `file`, in the directory that both sides of the channel know; empty where none is.

    In the tree an array is {"array": number}, a tuple {"tuple": [...]}, a mapping {"mapping": [[key, value], ...]}, and
    a number that JSON has no word for {"number": "nan"}.
    """

    tree: Any = None
    arrays: list[Stored] = []
    file: str = ""


def pack(value: Any, directory: Path, name: str) -> Packet:
    """Write the arrays of a tree to a file of that name. Raises OhlolError for what is no array, number or text."""
    stored: list[Stored] = []
    path = directory / name
    try:
        with path.open("wb") as file:
            offset = 0

            def write(array: np.ndarray) -> int:
                nonlocal offset
                file.seek(offset)
                file.write(np.ascontiguousarray(array).data)
                stored.append(Stored(array.dtype.str, array.shape, offset))
                offset += -(-array.nbytes // ALIGNED) * ALIGNED
                return len(stored) - 1

            tree = _flattened(value, write)
            file.truncate(max(offset, 1))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    if stored:
        return Packet(tree=tree, arrays=stored, file=name)
    path.unlink()
    return Packet(tree=tree)


def unpack(packet: Packet, directory: Path) -> Any:
    """The tree again, with arrays that may be written to; its file is removed. Raises OhlolError where they differ."""
    if not packet.file:
        return _restored(packet.tree, None, packet.arrays)
    if os.sep in packet.file or packet.file.startswith("."):
        raise OhlolError(f"expected the name of a file, got {packet.file!r}")
    try:
        file = File(directory / packet.file)
    except OSError as error:
        raise OhlolError(f"expected the arrays of an answer, got none: {error.strerror}") from None
    for one in packet.arrays:
        if one.dtype not in KINDS:
            raise OhlolError(f"expected an array of numbers, got dtype {one.dtype!r}")
        if min((*one.shape, one.offset), default=0) < 0 or one.offset + _bytes(one) > file.size:
            raise OhlolError(f"expected {_bytes(one)} bytes of an array, got fewer")
    return _restored(packet.tree, file, packet.arrays)


def digest(value: Any) -> str:
    """A text that is the same for the same tree, to the bit."""
    found = hashlib.sha256()
    count = itertools.count()

    def add(array: np.ndarray) -> int:
        found.update(f"{array.dtype.str} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
        return next(count)

    found.update(msgspec.json.encode(_flattened(value, add)))
    return found.hexdigest()


def arrays_in(value: Any) -> Iterator[np.ndarray]:
    """Every array of a tree, in order."""
    return (np.asarray(leaf) for _, leaf in plain.leaves(value) if isinstance(leaf, np.ndarray | np.generic))


def _bytes(stored: Stored) -> int:
    return np.dtype(stored.dtype).itemsize * math.prod(stored.shape)


def _flattened(value: Any, write: Callable[[np.ndarray], int]) -> Any:
    """The tree as JSON. write: takes an array, and returns its number."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.str not in KINDS:
            raise OhlolError(f"expected an array of numbers, got dtype {array.dtype}")
        return {"array": write(array)}
    if isinstance(value, Mapping):
        return {"mapping": [[str(key), _flattened(item, write)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_flattened(item, write) for item in value]}
    if isinstance(value, list):
        return [_flattened(item, write) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise OhlolError(f"expected NumPy arrays, numbers and texts, in tuples, lists and dictionaries, got {kind}")


def _restored(tree: Any, file: File | None, arrays: list[Stored]) -> Any:
    if isinstance(tree, dict):
        if "array" in tree:
            return _read(file, arrays[tree["array"]])
        if "number" in tree:
            return float(tree["number"])
        if "tuple" in tree:
            return tuple(_restored(item, file, arrays) for item in tree["tuple"])
        numbers = {key: item["array"] for key, item in tree["mapping"] if isinstance(item, dict) and "array" in item}
        if len(numbers) == len(tree["mapping"]) and sum(_bytes(arrays[one]) for one in numbers.values()) >= LARGE:
            return Computed(numbers, lambda name: _read(file, arrays[numbers[name]]))
        return {key: _restored(item, file, arrays) for key, item in tree["mapping"]}
    if isinstance(tree, list):
        return [_restored(item, file, arrays) for item in tree]
    return tree


def _read(file: File | None, stored: Stored) -> np.ndarray:
    if file is None:
        raise OhlolError("expected a file of the arrays of an answer, got none")
    return file.array(np.dtype(stored.dtype), stored.shape, stored.offset)
