"""Where compilations are kept: the user's directory or none, never too large."""

import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from spec import cache, machine


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (cache.VARIABLE, *cache.NOTHING_KEPT):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_it_is_in_the_users_cache_directory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(cache.variables()[cache.VARIABLE])
    assert place.is_dir()
    assert place.parent == home / "ohlol"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(home / "somebody"))
    assert cache.directory().parent == home / "somebody" / ".cache" / "ohlol"


def test_another_kind_of_processor_has_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    here = cache.directory()
    monkeypatch.setattr(machine.platform, "machine", lambda: "pdp11")
    assert cache.directory() != here
    assert cache.directory() == cache.directory()


def test_who_has_named_another_place_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, "/elsewhere")
    assert cache.variables() == {}
    assert cache.variables(Path("/here")) == {}


def test_another_place_can_be_asked_for(home: Path) -> None:
    assert cache.variables(home) == {cache.VARIABLE: str(home)}


def test_without_a_place_nothing_is_kept(home: Path) -> None:
    (home / "ohlol").write_text("a file in the way")
    assert cache.variables() == {}


def test_who_wants_nothing_kept_gets_no_directory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache.wanted()
    for name, value in cache.NOTHING_KEPT.items():
        monkeypatch.setenv(name, value)
    assert not cache.wanted()
    assert cache.variables() == {}
    assert list(home.iterdir()) == []


def test_it_is_cleaned_while_another_process_writes_there(home: Path) -> None:
    place = home / "ohlol" / cache.RECORDINGS
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            with suppress(OSError):
                place.mkdir(parents=True, exist_ok=True)
                for _ in range(20):
                    (place / f".{number}").write_bytes(bytes(100))
                    os.replace(place / f".{number}", place / f"{number}.safetensors")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(50):
            cache.parts()
            cache.clean()
    finally:
        done.set()
        writer.join()
    cache.clean()
    assert not place.exists()


def test_the_oldest_files_go_where_there_are_too_many(tmp_path: Path) -> None:
    for age in range(10):
        path = tmp_path / f"{age}-cache"
        path.write_bytes(bytes(100))
        os.utime(path, (1000 - age, 1000 - age))
    cache.prune(tmp_path, 1000)
    assert len(list(tmp_path.iterdir())) == 10
    cache.prune(tmp_path, 999)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{age}-cache" for age in range(4)]
