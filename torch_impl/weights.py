"""Weights in the format that torch alone reads: .pt, .pth, .bin, .ckpt.

    python -m torch_impl.weights model.pt model.safetensors

writes them as safetensors, under the names that they have, which everything else reads.
"""

import pickle
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spec.errors import UsageError, shorten
from spec.weights import conversion, kinds, sizes
from spec.weights.small_floats import SMALL

READS = (kinds.PICKLED,)
"""See spec.weights.conversion."""

DEEPEST = 100
"""Levels of mappings and lists in a file."""


def read(path: Path) -> dict[str, tuple[np.ndarray, str]]:
    """The tensors in a file by the keys that lead to them, joined by dots; each with its type where NumPy has none.

    Only tensors, numbers, texts and collections of them are unpickled; what names anything else is refused, and nothing
    of it runs. Raises UsageError.
    """
    import torch

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            sizes.check(path, sum(entry.file_size for entry in archive.infolist()))
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(f"{path}: expected tensors alone, got {_named(str(error))}") from None
    # What else may be wrong with a file is raised as many things, and is not ours to predict.
    except Exception as error:
        line = shorten(str(error).partition("\n")[0])
        raise UsageError(f"{path}: expected a file of torch.save, got one that cannot be read: {line}") from None
    found = dict(_tensors(loaded, ""))
    for name, tensor in found.items():
        kind = _type(tensor)
        if kind.startswith("float") and tensor.element_size() == 1 and kind not in SMALL:
            raise UsageError(f"{path}: {name}: expected a dtype of NumPy's or {', '.join(SMALL)}, got {kind}")
        if tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized:
            what = "none (a meta tensor)" if tensor.is_meta else f"{tensor.dtype}, {tensor.layout}"
            raise UsageError(f"{path}: {name}: expected a dense tensor, got {what}")
    # A view may be larger than all that it is stored in.
    sizes.check(path, sum(tensor.numel() * tensor.element_size() for tensor in found.values()))
    return {name: _array(tensor) for name, tensor in found.items() if not tensor.is_complex()}


def main(arguments: list[str] | None = None) -> int:
    """Run the converter with these arguments, or the process's own, and return its exit code."""
    return conversion.main("torch_impl", READS, read, arguments)


def _tensors(value: Any, name: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    import torch

    if isinstance(value, torch.Tensor):
        yield name or "tensor", value
    elif isinstance(value, dict | list | tuple) and depth < DEEPEST:
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _tensors(item, f"{name}.{key}" if name else str(key), depth + 1)


def _array(tensor: Any) -> tuple[np.ndarray, str]:
    import torch

    tensor = tensor.detach().contiguous()
    kind = _type(tensor)
    if kind == "bfloat16":
        return tensor.view(torch.int16).numpy(), kind
    if kind in SMALL:
        return tensor.view(torch.uint8).numpy(), kind
    return tensor.resolve_neg().numpy(), ""


def _type(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _named(error: str) -> str:
    """Of torch's own refusal, what the pickle names."""
    found = re.search(r"GLOBAL ([\w.]+)", error)
    if not found:
        return f"a pickle that cannot be read: {shorten(error.splitlines()[-1] if error else 'no reason given')}"
    return f"a pickle that names code ({found[1]}), which is not run: save model.state_dict() alone"


if __name__ == "__main__":
    sys.exit(main())
