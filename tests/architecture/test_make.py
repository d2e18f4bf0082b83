"""The Makefile takes what was asked for, or says why not."""

import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """A folder whose .venv looks as if it had been set up."""
    shutil.copy(MAKEFILE, tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "installed").touch()
    return tmp_path


def dry(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "-n", *arguments], cwd=folder, capture_output=True, text=True, timeout=60)


def test_a_python_that_is_not_there_is_not_replaced_by_what_is_ready(ready: Path):
    found = dry(ready, "PYTHON=python3.99")
    assert found.returncode == 2
    assert "expected Python 3.11 or newer as 'python3.99', got no such command" in found.stderr
    assert "crosscheck" not in found.stdout


def test_what_is_ready_needs_no_python_of_that_name(ready: Path):
    """An environment stays usable where python3.11, which nobody named, is no longer on the path."""
    makefile = ready / "Makefile"
    makefile.write_text(makefile.read_text().replace("PYTHON ?= python3.11", "PYTHON ?= python3.99"))
    found = dry(ready)
    assert found.returncode == 0, found.stderr
    assert ".venv/bin/python -m crosscheck" in found.stdout
    assert dry(ready, "PYTHON=python3.99", "clean").returncode == 0


def test_the_reference_has_more_time_than_a_framework(ready: Path):
    """With ten minutes it was given up on two experiments of 24, on cores that others used as well."""
    (ready / ".venv").rename(ready / ".venv-flax")
    one, both = dry(ready, "SIDE=flax", "VENV=.venv-flax"), dry(ready, "VENV=.venv-flax")
    assert "flax_impl spec.reference --precision float64 --timeout 3600" in one.stdout, one.stderr
    assert "--timeout" not in both.stdout
