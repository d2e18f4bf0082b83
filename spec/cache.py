"""What is kept in the user's cache directory, so that the next process need not make it again."""

import hashlib
import os
from pathlib import Path

from spec.machine import processor

LARGEST = 2**30
"""Bytes of the directory from which the files that are oldest are deleted, down to half."""

VARIABLE = "JAX_COMPILATION_CACHE_DIR"
"""Who has set it keeps compilations elsewhere; JAX_ENABLE_COMPILATION_CACHE=false keeps none."""

NOTHING_KEPT = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
"""For a process in which compiling is measured: what is taken from a file is compiled in no time."""


def directory() -> Path:
    """Of what is compiled, by the kind of processor: what is compiled for one may crash another."""
    return _caches() / f"compiled-{hashlib.sha256(processor().encode()).hexdigest()[:12]}"


def recordings() -> Path:
    """Of crosscheck's recordings."""
    return _caches() / "recordings"


def wanted() -> bool:
    """Whether anything may be kept."""
    name = next(iter(NOTHING_KEPT))
    return os.environ.get(name, "true").lower() not in ("false", "f", "0", "no", "n", "off")


def _caches() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ohlol"


def variables(place: Path | None = None) -> dict[str, str]:
    """What a process that is to compile needs in its environment, beside what this one has in it already.

    place: where to keep what is compiled; the user's directory, which is pruned first, if None. Nothing where that
    cannot be written to. JAX reads the variables, whatever else ignores them. Two processes may share the directory: a
    file is named after all that it was compiled from, and one that was cut short is compiled anew.
    """
    if VARIABLE in os.environ or (place is None and not wanted()):
        return {}
    if place is None:
        try:
            place = directory()
            place.mkdir(parents=True, exist_ok=True)
            prune(place, LARGEST)
        except (OSError, RuntimeError):  # The latter where nobody knows the user's home.
            return {}
    needed = {
        VARIABLE: str(place),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return {name: value for name, value in needed.items() if name not in os.environ}


def prune(place: Path, largest: int) -> None:
    """Where a directory's files have more bytes than `largest`, delete the oldest until they have half of that."""
    found = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in place.iterdir() if path.is_file())
    left = sum(size for _, size, _ in found)
    if left <= largest:
        return
    for _, size, path in found:
        if left <= largest // 2:
            return
        path.unlink(missing_ok=True)
        left -= size
