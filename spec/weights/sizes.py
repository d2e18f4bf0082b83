"""How much is read into memory: told from what a file states of itself, before any of it is."""

import os
from collections.abc import Iterable
from pathlib import Path

from spec.errors import UsageError
from spec.limits import in_words
from spec.machine import memory

EXPANSION = 100
"""How many times its size on the disk a checkpoint may take. Trained weights hardly shrink when they are compressed, to
four fifths or so; what shrinks a hundredfold is constant, and was not trained."""

SLACK = 2**24
"""Bytes that may be read whatever the size on the disk: tables of zeros, such as fresh biases, are small."""


def check(path: Path, declared: int, what: str = "") -> None:
    """Raise UsageError where that many bytes are more than memory, or than so small a file can hold.

    declared: bytes of its arrays, as the file states them. what: of which part of it.
    """
    where = f"{path}: {what}" if what else str(path)
    available = memory()
    if available is not None and declared > available:
        raise UsageError(f"{where}: expected at most the {in_words(available)} of memory, got {in_words(declared)}")
    held = on_disk(path)
    if declared > max(SLACK, EXPANSION * held):
        raise UsageError(
            f"{where}: expected at most {EXPANSION} times its {in_words(held)}, as weights come to when they are "
            f"unpacked, got {in_words(declared)}"
        )


def on_disk(path: Path) -> int:
    """Bytes of a file, or of all files in a directory."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(_sizes(path))


def _sizes(path: Path) -> Iterable[int]:
    for folder, _, names in os.walk(path):
        for name in names:
            yield os.lstat(os.path.join(folder, name)).st_size
