"""Installed packages, told from others by the hashes that their installer has written down (RECORD)."""

import base64
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from crosscheck.recording.places import ABSENT, SITES, digest

INSTALLING = 2 * 10**9
"""Nanoseconds by which a file may be newer than the RECORD that was written after it."""


METADATA = (".dist-info", ".egg-info")
"""How the folders end in which an installer says what it has installed."""


class Packages:
    """Of this process's import path. Nothing is imported for it."""

    def __init__(self) -> None:
        self._records: dict[str, Path] = {}
        self._owners: dict[str, set[str]] = {}
        self._signatures: dict[str, str] = {}
        self._sites = [os.path.join(path, "") for path in sys.path if os.path.basename(path) in SITES]
        for site in self._sites:
            for record in Path(site).glob("*.dist-info/RECORD"):
                self._records.setdefault(record.parent.name, record)
        self._indexed = False

    def owners(self, path: str) -> set[str] | None:
        """The distributions that may have brought a file: several may share its topmost folder.

        None where none has, and nothing where the file only says what is installed.
        """
        if not self._indexed:
            self._indexed = True
            for name, record in self._records.items():
                for file, _, _ in _rows(record):
                    self._owners.setdefault(os.path.join(record.parents[1], file.partition("/")[0]), set()).add(name)
        for site in self._sites:
            if path.startswith(site):
                top = site + path[len(site) :].partition(os.sep)[0]
                # What is installed is looked through for plugins, all of it.
                return set() if top.endswith(METADATA) else self._owners.get(top)
        return None

    def signature(self, name: str) -> str:
        """A text that changes with any file of a distribution, by its RECORD; ABSENT where it is not installed.

        A file whose size or time says that it was edited after it was installed counts by its content.
        """
        if name not in self._signatures:
            record = self._records.get(name)
            self._signatures[name] = ABSENT if record is None else _signature(record)
        return self._signatures[name]


def _signature(record: Path) -> str:
    site = record.parents[1]
    with suppress(OSError):
        installed = record.stat().st_mtime_ns + INSTALLING
        lines = []
        for file, hashed, size in sorted(_rows(record)):
            # What is generated, or is about the installation: scripts hold the path of the prefix.
            if file.startswith(("../", "/")) or not hashed or file.partition("/")[0] == record.parent.name:
                continue
            lines.append(f"{file} {hashed}")
            if file.endswith(".py") or ".so" in file:
                lines += _edited(site / file, hashed, size, installed)
        return digest("\n".join(lines).encode())
    return ABSENT


def _edited(path: Path, hashed: str, size: str, installed: int) -> Iterator[str]:
    """What the file is now, where it is not what was installed."""
    try:
        status = path.stat()
        if str(status.st_size) == size and status.st_mtime_ns <= installed:
            return
        content = hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        yield ABSENT
        return
    now = "sha256=" + base64.urlsafe_b64encode(content).rstrip(b"=").decode()
    if now != hashed:
        yield now


def _rows(record: Path) -> Iterator[tuple[str, str, str]]:
    """Each file of a RECORD with its hash and size."""
    try:
        text = record.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        file, _, rest = line.rpartition(",")[0].rpartition(",")
        size = line.rpartition(",")[2]
        yield file.strip('"'), rest, size
