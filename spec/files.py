"""Files that are written whole or not at all, and read only where they are files.

A file appears under its name when all of it is on the disk: a temporary file in the same directory, fsync, rename,
fsync of the directory. A symbolic link stays, and what it points at is replaced. Nothing but a regular file is ever
replaced or read: a device, a FIFO or a socket is refused before it is opened, so that nothing blocks.
"""

import contextlib
import errno
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spec.errors import UsageError

PARTIAL = ".partial"
"""How the names of temporary files end; what is left of a process that was killed can be told by it."""

KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
}
"""What stands where a file is expected, by the type in its mode."""


FATAL = {errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
"""What is not said of links alone, when one cannot be made."""


@contextmanager
def replacing(path: Path, lasting: bool = True) -> Iterator[Path]:
    """Hand out a temporary path beside `path`; rename it to `path` if the block ends well, remove it if not.

    lasting: whether it must be there after a power failure too, for which the disk is waited for.

    Raises UsageError where the file cannot be written, or where something stands that is no regular file.
    """
    temporary = None
    try:
        target = destination(path)
        # Not tempfile.mkstemp: its files are readable for their owner alone, and would stay so after the rename. Not
        # named after the file: a name may be as long as the system allows.
        temporary = target.with_name(f".{uuid.uuid4().hex}{PARTIAL}")
        yield temporary
        if lasting:
            synchronize(temporary)
        os.replace(temporary, target)
        if lasting:
            synchronize(target.parent)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be written: {_reason(error)}") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def write(path: Path, content: bytes, lasting: bool = True) -> None:
    """Write a file whole or not at all. Raises UsageError where it cannot be written. lasting: see `replacing`."""
    with replacing(path, lasting) as temporary:
        temporary.write_bytes(content)


def link(source: Path, target: Path) -> None:
    """Let a file stand under a second name as well, in the same directory or one beside it, in the place of what stands
    there. A copy where the file system has no links. Raises UsageError."""
    try:
        with replacing(target, lasting=False) as temporary:
            try:
                os.link(source, temporary)
            except OSError as error:
                if error.errno in FATAL:
                    raise
                shutil.copyfile(source, temporary)
                synchronize(temporary)
        synchronize(target.parent)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {_reason(error)}") from None


def append(path: Path, content: bytes) -> None:
    """Add to the end of a regular file, which is made if it is not there. Raises UsageError where that cannot be."""
    try:
        with destination(path).open("ab") as file:
            file.write(content)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be written: {_reason(error)}") from None


def read(path: Path, largest: int | None = None) -> bytes:
    """The content of a regular file. Raises UsageError where it cannot be read or has more bytes than `largest`."""
    check_regular(path)
    try:
        with path.open("rb") as file:
            content = file.read(-1 if largest is None else largest + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {_reason(error)}") from None
    if largest is not None and len(content) > largest:
        raise UsageError(f"{path}: expected at most {largest} bytes, got more")
    return content


def check_regular(path: Path) -> None:
    """Raise UsageError unless a regular file stands at `path`, or at the end of the links there."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {_reason(error)}") from None
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path}: expected a file, got {kind(mode)}")


def check_writable(path: Path, what: str) -> None:
    """Raise UsageError now, not after hours of work, if a file cannot be written there. what: who asks, a flag."""
    try:
        target = destination(path)
        # The only test that is right about permissions, read-only disks and the like; and a name may be too long.
        with contextlib.suppress(FileNotFoundError):
            target.lstat()
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except UsageError as error:
        raise UsageError(f"{what} {error}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{what} {path}: cannot be written: {_reason(error)}") from None


def destination(path: Path) -> Path:
    """The file that writing to `path` replaces or makes: the end of the links, where it is one.

    Raises UsageError where something stands there that is no regular file, OSError for links in a circle.
    """
    if not path.name:
        raise UsageError(f"{path}: expected a file, got a directory")
    target = path
    if path.is_symlink():
        # Not strict: the last link may point at a file that is yet to be made.
        target = Path(os.path.realpath(path))
        if target.is_symlink():
            raise UsageError(f"{path}: expected a file, got symbolic links in a circle")
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return target
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path}: expected a file, got {kind(mode)}")
    return target


def kind(mode: int) -> str:
    """In words, what a path with that mode is."""
    return KINDS.get(stat.S_IFMT(mode), "something else")


def synchronize(path: Path) -> None:
    """Have the system put a file, or the names in a directory, on the disk.

    Raises OSError for a file; of a directory not every system can do it.
    """
    directory = path.is_dir()
    if directory and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError:
        if not directory:
            raise
    finally:
        os.close(handle)


def make_lasting(path: Path) -> None:
    """`synchronize` a file that was written without. Raises UsageError."""
    try:
        synchronize(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {_reason(error)}") from None


def drop_partial(directory: Path) -> None:
    """Remove what writers that were killed left in a directory; only for who has it for itself, see spec.lock."""
    for path in directory.glob(f".*{PARTIAL}"):
        with contextlib.suppress(OSError):
            path.unlink()


def _reason(error: OSError | ValueError) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
