"""Planted faults: each is found at its place, all of them in one run, and nothing that only follows from them."""

import sys
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from crosscheck.mapping import Map, divergences, propose, verify

sys.path.append(str(Path(__file__).parent))
from models import CASES

pytestmark = pytest.mark.pairs

FAULTS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("perceptron", {"epsilon": 1e-6}, ["norm"]),
    ("perceptron", {"epsilon": 1e-3}, ["norm"]),
    ("perceptron", {"tanh": True}, [""]),
    ("perceptron", {"transposed": True}, ["middle"]),
    ("perceptron", {"scale": 1.001}, ["down"]),  # the output is no longer what the last layer gives
    ("perceptron", {"epsilon": 1e-6, "tanh": True}, ["norm", ""]),
    ("perceptron", {"epsilon": 0.02, "tanh": True}, ["norm", ""]),  # one behind the other, and not small
    ("perceptron", {"epsilon": 1e-6, "transposed": True}, ["norm", "middle"]),
    ("perceptron", {"epsilon": 1e-6, "tanh": True, "transposed": True, "scale": 1.001}, ["norm", "", "middle", "down"]),
    ("encoder layer", {"epsilon": 1e-6}, ["norm2"]),
    ("encoder layer", {"activation": jax.nn.gelu}, [""]),
    ("encoder layer", {"activation": jax.nn.gelu, "epsilon": 1e-6}, ["", "norm2"]),
    ("convolutions", {"padding": "SAME"}, ["conv1"]),
    ("convolutions", {"tanh": True}, [""]),
    ("convolutions", {"epsilon": 1e-6}, ["norm"]),
    ("convolutions", {"pool": nnx.avg_pool}, [""]),
    ("convolutions", {"padding": "SAME", "epsilon": 1e-6, "tanh": True}, ["conv1", "norm", ""]),
]


@cache
def right(name: str) -> Map:
    return propose(*CASES[name].sides(), CASES[name].inputs)


def planted(name: str, faults: dict[str, Any], given: bool) -> tuple[Map, Any, Any]:
    case = CASES[name]
    first, second = case.sides(**faults)
    return (right(name) if given else propose(first, second, case.inputs)), first, second


@pytest.mark.parametrize(("name", "faults", "modules"), FAULTS, ids=[f"{name} {list(f)}" for name, f, _ in FAULTS])
def test_a_fault_is_found_at_its_module(name: str, faults: dict[str, Any], modules: list[str]) -> None:
    mapping, first, second = planted(name, faults, given=True)
    found = divergences(mapping, first, second, CASES[name].inputs)
    assert [one.first.module for one in found] == modules
    for one in found:
        assert one.size > 0
        assert np.isfinite(one.size)
        assert one.values[0] != one.values[1]
        assert "models.py" in one.second.source if one.second else False


@pytest.mark.parametrize(
    ("name", "faults", "modules"),
    [fault for fault in FAULTS if "transposed" not in fault[1]],
    ids=[f"{name} {list(f)}" for name, f, _ in FAULTS if "transposed" not in f],
)
def test_a_fault_is_found_without_a_map_too(name: str, faults: dict[str, Any], modules: list[str]) -> None:
    mapping, first, second = planted(name, faults, given=False)
    _, report = verify(mapping, first, second, CASES[name].inputs)
    assert report.standing == "different"
    assert [one.first.module for one in report.divergences] == modules


def test_without_a_fault_nothing_is_found() -> None:
    for name in ("perceptron", "encoder layer", "convolutions"):
        mapping, first, second = planted(name, {}, given=True)
        assert divergences(mapping, first, second, CASES[name].inputs) == ()


def test_gates_in_the_wrong_order_are_found_under_the_right_map() -> None:
    case = CASES["optimized lstm"]
    first, second = case.sides()
    mapping = propose(first, second, case.inputs)
    link = mapping.links["cell.dense_i.kernel"]
    piece = link.parts[0].pieces[0]._replace(rows=((7, 14), (0, 7), (14, 28)))
    links = dict(mapping.links) | {link.target: link._replace(parts=(link.parts[0]._replace(pieces=(piece,)),))}
    _, report = verify(mapping._replace(links=links), first, second, case.inputs)
    assert report.standing == "different"
    assert report.divergences


def test_a_normalization_in_another_place_is_found() -> None:
    mapping, first, second = planted("encoder layer", {"before": True}, given=True)
    found = divergences(mapping, first, second, CASES["encoder layer"].inputs)
    assert found
    assert found[0].first.module == "self_attn"
