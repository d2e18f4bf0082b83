"""A directory for one process at a time."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spec.errors import UsageError
from spec.lock import NAME, locked

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from pathlib import Path
from spec.lock import locked
with locked(Path(".")):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the directory until its stdin is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.stdin.close()
        process.wait(timeout=30)
        process.stdout.close()


def test_a_second_one_is_told_who_has_it(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        with pytest.raises(UsageError, match=rf"expected a directory that nobody uses, .* process {process.pid} on "):
            locked(tmp_path).__enter__()
        assert (tmp_path / NAME).exists()
    with locked(tmp_path) as alone:
        assert alone
    assert list(tmp_path.iterdir()) == []


def test_within_one_process_too(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(UsageError, match=f"process {os.getpid()} on "):
        locked(tmp_path).__enter__()


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.wait(timeout=30)
        assert (tmp_path / NAME).exists()
        (tmp_path / ".1234.partial").write_text("half a file")
        with locked(tmp_path):
            assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_removed_meanwhile_is_not_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = fcntl.flock, []

    def flock(handle: int, operation: int) -> None:
        if not calls:
            (tmp_path / NAME).unlink()  # As the one does who had it, just before this one gets it.
        calls.append(handle)
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path), pytest.raises(UsageError, match="in use by"):
        locked(tmp_path).__enter__()
    assert len(calls) == 3


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path) as alone:
        assert not alone


def test_what_cannot_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no: cannot be locked: No such file or directory"):
        locked(tmp_path / "no").__enter__()
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(UsageError, match=r"\.lock: expected a file, got a FIFO"):
        locked(tmp_path).__enter__()
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).symlink_to("elsewhere")
    with pytest.raises(UsageError, match="is a symbolic link"):
        locked(tmp_path).__enter__()
    (tmp_path / NAME).unlink()

    def read_only(*_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(UsageError, match="cannot be locked: Read-only file system"):
        locked(tmp_path).__enter__()
