"""Compilations that are kept from one process to the next: found again, and no harm where a file is damaged."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ARGUMENTS = ("-m", "flax_impl.train", "course-rnn", "--seed", "3", "--json")


def losses(cache: Path, out: Path) -> str:
    """The losses of a training in a process of its own, as bytes would have them."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("JAX_COMPILATION", "JAX_ENABLE_COMP"))
    }
    command = [sys.executable, *ARGUMENTS, "--out", str(out)]
    environment["XDG_CACHE_HOME"] = str(cache)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 1), done.stderr  # course-rnn is luck
    lines = [line for line in done.stdout.splitlines() if '"loss"' in line]
    assert lines
    return "\n".join(lines)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    place = tmp_path_factory.mktemp("kept")
    return place, losses(place, place / "first")


def files(place: Path) -> list[Path]:
    return sorted(path for path in (place / "ohlol").rglob("*-cache") if path.is_file())


def test_another_process_compiles_nothing_again(kept: tuple[Path, str]) -> None:
    place, before = kept
    there = files(place)
    assert there
    assert losses(place, place / "second") == before
    assert files(place) == there


def test_files_that_were_cut_short_are_compiled_anew(kept: tuple[Path, str]) -> None:
    place, before = kept
    for path in files(place):
        path.write_bytes(path.read_bytes()[:100])
    assert losses(place, place / "third") == before
