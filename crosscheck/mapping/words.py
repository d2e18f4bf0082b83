"""A map in words, a line for each leaf."""

from collections.abc import Iterator

import msgspec

from crosscheck.mapping.link import Link, Map, Part, Piece


class LinkTold(msgspec.Struct, frozen=True, kw_only=True):
    """A leaf of the second side, or one of the first that goes nowhere, whose target is empty.

    sources: what it is made of, such as "weight[0:8] transposed". kind, proof, note: see crosscheck.mapping.link.
    """

    target: str
    sources: str
    kind: str
    proof: str
    note: str = ""


def told(mapping: Map) -> Iterator[LinkTold]:
    """The second side's leaves in their order, then what of the first goes nowhere."""
    for link in mapping.links.values():
        yield LinkTold(target=link.target, sources=_sources(link), kind=link.kind, proof=link.proof, note=link.note)
    for one in mapping.unlinked:
        yield LinkTold(target="", sources=_rows(one.source, one.rows), kind=one.kind, proof=one.proof, note=one.note)


def _sources(link: Link) -> str:
    if len(link.parts) == 1:
        return _part(link.parts[0])
    joined = f" (joined along axis {link.axis}" + (f", in {link.stacked} groups)" if link.stacked > 1 else ")")
    return ", ".join(map(_part, link.parts)) + joined if link.parts else ""


def _part(part: Part) -> str:
    return " + ".join(map(_piece, part.pieces)) or f"zeros of {list(part.shape)}"


def _piece(piece: Piece) -> str:
    said = _rows(piece.source, piece.rows)
    if piece.cut:
        said += " cut to " + ", ".join(f"{start}:{stop} of axis {axis}" for axis, start, stop in piece.cut)
    if piece.split is not None:
        said += f" as {list(piece.split)}"
    if piece.axes is not None:
        said += " transposed" if piece.axes == (1, 0) else f" with axes {list(piece.axes)}"
    if piece.factor != 1.0:
        said = f"{piece.factor:g} {said}"
    return said + (f" + {piece.offset:g}" if piece.offset else "")


def _rows(source: str, rows: tuple[tuple[int, int], ...] | None) -> str:
    return source if rows is None else f"{source}[{', '.join(f'{start}:{stop}' for start, stop in rows)}]"
