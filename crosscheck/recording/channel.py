"""A worker's end of the two pipes between it and crosscheck: jobs come in, answers go out, a line each."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

FIRST = 64
"""The least number of the pipes' handles: out of the way of who counts handles from 0, or closes those it knows.

Where a process may not have so many, half of what it may have.
"""


@contextmanager
def opened() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The jobs and the answers, for this process alone.

    What the implementation prints goes to standard error, what it reads from standard input is nothing; and no process
    that it forks or starts holds the pipes open.
    """
    taken, given = _moved(0), _moved(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    os.register_at_fork(after_in_child=lambda: _close(taken, given))
    with os.fdopen(taken, "rb") as jobs, os.fdopen(given, "wb") as answers:
        yield jobs, answers


def _moved(handle: int) -> int:
    """A copy that no program inherits, under a high number."""
    import fcntl
    import resource

    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = FIRST if most == resource.RLIM_INFINITY else min(FIRST, most // 2)
    return fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, least)


def _close(*handles: int) -> None:
    for handle in handles:
        with suppress(OSError):
            os.close(handle)
