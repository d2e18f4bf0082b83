"""What an implementation's process has read, so that it can be told later whether any of that has changed."""

import hashlib
import importlib.util
import os
import stat
import sys
import sysconfig
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from spec import cache

ABSENT = "absent"
"""The signature of what was asked for and not there."""

NO_FILES = ("/proc/", "/sys/", "/dev/")
"""Where the system answers in the place of files; what it says of the machine, crosscheck.reuse has."""

GRAIN = 10**8
"""Nanoseconds that a file's time may lag behind the clock: a system counts in ticks, of 10 ms at most."""

INSTALLED = tuple(
    {os.path.join(sysconfig.get_path(kind), "") for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
)
"""Folders of Python's own modules and of installed packages, which are changed by installing others."""


class Sources:
    """Watches its process from now on: modules imported, files opened to be read, folders searched.

    Python reports these itself, to audit hooks. What a library in another language opens is not seen, nor what a child
    process does. That a file was looked for and not there is seen where it was opened, and where it would have been
    next to a module.
    """

    def __init__(self) -> None:
        self._begin = time.time_ns() - GRAIN
        self._read: set[str] = set()
        self._searched: set[str] = set()
        self._written: set[str] = set()
        self._installed: dict[str, str] = {}
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, int):
                reads = flags & (os.O_WRONLY | os.O_RDWR) == 0
                (self._read if reads else self._written).add(os.path.abspath(os.fsdecode(path)))
        elif event in ("os.listdir", "os.scandir") and not isinstance(arguments[0], int):
            self._searched.add(os.path.abspath(os.fsdecode(arguments[0] or ".")))

    def signatures(self) -> dict[str, str]:
        """Everything read so far, by its path, with its signature.

        Empty where that cannot be vouched for, since a file has changed while the process was running.
        """
        kept = os.environ.get(cache.VARIABLE)
        aside = (*NO_FILES, os.path.join(kept, "")) if kept else NO_FILES
        paths = {_source(path) for path in self._read | _modules()} - self._written
        # Folders that were searched before the hook was there are not searched again.
        folders = self._searched | {os.path.abspath(path) for path in sys.path}
        folders |= {os.path.dirname(path) for path in paths if not path.startswith(INSTALLED)}
        found: dict[str, str] = {}
        for path in paths | folders:
            if os.path.join(path, "").startswith(aside):
                continue
            if path not in self._installed:
                with suppress(OSError):
                    status = os.stat(path)
                    if stat.S_ISREG(status.st_mode) and status.st_mtime_ns > self._begin:
                        return {}
                signed = signature(path)
                if path.startswith(INSTALLED):
                    self._installed[path] = signed
                found[path] = signed
            else:
                found[path] = self._installed[path]
        return found


def signature(path: str) -> str:
    """A text that changes with what a process sees that reads this file or searches this folder.

    Of an installed file it is size and time, of any other the content: a checkout has new times for old files.
    """
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(path) as entries:
                return _digest("\n".join(sorted(entry.name for entry in entries if _visible(entry))).encode())
        if not stat.S_ISREG(status.st_mode):
            return "no file"
        if path.startswith(INSTALLED):
            return f"{status.st_size} {status.st_mtime_ns}"
        return _digest(Path(path).read_bytes())
    except FileNotFoundError:
        return ABSENT
    except OSError as error:
        return f"unreadable: {error.errno}"


def _visible(entry: os.DirEntry[str]) -> bool:
    """Whether a folder's entry can matter to an import, or to who looks for a file: reports and runs are folders."""
    return entry.is_file() or os.path.exists(os.path.join(entry.path, "__init__.py"))


def _modules() -> set[str]:
    """The files of all modules. Not by getattr, which makes some modules import others."""
    files = (getattr(module, "__dict__", {}).get("__file__") for module in list(sys.modules.values()))
    return {os.path.abspath(file) for file in files if isinstance(file, str)}


def _source(path: str) -> str:
    """The source of a compiled module; a file that is none is its own."""
    if path.endswith(".pyc"):
        with suppress(ValueError):
            return importlib.util.source_from_cache(path)
    return path


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
