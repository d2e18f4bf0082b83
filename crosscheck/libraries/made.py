"""With what a table was made, and how it is read and written."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from spec import files


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """date: as YYYY-MM-DD. versions: of each package whose behaviour is in the table. command: makes it again."""

    date: str
    python: str
    machine: str
    versions: dict[str, str]
    command: str


Table = TypeVar("Table", bound=msgspec.Struct)


def read(kind: type[Table], path: Path) -> Table:
    return msgspec.json.decode(path.read_bytes(), type=kind)


def write(table: msgspec.Struct, path: Path) -> None:
    """In one step; indented, so that a new run shows as a difference of a few lines."""
    text = msgspec.json.format(msgspec.json.encode(table), indent=1)
    files.write(path, text + b"\n")


def pins(constraints: str) -> dict[str, str]:
    """Versions by package, of the text of a file of constraints."""
    lines = (line.partition("#")[0].strip() for line in constraints.splitlines())
    return {name: version for name, _, version in (line.partition("==") for line in lines) if version}


def outdated(made: Made, pinned: Mapping[str, str]) -> list[str]:
    """What is pinned in another version than the table was made with, in words; packages without a pin are left out."""
    return [
        f"{name} is pinned to {pinned[name]}, and the table was made with {version}: {made.command}"
        for name, version in made.versions.items()
        if pinned.get(name, version) != version
    ]
