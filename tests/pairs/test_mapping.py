"""Maps of small pairs: found without names or hints, proven, and never wrong."""

import sys
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from crosscheck.mapping import Link, Map, Part, Piece, propose, verify
from crosscheck.mapping.pools import LARGE, Fingerprint, Pool, widened
from flax_impl.pair import kinds
from flax_impl.pair.side import open_side as open_flax
from spec.pair import Intermediate, PairOptions
from torch_impl.pair.side import open_side as open_torch

sys.path.append(str(Path(__file__).parent))
from models import CASES, Case, alike, verified

ROUNDING = 1e-13
"""Of float64, in units of the largest number of an output: some hundred roundings of 1.1e-16."""


def found(case: Case, seed: int = 0) -> tuple[Map, str]:
    first, second = case.sides()
    mapping, report = verify(propose(first, second, case.inputs, seed), first, second, case.inputs, seed)
    return mapping, report.standing


@pytest.mark.by_default(
    "lstm",
    "gru",
    "rows of biases",
    "fused",
    "perceptron",
    "tied*",
    "stacked for a scan",
    "biases added up",
    "convolutions",
)
@pytest.mark.parametrize(
    # Of which either is there alone, and which takes as long as five others.
    "name",
    [pytest.param(name, marks=[pytest.mark.pairs] * (name == "lstm and attention")) for name in CASES],
)
def test_a_map_is_found_and_proven(name: str) -> None:
    mapping, report = verified(name)
    assert report.standing == "proven"
    assert report.distances
    assert max(report.distances) < ROUNDING
    assert not report.divergences
    assert {one.verdict for one in report.obstacles} == set(CASES[name].obstacles)
    assert {leaf.path for leaf in mapping.second} == mapping.links.keys()
    assert {link.proof for link in mapping.links.values()} <= {"value", "free"}


@pytest.mark.pairs
@pytest.mark.parametrize("name", CASES)
def test_gradients_agree_through_the_map(name: str) -> None:
    from spec.pair import Objective

    case = CASES[name]
    first, second = case.sides()
    mapping, _ = verify(propose(first, second, case.inputs), first, second, case.inputs)
    random = np.random.default_rng(3)
    ours, theirs = case.inputs(random)
    outputs = first.forward(ours).outputs
    weights = {link.first: random.standard_normal(outputs[link.first].shape) for link in mapping.outputs}
    moved = {link.second: weights[link.first].transpose(link.axes).reshape(link.shape) for link in mapping.outputs}
    expected = first.gradients(ours, Objective("linear", weights))
    got = second.gradients(theirs, Objective("linear", moved))
    pulled = mapping.pull(got.leaves)
    without_place = {one.source: one.rows or ((0, None),) for one in mapping.unlinked}
    largest = max(np.abs(one).max() for one in expected.leaves.values())
    assert np.isclose(expected.loss, got.loss, rtol=1e-12)
    for path, gradient in expected.leaves.items():
        for start, stop in without_place.get(path, ()):
            gradient[start:stop] = 0.0
        np.testing.assert_allclose(pulled[path], gradient, rtol=0, atol=ROUNDING * largest)


def stripped(case: Case, seed: int) -> tuple[object, dict[str, str]]:
    """The second side as a function of parameters whose names say nothing, in another order; and the names' meaning."""
    model = kinds.model_of(case.second(), None)
    random = np.random.default_rng(seed)
    places = random.permutation(len(model.arrays))
    names = {path: f"p{place:02d}" for path, place in zip(model.arrays, places, strict=True)}

    def run(p: Mapping[str, jax.Array], *xs: jax.Array) -> object:
        return model.apply({path: p[name] for path, name in names.items()}, xs, False, jax.random.key(0))[0]

    values = {name: random.standard_normal(model.arrays[path].shape) for path, name in names.items()}
    return (run, {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}), names


def pieces(link: Link) -> list[tuple[tuple[int, ...], tuple[Piece, ...]]]:
    return [(part.shape, part.pieces) for part in link.parts]


@pytest.mark.pairs
@pytest.mark.parametrize("name", CASES)
def test_without_names_a_map_is_right_or_ambiguous(name: str) -> None:
    case = CASES[name]
    right, _ = found(case)
    first, _ = case.sides()
    made, names = stripped(case, 7)
    second = open_flax(made)
    mapping, report = verify(propose(first, second, case.inputs, 7), first, second, case.inputs, 7)
    assert report.standing in ("proven", "ambiguous")
    if report.standing == "proven":
        assert {path: pieces(mapping.links[other]) for path, other in names.items()} == {
            path: pieces(link) for path, link in right.links.items()
        }


class Twins(nn.Module):
    """Two branches that could be each other."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 6), nn.Linear(6, 6)
        self.left_out, self.right_out = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.left_out(torch.tanh(self.left(x))) + self.right_out(torch.tanh(self.right(x)))


def twins_port(*names: str) -> object:
    def run(p: Mapping[str, Mapping[str, jax.Array]], x: jax.Array) -> jax.Array:
        a, b, c, d = (p[name] for name in names)
        one, two = jnp.tanh(x @ a["w"] + a["b"]), jnp.tanh(x @ b["w"] + b["b"])
        return one @ c["w"] + c["b"] + two @ d["w"] + d["b"]

    shapes = dict(zip(names, ((6, 6), (6, 6), (6, 3), (6, 3)), strict=True))
    return run, {name: {"w": jnp.zeros(shape), "b": jnp.zeros(shape[1:])} for name, shape in shapes.items()}


def test_twins_are_ambiguous_but_where_names_tell_them() -> None:
    inputs = alike(4, 6)
    for names, standing in (
        (("s", "t", "m", "n"), "ambiguous"),
        (("left", "right", "left_out", "right_out"), "proven"),
    ):
        first, second = open_torch(Twins()), open_flax(twins_port(*names))
        _, report = verify(propose(first, second, inputs), first, second, inputs)
        assert report.standing == standing
        assert len(report.ambiguities) == (standing == "ambiguous")


def test_an_attentions_key_bias_is_free() -> None:
    mapping, _ = found(CASES["encoder layer"])
    assert [target for target, link in mapping.links.items() if link.proof == "free"] == ["attention.key.bias"]


def test_a_wrong_map_is_not_proven() -> None:
    case = CASES["perceptron"]
    first, second = case.sides()
    mapping = propose(first, second, case.inputs)
    links = dict(mapping.links)
    links["middle.kernel"] = Link("middle.kernel", "copy", (Part((8, 8), (Piece("middle.weight"),)),))
    wrong, report = verify(mapping._replace(links=links), first, second, case.inputs)
    assert report.standing == "different"
    assert {link.proof for link in wrong.links.values()} == {"none"}
    assert report.divergences


def test_a_wrong_map_is_placed_at_its_module() -> None:
    """Also where the right product is computed beside it, and let go: a value that no output depends on is none."""
    case = CASES["perceptron"]
    first, second = case.sides()
    mapping = propose(first, second, case.inputs)
    links = dict(mapping.links)
    links["middle.kernel"] = Link("middle.kernel", "copy", (Part((8, 8), (Piece("middle.weight"),)),))
    _, report = verify(mapping._replace(links=links), first, second, case.inputs)
    assert report.divergences[0].first.module == "middle"


@pytest.mark.parametrize("missing", ["first", "second"])
def test_a_leaf_without_counterpart_is_said(missing: str) -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4, bias=missing == "second")
            self.scale = nn.Parameter(torch.ones(4)) if missing == "second" else None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.linear(x)
            return x if self.scale is None else x * self.scale

    def run(p: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
        return x @ p["kernel"] + p["bias"]

    first = open_torch(One())
    second = open_flax((run, {"kernel": jnp.zeros((4, 4)), "bias": jnp.zeros(4)}))
    inputs = alike(3, 4)
    _, report = verify(propose(first, second, inputs), first, second, inputs)
    verdict = "not representable" if missing == "second" else "cannot train alike"
    assert verdict in {one.verdict for one in report.obstacles}
    assert report.standing != "proven"


def test_a_constant_that_is_baked_in_float32_is_known() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.table = nn.Linear(4, 4), torch.arange(4.0) / 3.0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x * self.table)

    def run(p: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
        return (x * (jnp.arange(4.0) / 3.0)) @ p["kernel"] + p["bias"]

    first = open_torch(Scaled())
    second = open_flax((run, {"kernel": jnp.zeros((4, 4)), "bias": jnp.zeros(4)}))
    inputs = alike(3, 4)
    _, report = verify(propose(first, second, inputs), first, second, inputs)
    assert report.standing == "proven"
    assert 1e-9 < max(report.distances) < 1e-7
    assert "float32" in report.notes[0]
    assert "test_mapping.py" in report.notes[0]


def test_the_first_sides_rows_that_go_nowhere_are_the_resets() -> None:
    mapping, _ = found(CASES["gru"])
    (left,) = mapping.unlinked
    assert (left.source, left.rows, left.proof) == ("bias_hh_l0", ((14, 21),), "value")


@pytest.mark.by_default("1")
@pytest.mark.parametrize("layers", [1, 2])
def test_gates_in_another_order_are_found(layers: int) -> None:
    """Gates i, g, f, o in one matrix that is joined over input and state, and 1 added to the forget gate inside."""

    def run(p: Mapping[str, Mapping[str, jax.Array]], x: jax.Array) -> jax.Array:
        for layer in range(layers):
            of = p[f"l{layer}"]

            def step(carry: tuple[jax.Array, jax.Array], x: jax.Array, of: Mapping[str, jax.Array] = of) -> object:
                h, c = carry
                i, g, f, o = jnp.split(jnp.concatenate([x, h], -1) @ of["w"] + of["b"], 4, -1)
                c = jax.nn.sigmoid(f + 1.0) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
                h = jax.nn.sigmoid(o) * jnp.tanh(c)
                return (h, c), h

            zero = jnp.zeros((x.shape[0], 7), x.dtype)
            x = jnp.moveaxis(jax.lax.scan(step, (zero, zero), jnp.moveaxis(x, 1, 0))[1], 0, 1)
        return x

    widths = [5, 7][:layers]
    p = {f"l{n}": {"w": jnp.zeros((width + 7, 28)), "b": jnp.zeros(28)} for n, width in enumerate(widths)}
    lstm = nn.LSTM(5, 7, num_layers=layers, batch_first=True)
    first = open_torch(lstm, PairOptions(call=lambda module, x: module(x)[0]))
    second = open_flax((run, p))
    inputs = alike(2, 2, 5)
    mapping, report = verify(propose(first, second, inputs), first, second, inputs)
    assert report.standing == "proven"
    assert -1.0 in [part.pieces[0].offset for part in mapping.links["l0.b"].parts]


def test_memory_that_nobody_has_written_yet_is_widened_in_silence() -> None:
    signalling = np.array([0x7F800001], np.uint32).view(np.float32)
    with pytest.raises(RuntimeWarning):
        np.asarray(signalling, np.float64)
    assert np.isnan(widened(signalling)).all()


def test_infinities_are_compared_and_nans_are_found_nowhere() -> None:
    masked = np.array([1.0, -np.inf, 3.0])
    entries = [Intermediate(0, "where", "", "", masked[::-1], (), (), False)]
    pool = Pool(entries, 1e-9)
    assert pool.find(Fingerprint(masked)) == entries
    for other in ([1.0, np.inf, 3.0], [1.0, -6.5, 3.0], [1.0, -np.inf, 3.1], [1.0, np.nan, 3.0]):
        assert pool.find(Fingerprint(np.array(other))) == []


@pytest.mark.parametrize("size", [3, 70])
def test_a_value_is_found_in_any_layout_and_no_other_is(size: int) -> None:
    """Large ones by their axes, before anything is sorted; shuffled ones by their numbers."""
    value = np.random.default_rng(0).standard_normal((size, 4, size + 2))
    layouts = [
        value,
        value.transpose(2, 0, 1),
        value.reshape(-1, size + 2),
        np.random.default_rng(1).permutation(value),
    ]
    entries = [Intermediate(number, "x", "", "", one, (), (), False) for number, one in enumerate(layouts)]
    pool = Pool(entries, 1e-9)
    assert (value.size >= LARGE) == (size == 70)
    for one in layouts:
        assert pool.find(Fingerprint(one)) == entries
    wrong = value.copy()
    wrong[-1, -1, -1] += 1e-8 * np.abs(value).max()
    assert pool.find(Fingerprint(wrong)) == []
