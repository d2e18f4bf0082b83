"""What a leaf of the second side is made of, and the map as a linear function: `push` values, `pull` gradients."""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import numpy as np

from spec.pair import Leaf, Values

Kind = Literal["copy", "split", "concat", "sum", "tied", "constant", "none"]
"""copy: one leaf is the other, transposed or reshaped. split: a part of a leaf. concat: put together from several.
sum: added up from several. tied: one leaf of the first side in several places of the second. constant: not trained,
and equal on both sides by itself. none: without counterpart."""

Proof = Literal["value", "elimination", "free", "none"]
"""value: outputs move when it does, and agree. elimination: the only place left. free: no output can show it, as an
attention's key bias; never called proven. none: not shown."""


class Piece(NamedTuple):
    """A leaf of the first side, or a part of it, brought into shape.

    source: its path.
    rows: blocks (start, stop) of axis 0, in the order in which they are taken; None: all.
    split: the shape that it is given next, so that axes hidden in one (heads, or channels in a flattened image) can be
        moved; None: its own.
    axes: the order of its axes then; None: as they are.
    factor, offset: the value is factor * value + offset.
    cut: ranges (axis, start, stop) of the leaf's axes, to which it is limited before all else.
    """

    source: str
    rows: tuple[tuple[int, int], ...] | None = None
    split: tuple[int, ...] | None = None
    axes: tuple[int, ...] | None = None
    factor: float = 1.0
    offset: float = 0.0
    cut: tuple[tuple[int, int, int], ...] = ()


class Part(NamedTuple):
    """A block of a leaf of the second side: the sum of its pieces, in this shape; zero where there are none."""

    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]


class Link(NamedTuple):
    """A leaf of the second side. Its parts are joined along `axis`; without parts it has no counterpart.

    stacked: in how many groups of equal length the parts are, which are joined along axis 0 at last: the rows of a leaf
        that a loop goes through, each joined along an axis of its own.
    note: why, in a sentence, where the kind or the proof needs one.
    """

    target: str
    kind: Kind
    parts: tuple[Part, ...] = ()
    axis: int = 0
    proof: Proof = "none"
    note: str = ""
    stacked: int = 1

    def groups(self) -> list[tuple[Part, ...]]:
        width = len(self.parts) // self.stacked
        return [self.parts[start : start + width] for start in range(0, len(self.parts), width)]


class Unlinked(NamedTuple):
    """A leaf of the first side, or rows of it, that no leaf of the second takes.

    kind: "constant": not trained, and nothing to carry over. "none": without counterpart.
    proof: "free": no output of the first side depends on it. "value": outputs do, so the second cannot represent it.
    zero: whether both sides compute alike where it is zero.
    """

    source: str
    rows: tuple[tuple[int, int], ...] | None
    kind: Literal["constant", "none"]
    proof: Proof = "none"
    zero: bool = False
    note: str = ""


class OutputLink(NamedTuple):
    """An output of the first side, and what it is called and how its axes stand on the second."""

    first: str
    second: str
    axes: tuple[int, ...]
    shape: tuple[int, ...]


class Map(NamedTuple):
    """Every leaf of both sides, accounted for.

    first, second: the leaves, for which it was made. links: by target, in the second side's order.
    unlinked: what of the first side goes nowhere. outputs: which output is which.
    """

    first: tuple[Leaf, ...]
    second: tuple[Leaf, ...]
    links: Mapping[str, Link]
    unlinked: tuple[Unlinked, ...] = ()
    outputs: tuple[OutputLink, ...] = ()

    def push(self, values: Values) -> dict[str, np.ndarray]:
        """The second side's leaves for values of the first's; those without counterpart are left out.

        values: path -> array, of any floating dtype.
        """
        return {target: value for target, link in self.links.items() if (value := join(link, values)) is not None}

    def pull(self, gradients: Values) -> dict[str, np.ndarray]:
        """Gradients by the second side's leaves as gradients by the first's: the transpose of `push`'s derivative.

        A loss of the second side at pushed values has this gradient by the values. A leaf that goes into several is
        added up, one of a sum is given to each summand, and one that goes nowhere has zero.
        """
        return {leaf.path: self.pulled(leaf, gradients) for leaf in self.first}

    def pulled(self, leaf: Leaf, gradients: Values) -> np.ndarray:
        """The same of one leaf of the first side."""
        found = np.zeros(leaf.shape)
        for target, link in self.links.items():
            if target in gradients and any(piece.source == leaf.path for part in link.parts for piece in part.pieces):
                spread(link, np.asarray(gradients[target], np.float64), leaf.path, found)
        return found


def taken(piece: Piece, value: np.ndarray) -> np.ndarray:
    """The piece of a leaf's value, before it is given its part's shape; a view where that is possible."""
    if piece.cut:
        value = value[slices(piece, value.shape)]
    if piece.rows is not None:
        blocks = [value[start:stop] for start, stop in piece.rows]
        value = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    if piece.split is not None:
        value = value.reshape(piece.split)
    return value if piece.axes is None else value.transpose(piece.axes)


def slices(piece: Piece, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """What a piece is limited to, before its rows are taken."""
    ranges = {axis: slice(start, stop) for axis, start, stop in piece.cut}
    return tuple(ranges.get(axis, slice(None)) for axis in range(len(shape)))


def left_over(shape: tuple[int, ...], pieces: Iterable[Piece]) -> np.ndarray:
    """Of each row of a leaf (axis 0) whether some of it is in none of the pieces. (rows,), bool."""
    pieces = list(pieces)
    whole = shape if any(piece.cut for piece in pieces) else shape[:1]
    taken_up = np.zeros(whole or (1,), bool)
    for piece in pieces:
        here = taken_up[slices(piece, whole)] if piece.cut else taken_up
        for start, stop in piece.rows or ((0, len(here)),):
            here[start:stop] = True
    return np.logical_not(taken_up.reshape(len(taken_up), -1).min(axis=1))


def blocks(rows: np.ndarray) -> tuple[tuple[int, int], ...]:
    """The rows that are true, as (start, stop) of neighbours."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], rows, [0]]).astype(int)))
    return tuple((int(start), int(stop)) for start, stop in edges.reshape(-1, 2))


def share(one: Piece, other: Piece) -> bool:
    """Whether two pieces of the same leaf have numbers in common."""
    blocks = [set().union(*(range(*block) for block in piece.rows)) if piece.rows else None for piece in (one, other)]
    if blocks[0] is not None and blocks[1] is not None and not blocks[0] & blocks[1]:
        return False
    ranges = {axis: (start, stop) for axis, start, stop in one.cut}
    return not any(
        axis in ranges and (stop <= ranges[axis][0] or ranges[axis][1] <= start) for axis, start, stop in other.cut
    )


def join(link: Link, values: Values) -> np.ndarray | None:
    """The target's value, or None where it has no counterpart."""
    if not link.parts:
        return None
    groups = []
    for group in link.groups():
        parts = []
        for part in group:
            pieces = [_scaled(piece, taken(piece, values[piece.source])).reshape(part.shape) for piece in part.pieces]
            if len(pieces) > 1:
                # A sum of numbers of float32 is none of them.
                parts.append(np.sum(pieces, axis=0, dtype=np.float64))
            else:
                parts.append(pieces[0] if pieces else np.zeros(part.shape, _dtype(link, values)))
        groups.append(parts[0] if len(parts) == 1 else np.concatenate(parts, link.axis))
    return np.asarray(groups[0] if len(groups) == 1 else np.concatenate(groups), order="C")


def _dtype(link: Link, values: Values) -> np.dtype:
    return next(np.asarray(values[piece.source]).dtype for part in link.parts for piece in part.pieces)


def _scaled(piece: Piece, value: np.ndarray) -> np.ndarray:
    if piece.factor == 1.0 and piece.offset == 0.0:
        return value
    return piece.factor * np.asarray(value, np.float64) + piece.offset


def spread(link: Link, gradient: np.ndarray, source: str, found: np.ndarray) -> None:
    """Add a target's gradient to one of its sources'."""
    row = 0
    for group in link.groups():
        start = 0
        rows = gradient
        if link.stacked > 1:
            rows = gradient[row : row + group[0].shape[0]]
            row += len(rows)
        for part in group:
            block = rows
            if len(group) > 1:
                width = part.shape[link.axis]
                block = rows.take(range(start, start + width), link.axis)
                start += width
            for piece in part.pieces:
                if piece.source != source:
                    continue
                if piece.rows is None or len(piece.rows) == 1:
                    place = taken(piece, found)  # a view
                    place += piece.factor * block.reshape(place.shape)
                else:
                    positions = taken(piece, np.arange(found.size).reshape(found.shape))
                    np.add.at(found.reshape(-1), positions.reshape(-1), piece.factor * block.reshape(-1))
