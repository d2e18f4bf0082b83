"""Originals in JAX whose ports in torch know their gates and parts: the map is found backwards, and turned."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosscheck.mapping import Map, emitted, propose, read, verify, write
from crosscheck.mapping.inversion import inverted
from crosscheck.mapping.link import Link, Part, Piece, left_over, share
from spec.errors import UsageError
from spec.pair import Leaf

sys.path.append(str(Path(__file__).parent))
from models import CASES

pytestmark = pytest.mark.needs("torch", "flax")

TRAINED_APART = {"lstm", "optimized lstm", "gru", "rnn", "lstm and attention"}
"""One bias on the original for two on the port."""

FOUND = ["optimized lstm", "gru", "rows of biases", "fused", "encoder layer"]


def backwards(name: str) -> tuple[Any, Any, Any]:
    """The sides of a case in the other order, and their inputs."""
    first, second = CASES[name].sides()

    def inputs(random: np.random.Generator) -> Any:
        ours, theirs = CASES[name].inputs(random)
        return theirs, ours

    return second, first, inputs


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "rows of biases" else pytest.mark.pairs) for name in FOUND]
)
def test_a_map_from_jax_to_torch_is_found_and_proven(name: str, tmp_path: Path) -> None:
    sides = backwards(name)
    mapping, report = verify(propose(*sides), *sides)
    assert report.standing == "proven"
    assert max(report.distances) < 1e-13
    assert {one.verdict for one in report.obstacles} == ({"cannot train alike"} if name in TRAINED_APART else set())
    assert {link.proof for link in mapping.links.values()} <= {"value", "free"}
    write(mapping, tmp_path / "map.toml")
    assert read(tmp_path / "map.toml", mapping.first, mapping.second) == mapping


FIRST = (Leaf("kernel", (2, 6), "float32", True), Leaf("bias", (6,), "float32", True))
SECOND = (
    Leaf("weight", (6, 2), "float32", True),
    Leaf("one", (6,), "float32", True),
    Leaf("two", (6,), "float32", True),
)


def gates() -> Map:
    """Three gates of two units: the weight's in another order, of one bias a sum, and of the other a gate less."""
    order = ((4, 6), (0, 2), (2, 4))
    summed = Part((4,), (Piece("one", ((4, 6), (0, 2))), Piece("two", ((4, 6), (0, 2)))))
    links = {
        "kernel": Link("kernel", "copy", (Part((2, 6), (Piece("weight", order, None, (1, 0)),)),)),
        "bias": Link("bias", "concat", (summed, Part((2,), (Piece("one", ((2, 4),), factor=-1.0, offset=-1.0),)))),
    }
    return Map(SECOND, FIRST, links)


def test_what_was_added_up_is_shared_and_what_had_no_place_is_zero() -> None:
    links = inverted(gates(), {})
    assert links is not None
    back = Map(FIRST, SECOND, links)
    values = {"kernel": np.arange(12.0).reshape(2, 6), "bias": np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])}
    found = back.push(values)
    assert (found["weight"] == values["kernel"].T[[2, 3, 4, 5, 0, 1]]).all()
    assert found["one"].tolist() == [1.5, 2.0, -6.0, -7.0, 0.5, 1.0]
    assert found["two"].tolist() == [1.5, 2.0, 0.0, 0.0, 0.5, 1.0]
    again = gates().push(found)
    assert all((again[path] == values[path]).all() for path in values)


def test_a_single_number_and_rows_that_a_loop_goes_through_are_turned_too() -> None:
    sources = [Leaf("scale", (), "float32", True), *(Leaf(f"w{n}", (3, 2), "float32", True) for n in range(4))]
    layers = tuple(Part((1, 2, 3), (Piece(f"w{n}", axes=(1, 0)),)) for n in range(4))
    stacked = Link("layers", "concat", layers, axis=1, stacked=2)
    links = {"factor": Link("factor", "copy", (Part((), (Piece("scale", factor=2.0),)),)), "layers": stacked}
    targets = (Leaf("factor", (), "float32", True), Leaf("layers", (2, 4, 3), "float32", True))
    there = Map(tuple(sources), targets, links)
    back = inverted(there, {})
    assert back is not None
    random = np.random.default_rng(0)
    values = {leaf.path: random.standard_normal(leaf.shape) for leaf in sources}
    again = Map(targets, tuple(sources), back).push(there.push(values))
    assert all((again[path] == values[path]).all() for path in values)


def test_a_turned_map_is_a_file_and_a_converter_too(tmp_path: Path) -> None:
    links = inverted(gates(), {})
    assert links is not None
    back = Map(FIRST, SECOND, links)
    write(back, tmp_path / "map.toml")
    assert read(tmp_path / "map.toml", FIRST, SECOND) == back
    (tmp_path / "convert.py").write_text(emitted(back))
    random = np.random.default_rng(0)
    values = {leaf.path: random.standard_normal(leaf.shape).astype(np.float32) for leaf in FIRST}
    np.savez(tmp_path / "weights.npz", **values)
    command = [sys.executable, "-I", "convert.py", "weights.npz", "converted.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = back.push(values)
    with np.load(tmp_path / "converted.npz") as held:
        assert all((held[path] == expected[path]).all() for path in expected)
        assert {held[path].dtype for path in held.files} == {np.dtype(np.float32)}


def test_pull_is_the_transpose_of_push_there_too() -> None:
    links = inverted(gates(), {})
    assert links is not None
    back = Map(FIRST, SECOND, links)
    random = np.random.default_rng(1)
    values, zero = ({leaf.path: scale * random.standard_normal(leaf.shape) for leaf in FIRST} for scale in (1, 0))
    gradients = {leaf.path: random.standard_normal(leaf.shape) for leaf in SECOND}
    moved, base = back.push(values), back.push(zero)
    left = sum(float(((moved[path] - base[path]) * one).sum()) for path, one in gradients.items())
    right = sum(float((values[path] * one).sum()) for path, one in back.pull(gradients).items())
    assert np.isclose(left, right, rtol=1e-12)


def test_a_leaf_in_two_places_is_taken_from_the_first_and_half_a_row_from_none() -> None:
    twice = {name: Link(name, "copy", (Part((6,), (Piece("one"),)),)) for name in ("a", "b")}
    leaves = tuple(Leaf(name, (6,), "float32", True) for name in twice)
    links = inverted(Map(SECOND[1:2], leaves, twice), {})
    assert links is not None
    assert [piece.source for part in links["one"].parts for piece in part.pieces] == ["a"]
    half = {"a": Link("a", "copy", (Part((6,), (Piece("one"),)),))}
    half["b"] = Link("b", "split", (Part((3,), (Piece("one", ((2, 5),)),)),))
    assert inverted(Map(SECOND[1:2], (leaves[0], Leaf("b", (3,), "float32", True)), half), {}) is None


def test_what_is_left_of_a_leaf_and_what_is_shared() -> None:
    left, right = Piece("w", cut=((1, 0, 2),)), Piece("w", cut=((1, 2, 4),))
    assert left_over((3, 4), [left]).all()
    assert not left_over((3, 4), [left, right]).any()
    assert left_over((3, 4), [left, right._replace(rows=((0, 2),))]).tolist() == [False, False, True]
    assert not share(left, right)
    assert share(left, Piece("w"))
    assert not share(Piece("w", ((0, 1),)), Piece("w", ((1, 3),)))


CUTS = [
    ("cut = [[1, 4, 6]]", "cut = [[1, 4, 7]]", "cut: expected [axis, start, stop] within [2, 6], got [1, 4, 7]"),
    ("cut = [[1, 4, 6]]", "cut = [[2, 4, 6]]", "cut: expected [axis, start, stop] within [2, 6], got [2, 4, 6]"),
    ("cut = [[1, 4, 6]]", "cut = [[1, 4, 6], [1, 0, 2]]", "cut: expected each axis once"),
    ("cut = [[1, 4, 6]]", "cut = 3", "cut: expected ranges [axis, start, stop], got 3"),
    ("zero = true", "zero = true, factor = 2.0", "expected no field 'factor'"),
]


@pytest.mark.parametrize(("old", "new", "said"), CUTS, ids=[new for _, new, _ in CUTS])
def test_a_cut_that_does_not_fit_is_refused_in_a_line(old: str, new: str, said: str, tmp_path: Path) -> None:
    links = inverted(gates(), {})
    assert links is not None
    path = tmp_path / "map.toml"
    write(Map(FIRST, SECOND, links), path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UsageError) as caught:
        read(path, FIRST, SECOND)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
