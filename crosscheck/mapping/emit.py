"""A map as a converter: a Python file of its own, that needs NumPy alone."""

from collections.abc import Iterator, Sequence

from crosscheck.mapping.link import Link, Map, Part, Piece

HEAD = '''\
"""Weights of the first model as the second's. Made by crosscheck from a proven map; needs NumPy alone.

As a command: python convert.py weights.npz converted.npz
"""

import sys

import numpy as np

SHAPES = {
@SHAPES@}
"""The first model's leaves that are read, and their shapes."""


def convert(first):
    """The second model's leaves, by path, of a mapping of the first's: arrays in any memory order, any dtype.

    Every result is a new array in C order, of its source's dtype. Raises ValueError for a leaf that is missing or of
    another shape.
    """
    for name, shape in SHAPES.items():
        if name not in first:
            raise ValueError(f"expected a leaf {name!r}, got {sorted(first)}")
        if np.shape(first[name]) != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {np.shape(first[name])}")
    second = {}
'''
TAIL = """\
    return {name: np.array(value, order="C") for name, value in second.items()}


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python convert.py weights.npz converted.npz")
    with np.load(sys.argv[1]) as held:
        np.savez(sys.argv[2], **convert(held))
"""


def emitted(mapping: Map) -> str:
    """The file's text. What has no counterpart is named in comments, and left to the second model's own values."""
    used = {piece.source for link in mapping.links.values() for part in link.parts for piece in part.pieces}
    shapes = "".join(f"    {leaf.path!r}: {leaf.shape!r},\n" for leaf in mapping.first if leaf.path in used)
    lines = [HEAD.replace("@SHAPES@", shapes)]
    for one in mapping.unlinked:
        rows = "" if one.rows is None else f", rows {', '.join(f'{low}:{high}' for low, high in one.rows)}"
        lines.append(f"    # {one.source!r}{rows}: goes nowhere ({one.kind}).\n")
    for link in mapping.links.values():
        lines += [f"    {line}\n" for line in _statement(link)]
    return "".join([*lines, TAIL])


def _statement(link: Link) -> Iterator[str]:
    if not link.parts:
        yield f"# {link.target!r} keeps its own values ({link.kind})."
    elif len(link.parts) == 1:
        yield f"second[{link.target!r}] = {_part(link.parts[0])}"
    elif link.stacked == 1:
        yield f"second[{link.target!r}] = np.concatenate("
        yield from _joined(link.parts, link.axis)
        yield ")"
    else:
        yield f"second[{link.target!r}] = np.concatenate(["
        for group in link.groups():
            yield "    np.concatenate("
            yield from (f"    {line}" for line in _joined(group, link.axis))
            yield "    ),"
        yield "])"


def _joined(parts: Sequence[Part], axis: int) -> Iterator[str]:
    yield "    ["
    source = next(piece.source for part in parts for piece in part.pieces)
    for part in parts:
        yield f"        {_part(part) if part.pieces else _zeros(part, source)},"
    yield "    ],"
    yield f"    axis={axis},"


def _part(part: Part) -> str:
    return " + ".join(f"{_piece(piece)}.reshape({part.shape!r})" for piece in part.pieces)


def _zeros(part: Part, source: str) -> str:
    return f"np.zeros({part.shape!r}, np.asarray(first[{source!r}]).dtype)"


def _piece(piece: Piece) -> str:
    text = f"np.asarray(first[{piece.source!r}])"
    if piece.cut:
        ranges = {axis: f"{start}:{stop}" for axis, start, stop in piece.cut}
        text += f"[{', '.join(ranges.get(axis, ':') for axis in range(max(ranges) + 1))}]"
    if piece.rows is not None:
        blocks = [f"{text}[{start}:{stop}]" for start, stop in piece.rows]
        text = blocks[0] if len(blocks) == 1 else f"np.concatenate([{', '.join(blocks)}])"
    if piece.split is not None:
        text += f".reshape({piece.split!r})"
    if piece.axes is not None:
        text += f".transpose({piece.axes!r})"
    if piece.factor != 1.0:
        text = f"({piece.factor!r} * {text})"
    if piece.offset != 0.0:
        text = f"({text} + {piece.offset!r})"
    return text
