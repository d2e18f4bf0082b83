"""What is kept in the user's cache directory, so that the next process need not make it again."""

import errno
import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from spec.errors import UsageError
from spec.machine import processor

LARGEST = 2**30
"""Bytes of the directory from which the files that are oldest are deleted, down to half."""

ATTEMPTS = 100
"""At deleting a directory into which other processes write, each of which deletes all that is there by then."""

COMPILED, RECORDINGS, EXPLORED, DURATIONS = "compiled", "recordings", "explored", "durations"
"""What the names of the directories begin with."""

VARIABLE = "OHLOL_COMPILED"
"""Where an implementation that compiles keeps what it has compiled; unset, it keeps nothing of its own accord."""

NOTHING_KEPT = {"OHLOL_KEEP": "false"}
"""For who wants nothing kept, and where compiling is measured: what is taken from a file is compiled in no time."""


def directory() -> Path | None:
    """Of what is compiled, by the kind of processor: what is compiled for one may crash another. None: see `root`."""
    caches = root()
    return caches and caches / f"{COMPILED}-{hashlib.sha256(processor().encode()).hexdigest()[:12]}"


def recordings() -> Path | None:
    """Of crosscheck's recordings. None: see `root`."""
    caches = root()
    return caches and caches / RECORDINGS


def explored() -> Path | None:
    """Of the random experiments that crosscheck has found failing. None: see `root`."""
    caches = root()
    return caches and caches / EXPLORED


def durations() -> Path | None:
    """Of what crosscheck's checks were measured to take. None: see `root`."""
    caches = root()
    return caches and caches / DURATIONS


def wanted() -> bool:
    """Whether anything may be kept."""
    name = next(iter(NOTHING_KEPT))
    return os.environ.get(name, "true").lower() not in ("false", "f", "0", "no", "n", "off")


def root() -> Path | None:
    """Everything that is kept; None where the user has no home directory, so that nothing is."""
    given = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(given or Path.home() / ".cache") / "ohlol"
    except RuntimeError:
        return None


class KeptDirectory(NamedTuple):
    """A directory of what is kept. files, size: how many, and their bytes."""

    path: Path
    files: int
    size: int


def parts() -> list[KeptDirectory]:
    """What is kept now, by directory."""
    caches = root()
    found = []
    for path in sorted(caches.glob("*")) if caches else []:
        if path.name in (RECORDINGS, EXPLORED, DURATIONS) or path.name.startswith(f"{COMPILED}-"):
            sizes = []
            for entry in _files(path):
                # Another process may prune, or replace a temporary file.
                with suppress(FileNotFoundError):
                    sizes.append(entry.lstat().st_size)
            found.append(KeptDirectory(path, len(sizes), sum(sizes)))
    return found


def clean() -> list[KeptDirectory]:
    """Delete all that is kept, and return what that was. Raises UsageError where it cannot be deleted."""
    found = parts()
    for part in found:
        try:
            if part.path.is_symlink():
                # The directory that it points at may be anybody's: its files go, as they would by pruning.
                for path in _files(part.path):
                    path.unlink(missing_ok=True)
            else:
                _remove(part.path)
        except OSError as error:
            raise UsageError(f"{part.path}: cannot be deleted: {error.strerror or error}") from None
    return found


def _remove(path: Path) -> None:
    """Delete a directory into which another process may be writing."""
    for _ in range(ATTEMPTS):
        try:
            return shutil.rmtree(path)
        except FileNotFoundError:
            # A file that was renamed or deleted between our looking and our deleting, or all of it.
            if not path.exists():
                return None
        except OSError as error:
            # One that was written between the two.
            if error.errno != errno.ENOTEMPTY:
                raise
    return shutil.rmtree(path)


def _files(path: Path) -> list[Path]:
    return [entry for entry in path.rglob("*") if entry.is_file() and not entry.is_symlink()] if path.is_dir() else []


def variables(place: Path | None = None) -> dict[str, str]:
    """What a process that is to compile needs in its environment, beside what this one has in it already.

    place: where to keep what is compiled; the user's directory, which is pruned first, if None. Nothing where that
    cannot be written to. Two processes may share the directory: a file is to be named after all that it was compiled
    from, and one that was cut short to be compiled anew.
    """
    if VARIABLE in os.environ or (place is None and not wanted()):
        return {}
    if place is None:
        place = directory()
        if place is None:
            return {}
        try:
            place.mkdir(parents=True, exist_ok=True)
            prune(place, LARGEST)
        except OSError:
            return {}
    return {VARIABLE: str(place)}


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
