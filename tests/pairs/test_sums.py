"""Biases that are added up on one side and one bias on the other: what is a sum, and what is not taken for one."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from crosscheck.mapping import Map, Report, propose, read, verify, write
from crosscheck.mapping.bench import Bench
from crosscheck.mapping.sums import repeated
from flax_impl.pair.side import open_side as open_flax
from spec.pair import PairSide
from torch_impl.pair.side import open_side as open_torch

sys.path.append(str(Path(__file__).parent))
from models import CASES, Added, added_port, alike, verified

pytestmark = pytest.mark.needs("torch", "flax")


def sources(mapping: Map, path: str) -> list[list[tuple[str, tuple[tuple[int, int], ...] | None]]]:
    """By part of a link, what is added up in it."""
    return [[(piece.source, piece.rows) for piece in part.pieces] for part in mapping.links[path].parts]


def mapped(first: PairSide, second: PairSide, inputs: Any) -> tuple[Map, Report]:
    return verify(propose(first, second, inputs), first, second, inputs)


def test_one_bias_has_the_sum_of_two(tmp_path: Path):
    mapping, report = verified("biases added up")
    assert sources(mapping, "bias") == [[("left.bias", None), ("right.bias", None)]]
    assert sources(mapping, "end") == [[("out.bias", None)]]
    assert not mapping.unlinked
    assert [obstacle.verdict for obstacle in report.obstacles] == ["cannot train alike"]
    write(mapping, tmp_path / "map.toml")
    assert read(tmp_path / "map.toml", mapping.first, mapping.second) == mapping


def test_of_a_gru_by_hand_rows_are_sums_and_those_behind_the_reset_gate_have_no_place():
    mapping, report = verified("gru by hand")
    added = {
        rows
        for link in mapping.links.values()
        for part in link.parts
        if len(part.pieces) == 2
        for piece in part.pieces
        if piece.source == "h2h.bias"
        for rows in piece.rows or ()
    }
    assert added == {(0, 7), (7, 14)} or added == {(0, 14)}
    assert [(one.source, one.rows) for one in mapping.unlinked] == [("h2h.bias", ((14, 21),))]
    assert report.standing == "proven"


def test_a_bias_is_halved_where_the_original_has_one_and_the_port_two():
    mapping, report = mapped(open_flax(added_port()), open_torch(Added()), alike(4, 5))
    assert report.standing == "proven"
    assert {one.verdict for one in report.obstacles} == {"cannot train alike"}
    values = {leaf.path: np.ones(leaf.shape) for leaf in mapping.first}
    pushed = mapping.push(values)
    assert (pushed["left.bias"] + pushed["right.bias"] == 1.0).all()


def test_a_port_that_weighs_what_it_adds_is_no_sum():
    """The first side's second bias comes in whole, the port's kernel by half."""
    _, report = mapped(open_torch(Added()), open_flax(added_port(weight=0.5)), alike(4, 5))
    assert report.standing != "proven"
    assert report.divergences


class Apart(nn.Module):
    """Biases of one shape, of which none is added to another one; in a port that has lost one."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.out = nn.Linear(5, 7), nn.Linear(5, 7), nn.Linear(7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.left(x)) + torch.tanh(self.right(x * x)))


def apart_port() -> object:
    def run(p: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
        added = jnp.tanh(x @ p["left"] + p["bias"]) + jnp.tanh(x * x @ p["right"])
        return added @ p["out"] + p["end"]

    return run, added_port()[1]


def test_a_bias_that_a_port_has_lost_is_added_to_no_other():
    mapping, report = mapped(open_torch(Apart()), open_flax(apart_port()), alike(4, 5))
    assert all(len(part.pieces) < 2 for link in mapping.links.values() for part in link.parts)
    assert [one.source for one in mapping.unlinked] == ["right.bias"]
    assert "not representable" in {one.verdict for one in report.obstacles}


def test_summands_are_told_by_their_gradients_row_by_row():
    def summands(name: str) -> dict[str, list[bool]]:
        first, second = CASES[name].sides()
        return {path: rows.tolist() for path, rows in repeated(Bench(first, second, CASES[name].inputs, 0)).items()}

    assert summands("biases added up") == {"right.bias": [True] * 7}
    assert summands("gru by hand") == {"h2h.bias": [True] * 14 + [False] * 7}
    assert summands("perceptron") == {}
