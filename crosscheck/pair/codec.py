"""Trees of arrays between a side's process and crosscheck: a line of JSON, and the arrays' bytes in a file beside it.

Nothing here can carry code, and what is read is held to what it says of itself.
"""

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from crosscheck import plain
from spec.errors import OhlolError

ALIGNED = 64
"""Bytes to a multiple of which every array begins."""

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

    In the tree an array is {"array": number}, a tuple {"tuple": [...]}, a mapping {"mapping": [[key, value], ...]}.
    """

    tree: Any = None
    arrays: list[Stored] = []
    file: str = ""


def pack(value: Any, directory: Path, name: str) -> Packet:
    """Write the arrays of a tree to a file of that name. Raises OhlolError for what is no array, number or text."""
    arrays: list[np.ndarray] = []
    tree = _flattened(value, arrays)
    if not arrays:
        return Packet(tree=tree)
    stored, offset = [], 0
    with (directory / name).open("wb") as file:
        for array in arrays:
            file.seek(offset)
            file.write(np.ascontiguousarray(array).data)
            stored.append(Stored(array.dtype.str, array.shape, offset))
            offset += -(-array.nbytes // ALIGNED) * ALIGNED
        file.truncate(max(offset, 1))
    return Packet(tree=tree, arrays=stored, file=name)


def unpack(packet: Packet, directory: Path) -> Any:
    """The tree again, with arrays that may be written to; its file is removed. Raises OhlolError where they differ."""
    if not packet.file:
        return _restored(packet.tree, [])
    if os.sep in packet.file or packet.file.startswith("."):
        raise OhlolError(f"expected the name of a file, got {packet.file!r}")
    path = directory / packet.file
    try:
        held = np.fromfile(path, np.uint8)
        path.unlink()
    except OSError as error:
        raise OhlolError(f"expected the arrays of an answer, got none: {error.strerror}") from None
    return _restored(packet.tree, [_array(one, held) for one in packet.arrays])


def digest(value: Any) -> str:
    """A text that is the same for the same tree, to the bit."""
    arrays: list[np.ndarray] = []
    tree = _flattened(value, arrays)
    found = hashlib.sha256(msgspec.json.encode(tree))
    for array in arrays:
        found.update(f"{array.dtype.str} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def arrays_in(value: Any) -> Iterator[np.ndarray]:
    """Every array of a tree, in order."""
    return (np.asarray(leaf) for _, leaf in plain.leaves(value) if isinstance(leaf, np.ndarray | np.generic))


def _array(stored: Stored, held: np.ndarray) -> np.ndarray:
    if stored.dtype not in KINDS:
        raise OhlolError(f"expected an array of numbers, got dtype {stored.dtype!r}")
    size = np.dtype(stored.dtype).itemsize * math.prod(stored.shape)
    if min((*stored.shape, stored.offset), default=0) < 0 or stored.offset + size > len(held):
        raise OhlolError(f"expected {size} bytes of an array, got fewer")
    return held[stored.offset : stored.offset + size].view(stored.dtype).reshape(stored.shape)


def _flattened(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.str not in KINDS:
            raise OhlolError(f"expected an array of numbers, got dtype {array.dtype}")
        arrays.append(array)
        return {"array": len(arrays) - 1}
    if isinstance(value, Mapping):
        return {"mapping": [[str(key), _flattened(item, arrays)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_flattened(item, arrays) for item in value]}
    if isinstance(value, list):
        return [_flattened(item, arrays) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise OhlolError(f"expected NumPy arrays, numbers and texts, in tuples, lists and dictionaries, got {kind}")


def _restored(tree: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(tree, dict):
        if "array" in tree:
            return arrays[tree["array"]]
        if "tuple" in tree:
            return tuple(_restored(item, arrays) for item in tree["tuple"])
        return {key: _restored(item, arrays) for key, item in tree["mapping"]}
    if isinstance(tree, list):
        return [_restored(item, arrays) for item in tree]
    return tree
