"""Formats that a framework alone reads: its implementation does, in a process of its own.

An implementation that reads some has a file `weights.py`, which imports its framework only when it reads:

    READS = ("pickled",)                     of the formats of spec.weights.kinds
    def read(path): ...                      its arrays by name

and is run by `python -m IMPLEMENTATION.weights FILE OUT.safetensors`, which is also what a user is told to run where
the framework is. So a file runs nothing in the process that wants its weights, and each framework stays away from the
other.
"""

import importlib
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from spec import parameters, requirements
from spec.errors import FrameworkMissing, OhlolError, UsageError, one_line
from spec.exit_codes import COULD_NOT_RUN
from spec.weights.held import Held, widen
from spec.weights.kinds import Kind, kind_of, refusal

SECONDS = 600
"""That reading one file may take."""

WIDENED = "widened"
"""The key in a converted file's metadata that says what was widened."""

Reader = Callable[[Path], Mapping[str, tuple[np.ndarray, str]]]
"""Of a file's arrays by name, each with the name of its type where NumPy has none: see `reading.widen`."""


def readers() -> dict[str, str]:
    """The implementation that reads a format, by the format. Imports no framework."""
    found = {}
    for name in requirements.EXTRAS:
        if not name.endswith(requirements.SUFFIX):
            continue
        try:
            module = importlib.import_module(f"{name}.weights")
        except ModuleNotFoundError:
            continue
        found |= dict.fromkeys(module.READS, name)
    return found


def read(path: Path, kind: Kind) -> Held:
    """Have it read. Raises UsageError for a file that is wrong, FrameworkMissing with what to run elsewhere."""
    name = readers().get(kind.format)
    if name is None:
        raise UsageError(f"{path}: expected a format that is read here, got {kind.what}")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "converted.safetensors"
        try:
            done = subprocess.run(
                [sys.executable, "-m", f"{name}.weights", str(path), str(out)],
                env={**os.environ, "PYTHONPATH": _search_path()},
                capture_output=True,
                text=True,
                errors="replace",
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UsageError(f"{path}: expected it to be read within {SECONDS} s, got no end of it") from None
        if done.returncode:
            line = one_line((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
            error = FrameworkMissing if done.returncode == COULD_NOT_RUN else UsageError
            raise error(line.removeprefix("error: "))
        arrays, metadata = parameters.load(out, sealed=True)
    return Held(arrays, tuple(metadata.get(WIDENED, "").splitlines()))


def missing(path: Path, what: str, package: str, extra: str, elsewhere: str = "") -> FrameworkMissing:
    """What to say where a package is missing. elsewhere: what to run where it is there."""
    other = f"; or, where it is there: {elsewhere}" if elsewhere else ""
    return FrameworkMissing(
        f"{path}: {what}: expected {package} to be installed, got none; {requirements.hint(extra)}{other}"
    )


def main(name: str, reads: tuple[str, ...], reader: Reader, arguments: list[str] | None = None) -> int:
    """Run an implementation's converter, and return its exit code. name: of the implementation."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 2 or given[0].startswith("-"):
        sys.stderr.write(f"usage: python -m {name}.weights FILE OUT.safetensors\n")
        return UsageError.exit_code
    path, out = map(Path, given)
    try:
        kind = kind_of(path)
        if kind.format not in reads:
            raise refusal(path, kind) if not kind.format else UsageError(f"{path}: expected another, got {kind.what}")
        convert(path, out, kind, reader, name)
    except OhlolError as error:
        sys.stderr.write(f"error: {one_line(str(error))}\n")
        return error.exit_code
    return 0


def convert(path: Path, out: Path, kind: Kind, reader: Reader, name: str) -> None:
    """Write a file's arrays as safetensors. Raises OhlolError."""
    try:
        held = widen(reader(path))
    except ModuleNotFoundError as error:
        extra = requirements.EXTRAS[name]
        command = shlex.join(["python", "-m", f"{name}.weights", str(path), f"{path.stem}.safetensors"])
        raise missing(path, kind.what, error.name or "", extra, command) from None
    if not held.arrays:
        raise UsageError(f"{path}: expected arrays in it, got none")
    parameters.save(out, held.arrays, {WIDENED: "\n".join(held.said)}, lasting=False)


def _search_path() -> str:
    """So that the other process finds the same packages, wherever this one was started."""
    own = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(filter(None, (own, os.environ.get("PYTHONPATH", ""))))
