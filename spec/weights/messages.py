"""Trees of arrays as msgpack.

Source: `flax.serialization`: an array is an extension of type 1 that holds (shape, name of the dtype, bytes), a number
one of type 3; an array of more than 2^30 bytes is a mapping of its pieces.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from spec import files
from spec.errors import UsageError, shorten
from spec.weights import sizes
from spec.weights.held import Held, widen
from spec.weights.small_floats import SMALL

ARRAY, NUMBER = 1, 3
PIECES = "__msgpack_chunked_array__"
DEEPEST = 100


def read(path: Path) -> Held:
    """Its arrays, by the keys that lead to them, joined by dots. Raises UsageError for anything else."""
    sizes.check(path, sizes.on_disk(path))
    try:
        tree = msgspec.msgpack.decode(files.read(path))
        found = dict(_leaves(tree, ""))
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{path}: expected a msgpack file of arrays, got one that cannot be read: {shorten(str(error))}"
        ) from None
    if not found:
        raise UsageError(f"{path}: expected a msgpack file of arrays, got no array in it")
    return widen(found)


def _leaves(tree: Any, name: str, depth: int = 0) -> Iterator[tuple[str, tuple[np.ndarray, str]]]:
    if depth > DEEPEST:
        raise ValueError(f"values that are nested more than {DEEPEST} deep")
    if isinstance(tree, msgspec.msgpack.Ext):
        if tree.code in (ARRAY, NUMBER):
            yield name, _array(tree, name)
    elif isinstance(tree, Mapping):
        if PIECES in tree:
            yield name, _joined(tree, name)
            return
        for key, value in tree.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key), depth + 1)
    elif isinstance(tree, list):
        for key, value in enumerate(tree):
            yield from _leaves(value, f"{name}.{key}" if name else str(key), depth + 1)


def _array(held: msgspec.msgpack.Ext, name: str) -> tuple[np.ndarray, str]:
    shape, kind, content = msgspec.convert(msgspec.msgpack.decode(held.data), tuple[list[int], str, bytes], strict=True)
    if kind in SMALL:
        dtype = np.dtype("<u2" if kind == "bfloat16" else np.uint8)
    else:
        dtype = np.dtype(kind)
        if dtype.kind not in "biufc" or dtype.names:
            raise ValueError(f"{name}: expected numbers, got {kind}")
    expected = dtype.itemsize * math.prod(shape)
    if any(size < 0 for size in shape) or len(content) != expected:
        raise ValueError(f"{name}: expected {expected} bytes for shape {tuple(shape)}, got {len(content)}")
    return np.frombuffer(content, dtype).reshape(shape), kind if kind in SMALL else ""


def _joined(pieces: Mapping[str, Any], name: str) -> tuple[np.ndarray, str]:
    """An array that was cut into flat pieces, numbered from 0."""
    shape = [int(pieces["shape"][str(axis)]) for axis in range(len(pieces["shape"]))]
    parts = [_array(pieces["chunks"][str(number)], name) for number in range(len(pieces["chunks"]))]
    return np.concatenate([array.reshape(-1) for array, _ in parts]).reshape(shape), parts[0][1]
