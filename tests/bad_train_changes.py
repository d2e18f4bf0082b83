"""Wrong command lines for a train command, and what is done to the place where each runs."""

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from spec import parameters
from spec.experiment import SHIPPED, load
from spec.parameters import draw

GRU, TRANSFORMER, CLASSIFIER, NOISE = "hello-gru", "hello-transformer", "last-step-classifier", "course-rnn-walk"
HUGE = 10**30

Change = Callable[[Path], None]


class Row(NamedTuple):
    """One wrong command line. change: what is done to the place where it runs before. code: what it exits with."""

    arguments: str
    message: str
    change: Change | None = None
    code: int = 2


def edited(old: str, new: str, name: str = GRU) -> Change:
    """Write a shipped experiment with another text in it to x.toml."""
    text = (SHIPPED / f"{name}.toml").read_text()
    assert old in text
    return lambda place: (place / "x.toml").write_text(text.replace(old, new, 1)) and None


def content(file: str, data: bytes | str) -> Change:
    """Write a file."""
    encoded = data.encode() if isinstance(data, str) else data
    return lambda place: (place / file).write_bytes(encoded) and None


def weights(**changes: Any) -> Change:
    """Write hello-gru's parameters to w, some of them changed, or left out if None."""

    def change(place: Path) -> None:
        drawn = draw(load(GRU).model.parameters(), 0, "float64")
        changed = {**drawn, **{name.replace("__", "."): value for name, value in changes.items()}}
        parameters.save(place / "w", {name: array for name, array in changed.items() if array is not None})

    return change


def header(text: str, data: bytes = b"", length: int | None = None) -> Change:
    """Write a safetensors file by hand to w."""
    encoded = text.encode()
    size = (len(encoded) if length is None else length).to_bytes(8, "little")
    return content("w", size + encoded + data)


def flipped(file: str, at: float) -> Change:
    """Change one bit of a file, at that part of its length."""

    def change(place: Path) -> None:
        data = bytearray((place / file).read_bytes())
        data[min(int(at * len(data)), len(data) - 1)] ^= 4
        (place / file).write_bytes(data)

    return change


def origin(**changes: Any) -> Change:
    """Change what the checkpoint of the stopped run says of itself, with a checksum that is right."""

    def change(place: Path) -> None:
        file = place / "stopped/checkpoint.safetensors"
        arrays, metadata = parameters.load(file)
        parameters.save(file, arrays, {**metadata, **{name: str(value) for name, value in changes.items()}})

    return change


def resolved(path: str, value: Any, where: str = "stopped") -> Change:
    """Edit an experiment.json."""

    def change(place: Path) -> None:
        file = place / where / "experiment.json"
        whole = table = json.loads(file.read_text())
        *parents, last = path.split(".")
        for parent in parents:
            table = table[parent]
        table[last] = value
        file.write_text(json.dumps(whole))

    return change


def metrics(edit: Callable[[list[str]], list[str]]) -> Change:
    """Edit the lines of the stopped run's metrics."""

    def change(place: Path) -> None:
        file = place / "stopped/metrics.jsonl"
        file.write_text("\n".join(edit(file.read_text().splitlines())) + "\n")

    return change


def moved(source: str, target: str) -> Change:
    """Copy a file over another."""
    return lambda place: shutil.copy(place / source, place / target) and None


def alone(change: Change) -> Change:
    """The change to a stopped run that has no checkpoint to fall back on."""

    def both(place: Path) -> None:
        shutil.rmtree(place / "stopped/checkpoints")
        change(place)

    return both


def removed(file: str) -> Change:
    """Remove a file."""
    return lambda place: (place / file).unlink()


def there(file: str, make: Callable[[Path], Any]) -> Change:
    """Let something stand there."""

    def change(place: Path) -> None:
        (place / file).unlink(missing_ok=True)
        make(place / file)

    return change


def a_socket(path: Path) -> None:
    """Let a socket stand there."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


def plan(**changes: Any) -> Change:
    """Edit the plan of the ensemble."""

    def change(place: Path) -> None:
        file = place / "many/ensemble.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def size(key: str, value: int | str, message: str, name: str = GRU, line: str = "") -> Row:
    """A size in an experiment that cannot be; `line` is what stands there, which is `key = ...` of the model."""
    text = (SHIPPED / f"{name}.toml").read_text()
    old = line or next(found for found in text.splitlines() if found.startswith(f"{key} = "))
    return Row("x.toml", message, edited(old, f"{key} = {value}", name))
