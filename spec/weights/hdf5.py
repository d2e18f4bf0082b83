"""HDF5 files of weights, Keras's: .weights.h5, the older .h5, and what is inside of .keras.

Needs h5py, an extra.
"""

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import h5py  # pyright: ignore[reportMissingImports] (an extra)
import msgspec
import numpy as np

from spec.errors import UsageError, shorten
from spec.weights import sizes
from spec.weights.held import Held, widen
from spec.weights.small_floats import SMALL

WEIGHTS, CONFIGURATION = "model.weights.h5", "config.json"
"""What a .keras archive holds."""

RAW = {2: "bfloat16"}
"""What bytes without a type are, where no attribute says it: NumPy, and so HDF5, has no such type of its own."""

GATED = {"activation": "tanh", "recurrent_activation": "sigmoid"}
"""What LSTM and GRU compute with."""

PLAIN = {"merge_mode": "concat", "go_backwards": False}
"""How directions run and come together, unless a layer is told otherwise."""

FIELDS = {"activation": "nonlinearity", "epsilon": "layer_norm_epsilon"}
"""What a layer's configuration calls what a model's field says."""


def read(path: Path) -> Held:
    """Its arrays by their paths. Raises UsageError for what is damaged, or refers to other files."""
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                return _arrays(path, file)
        with zipfile.ZipFile(path) as archive:
            sizes.check(path, sum(entry.file_size for entry in archive.infolist()))
            requires = _requirements(path, msgspec.json.decode(archive.read(CONFIGURATION)))
            held = _arrays(path, io.BytesIO(archive.read(WEIGHTS)))
            return held._replace(requires=requires)
    # The library has no errors of its own for much of what may be wrong with a file.
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"{path}: expected an HDF5 file, got one that cannot be read: {shorten(str(error))}") from None


def _arrays(path: Path, file: BinaryIO | io.BytesIO) -> Held:
    with h5py.File(file, "r") as held:
        datasets: dict[str, h5py.Dataset] = {}

        def visit(name: str, one: h5py.Dataset | h5py.Group) -> None:
            if isinstance(one, h5py.Dataset):
                datasets[name] = one

        # Goes through what is in this file alone: links to other files are not followed.
        held.visititems(visit)
        for name, dataset in datasets.items():
            if dataset.external or dataset.is_virtual:
                raise UsageError(f"{path}: {name}: expected an array in the file itself, got a link to another")
        numbers = {name: one for name, one in datasets.items() if one.dtype.kind in "biufV" and not one.dtype.names}
        sizes.check(path, sum(one.size * one.dtype.itemsize for one in numbers.values()))
        return widen({name: _array(path, name, one) for name, one in numbers.items()})


def _array(path: Path, name: str, dataset: h5py.Dataset) -> tuple[np.ndarray, str]:
    array = np.asarray(dataset[()])
    if array.dtype.kind != "V":
        return array, ""
    said = dataset.attrs.get("dtype", b"")
    kind = said.decode() if isinstance(said, bytes) else str(said)
    kind = kind or RAW.get(array.dtype.itemsize, "")
    if kind not in SMALL:
        raise UsageError(f"{path}: {name}: expected numbers, or {', '.join(SMALL)}, got {kind or array.dtype}")
    return np.frombuffer(array.tobytes(), np.uint16 if kind == "bfloat16" else np.uint8).reshape(array.shape), kind


def _requirements(path: Path, configuration: Any) -> dict[str, Any]:
    """What layers are configured to compute, as a model's fields; raises UsageError for what no model here computes."""
    found: dict[str, Any] = {}
    for kind, layer in _layers(configuration):
        name = layer.get("name", kind)
        if kind in ("LSTM", "LSTMCell", "GRU", "GRUCell"):
            for key, expected in GATED.items():
                if (got := layer.get(key, expected)) != expected:
                    raise UsageError(f"{path}: layer {name}: expected {key} {expected!r}, got {got!r}")
            if layer.get("reset_after", True) is not True:
                raise UsageError(
                    f"{path}: layer {name}: expected reset_after = true, the reset gate after the product, got false: "
                    "its weights mean another recurrence"
                )
        for key, expected in PLAIN.items():
            if (got := layer.get(key, expected)) != expected:
                raise UsageError(f"{path}: layer {name}: expected {key} = {expected!r}, got {got!r}")
        keys = {"SimpleRNN": "activation", "SimpleRNNCell": "activation", "LayerNormalization": "epsilon"}
        if (key := keys.get(kind)) and key in layer:
            value = found.setdefault(FIELDS[key], layer[key])
            if value != layer[key]:
                raise UsageError(f"{path}: layer {name}: expected {key} {value}, as the one before, got {layer[key]}")
    return found


def _layers(value: Any, depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if depth > 100:
        return
    if isinstance(value, dict):
        if isinstance(kind := value.get("class_name"), str) and isinstance(inner := value.get("config"), dict):
            yield kind, inner
        # What runs backwards inside a bidirectional layer does so rightly.
        yield from (found for key, one in value.items() if key != "backward_layer" for found in _layers(one, depth + 1))
    elif isinstance(value, list):
        for one in value:
            yield from _layers(one, depth + 1)
