"""Where a framework may keep what it has compiled, so that the next process need not compile it again."""

import hashlib
import os
import platform
from pathlib import Path

LARGEST = 2**30
"""Bytes of the directory from which the files that are oldest are deleted, down to half."""

VARIABLE = "JAX_COMPILATION_CACHE_DIR"
"""Who has set it keeps compilations elsewhere; JAX_ENABLE_COMPILATION_CACHE=false keeps none."""

NOTHING_KEPT = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
"""For a process in which compiling is measured: what is taken from a file is compiled in no time."""


def directory() -> Path:
    """In the user's cache directory, and of this kind of processor: what is compiled for one may crash another."""
    try:
        flags = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")][:1]
    except OSError:
        flags = []
    kind = " ".join([platform.system(), platform.machine(), platform.processor(), *flags])
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "ohlol" / f"compiled-{hashlib.sha256(kind.encode()).hexdigest()[:12]}"


def variables(place: Path | None = None) -> dict[str, str]:
    """What a process that is to compile needs in its environment, beside what this one has in it already.

    place: where to keep what is compiled; the user's directory, which is pruned first, if None. Nothing where that
    cannot be written to. JAX reads the variables, whatever else ignores them. Two processes may share the directory: a
    file is named after all that it was compiled from, and one that was cut short is compiled anew.
    """
    if VARIABLE in os.environ:
        return {}
    if place is None:
        place = directory()
        try:
            place.mkdir(parents=True, exist_ok=True)
            prune(place, LARGEST)
        except OSError:
            return {}
    wanted = {
        VARIABLE: str(place),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return {name: value for name, value in wanted.items() if name not in os.environ}


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
