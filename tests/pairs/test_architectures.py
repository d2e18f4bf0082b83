"""Maps of whole architectures, found and proven; and pairs of which neither side, or both, are torch's."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from crosscheck.mapping import Map, Report, emitted, propose, read, verify, write
from flax_impl.pair.side import open_side as open_flax
from spec.pair import PairOptions, PairSide
from torch_impl.pair.side import open_side as open_torch

sys.path.append(str(Path(__file__).parent))
from decoders import WIDTH, Decoder, DecoderPort, Mixed, scanned_port
from models import (
    CASES,
    ConvolutionsPort,
    Perceptron,
    PerceptronPort,
    Tied,
    alike,
    images,
    outputs_alone,
    tied_port,
    tokens,
)

TABLES = 1e-8
"""Largest difference that rotary tables of float32 make in float64, in units of an output's largest number: a rounding
of 6e-8 of a frequency, times positions up to 5, of angles that enter one of several summands."""


def mapped(first: PairSide, second: PairSide, inputs: Callable[..., Any]) -> tuple[Map, Report]:
    torch.manual_seed(0)
    return verify(propose(first, second, inputs), first, second, inputs)


@pytest.mark.pairs
@pytest.mark.parametrize("pairs", [False, True])
def test_a_decoder_of_today(pairs: bool) -> None:
    """Where neighbours are turned together, queries and keys are put in order, and nothing else is."""
    mapping, report = mapped(open_torch(Decoder()), open_flax(DecoderPort(pairs=pairs)), tokens)
    assert report.standing == "proven"
    assert max(report.distances) < TABLES
    assert report.obstacles == ()
    moved = {path for path, link in mapping.links.items() if link.parts[0].pieces[0].split is not None}
    assert moved == ({f"blocks.{number}.{name}.kernel" for number in (0, 1) for name in "qk"} if pairs else set())


@pytest.mark.pairs
def test_a_decoder_whose_positions_turn_the_other_way_is_none() -> None:
    class Turned(Decoder):
        def __init__(self) -> None:
            super().__init__(1)
            self.layers[0].self_attn.inv_freq.neg_()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]

    class Apart(DecoderPort):
        def __call__(self, x: jax.Array) -> jax.Array:
            return super().__call__(x) * (1.0 + 1e-3)

    _, report = mapped(open_torch(Decoder(1)), open_flax(Apart(layers=1)), tokens)
    assert report.standing == "different"
    _, report = mapped(open_torch(Turned()), open_flax(DecoderPort(layers=1)), tokens)
    assert report.standing == "different"


@pytest.mark.by_default("as many*")
@pytest.mark.parametrize("layers", [2, 3], ids=["two layers", "as many layers as parts of the matrix"])
def test_layers_under_a_scan_whose_queries_keys_and_values_are_one_matrix(tmp_path: Path, layers: int) -> None:
    mapping, report = mapped(open_torch(Mixed(layers)), open_flax(scanned_port(layers)), alike(2, 3, WIDTH))
    assert report.standing == "proven"
    link = mapping.links["qkv"]
    assert (link.stacked, link.axis, len(link.parts)) == (layers, 2, 3 * layers)
    write(mapping, tmp_path / "scanned.map.toml")
    assert read(tmp_path / "scanned.map.toml", mapping.first, mapping.second) == mapping

    random = np.random.default_rng(0)
    values = {leaf.path: random.standard_normal(leaf.shape) for leaf in mapping.first}
    pushed = mapping.push(values)
    weights = [np.concatenate([values[f"layers.{n}.{name}.weight"].T for name in "qkv"], 1) for n in range(layers)]
    np.testing.assert_array_equal(pushed["qkv"], weights)
    names: dict[str, Any] = {"__name__": "converter"}
    exec(emitted(mapping), names)
    converted = names["convert"](values)
    for path, value in pushed.items():
        np.testing.assert_array_equal(converted[path], value)
    gradients = {path: random.standard_normal(value.shape) for path, value in pushed.items()}
    left = sum(float((pushed[path] * one).sum()) for path, one in gradients.items())
    right = sum(float((values[path] * one).sum()) for path, one in mapping.pull(gradients).items())
    assert np.isclose(left, right, rtol=1e-12)


@pytest.mark.pairs
@pytest.mark.parametrize("name", ["convolutions", "tied", "stacked for a scan", "perceptron"])
def test_the_original_may_be_jaxs(name: str) -> None:
    case = CASES[name]
    second, first = case.sides()
    _, report = mapped(first, second, lambda random: case.inputs(random)[::-1])
    assert report.standing == "proven"
    assert report.obstacles == ()


def function_of(names: str) -> tuple[Callable[..., jax.Array], dict[str, jax.Array]]:
    """The perceptron as a function of parameters whose kernels are as torch has them."""
    up, scale, shift, middle, down = names.split()

    def run(p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        h = x @ p[f"{up}_w"].T + p[f"{up}_b"]
        h = (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-5) * p[scale] + p[shift]
        h = jnp.tanh(jax.nn.gelu(h, approximate=False) @ p[f"{middle}_w"].T + p[f"{middle}_b"])
        return h @ p[f"{down}_w"].T + p[f"{down}_b"]

    matrices = {f"{name}_w": jnp.zeros((8, 8)) for name in (up, middle, down)}
    vectors = {f"{name}_b": jnp.zeros(8) for name in (up, middle, down)}
    return run, matrices | vectors | {scale: jnp.ones(8), shift: jnp.zeros(8)}


@pytest.mark.pairs
def test_both_may_be_jaxs() -> None:
    _, report = mapped(open_flax(PerceptronPort()), open_flax(function_of("a g s b c")), alike(4, 8))
    assert report.standing == "proven"
    first, second = open_flax(tied_port()), open_flax(tied_port(apart=True))
    _, report = mapped(first, second, tokens)
    assert {one.verdict for one in report.obstacles} == {"cannot train alike"}
    both = open_flax(ConvolutionsPort()), open_flax(ConvolutionsPort(epsilon=1e-6))
    _, report = mapped(*both, lambda random: (images(random)[1],) * 2)
    assert report.standing == "different"
    assert [one.first.module for one in report.divergences] == ["norm"]


class Renamed(nn.Module):
    """The perceptron after a refactoring."""

    def __init__(self, tanh: bool = False) -> None:
        super().__init__()
        activation = nn.GELU("tanh" if tanh else "none")
        self.body = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), activation, nn.Linear(8, 8), nn.Tanh())
        self.last = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.body(x))


@pytest.mark.pairs
def test_both_may_be_torchs() -> None:
    _, report = mapped(open_torch(Perceptron()), open_torch(Renamed()), alike(4, 8))
    assert report.standing == "proven"
    _, report = mapped(open_torch(Perceptron()), open_torch(Renamed(tanh=True)), alike(4, 8))
    assert report.standing == "different"
    assert [one.second.source for one in report.divergences if one.second is not None] != []
    _, report = mapped(open_torch(Tied()), open_torch(Tied()), tokens)
    assert report.standing == "proven"
    options = PairOptions(call=outputs_alone)
    lstm = [open_torch(nn.LSTM(5, 7, num_layers=2, bidirectional=True), options) for _ in range(2)]
    _, report = mapped(*lstm, alike(3, 2, 5))
    assert report.standing == "proven"
    assert report.obstacles == ()


class Pooled(nn.Module):
    """With layers that are not called here, of shapes that nothing else has, and of one that two have."""

    def __init__(self, twice: bool) -> None:
        super().__init__()
        self.body, self.pooler = nn.Linear(4, 4), nn.Linear(4, 3, bias=False)
        self.other = nn.Linear(4, 3, bias=False) if twice else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.body(x))


@pytest.mark.parametrize("twice", [False, True])
def test_the_last_leaf_of_a_shape_is_linked_by_elimination(twice: bool) -> None:
    """Never by value; and where two are left, by nothing."""

    def run(p: dict[str, Any], x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ p["w"] + p["b"])

    parameters = {"w": jnp.zeros((4, 4)), "b": jnp.zeros(4), "p": jnp.zeros((4, 3))}
    parameters |= {"q": jnp.zeros((4, 3))} if twice else {}
    mapping, report = mapped(open_torch(Pooled(twice)), open_flax((run, parameters)), alike(3, 4))
    assert report.standing == "proven"
    assert mapping.links["p"].proof == ("free" if twice else "elimination")
    assert (mapping.links["p"].note != "") == (not twice)
    assert {mapping.links["w"].proof, mapping.links["b"].proof} == {"value"}


@pytest.mark.pairs
@pytest.mark.parametrize("dtypes", [("bfloat16", "bfloat16"), ("float32", "bfloat16")])
def test_narrow_parameters(dtypes: tuple[str, str]) -> None:
    """Maps are found in float64, whatever the parameters are; in their own dtype the forward pass is narrow."""
    first = open_torch(Perceptron().to(getattr(torch, dtypes[0])))
    function, parameters = function_of("a g s b c")
    second = open_flax((function, {name: one.astype(dtypes[1]) for name, one in parameters.items()}))
    mapping, report = mapped(first, second, alike(4, 8))
    assert report.standing == "proven"
    assert {leaf.dtype for leaf in mapping.first} == {dtypes[0]}
    assert {leaf.dtype for leaf in mapping.second} == {dtypes[1]}
    ours, theirs = alike(4, 8)(np.random.default_rng(0))
    values = {leaf.path: np.random.default_rng(1).standard_normal(leaf.shape) / 3 for leaf in mapping.first}
    first.load(values)
    second.load(mapping.push(values))
    apart = {}
    for precision in ("float64", "float32"):
        one, other = first.forward(ours, precision=precision), second.forward(theirs, precision=precision)
        a, b = one.outputs[mapping.outputs[0].first], other.outputs[mapping.outputs[0].second]
        apart[precision] = float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())
    assert apart["float64"] < 1e-13
    # bfloat16 has 8 bits: a unit is 4e-3 of a number near 1, and four layers make some.
    assert 1e-5 < apart["float32"] < 0.1


class Experts(nn.Module):
    """Each step goes to two of the experts, which see the steps that are theirs alone."""

    def __init__(self, width: int = 6, experts: int = 3) -> None:
        super().__init__()
        self.gate = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.Tanh(), nn.Linear(2 * width, width)) for _ in range(experts)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shares, chosen = torch.topk(self.gate(x), 2, dim=-1)
        shares, out = shares.softmax(-1), torch.zeros_like(x)
        for place in range(2):
            for number, expert in enumerate(self.experts):
                here = chosen[..., place] == number
                out[here] = out[here] + shares[..., place][here][:, None] * expert(x[here])
        return out


def experts_port(width: int = 6, experts: int = 3) -> tuple[Callable[..., jax.Array], dict[str, jax.Array]]:
    """All experts at once, each leaf with an axis of them, each expert for every step."""

    def run(p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        shares, chosen = jax.lax.top_k(x @ p["gate"], 2)
        weights = (jax.nn.one_hot(chosen, experts) * jax.nn.softmax(shares)[..., None]).sum(-2)
        inside = jnp.tanh(jnp.einsum("btd,edh->bteh", x, p["up"]) + p["up_bias"])
        each = jnp.einsum("bteh,ehd->bted", inside, p["down"]) + p["down_bias"]
        return (each * weights[..., None]).sum(-2)

    shapes = {"gate": (width, experts), "up": (experts, width, 2 * width), "up_bias": (experts, 2 * width)}
    shapes |= {"down": (experts, 2 * width, width), "down_bias": (experts, width)}
    random = np.random.default_rng(0)
    return run, {name: jnp.asarray(random.standard_normal(shape), jnp.float32) for name, shape in shapes.items()}


def test_a_list_of_modules_that_is_one_with_an_axis_more() -> None:
    """Vectors of both layers follow each other in order of use: it is their numbered names that put them together."""
    mapping, report = mapped(open_torch(Experts()), open_flax(experts_port()), alike(4, 7, 6))
    assert report.standing == "proven"
    assert report.obstacles == ()
    sources = {
        path: [piece.source for part in link.parts for piece in part.pieces] for path, link in mapping.links.items()
    }
    assert sources["up_bias"] == [f"experts.{number}.0.bias" for number in range(3)]
    assert sources["down"] == [f"experts.{number}.2.weight" for number in range(3)]
    assert {link.axis for path, link in mapping.links.items() if path != "gate"} == {0}
