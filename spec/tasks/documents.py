"""Bytes of a file, or of all files of a folder, that a task draws from: mapped into memory, never read as a whole."""

import hashlib
import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spec.errors import UsageError

MOST_FILES = 100_000
"""Files of a folder: each is looked at, one by one, before anything is trained."""

DIGITS = 16
"""Hexadecimal digits of a digest."""


class Document(NamedTuple):
    """One file. name: its path within the folder, with "/"; its own name where it is given alone.

    status: by which it is known to be unchanged: size, time of the last change in nanoseconds, device, inode.
    """

    name: str
    path: str
    status: tuple[int, int, int, int]

    @property
    def size(self) -> int:
        """In bytes."""
        return self.status[0]


class Documents(NamedTuple):
    """The files of a path, in the order of their names.

    digest: of one file, the first DIGITS digits of its SHA-256; of a folder, those of the lines that `sha256sum` would
    print of its files, so that it changes with every name and byte.
    """

    files: tuple[Document, ...]
    digest: str

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(document.size for document in self.files)


_known: dict[str, Documents] = {}
"""What was found at a path the last time."""


def find(path: str) -> Documents:
    """What stands at a path. Raises ValueError, with a message for people, where that is nothing to read.

    A folder's files are those of its folders too, but for names that begin with a dot. A digest is computed once, for
    as long as no file has another size or time.
    """
    files = tuple(_listed(Path(path)))
    for document in files:
        if not document.size:
            raise ValueError(f"path: expected a file of at least one byte, got an empty one: {document.path}")
    known = _known.get(path)
    if known is None or known.files != files:
        known = _known[path] = Documents(files, _digest(files, alone=not os.path.isdir(path)))
    return known


def opened(document: Document) -> np.ndarray:
    """The document's bytes, uint8 (size,), mapped. Raises UsageError where it is no longer the file that it was.

    Looked at each time: to read what was cut off a file that is mapped would end the process without a word.
    """
    try:
        unchanged = _status(Path(document.path)) == document.status
    except OSError:
        unchanged = False
    if not unchanged:
        raise UsageError(
            f"{document.path}: expected the file as it was at the beginning, got one that has changed since"
        )
    return _mapped(document)


@lru_cache(maxsize=64)
def _mapped(document: Document) -> np.ndarray:
    """Of few files: a process may have so many open at once."""
    return np.asarray(np.memmap(document.path, np.uint8, "r"))


def _listed(path: Path) -> list[Document]:
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return [Document(path.name, str(path), _status(path))]
        if not stat.S_ISDIR(mode):
            raise ValueError(f"path: expected a file or a folder, got neither: {path}")
        found = []
        for folder, folders, names in os.walk(path, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                file = Path(folder, name)
                if name.startswith(".") or not file.is_file():
                    continue
                found.append(Document(file.relative_to(path).as_posix(), str(file), _status(file)))
                if len(found) > MOST_FILES:
                    raise ValueError(f"path: expected at most {MOST_FILES} files, got more in {path}")
    except OSError as error:
        raise ValueError(f"path: expected what can be read, got {error.filename or path}: {error.strerror}") from None
    if not found:
        raise ValueError(f"path: expected a folder with files in it, got none in {path}")
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def _status(path: Path) -> tuple[int, int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino


def _digest(files: tuple[Document, ...], alone: bool) -> str:
    lines = hashlib.sha256()
    for document in files:
        try:
            with open(document.path, "rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ValueError(f"path: expected what can be read, got {document.path}: {error.strerror}") from None
        if alone:
            return content[:DIGITS]
        lines.update(f"{content}  {document.name}\n".encode(errors="surrogateescape"))
    return lines.hexdigest()[:DIGITS]
