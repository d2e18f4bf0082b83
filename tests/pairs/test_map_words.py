"""A map in words, as reports have it."""

import pytest

from crosscheck.mapping.link import Kind, Link, Map, Part, Piece, Unlinked
from crosscheck.mapping.words import LinkTold, told

W, B = Piece("w", rows=((0, 4),), axes=(1, 0)), Piece("b", rows=((0, 4), (8, 12)))


def sources(*parts: Part, kind: Kind = "copy", **fields: int) -> str:
    (found,) = told(Map((), (), {"x": Link("x", kind, parts, proof="value", **fields)}))
    assert (found.target, found.kind, found.proof) == ("x", kind, "value")
    return found.sources


@pytest.mark.parametrize(
    ("piece", "words"),
    [
        (Piece("w"), "w"),
        (W, "w[0:4] transposed"),
        (B, "b[0:4, 8:12]"),
        (Piece("w", split=(2, 3, 4), axes=(2, 0, 1)), "w as [2, 3, 4] with axes [2, 0, 1]"),
        (Piece("w", cut=((1, 0, 5),)), "w cut to 0:5 of axis 1"),
        (Piece("w", factor=-2.0, offset=1.0), "-2 w + 1"),
    ],
)
def test_a_piece_says_what_is_done_to_it(piece: Piece, words: str) -> None:
    assert sources(Part((4,), (piece,))) == words


def test_parts_are_joined_and_pieces_added() -> None:
    assert sources(Part((4,), (Piece("a"), Piece("b"))), kind="sum") == "a + b"
    parts = Part((4,), (Piece("a"),)), Part((2,), ())
    assert sources(*parts, kind="concat", axis=1) == "a, zeros of [2] (joined along axis 1)"
    assert sources(*parts, kind="concat", stacked=2) == "a, zeros of [2] (joined along axis 0, in 2 groups)"
    assert sources(kind="constant") == ""


def test_what_goes_nowhere_comes_last() -> None:
    unlinked = Unlinked("key.bias", ((0, 2),), "none", "free", note="no output shows it")
    found = list(told(Map((), (), {"x": Link("x", "none")}, (unlinked,))))
    assert found[1:] == [
        LinkTold(target="", sources="key.bias[0:2]", kind="none", proof="free", note="no output shows it")
    ]
