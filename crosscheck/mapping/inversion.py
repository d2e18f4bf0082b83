"""A map in the other direction: what it makes of a leaf's parts, made of the leaf.

What was added up is shared equally, so that the sum is what it was; what a map had no place for is zero.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from crosscheck.mapping.link import Kind, Link, Map, Part, Piece
from spec.pair import Leaf

Ranges = Mapping[int, tuple[int, int]]


class _Block(NamedTuple):
    """Rows of a leaf of the old first side, made of a part of one of the second. zero: a part that nothing says."""

    start: int
    stop: int
    part: Part


def inverted(mapping: Map, constants: Mapping[str, str]) -> dict[str, Link] | None:
    """Links from the second side to the first's leaves. None where a leaf is not put together of blocks of rows.

    constants: leaves of the first side that are none of the map's, and why.
    """
    shapes = {leaf.path: leaf.shape for leaf in mapping.second}
    blocks: dict[str, list[_Block]] = {leaf.path: [] for leaf in mapping.first}
    sources = {leaf.path: leaf.shape for leaf in mapping.first}
    for target, link in mapping.links.items():
        for part, ranges in _places(link):
            for piece in part.pieces:
                found = _turned(piece, part, ranges, target, sources[piece.source], shapes[target])
                if found is None:
                    return None
                blocks[piece.source] += found
    links = {}
    for leaf in mapping.first:
        if leaf.path in constants:
            links[leaf.path] = Link(leaf.path, "constant", note=constants[leaf.path])
            continue
        parts = _covering(leaf, blocks[leaf.path])
        if parts is None:
            return None
        links[leaf.path] = Link(leaf.path, _kind(parts), parts)
    return links


def _kind(parts: Sequence[Part]) -> Kind:
    if not parts:
        return "none"
    if len(parts) > 1:
        return "concat"
    return "split" if parts[0].pieces[0].cut else "copy"


def _places(link: Link) -> Iterator[tuple[Part, dict[int, tuple[int, int]]]]:
    """Each part, and which ranges of the leaf's axes it is."""
    row = 0
    for group in link.groups() if link.parts else ():
        start = 0
        for part in group:
            ranges: dict[int, tuple[int, int]] = {}
            if link.stacked > 1:
                ranges[0] = (row, row + part.shape[0])
            if len(group) > 1:
                offset = row if link.stacked > 1 and link.axis == 0 else 0
                ranges[link.axis] = (offset + start, offset + start + part.shape[link.axis])
                start += part.shape[link.axis]
            yield part, ranges
        if link.stacked > 1:
            heights = [part.shape[0] for part in group]
            row += sum(heights) if link.axis == 0 else heights[0]


def _turned(
    piece: Piece, part: Part, ranges: Ranges, target: str, source: tuple[int, ...], whole: tuple[int, ...]
) -> list[_Block] | None:
    """Blocks of rows of the piece's leaf, each made of the target. source, whole: shapes of the two leaves."""
    if piece.factor == 0.0 or piece.cut:
        return None
    count, shift = len(part.pieces), sum(one.offset for one in part.pieces)
    factor = 1.0 / (count * piece.factor)
    offset = -shift / (count * piece.factor) if shift else 0.0
    length, *inward = source or (1,)
    rows = piece.rows or ((0, length),)
    own = (sum(stop - start for start, stop in rows), *inward) if len(source) else ()
    before = own if piece.split is None else piece.split
    axes = piece.axes or tuple(range(len(before)))
    moved = tuple(before[axis] for axis in axes)
    back = tuple(int(axis) for axis in np.argsort(axes))
    found = []
    place = 0
    for first, last in rows:
        size, here, shape = last - first, dict(ranges), moved
        if len(rows) > 1:
            axis = _same_axis(axes, moved, part.shape) if piece.split is None else None
            if axis is None:
                return None
            begin = here.get(axis, (0, whole[axis]))[0] + place
            here[axis] = (begin, begin + size)
            shape = tuple(size if one == axes.index(0) else length for one, length in enumerate(moved))
        cut = tuple((axis, *one) for axis, one in sorted(here.items()) if one != (0, whole[axis]))
        ends = (here.get(axis, (0, length)) for axis, length in enumerate(whole))
        plain = shape == tuple(stop - start for start, stop in ends)
        turned = None if back == tuple(range(len(back))) else back
        made = Piece(target, None, None if plain else shape, turned, factor, offset, cut)
        found.append(_Block(first, last, Part((size, *inward) if len(source) else (), (made,))))
        place += size
    return found


def _same_axis(axes: Sequence[int], moved: Sequence[int], shape: Sequence[int]) -> int | None:
    """Which axis of a part the rows are, where it has no others than the leaf has."""
    long = [axis for axis, size in enumerate(shape) if size != 1]
    ours = [place for place, size in enumerate(moved) if size != 1]
    if [shape[axis] for axis in long] != [moved[place] for place in ours]:
        return None
    place = list(axes).index(0)
    return long[ours.index(place)] if place in ours else None


def _covering(leaf: Leaf, blocks: Sequence[_Block]) -> tuple[Part, ...] | None:
    """All rows of a leaf, one behind the other; none where nothing makes it. Where two say the same rows, the first."""
    if not blocks:
        return ()
    if not leaf.shape:
        return (blocks[0].part,)
    parts, row = [], 0
    for block in sorted({(one.start, one.stop): one for one in reversed(blocks)}.values()):
        if block.start < row:
            return None
        if block.start > row:
            parts.append(Part((block.start - row, *leaf.shape[1:]), ()))
        parts.append(block.part)
        row = block.stop
    if row < leaf.shape[0]:
        parts.append(Part((leaf.shape[0] - row, *leaf.shape[1:]), ()))
    return tuple(parts)
