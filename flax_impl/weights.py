"""Weights in the format that Orbax alone reads: a directory, of one checkpoint or of checkpoints by their step.

    python -m flax_impl.weights checkpoints/ model.safetensors

writes them as safetensors, under the names that they have, which everything else reads.
"""

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spec.errors import UsageError, shorten
from spec.weights import conversion, kinds, sizes
from spec.weights.small_floats import SMALL

READS = (kinds.TREE,)
"""See spec.weights.conversion."""

DEEPEST = 100
"""Levels of mappings and lists in a checkpoint."""

UNFINISHED = ".orbax-checkpoint-tmp"
"""In the name of what was being written when its process ended."""


def read(path: Path) -> dict[str, tuple[np.ndarray, str]]:
    """A checkpoint's arrays by the keys that lead to them, joined by dots; each with its type where NumPy has none.

    Of several steps the last. They are restored as NumPy arrays, of the types that were saved: whatever devices they
    were on, and never cast. Raises UsageError.
    """
    import orbax.checkpoint

    found: dict[str, tuple[np.ndarray, str]] = {}
    place = _last_step(path)
    for prefix, folder in _items(place):
        checkpointer = orbax.checkpoint.PyTreeCheckpointer()
        try:
            described = dict(_leaves(_tree(checkpointer.metadata(folder.absolute())), prefix))
            shapes = [(one.shape, one.dtype) for one in described.values() if hasattr(one, "shape")]
            sizes.check(path, sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in shapes))
            arguments = orbax.checkpoint.RestoreArgs(restore_type=np.ndarray)
            wanted = _mapped(_tree(checkpointer.metadata(folder.absolute())), arguments)
            restored = dict(_leaves(checkpointer.restore(folder.absolute(), restore_args=wanted), prefix))
        except UsageError:
            raise
        # What else may be wrong with a directory is raised as many things, and is not ours to predict.
        except Exception as error:
            line = shorten(str(error).partition("\n")[0])
            raise UsageError(f"{folder}: expected a checkpoint, got one that cannot be read: {line}") from None
        if lost := sorted(described.keys() - restored.keys()):
            raise UsageError(f"{folder}: expected {lost[0]}, as its metadata say, got no such array")
        found |= {name: _array(value) for name, value in restored.items()}
    return {name: one for name, one in found.items() if one[0].dtype.kind in "biufV"}


def main(arguments: list[str] | None = None) -> int:
    """Run the converter with these arguments, or the process's own, and return its exit code."""
    # Numbers are moved, none computed: no accelerator is to be taken for that.
    os.environ["JAX_PLATFORMS"] = "cpu"
    return conversion.main("flax_impl", READS, read, arguments)


def _last_step(path: Path) -> Path:
    """The directory of one checkpoint. A step that was begun and holds nothing is no checkpoint."""
    if any((path / mark).exists() for mark in ("_METADATA", "_CHECKPOINT_METADATA")):
        return path
    steps = [int(name) for name in os.listdir(path) if name.isdecimal() and UNFINISHED not in name]
    names = {int(name): name for name in os.listdir(path) if name.isdecimal()}
    place = path / names[max(steps)]
    if not any(one.is_file() for one in place.rglob("_METADATA")):
        raise UsageError(f"{place}: expected a checkpoint, the last step of {len(steps)}, got one that holds no arrays")
    return place


def _items(place: Path) -> Iterator[tuple[str, Path]]:
    """What a step consists of, with what its names begin with: one tree, or several by name."""
    if (place / "_METADATA").exists():
        yield "", place
        return
    folders = sorted(one for one in place.iterdir() if (one / "_METADATA").exists())
    if not folders:
        raise UsageError(f"{place}: expected a checkpoint, got one that holds no arrays: it was not finished")
    for folder in folders:
        yield folder.name if len(folders) > 1 else "", folder


def _tree(metadata: Any) -> Any:
    """What arrays there are, of what Orbax says of a checkpoint; by version it is in another place."""
    held = getattr(metadata, "item_metadata", metadata)
    return getattr(held, "tree", held)


def _leaves(value: Any, name: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list | tuple) and depth < DEEPEST:
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, f"{name}.{key}" if name else str(key), depth + 1)
    elif value is not None:
        yield name, value


def _mapped(tree: Any, leaf: Any) -> Any:
    """The tree with that in place of every leaf."""
    if isinstance(tree, dict):
        return {key: _mapped(item, leaf) for key, item in tree.items()}
    if isinstance(tree, list | tuple):
        return [_mapped(item, leaf) for item in tree]
    return leaf


def _array(value: Any) -> tuple[np.ndarray, str]:
    array = np.asarray(value)
    kind = array.dtype.name
    if kind in SMALL:
        return array.view(np.uint16 if kind == "bfloat16" else np.uint8), kind
    return array, ""


if __name__ == "__main__":
    sys.exit(main())
