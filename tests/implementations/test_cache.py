"""Compilations that are kept from one process to the next: found again, and no harm where a file is damaged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spec import cache

ARGUMENTS = ("-m", "flax_impl.train", "course-rnn", "--seed", "3", "--json")


OURS = (cache.VARIABLE, *cache.NOTHING_KEPT)


def losses(place: Path, out: Path, **variables: str) -> str:
    """The losses of a training in a process of its own, as bytes would have them."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("JAX_COMPILATION", "JAX_ENABLE_COMP"))
    }
    environment = {name: value for name, value in environment.items() if name not in OURS} | variables
    command = [sys.executable, *ARGUMENTS, "--out", str(out)]
    environment["XDG_CACHE_HOME"] = str(place)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 1), done.stderr  # course-rnn is luck
    # Where it takes more than ten seconds, lines of how fast it goes have a loss too, and are never the same twice.
    lines = [line for line in done.stdout.splitlines() if json.loads(line)["event"] == "epoch"]
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


@pytest.mark.long
def test_files_that_were_cut_short_are_compiled_anew(kept: tuple[Path, str]) -> None:
    place, before = kept
    for path in files(place):
        path.write_bytes(path.read_bytes()[:100])
    assert losses(place, place / "third") == before


def test_jaxs_own_variable_goes_first(kept: tuple[Path, str], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    small = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    found = losses(tmp_path, tmp_path / "run", JAX_COMPILATION_CACHE_DIR=str(elsewhere), **small)
    assert found == kept[1]
    assert list(elsewhere.rglob("*-cache"))
    assert files(tmp_path) == []


@pytest.mark.long
def test_who_wants_nothing_kept_gets_nothing(kept: tuple[Path, str], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    found = losses(tmp_path, tmp_path / "run", JAX_COMPILATION_CACHE_DIR=str(elsewhere), **cache.NOTHING_KEPT)
    assert found == kept[1]
    assert not list(elsewhere.rglob("*-cache"))
    assert not (tmp_path / "ohlol").exists()
