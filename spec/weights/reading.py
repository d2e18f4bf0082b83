"""The arrays that a path holds, whatever its format."""

import importlib
from pathlib import Path

import msgspec
import numpy as np

from spec import files, parameters
from spec.errors import UsageError, shorten
from spec.weights import conversion, kinds, sizes
from spec.weights.held import Held, widen
from spec.weights.kinds import GRAPH, HDF5, KERAS, MESSAGES, NPZ, PICKLED, SAFETENSORS, SHARDED, TREE

LIBRARIES = {KERAS: "h5py", HDF5: "h5py", GRAPH: "onnx"}
"""What a format's file needs beside this project's own dependencies: see the extra `weights` in pyproject.toml."""

OWN = {KERAS: "hdf5", HDF5: "hdf5", NPZ: "npz", GRAPH: "onnx_graph", MESSAGES: "messages"}
"""The file here that reads a format."""

SMALL_FLOATS = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"} | {
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
"""Types that are widened, as safetensors spells them."""

INTEGERS = {"BOOL": "bool"}
"""Types that are read though they are no parameter's: a checkpoint may hold them beside."""


def read(path: Path) -> Held:
    """Whatever weights stand at a path. Raises UsageError, with what it is and what to do, and FrameworkMissing."""
    kind = kinds.kind_of(path)
    if kind.format == SAFETENSORS:
        return _safetensors(path)
    if kind.format == SHARDED:
        return _sharded(path)
    if kind.format in (PICKLED, TREE):
        return conversion.read(path, kind)
    if kind.format not in OWN:
        raise kinds.refusal(path, kind)
    try:
        reader = importlib.import_module(f"spec.weights.{OWN[kind.format]}")
    except ModuleNotFoundError as error:
        raise conversion.missing(path, kind.what, error.name or "", "weights") from None
    return reader.read(path)


def _safetensors(path: Path) -> Held:
    """Types that NumPy lacks are read here: safetensors' own reading of them depends on what else is installed."""
    kinds_of: dict[str, str] = {}
    held: dict[str, tuple[np.ndarray, str]] = {}
    with parameters.opened(path) as file:
        for name in sorted(file.keys()):
            kind = str(file.get_slice(name).get_dtype())
            if kind not in (*parameters.DTYPES, *SMALL_FLOATS, *INTEGERS):
                known = ", ".join((*parameters.DTYPES, *SMALL_FLOATS))
                raise UsageError(f"{path}: {name}: expected a dtype of {known}, got {kind}")
            kinds_of[name] = kind
        metadata = dict(file.metadata() or {})
    if parameters.CHECKSUM in metadata:
        return Held(parameters.load(path)[0])
    sizes.check(path, 4 * path.stat().st_size)
    with parameters.opened(path) as file, path.open("rb") as raw:
        length = int.from_bytes(raw.read(8), "little")
        header = msgspec.json.decode(raw.read(length))
        for name, kind in kinds_of.items():
            if kind not in SMALL_FLOATS:
                held[name] = (file.get_tensor(name), "")
                continue
            begin, end = header[name]["data_offsets"]
            raw.seek(8 + length + begin)
            bits = np.frombuffer(raw.read(end - begin), "<u2" if kind == "BF16" else np.uint8)
            held[name] = (bits.reshape(header[name]["shape"]), SMALL_FLOATS[kind])
    return widen(held)


def _sharded(path: Path) -> Held:
    """All the shards that an index names, each once."""
    index: dict[str, str] = msgspec.json.decode(files.read(path, kinds.LARGEST_INDEX))["weight_map"]
    names = sorted({str(shard) for shard in index.values()})
    if strange := [name for name in names if Path(name).name != name or not name]:
        raise UsageError(f"{path}: expected names of files beside it, got {shorten(repr(strange[0]))}")
    if missing := [name for name in names if not (path.parent / name).exists()]:
        raise UsageError(
            f"{path}: expected its {len(names)} shards beside it, got {len(names) - len(missing)}: "
            f"{shorten(missing[0])} is missing: download the shards as well"
        )
    arrays, said = {}, []
    for name in names:
        shard = path.parent / name
        kind = kinds.kind_of(shard)
        if kind.format not in (SAFETENSORS, PICKLED):
            raise kinds.refusal(shard, kind)
        held = read(shard)
        wanted = [tensor for tensor, place in index.items() if place == name]
        if absent := [tensor for tensor in wanted if tensor not in held.arrays]:
            raise UsageError(f"{shard}: expected {shorten(absent[0])}, as {path.name} says, got no such tensor")
        arrays |= {tensor: held.arrays[tensor] for tensor in wanted}
        said += [f"{name}: {sentence}" for sentence in held.said]
    return Held(arrays, (f"{len(names)} shards", *said))
