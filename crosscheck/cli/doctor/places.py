"""Where recordings, compilations and temporary files lie: how much there is, and whether more can be written."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from crosscheck.cli.doctor.line import DoctorLine
from spec import cache
from spec.machine import cores, memory
from spec.text import visible

ROOM = 2**30
"""Bytes that should be free for temporary files: the recordings of all experiments take less."""


def lines() -> Iterator[DoctorLine]:
    """The caches, the temporary directory, the machine."""
    yield from caches()
    yield temporary()
    size = memory()
    room = f", {size / 2**30:.1f} GiB of memory" if size else ""
    yield DoctorLine(group="places", name="machine", status="ok", said=f"{cores()} cores{room}")


def caches() -> Iterator[DoctorLine]:
    """What is kept between runs."""
    place = cache.root()
    if not cache.wanted():
        yield DoctorLine(group="places", name="cache", status="ok", said="nothing is kept: OHLOL_KEEP says so")
        return
    if place is None:
        yield DoctorLine(
            group="places",
            name="cache",
            status="warn",
            said="there is no home directory: nothing is kept, and every run records and compiles everything",
            fix="set XDG_CACHE_HOME to a directory",
        )
        return
    problem = unwritable(place)
    if problem:
        yield DoctorLine(
            group="places",
            name="cache",
            status="warn",
            said=f"{visible(str(place))}: {problem}; every run records and compiles everything",
            fix="make it writable, or set XDG_CACHE_HOME to another directory",
        )
        return
    parts = cache.parts()
    said = f"{sum(part.files for part in parts)} files, {sum(part.size for part in parts) / 1e6:.1f} MB, writable"
    yield DoctorLine(group="places", name="cache", status="ok", said=f"{visible(str(place))}: {said}")


def temporary() -> DoctorLine:
    """Where the recordings of a run lie."""
    try:
        place = Path(tempfile.gettempdir())
        problem = unwritable(place)
        free = shutil.disk_usage(place).free
    except OSError as error:
        fix = "set TMPDIR to a directory that can be written to"
        return DoctorLine(group="places", name="temporary", status="fail", said=error.strerror or str(error), fix=fix)
    said = f"{visible(str(place))}: {problem or f'{free / 2**30:.1f} GiB free'}"
    if problem:
        fix = "set TMPDIR to a directory that can be written to"
        return DoctorLine(group="places", name="temporary", status="fail", said=said, fix=fix)
    if free < ROOM:
        fix = "make room there, or set TMPDIR to another directory"
        return DoctorLine(group="places", name="temporary", status="warn", said=f"{said}, expected 1 or more", fix=fix)
    return DoctorLine(group="places", name="temporary", status="ok", said=said)


def unwritable(place: Path) -> str:
    """Why nothing can be written there, by trying; empty where it can be. What is not there yet is not made."""
    found = place
    while not found.exists() and found != found.parent:
        if found.is_symlink():
            return f"{visible(str(found))} is a link to nothing"
        found = found.parent
    if not found.is_dir():
        return f"expected a directory, got {'a file' if found.is_file() else 'something else'} at {visible(str(found))}"
    trial = found / f".ohlol-{secrets.token_hex(6)}"
    try:
        os.close(os.open(trial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        return f"cannot be written: {error.strerror}"
    finally:
        with suppress(OSError):
            trial.unlink()
    return ""
