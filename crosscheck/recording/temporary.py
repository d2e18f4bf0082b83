"""Temporary directories that are gone when their run is, however that ends.

A run holds a lock on a file in its directory. The lock is the kernel's and ends with the process, so that the next run
can tell the directories of runs that were killed from those of runs that are under way, and removes the former. What
has no such file is somebody else's, whatever its name.
"""

import os
import secrets
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spec.errors import UsageError

PREFIX = "crosscheck-"
"""How the names of all such directories begin."""

LOCK = ".crosscheck-run"
"""The file that is locked, which marks a directory as one of these."""

LEFT = 5.0
"""Seconds for which a file that somebody still writes may keep a directory from being removed."""

_mine: dict[Path, int | None] = {}
"""This process's directories, each with its open and locked handle; None where the system has no locks."""


@contextmanager
def directory(what: str = "") -> Iterator[Path]:
    """A new temporary directory, which is removed after the block. what: becomes part of its name."""
    remove_stale()
    path = _root() / f"{PREFIX}{what}{secrets.token_hex(6)}"
    # Before it is there: a signal may come between any two lines.
    _mine[path] = None
    try:
        path.mkdir(mode=0o700)
        # Under another name until it is locked: no run takes this one for one that was killed, however young it is.
        (path / f"{LOCK}.new").touch()
        _mine[path] = _lock(path / f"{LOCK}.new")
        os.rename(path / f"{LOCK}.new", path / LOCK)
        yield path
    finally:
        undisturbed(lambda: remove(path))


def remove_all() -> None:
    """Remove whatever of this process's directories is still there: a signal may have kept a block from doing so."""
    undisturbed(lambda: [remove(path) for path in list(_mine)])


def remove(path: Path) -> None:
    """Remove one of this process's directories, and let go of it."""
    end = time.monotonic() + LEFT
    while path.exists() and time.monotonic() < end:
        shutil.rmtree(path, onerror=_make_removable)
    handle = _mine.pop(path, None)
    if handle is not None:
        os.close(handle)


def remove_stale() -> None:
    """Remove the directories of runs that were killed."""
    for path in _root().glob(f"{PREFIX}*"):
        with suppress(OSError):
            status, lock = path.lstat(), path / LOCK
            if path in _mine or not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                continue
            if not stat.S_ISREG(lock.lstat().st_mode):
                continue
            handle = _lock(lock)
            if handle is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(handle)


def undisturbed(work: Callable[[], object]) -> None:
    """Do it in a thread, where no signal's exception arrives; one that comes meanwhile is raised afterwards."""
    done = threading.Event()

    def carry_out() -> None:
        try:
            work()
        finally:
            done.set()

    interrupt: KeyboardInterrupt | None = None
    thread: threading.Thread | None = None
    while not done.is_set():
        try:
            if thread is None:
                thread = threading.Thread(target=carry_out)
                thread.start()
            done.wait()
        except KeyboardInterrupt as error:
            interrupt = error
            if thread is not None and thread.ident is None:
                thread = None
    if interrupt is not None:
        raise interrupt


def _root() -> Path:
    """Where temporary directories are made. Raises UsageError where none can be."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise UsageError(f"TMPDIR: expected a directory that can be written to, got none: {error.strerror}") from None


def _lock(path: Path) -> int | None:
    """A handle that holds the lock of a file, or None where somebody else has it or there are no locks."""
    try:
        import fcntl

        handle = os.open(path, os.O_RDWR)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _make_removable(function: Callable[..., object], path: str, error: object) -> None:
    """What an implementation has made may be a directory that nobody may write to."""
    del function, error
    with suppress(OSError):
        os.chmod(os.path.dirname(path), 0o700)
        os.chmod(path, 0o700)
