"""Files are written whole or not at all."""

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from spec import files
from spec.errors import UsageError
from spec.files import append, check_writable, drop_partial, make_lasting, read, replacing, write


def test_write_replaces_the_content(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write(file, b"old")
    write(file, b"new")
    assert file.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_failure_in_the_middle_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    file = tmp_path / "a.txt"
    write(file, b"old")
    with pytest.raises(failure), replacing(file) as temporary:  # noqa: PT012
        temporary.write_bytes(b"half of the n")
        assert temporary.parent == tmp_path
        raise failure
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_failure_of_the_rename_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UsageError, match=r"a\.txt: cannot be written: No space left on device"):
        write(tmp_path / "a.txt", b"new")
    assert os.listdir(tmp_path) == []


def test_missing_directory_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no/a\.txt: cannot be written: No such file or directory"):
        write(tmp_path / "no" / "a.txt", b"new")


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write(tmp_path / "whole", b"")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "whole")}
    assert len(modes) == 1


def test_permissions_are_the_users(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "whole", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "whole").stat().st_mode) == 0o640


def test_file_and_directory_are_on_the_disk_before_and_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real_sync, real_replace = os.fsync, os.replace

    def fsync(handle: int) -> None:
        done.append("directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"{os.fstat(handle).st_size} bytes")
        real_sync(handle)

    def replace(source: str, target: str) -> None:
        done.append("rename")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write(tmp_path / "a", b"12345")
    assert done == ["5 bytes", "rename", "directory"]


def test_a_disk_that_fills_up_when_it_is_synchronized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", b"old")

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UsageError, match="a: cannot be written: No space left on device"):
        write(tmp_path / "a", b"new")
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_link_stays_and_what_it_points_at_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").write_bytes(b"old")
    (tmp_path / "again").symlink_to("there/file")
    (tmp_path / "link").symlink_to("again")
    for content in (b"new", b"newer"):
        write(tmp_path / "link", content)
        assert os.readlink(tmp_path / "link") == "again"
        assert os.readlink(tmp_path / "again") == "there/file"
        assert (tmp_path / "there/file").read_bytes() == content
    assert sorted(os.listdir(tmp_path)) == ["again", "link", "there"]
    assert os.listdir(tmp_path / "there") == ["file"]


def test_a_link_to_nothing_makes_what_it_points_at(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/file")
    check_writable(tmp_path / "link", "--flag")
    assert os.listdir(tmp_path / "there") == []
    write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there/file").read_bytes() == b"new"


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


KINDS: list[tuple[Callable[[Path], object], str]] = [
    (Path.mkdir, "a directory"),
    (os.mkfifo, "a FIFO"),
    (a_socket, "a socket"),
    (lambda path: path.symlink_to("/dev/null"), "a device"),
    (lambda path: path.symlink_to(path.parent), "a directory"),
]


@pytest.mark.parametrize(("make", "kind"), KINDS)
@pytest.mark.parametrize("act", ["write", "append", "read", "check_writable"])
def test_what_is_no_file_is_left_alone(tmp_path: Path, act: str, make: Callable[[Path], object], kind: str) -> None:
    path = tmp_path / "x"
    make(path)
    before = path.lstat()
    with pytest.raises(UsageError, match=f"x: expected a file, got {kind}"):
        getattr(files, act)(path, *{"write": [b""], "append": [b""], "read": [], "check_writable": ["--flag"]}[act])
    assert (path.lstat().st_mode, path.lstat().st_ino) == (before.st_mode, before.st_ino)
    assert os.listdir(tmp_path) == ["x"]


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    check_writable(path, "--flag")
    write(path, b"content")
    assert read(path) == b"content"
    with pytest.raises(UsageError, match=r"--flag .*: cannot be written: File name too long"):
        check_writable(tmp_path / ("x" * 256), "--flag")


def test_no_more_is_read_than_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "a", b"12345")
    assert read(tmp_path / "a", 5) == b"12345"
    with pytest.raises(UsageError, match="a: expected at most 4 bytes, got more"):
        read(tmp_path / "a", 4)


def test_append(tmp_path: Path) -> None:
    append(tmp_path / "a", b"1")
    append(tmp_path / "a", b"2")
    assert read(tmp_path / "a") == b"12"
    with pytest.raises(UsageError, match="no/a: cannot be written: No such file or directory"):
        append(tmp_path / "no/a", b"")


def test_what_killed_writers_left_is_dropped_and_nothing_else(tmp_path: Path) -> None:
    for name in (".0123.partial", "a", ".hidden", "a.partial"):
        (tmp_path / name).touch()
    drop_partial(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "a", "a.partial"]


def test_what_was_written_without_waiting_can_be_made_lasting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(files, "synchronize", asked.append)
    write(tmp_path / "a.txt", b"new", lasting=False)
    assert asked == []
    make_lasting(tmp_path / "a.txt")
    assert asked == [tmp_path / "a.txt"]
    monkeypatch.undo()
    with pytest.raises(UsageError, match=r"b\.txt: cannot be written: No such file"):
        make_lasting(tmp_path / "b.txt")
