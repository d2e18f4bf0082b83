"""Files are written whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from spec.errors import UsageError
from spec.files import replacing, write


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
