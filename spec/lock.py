"""A directory for one process at a time.

The lock is the kernel's, on a file in the directory: it ends with the process that holds it, however that ends, so
none is ever stale. The file says who holds it, for the error that the second one gets.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spec import files
from spec.errors import UsageError

NAME = ".lock"
"""The file in a directory that is locked; there as long as it is, and after a kill."""

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
"""What a file system says that has no locks, as some that are mounted over a network."""

FAR = 2**30
"""The byte that is locked on Windows, where nobody may read what is locked: beyond what the file holds."""


@contextmanager
def locked(directory: Path) -> Iterator[bool]:
    """Have a directory that exists for oneself, while the block lasts.

    Hands out whether that is so: False where the file system has no locks. Raises UsageError, naming the process and
    its host, where another one has it, and where the lock's file cannot be written. What writers that were killed left
    there is removed.
    """
    path = directory / NAME
    handle, alone = _acquire(path)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        if alone:
            files.drop_partial(directory)
        yield alone
    finally:
        # Before it is released: who opens it meanwhile finds another file, or none, under its name.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(handle)
        if os.name == "nt":  # Where an open file cannot be removed.
            with contextlib.suppress(OSError):
                path.unlink()


def _acquire(path: Path) -> tuple[int, bool]:
    """The open file, and whether it is locked."""
    while True:
        if path.is_symlink():
            raise UsageError(f"{path.parent}: cannot be locked: {path} is a symbolic link")
        try:
            if path.exists():
                files.check_regular(path)
            # Non-blocking: what stands there may have become a FIFO.
            handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NONBLOCK", 0), 0o666)
        except OSError as error:
            raise UsageError(f"{path.parent}: cannot be locked: {error.strerror or error}") from None
        try:
            alone = _lock(handle, path)
            if not alone or _is(handle, path):
                return handle, alone
        except BaseException:
            os.close(handle)
            raise
        # Its holder removed it between our opening and our locking it: what we have locked has no name any more.
        os.close(handle)


def _lock(handle: int, path: Path) -> bool:
    """Whether it is locked now; False where the file system cannot. Raises UsageError where another has it."""
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(handle, FAR, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            raise UsageError(f"{path.parent}: cannot be locked: {error.strerror or error}") from None
        os.lseek(handle, 0, os.SEEK_SET)
        holder = os.read(handle, 500).decode(errors="replace").strip() or "another process"
        raise UsageError(f"{path.parent}: expected a directory that nobody uses, got one in use by {holder}") from None
    return True


def _is(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False
