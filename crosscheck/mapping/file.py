"""The map's file: a table for each leaf of the second side, to be read, edited and kept under version control.

A leaf that is one leaf of the first side, or rows of it, has its fields in the table; others have `parts`, and a part
that is a sum has `sum`. Fields that say nothing are left out: all rows, the axes as they are, factor 1.
"""

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from crosscheck.mapping.link import Kind, Link, Map, OutputLink, Part, Piece, Proof, Unlinked, left_over
from spec.errors import UsageError
from spec.pair import Leaf

FORMAT = 1
HEAD = """\
# Which leaf of the second side is made of which of the first's: found by crosscheck, to be reviewed and edited.
# rows: blocks of axis 0, in this order; split: the shape given to it next; axes: their order then; at last it gets the
# leaf's shape. cut: ranges [axis, start, stop] that are taken before all else. zero: nothing is there. stacked: the
# parts are in so many groups, one behind the other on axis 0. kind and proof inform; what is missing here was looked
# for and not found.
"""


def written(mapping: Map) -> str:
    """The file's text; the same for the same map."""
    lines = [HEAD, f"format = {FORMAT}", ""]
    for link in mapping.links.values():
        lines += [f"[leaves.{_string(link.target)}]", *_fields(link), ""]
    for one in mapping.unlinked:
        lines += ["[[unlinked]]", f"from = {_string(one.source)}"]
        if one.rows is not None:
            lines.append(f"rows = {_value(one.rows)}")
        lines += [f"kind = {_string(one.kind)}", f"proof = {_string(one.proof)}"]
        lines += ["zero = true"] if one.zero else []
        lines += [f"note = {_string(one.note)}"] if one.note else []
        lines.append("")
    for output in mapping.outputs:
        lines += ["[[outputs]]", f"first = {_string(output.first)}", f"second = {_string(output.second)}"]
        lines += [f"axes = {_value(output.axes)}", f"shape = {_value(output.shape)}", ""]
    return "\n".join(lines).rstrip() + "\n"


def write(mapping: Map, path: Path) -> None:
    """Whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(written(mapping), encoding="utf-8")
    partial.replace(path)


def read(path: Path, first: Sequence[Leaf], second: Sequence[Leaf]) -> Map:
    """The map in a file, for sides with these leaves.

    Raises UsageError, with one line that names the file, the leaf, what was expected and what came, where the file is
    not one, names a leaf that is not there, leaves one out, or has a part that cannot be given its shape.
    """
    try:
        text = path.read_text(encoding="utf-8")
        held = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{path}: expected a file that can be read, got {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected TOML, got {error}") from None
    try:
        return _Reader(first, second).map(held)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _fields(link: Link) -> list[str]:
    lines = [f"kind = {_string(link.kind)}"]
    if len(link.parts) == 1 and len(link.parts[0].pieces) == 1:
        lines += [f"{name} = {_value(value)}" for name, value in _of_piece(link.parts[0].pieces[0]).items()]
    elif link.parts:
        if len(link.parts) > 1:
            lines.append(f"axis = {link.axis}")
        if link.stacked > 1:
            lines.append(f"stacked = {link.stacked}")
        lines.append("parts = [")
        for part in link.parts:
            held: dict[str, Any] = {"shape": part.shape} if len(link.parts) > 1 else {}
            if not part.pieces:
                held["zero"] = True
            elif len(part.pieces) == 1:
                held |= _of_piece(part.pieces[0])
            else:
                held["sum"] = [_of_piece(piece) for piece in part.pieces]
            lines.append(f"    {_value(held)},")
        lines.append("]")
    lines.append(f"proof = {_string(link.proof)}")
    return lines + ([f"note = {_string(link.note)}"] if link.note else [])


def _of_piece(piece: Piece) -> dict[str, Any]:
    found: dict[str, Any] = {"from": piece.source}
    for name, value, plain in (
        ("rows", piece.rows, None),
        ("split", piece.split, None),
        ("axes", piece.axes, None),
        ("factor", piece.factor, 1.0),
        ("offset", piece.offset, 0.0),
        ("cut", piece.cut, ()),
    ):
        if value != plain:
            found[name] = value
    return found


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {_value(one)}" for name, one in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return repr(value)


def _string(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    escaped = "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in plain)
    return f'"{escaped}"'


class _Reader:
    def __init__(self, first: Sequence[Leaf], second: Sequence[Leaf]) -> None:
        self.first, self.second = tuple(first), tuple(second)
        self.shapes = {leaf.path: leaf.shape for leaf in first}

    def map(self, held: Mapping[str, Any]) -> Map:
        _known("the file", held, ("format", "leaves", "unlinked", "outputs"))
        if held.get("format") != FORMAT:
            raise UsageError(f"format: expected {FORMAT}, got {held.get('format')!r}")
        tables = _table("leaves", held.get("leaves", {}))
        theirs = {leaf.path: leaf for leaf in self.second}
        if extra := sorted(tables.keys() - theirs.keys()):
            raise UsageError(f"expected leaves of the second side, got {extra[0]!r}, which it does not have")
        if missing := [path for path in theirs if path not in tables]:
            raise UsageError(f"expected every leaf of the second side, got none for {missing[0]!r}")
        links = {path: self.link(leaf, _table(path, tables[path])) for path, leaf in theirs.items()}
        unlinked = tuple(self.unlinked(_table("unlinked", one)) for one in held.get("unlinked", ()))
        mapping = Map(self.first, self.second, links, unlinked, tuple(map(_output, held.get("outputs", ()))))
        for path, rows in uncovered(mapping):
            raise UsageError(f"expected every leaf of the first side, got none for {path!r}{rows}")
        return mapping

    def link(self, leaf: Leaf, table: Mapping[str, Any]) -> Link:
        where = leaf.path
        piece = ("from", "rows", "split", "axes", "factor", "offset", "cut")
        _known(where, table, ("kind", "proof", "note", "axis", "stacked", "parts", *piece))
        kind = _one_of(where, "kind", table.get("kind"), get_args(Kind))
        proof = _one_of(where, "proof", table.get("proof", "none"), get_args(Proof))
        axis = table.get("axis", 0)
        parts: list[Part] = []
        if "from" in table:
            parts = [self.part(where, table, leaf.shape)]
        elif "parts" in table:
            held = [_table(where, one) for one in table["parts"]]
            parts = [self.part(where, one, _numbers(where, "shape", one.get("shape", leaf.shape))) for one in held]
        if (kind in ("constant", "none")) != (not parts):
            raise UsageError(f"{where}: expected {'no parts' if parts else 'parts'} for kind {kind!r}")
        (stacked,) = _numbers(where, "stacked", [table.get("stacked", 1)])
        if stacked < 1 or len(parts) % stacked or (stacked > 1 and leaf.shape[0] != stacked):
            raise UsageError(f"{where}: stacked: expected a row of each group of parts, got {stacked}")
        link = Link(leaf.path, kind, tuple(parts), axis, proof, str(table.get("note", "")), stacked)
        for group in link.groups() if parts else ():
            _check_joined(
                where, (leaf.shape[0] // stacked, *leaf.shape[1:]) if stacked > 1 else leaf.shape, group, axis
            )
        return link

    def part(self, where: str, table: Mapping[str, Any], shape: tuple[int, ...]) -> Part:
        if table.get("zero") is True:
            _known(where, table, ("shape", "zero"))
            return Part(shape, ())
        if "sum" in table:
            _known(where, table, ("shape", "sum"))
            pieces = [self.piece(where, _table(where, one)) for one in table["sum"]]
        else:
            pieces = [self.piece(where, table)]
        for piece in pieces:
            size = math.prod(shape_after(piece, self.shapes[piece.source]))
            if size != math.prod(shape):
                raise UsageError(f"{where}: expected {math.prod(shape)} numbers of {piece.source!r}, got {size}")
        if not pieces:
            raise UsageError(f"{where}: expected summands, got none")
        return Part(shape, tuple(pieces))

    def piece(self, where: str, table: Mapping[str, Any]) -> Piece:
        source = table.get("from")
        if source not in self.shapes:
            raise UsageError(f"{where}: expected a leaf of the first side, got {source!r}, which it does not have")
        cut = _cut(where, table.get("cut", ()), self.shapes[source])
        shape = shape_after(Piece(source, cut=cut), self.shapes[source])
        rows = _rows(where, table.get("rows"), shape)
        split = _numbers(where, "split", table["split"]) if "split" in table else None
        axes = _numbers(where, "axes", table["axes"]) if "axes" in table else None
        piece = Piece(source, rows, split, axes, float(table.get("factor", 1.0)), float(table.get("offset", 0.0)), cut)
        before = shape_after(piece._replace(split=None, axes=None), self.shapes[source])
        if split is not None and math.prod(split) != math.prod(before):
            raise UsageError(f"{where}: split: expected {math.prod(before)} numbers, got {list(split)}")
        count = len(split if split is not None else before)
        if axes is not None and sorted(axes) != list(range(count)):
            raise UsageError(f"{where}: axes: expected an order of {count} axes, got {list(axes)}")
        return piece

    def unlinked(self, table: Mapping[str, Any]) -> Unlinked:
        _known("unlinked", table, ("from", "rows", "kind", "proof", "zero", "note"))
        source = table.get("from")
        if source not in self.shapes:
            raise UsageError(f"unlinked: expected a leaf of the first side, got {source!r}, which it does not have")
        kind = _one_of(source, "kind", table.get("kind"), ("constant", "none"))
        proof = _one_of(source, "proof", table.get("proof", "none"), get_args(Proof))
        rows = _rows(source, table.get("rows"), self.shapes[source])
        return Unlinked(source, rows, kind, proof, bool(table.get("zero", False)), str(table.get("note", "")))


def uncovered(mapping: Map) -> Iterable[tuple[str, str]]:
    """Leaves of the first side, with their rows, that no link and no entry without counterpart names."""
    taken: dict[str, list[Piece]] = {leaf.path: [] for leaf in mapping.first}
    for piece in (piece for link in mapping.links.values() for part in link.parts for piece in part.pieces):
        taken[piece.source].append(piece)
    for one in mapping.unlinked:
        taken[one.source].append(Piece(one.source, one.rows))
    for leaf in mapping.first:
        rows = left_over(leaf.shape, taken[leaf.path])
        left = np.flatnonzero(rows)
        if left.size:
            yield leaf.path, "" if left.size == len(rows) else f", rows {left[0]} to {left[-1]}"


def shape_after(piece: Piece, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A leaf's shape when the piece is taken of it, before it is given its part's."""
    for axis, start, stop in piece.cut:
        shape = (*shape[:axis], stop - start, *shape[axis + 1 :])
    if piece.rows is not None:
        shape = (sum(stop - start for start, stop in piece.rows), *shape[1:])
    if piece.split is not None:
        shape = piece.split
    return tuple(shape[axis] for axis in piece.axes) if piece.axes is not None else shape


def _output(table: Any) -> OutputLink:
    held = _table("outputs", table)
    _known("outputs", held, ("first", "second", "axes", "shape"))
    if not isinstance(held.get("first"), str) or not isinstance(held.get("second"), str):
        raise UsageError("outputs: expected the names first and second")
    axes = _numbers("outputs", "axes", held.get("axes"))
    return OutputLink(held["first"], held["second"], axes, _numbers("outputs", "shape", held.get("shape")))


def _check_joined(where: str, shape: tuple[int, ...], parts: Sequence[Part], axis: Any) -> None:
    if len(parts) == 1:
        if parts[0].shape != shape:
            raise UsageError(f"{where}: expected a part of shape {list(shape)}, got {list(parts[0].shape)}")
        return
    if not isinstance(axis, int) or not 0 <= axis < len(shape):
        raise UsageError(f"{where}: axis: expected one of {len(shape)} axes, got {axis!r}")
    for part in parts:
        if len(part.shape) != len(shape) or any(
            size != whole for place, (size, whole) in enumerate(zip(part.shape, shape, strict=True)) if place != axis
        ):
            raise UsageError(
                f"{where}: expected parts of shape {list(shape)} but for axis {axis}, got {list(part.shape)}"
            )
    if sum(part.shape[axis] for part in parts) != shape[axis]:
        raise UsageError(
            f"{where}: expected parts of {shape[axis]} along axis {axis}, got {[p.shape[axis] for p in parts]}"
        )


def _known(where: str, table: Mapping[str, Any], names: Iterable[str]) -> None:
    if extra := sorted(table.keys() - set(names)):
        raise UsageError(f"{where}: expected no field {extra[0]!r}")


def _table(where: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: expected a table, got {value!r}")
    return value


def _one_of(where: str, name: str, value: Any, allowed: Sequence[str]) -> Any:
    if value not in allowed:
        raise UsageError(f"{where}: {name}: expected one of {', '.join(allowed)}, got {value!r}")
    return value


def _rows(where: str, value: Any, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...] | None:
    if value is None:
        return None
    blocks = tuple(_numbers(where, "rows", one) for one in value)
    length = (shape or (1,))[0]
    for block in blocks:
        if len(block) != 2 or not 0 <= block[0] < block[1] <= length:
            raise UsageError(f"{where}: rows: expected [start, stop] within {length}, got {list(block)}")
    return tuple((block[0], block[1]) for block in blocks)


def _cut(where: str, value: Any, shape: tuple[int, ...]) -> tuple[tuple[int, int, int], ...]:
    if not isinstance(value, list | tuple):
        raise UsageError(f"{where}: cut: expected ranges [axis, start, stop], got {value!r}")
    found = []
    for one in value:
        range_ = _numbers(where, "cut", one)
        if len(range_) != 3 or range_[0] >= len(shape) or not range_[1] < range_[2] <= shape[range_[0]]:
            raise UsageError(f"{where}: cut: expected [axis, start, stop] within {list(shape)}, got {list(range_)}")
        found.append((range_[0], range_[1], range_[2]))
    if len({axis for axis, *_ in found}) < len(found):
        raise UsageError(f"{where}: cut: expected each axis once, got {[list(one) for one in found]}")
    return tuple(found)


def _numbers(where: str, name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(one, int) and one >= 0 for one in value):
        raise UsageError(f"{where}: {name}: expected whole numbers, got {value!r}")
    return tuple(value)
