"""NumPy's .npz: an archive of arrays. Read entry by entry, so that no size is believed before it was compared."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from spec.errors import UsageError
from spec.weights import sizes
from spec.weights.held import Held, widen

RAW = {2: "bfloat16"}
"""What bytes without a type are, by how many: NumPy forgets the names of types that it has not. The only such type of
two bytes is bfloat16; of one byte there are many."""


def read(path: Path) -> Held:
    """Its arrays by name. Raises UsageError for objects, which are pickles, and for what is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            sizes.check(path, sum(entry.file_size for entry in entries))
            return widen({entry.filename.removesuffix(".npy"): _array(path, archive, entry) for entry in entries})
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise UsageError(f"{path}: expected an .npz file of arrays, got one that cannot be read: {error}") from None


def _array(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> tuple[np.ndarray, str]:
    name = entry.filename.removesuffix(".npy")
    with archive.open(entry) as file:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise UsageError(f"{path}: {name}: expected an array of numbers, got one with named fields")
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, by_columns, dtype = header(file)
        if dtype.hasobject:
            raise UsageError(f"{path}: {name}: expected numbers, got Python objects, a pickle: save the arrays alone")
        if dtype.kind not in "biufV" or dtype.names or (dtype.kind == "V" and dtype.itemsize not in RAW):
            raise UsageError(f"{path}: {name}: expected numbers, got {dtype}")
        content = file.read()
    expected = dtype.itemsize * int(np.prod([int(size) for size in shape], dtype=object))
    if len(content) != expected:
        raise UsageError(f"{path}: {name}: expected {expected} bytes for shape {shape}, got {len(content)}")
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if by_columns else "C")
    return array, RAW.get(dtype.itemsize, "") if dtype.kind == "V" else ""
