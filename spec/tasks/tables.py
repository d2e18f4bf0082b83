"""Sequences with lengths out of a file: CSV, a row a step, or .npz. See docs/own_data.md.

What is wrong in a file is said with its name and the line, or the place in the array.
"""

import csv
import io
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spec import files
from spec.errors import UsageError, shorten
from spec.limits import LARGEST_LENGTH, LARGEST_SIZE
from spec.tasks.base import IGNORED, asked, not_asked, valid_steps

FIRST_COLUMN, LAST_COLUMN = "sequence", "target"
"""Of a CSV's header; what is between them are the inputs."""

PREFIX = f"{LAST_COLUMN}_"
"""What the names of the last columns begin with, where a step has several targets that are numbers."""

LARGEST_NUMBER = float(np.finfo(np.float32).max)
"""Of inputs and targets: a larger one would be infinite where models compute."""


class Sequences(NamedTuple):
    """What a file holds, one sequence behind the other.

    inputs: float64 (steps, features), or int64 (steps,) indices. targets: int64 (steps,), IGNORED where nothing is
    asked; or float64 (steps, outputs), NaN where nothing is. starts: int64 (sequences + 1,), where each begins, and
    where the last ends.
    """

    inputs: np.ndarray
    targets: np.ndarray
    starts: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Steps of each, int64 (sequences,)."""
        return np.diff(self.starts)


@lru_cache(maxsize=4)
def read(path: str, digest: str, indices: bool, numbers: bool = False) -> Sequences:
    """The file's sequences. digest: of its content, so that nothing is kept beyond a change. numbers: whether targets
    are numbers, and not classes.

    Raises ValueError, with a message for people that begins with "path", where it is no such file.
    """
    del digest
    try:
        content = files.read(Path(path))
    except UsageError as error:
        raise ValueError(f"path: expected a file that can be read, got {error}") from None
    if not content:
        raise ValueError(f"path: expected a header and rows in {path}, got an empty file")
    of_kind = _of_npz if path.endswith(".npz") else _of_csv
    found = of_kind(path, content, indices, numbers)
    if not asked(found.targets).any():
        raise ValueError(f"path: expected at least one target in {path}, got none")
    return found


def _wrong(path: str, place: str, expected: str, got: object) -> ValueError:
    return ValueError(f"path: expected {expected} in {path}, {place}, got {shorten(str(got))}")


def _of_csv(path: str, content: bytes, indices: bool, numbers: bool) -> Sequences:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _wrong(path, f"line {line}", "text in UTF-8", f"the byte 0x{content[error.start]:02x}") from None
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    inputs: list[list[float]] = []
    targets: list[list[float]] = []
    starts: list[int] = []
    names: dict[str, None] = {}
    columns: list[str] = []
    last_input = -1
    last = None
    try:
        for row in rows:
            line = f"line {rows.line_num}"
            if not columns:
                columns = _header(path, line, row, indices, numbers)
                last_input = len(columns) - sum(map(_is_target, columns)) if numbers else len(columns) - 1
                continue
            if len(row) != len(columns):
                raise _wrong(path, line, f"{len(columns)} columns, as the header has", len(row))
            name = row[0]
            if name != last:
                if name in names:
                    raise _wrong(path, line, "the rows of a sequence one after the other", f"{name!r} again")
                names[name], last = None, name
                starts.append(len(inputs))
            inputs.append(
                [
                    _number(path, line, column, cell, indices)
                    for column, cell in zip(columns[1:last_input], row[1:last_input], strict=True)
                ]
            )
            wanted = zip(columns[last_input:], row[last_input:], strict=True)
            targets.append([_target(path, line, column, cell, numbers) for column, cell in wanted])
    except csv.Error as error:
        raise _wrong(path, f"line {rows.line_num}", "a row of a CSV file", error) from None
    if not inputs:
        raise _wrong(path, f"line {rows.line_num}", "rows below the header", "none")
    values = np.array(inputs, np.int64 if indices else np.float64)
    given = np.array(targets, np.float64) if numbers else np.array(targets, np.int64)[:, 0]
    return Sequences(values[:, 0] if indices else values, given, np.array([*starts, len(inputs)]))


def _is_target(column: str) -> bool:
    return column == LAST_COLUMN or column.startswith(PREFIX)


def _header(path: str, line: str, row: list[str], indices: bool, numbers: bool) -> list[str]:
    columns = [cell.strip() for cell in row]
    inputs = "one column" if indices else "at least one column"
    last = len(columns) - sum(map(_is_target, columns)) if numbers else len(columns) - 1
    targets = columns[last:]
    in_place = bool(targets) and (all(map(_is_target, targets)) if numbers else targets == [LAST_COLUMN])
    if columns[:1] != [FIRST_COLUMN] or not in_place or last < 2:
        end = f'"{LAST_COLUMN}" or columns "{PREFIX}..."' if numbers else f'"{LAST_COLUMN}"'
        raise _wrong(path, line, f'the header "{FIRST_COLUMN}", {inputs} of inputs, {end}', ",".join(row))
    if indices and last != 2:
        raise _wrong(path, line, "one column of indices", f"{last - 1}")
    if len(set(columns)) < len(columns):
        twice = next(column for column in columns if columns.count(column) > 1)
        raise _wrong(path, line, "columns of different names", f"{twice!r} twice")
    return columns


def _number(path: str, line: str, column: str, cell: str, index: bool, more: str = "") -> float:
    """more: what may stand there besides."""
    place = f"{line}, column {column!r}"
    try:
        value = int(cell) if index else float(cell)
    except ValueError:
        raise _wrong(path, place, "an index" if index else f"a number{more}", repr(cell)) from None
    if index and not 0 <= value < LARGEST_SIZE:
        raise _wrong(path, place, "an index of at least 0", cell)
    if not index and not np.isfinite(value):
        raise _wrong(path, place, f"a finite number{more}", cell)
    if not index and abs(value) > LARGEST_NUMBER:
        raise _wrong(path, place, f"a number that float32 holds{more}", cell)
    return value


def _target(path: str, line: str, column: str, cell: str, number: bool) -> float:
    if not number:
        return _class(path, line, cell)
    return _number(path, line, column, cell, False, " or nothing") if cell.strip() else np.nan


def _class(path: str, line: str, cell: str) -> int:
    if not cell.strip():
        return IGNORED
    try:
        value = int(cell)
    except ValueError:
        value = -1
    if not 0 <= value < LARGEST_SIZE:
        expected = "a class (0, 1, ...) or nothing (numbers: targets = 'numbers')"
        raise _wrong(path, f"{line}, column {LAST_COLUMN!r}", expected, repr(cell))
    return value


def _of_npz(path: str, content: bytes, indices: bool, numbers: bool) -> Sequences:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"path: expected an .npz file of arrays, got {path}: {shorten(str(error))}") from None
    known = {"inputs", "targets", "lengths"}
    if not {"inputs", "targets"} <= set(arrays) <= known:
        raise ValueError(
            f"path: expected the arrays inputs, targets and, if any, lengths in {path}, got {sorted(arrays)}"
        )
    inputs, targets = arrays["inputs"], arrays["targets"]
    kinds, shape = ("iu", "integer (sequences, steps)") if indices else ("f", "floating (sequences, steps, features)")
    if inputs.dtype.kind not in kinds or inputs.ndim != (2 if indices else 3) or not inputs.size:
        raise _wrong(path, "inputs", shape, f"{inputs.dtype} {inputs.shape}")
    count, time = inputs.shape[:2]
    lengths = arrays.get("lengths", np.full(count, time, np.int64))
    if lengths.dtype.kind not in "iu" or lengths.shape != (count,):
        raise _wrong(path, "lengths", f"integer ({count},)", f"{lengths.dtype} {lengths.shape}")
    if (bad := np.flatnonzero((lengths < 1) | (lengths > time))).size:
        raise _wrong(path, f"lengths[{bad[0]}]", f"1 to {time} steps, as inputs has", lengths[bad[0]])
    outputs = targets.shape[-1:] if numbers else ()
    shapes = ((count, *outputs), (count, time, *outputs))
    if targets.dtype.kind not in ("f" if numbers else "iu") or targets.shape not in shapes or 0 in targets.shape:
        kind, more = ("floating", ", outputs") if numbers else ("integer", "")
        expected = f"{kind} ({count}{more or ','}) or ({count}, {time}{more})"
        raise _wrong(path, "targets", expected, f"{targets.dtype} {targets.shape}")
    if numbers and targets.shape == (count, time) and time > 1:
        expected = (
            f"another shape where it can be read in two ways: ({count}, {time}, 1) for a number at each step, "
            f"({count}, {time}, {time}) with NaN before the last step for {time} there"
        )
        raise _wrong(path, "targets", expected, f"{targets.dtype} {targets.shape}")
    valid = valid_steps(lengths, time)
    if indices and (bad := np.argwhere(valid & ((inputs < 0) | (inputs >= LARGEST_SIZE)))).size:
        raise _wrong(path, f"inputs{bad[0].tolist()}", "an index of at least 0", inputs[tuple(bad[0])])
    if not indices and (bad := np.argwhere(valid[..., None] & ~np.isfinite(inputs))).size:
        raise _wrong(path, f"inputs{bad[0].tolist()}", "a finite number", inputs[tuple(bad[0])])
    if not indices and (bad := np.argwhere(valid[..., None] & (np.abs(inputs) > LARGEST_NUMBER))).size:
        raise _wrong(path, f"inputs{bad[0].tolist()}", "a number that float32 holds", inputs[tuple(bad[0])])
    if targets.shape == shapes[0]:
        spread = np.full(shapes[1], not_asked(targets), np.float64 if numbers else np.int64)
        spread[np.arange(count), lengths - 1] = targets
        targets = spread
    if numbers:
        if (bad := np.argwhere(valid[..., None] & (np.abs(targets) > LARGEST_NUMBER))).size:
            expected = "a number that float32 holds, or NaN"
            raise _wrong(path, f"targets{bad[0].tolist()}", expected, targets[tuple(bad[0])])
    elif (bad := np.argwhere(valid & (targets != IGNORED) & ((targets < 0) | (targets >= LARGEST_SIZE)))).size:
        raise _wrong(path, f"targets{bad[0].tolist()}", f"a class (0, 1, ...) or {IGNORED}", targets[tuple(bad[0])])
    values = inputs[valid].astype(np.int64 if indices else np.float64)
    given = targets[valid].astype(np.float64 if numbers else np.int64)
    return Sequences(values, given, np.concatenate([[0], np.cumsum(lengths.astype(np.int64))]))


def longest(lengths: np.ndarray) -> int:
    """Steps of the longest sequence. Raises ValueError where that is longer than any may be."""
    most = int(lengths.max())
    if most > LARGEST_LENGTH:
        raise ValueError(f"path: expected sequences of at most {LARGEST_LENGTH} steps, got one of {most}")
    return most
