"""Biases of the first side that the second adds up in one: of two that are added in one place, each has a leaf there.

A cell by hand has a bias in each of its two products, and the cell that it is ported to has one bias. What two leaves
that are summands of one sum have in common, and other leaves do not, is their gradient, number by number. Those that
have are tried as a sum, by value.
"""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from crosscheck.mapping.bench import EXACT, Bench
from crosscheck.mapping.link import Link, Map, Part, Piece, Unlinked, left_over
from crosscheck.mapping.links_of_rows import by_row
from spec.pair import Values

SEEN = 1e-6
"""Gradient of a row, in units of the largest of its leaf, below which two that are alike say nothing: of an attention's
key bias there is rounding alone."""


def repeated(bench: Bench) -> dict[str, np.ndarray]:
    """Biases of which rows (of axis 0, bool) are summands of one sum with the same rows of a bias before them."""
    bench.zeroed = ()
    bench.stage()
    gradients = bench.gradients()
    biases = [path for path, role in bench.roles[0].items() if role == "bias" and path in gradients]
    found: dict[str, np.ndarray] = {}
    for place, path in enumerate(biases):
        for other in biases[:place]:
            rows = _alike(gradients[path], gradients[other])
            if rows.any():
                found[path] = found.get(path, False) | rows
    return found


def with_summands(bench: Bench, mapping: Map) -> Mapping[str, Link]:
    """The map's links, with biases that had no place added to those that they are summed with, where the sides part
    nowhere else by it. Afterwards the first side is at another point."""
    if not any(map(_can_be_zero, mapping.unlinked)):
        return mapping.links
    kept, bench.zeroed = bench.zeroed, ()
    bench.stage()
    gradients = bench.gradients()
    known = _places(bench, mapping)
    for one in filter(_can_be_zero, mapping.unlinked):
        left = ~left_over(bench.values[one.source].shape, [Piece(one.source, one.rows)])
        for other, rows in _beside(bench, mapping, one.source, left, gradients):
            links = {target: _added(link, other, one.source, rows) for target, link in mapping.links.items()}
            trial = mapping._replace(links=links)
            if links != mapping.links and known.issuperset(_places(bench, trial)):
                mapping = trial
                left &= ~rows
    bench.zeroed = kept
    return mapping.links


def _can_be_zero(one: Unlinked) -> bool:
    return one.kind == "none" and one.zero


def _places(bench: Bench, mapping: Map) -> set[int]:
    """Where the sides part, while what has no place is zero."""
    bench.zeroed = tuple(filter(_can_be_zero, bench.unlinked(mapping.links)))
    bench.stage()
    return set(bench.places(bench.ask(by_row(mapping, bench.targets))))


def _beside(
    bench: Bench, mapping: Map, source: str, left: np.ndarray, gradients: Values
) -> Iterator[tuple[str, np.ndarray]]:
    """Biases that have a place and the same gradient, and in which of the rows that are left (of axis 0, bool)."""
    if source not in gradients:
        return
    placed = {piece.source for link in mapping.links.values() for part in link.parts for piece in part.pieces}
    for path, role in bench.roles[0].items():
        if path != source and role == "bias" and path in placed and path in gradients:
            rows = left & _alike(gradients[source], gradients[path])
            if rows.any():
                yield path, rows


def _alike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """In which rows of axis 0 two gradients are the same, and more than what rounding leaves of a zero. (rows,)."""
    rows = np.zeros(one.shape[:1] or (1,), bool)
    if one.shape != other.shape:
        return rows
    flat = one.reshape(len(rows), -1)
    sizes = np.abs(flat).max(axis=1)
    apart = np.abs(flat - other.reshape(flat.shape)).max(axis=1)
    return (apart <= EXACT * sizes) & (sizes > SEEN * sizes.max())


def _added(link: Link, other: str, source: str, rows: np.ndarray) -> Link:
    """A link in whose parts these rows of a leaf are added to those of another."""
    parts = [one for part in link.parts for one in _parted(link, part, other, rows)]
    if len(parts) > len(link.parts) and (link.stacked > 1 or link.axis != 0):
        return link
    made = tuple(_with(part, other, source, rows) for part in parts)
    return link if made == link.parts else link._replace(kind="sum", parts=made)


def _parted(link: Link, part: Part, other: str, rows: np.ndarray) -> list[Part]:
    """A vector's part cut where rows that are added to begin and end; as it is where there is nothing to cut."""
    (piece, *more) = part.pieces or (None,)
    plain = piece is not None and not more and piece.source == other and len(part.shape) == rows.ndim == 1
    if not plain or piece is None or piece.cut or piece.split is not None or len(piece.rows or ()) > 1:
        return [part]
    start, stop = piece.rows[0] if piece.rows else (0, len(rows))
    edges = [start, *(np.flatnonzero(np.diff(rows[start:stop])) + start + 1).tolist(), stop]
    if len(edges) == 2 or (len(link.parts) > 1 and link.stacked > 1):
        return [part]
    return [Part((high - low,), (piece._replace(rows=((low, high),)),)) for low, high in itertools.pairwise(edges)]


def _with(part: Part, other: str, source: str, rows: np.ndarray) -> Part:
    found = []
    for piece in part.pieces:
        if piece.source == other:
            blocks = piece.rows or ((0, len(rows)),)
            if all(rows[start:stop].all() for start, stop in blocks):
                found.append(piece._replace(source=source, offset=0.0))
    return part._replace(pieces=(*part.pieces, *found))
