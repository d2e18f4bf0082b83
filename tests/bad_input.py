"""What tests of bad input share: a directory as it was, a message as it has to be, and a limit on memory."""

import hashlib
import os
import resource
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MEMORY = 4 * 10**9
"""Bytes of address space that refusing something may take."""

LONGEST = 3000
"""Characters of a message."""


def snapshot(directory: Path) -> dict[str, tuple[str, ...]]:
    """Everything below a directory: kind and permissions, content, where a link points."""
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content = ""
        if stat.S_ISREG(status.st_mode):
            sparse = status.st_size > MEMORY
            content = str(status.st_size) if sparse else hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        found[str(path.relative_to(directory))] = (stat.filemode(status.st_mode), content)
    return found


def check_message(err: str, message: str) -> None:
    """One clear line that holds `message`: no traceback, no end of a line inside, nothing that a terminal obeys."""
    assert err.startswith("error: "), err
    assert err.endswith("\n"), err
    assert err.count("\n") == 1, err
    assert all(c.isprintable() for c in err[:-1]), err
    assert "Traceback" not in err
    assert len(err) < LONGEST, f"{len(err)} characters"
    assert message in err, err


def prepared(preparation: str, command: Sequence[str]) -> list[str]:
    """The command, in whose process these lines run first.

    Not by subprocess's preexec_fn, which runs them in a fork of this process: JAX warns of that once it was imported.
    """
    launcher = f"import os, resource, signal, sys\n{preparation}\nos.execv(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", launcher, *command]


def limited(command: Sequence[str], kind: str = "RLIMIT_AS", size: int = MEMORY) -> list[str]:
    """The command with no more of that than so many bytes."""
    return prepared(f"resource.setrlimit(resource.{kind}, ({size}, {size}))", command)


@contextmanager
def limited_memory() -> Iterator[None]:
    """Let this process, which may have much already, ask for no more than MEMORY beside that."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
