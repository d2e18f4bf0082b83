"""Pairs of models that people could have written, each small; and faults to be planted in the second of them."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import linen, nnx
from torch import nn

from crosscheck.mapping import Map, Report, propose, verify
from flax_impl.pair.side import open_side as open_flax
from spec.pair import PairOptions, PairSide
from torch_impl.pair.side import open_side as open_torch

Random = np.random.Generator


class Case(NamedTuple):
    """first, second: factories. call: of the first. proven: whether there is nothing to be said against training."""

    first: Callable[[], Any]
    second: Callable[[], Any]
    inputs: Callable[[Random], tuple[Any, Any]]
    call: Callable[..., Any] | None = None
    obstacles: tuple[str, ...] = ()

    def sides(self, **faults: Any) -> tuple[PairSide, PairSide]:
        torch.manual_seed(0)
        second = self.second(**faults)
        return open_torch(self.first(), PairOptions(call=self.call)), open_flax(second)


def alike(*shape: int) -> Callable[[Random], tuple[Any, Any]]:
    def inputs(random: Random) -> tuple[Any, Any]:
        x = random.standard_normal(shape)
        return (x,), (x,)

    return inputs


def images(random: Random) -> tuple[Any, Any]:
    x = random.standard_normal((4, 3, 16, 16))
    return (x,), (x.transpose(0, 2, 3, 1),)


def tokens(random: Random) -> tuple[Any, Any]:
    x = random.integers(0, 11, (2, 6))
    return (x,), (x,)


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.fc1, self.fc2 = nn.Linear(8 * 4 * 4, 16), nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.nn.functional.gelu(self.norm(self.conv2(x)))
        x = torch.nn.functional.max_pool2d(x, 2)
        return self.fc2(torch.relu(self.fc1(torch.flatten(x, 1))))


class ConvolutionsPort(nnx.Module):
    def __init__(self, padding: Any = 1, tanh: bool = False, epsilon: float = 1e-5, pool: Any = nnx.max_pool) -> None:
        rngs = nnx.Rngs(0)
        self.conv1 = nnx.Conv(3, 8, (3, 3), strides=2, padding=padding, rngs=rngs)
        self.bn1 = nnx.BatchNorm(8, rngs=rngs)
        self.conv2 = nnx.Conv(8, 8, (3, 3), padding=1, rngs=rngs)
        self.norm = nnx.GroupNorm(8, 2, epsilon=epsilon, rngs=rngs)
        self.fc1, self.fc2 = nnx.Linear(128, 16, rngs=rngs), nnx.Linear(16, 10, rngs=rngs)
        self.tanh, self.pool = tanh, pool

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = jax.nn.gelu(self.norm(self.conv2(x)), approximate=self.tanh)
        x = self.pool(x, (2, 2), (2, 2))
        return self.fc2(nnx.relu(self.fc1(x.reshape(x.shape[0], -1))))


class EncoderPort(nnx.Module):
    def __init__(self, epsilon: float = 1e-5, before: bool = False, activation: Any = jax.nn.relu) -> None:
        rngs = nnx.Rngs(0)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.norm1 = nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs)
        self.norm2 = nnx.LayerNorm(8, epsilon=epsilon, rngs=rngs)
        self.up, self.down = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 8, rngs=rngs)
        self.before, self.activation = before, activation

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.before:
            x = x + self.attention(self.norm1(x))
            return x + self.down(self.activation(self.up(self.norm2(x))))
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.down(self.activation(self.up(x))))


class Attended(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(5, 7, batch_first=True)
        self.attention, self.out = nn.MultiheadAttention(7, 1, batch_first=True), nn.Linear(7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, _ = self.rnn(x)
        return self.out(self.attention(h, h, h)[0])


class AttendedPort(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = linen.RNN(linen.OptimizedLSTMCell(7))(x)
        return linen.Dense(3)(linen.MultiHeadDotProductAttention(1)(h, h))


def attended_port() -> Any:
    module = AttendedPort()
    return module, module.init(jax.random.key(0), jnp.zeros((3, 6, 5)))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.middle = nn.Embedding(11, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        h = torch.tanh(self.middle(torch.tanh(self.middle(self.embedding(x)))))
        return {"logits": self.head(h), "hidden": h}


def tied_port(apart: bool = False) -> Any:
    def run(p: Any, x: jax.Array) -> Any:
        h = jnp.tanh(jnp.tanh(p["E"][x] @ p["W"] + p["b"]) @ p["W"] + p["b"])
        return {"logits": h @ (p["F"] if apart else p["E"]).T, "hidden": h}

    parameters = {"E": jnp.zeros((11, 8)), "W": jnp.zeros((8, 8)), "b": jnp.zeros(8)}
    return run, parameters | ({"F": jnp.zeros((11, 8))} if apart else {})


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6) for _ in range(4)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = x + torch.tanh(layer(x))
        return x


def stack_port() -> Any:
    def run(p: Any, x: jax.Array) -> jax.Array:
        def layer(x: jax.Array, of: Any) -> Any:
            return x + jnp.tanh(x @ of["kernel"] + of["bias"]), None

        return jax.lax.scan(layer, x, p)[0]

    return run, {"kernel": jnp.zeros((4, 6, 6)), "bias": jnp.zeros((4, 6))}


class Heads(nn.Module):
    """Attention with separate projections; of `groups` heads of keys and values, where that is less than 4."""

    def __init__(self, groups: int = 4) -> None:
        super().__init__()
        self.groups = groups
        self.q, self.o = nn.Linear(16, 16), nn.Linear(16, 16)
        self.k, self.v = nn.Linear(16, 4 * groups), nn.Linear(16, 4 * groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = self.q(x).unflatten(-1, (4, 4)).transpose(1, 2)
        k, v = (one(x).unflatten(-1, (self.groups, 4)).transpose(1, 2) for one in (self.k, self.v))
        k, v = (one.repeat_interleave(4 // self.groups, 1) for one in (k, v))
        a = torch.softmax(q @ k.transpose(-1, -2) / 2.0, -1)
        return self.o((a @ v).transpose(1, 2).flatten(2))


def fused_port(interleaved: bool = False, groups: int = 4) -> Any:
    def run(p: Any, x: jax.Array) -> jax.Array:
        fused = x @ p["qkv"]["w"] + p["qkv"]["b"]
        if interleaved:
            q, k, v = jnp.moveaxis(fused.reshape(*x.shape[:2], 4, 3, 4), 3, 0)
        else:
            parts = jnp.split(fused, [16, 16 + 4 * groups], -1)
            q, k, v = (one.reshape(*x.shape[:2], -1, 4) for one in parts)
        k, v = (jnp.repeat(one, 4 // k.shape[2], 2) for one in (k, v))
        a = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / 2.0, -1)
        return jnp.einsum("bhqk,bkhd->bqhd", a, v).reshape(x.shape) @ p["out"]["w"] + p["out"]["b"]

    width = 16 + 8 * groups
    qkv = {"w": jnp.zeros((16, width)), "b": jnp.zeros(width)}
    return run, {"qkv": qkv, "out": {"w": jnp.zeros((16, 16)), "b": jnp.zeros(16)}}


def counted_port() -> Any:
    """Heads in groups, of which each counts its own: (head of the group, group), where torch has (group, head)."""

    def run(p: Any, x: jax.Array) -> jax.Array:
        q = jnp.einsum("btm,mrgk->brgtk", x, p["q"]) + p["c"][:, :, None]
        k, v = (jnp.einsum("btm,mgk->bgtk", x, p[one]) + p[bias][:, None] for one, bias in (("k", "d"), ("v", "e")))
        a = jax.nn.softmax(jnp.einsum("brgqk,bgtk->brgqt", q, k) / 2.0, -1)
        return jnp.einsum("brgqt,bgtk,rgkm->bqm", a, v, p["o"]) + p["f"]

    shapes = {"q": (16, 2, 2, 4), "k": (16, 2, 4), "v": (16, 2, 4), "o": (2, 2, 4, 16)}
    shapes |= {"c": (2, 2, 4), "d": (2, 4), "e": (2, 4), "f": (16,)}
    return run, {name: jnp.zeros(shape) for name, shape in shapes.items()}


class Positions(nn.Module):
    """Positions are looked up; there are as many numbers in their table as in the biases of several layers."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(11, 8), nn.Embedding(6, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(6)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.words(x) + self.positions(torch.arange(x.shape[1]))
        for layer in self.layers:
            h = torch.tanh(layer(h))
        return h


def positions_port() -> Any:
    def run(p: Any, x: jax.Array) -> jax.Array:
        h = p["words"][x] + p["positions"][None, : x.shape[1]]
        for layer in p["layers"]:
            h = jnp.tanh(h @ layer["w"] + layer["b"])
        return h

    layers = [{"w": jnp.zeros((8, 8)), "b": jnp.zeros(8)} for _ in range(6)]
    return run, {"words": jnp.zeros((11, 8)), "positions": jnp.zeros((6, 8)), "layers": layers}


class Fused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.o = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (one.unflatten(-1, (4, 4)).transpose(1, 2) for one in self.qkv(x).chunk(3, -1))
        a = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return self.o(a.transpose(1, 2).flatten(2))


class HeadsPort(nnx.Module):
    def __init__(self) -> None:
        self.attention = nnx.MultiHeadAttention(4, 16, decode=False, rngs=nnx.Rngs(0))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.attention(x)


class Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)
        self.middle, self.down = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.tanh(self.middle(torch.nn.functional.gelu(self.norm(self.up(x))))))


class PerceptronPort(nnx.Module):
    def __init__(self, epsilon: float = 1e-5, tanh: bool = False, transposed: bool = False, scale: float = 1.0) -> None:
        rngs = nnx.Rngs(0)
        self.up, self.norm = nnx.Linear(8, 8, rngs=rngs), nnx.LayerNorm(8, epsilon=epsilon, rngs=rngs)
        self.middle, self.down = nnx.Linear(8, 8, rngs=rngs), nnx.Linear(8, 8, rngs=rngs)
        self.tanh, self.transposed, self.scale = tanh, transposed, scale

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.gelu(self.norm(self.up(x)), approximate=self.tanh)
        turned = x @ self.middle.kernel[...].T + self.middle.bias[...]
        x = turned if self.transposed else self.middle(x)
        return self.scale * self.down(jnp.tanh(x))


def outputs_alone(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return module(x)[0]


def recurrent(layer: type[nn.RNNBase], cell: Any, *obstacles: str) -> Case:
    return Case(
        lambda: layer(5, 7, batch_first=True),
        lambda: nnx.RNN(cell(5, 7, rngs=nnx.Rngs(0))),
        alike(3, 4, 5),
        outputs_alone,
        obstacles,
    )


def rows_of_biases_port(inputs: int = 5, hidden: int = 7) -> Any:
    """Gates z, r, n; one array has both biases, a row each."""

    def run(p: Any, x: jax.Array) -> jax.Array:
        def step(h: jax.Array, x: jax.Array) -> Any:
            a, b = x @ p["kernel"] + p["bias"][0], h @ p["recurrent"] + p["bias"][1]
            (a_z, a_r, a_n), (b_z, b_r, b_n) = jnp.split(a, 3, -1), jnp.split(b, 3, -1)
            z, r = jax.nn.sigmoid(a_z + b_z), jax.nn.sigmoid(a_r + b_r)
            h = z * h + (1 - z) * jnp.tanh(a_n + r * b_n)
            return h, h

        h = jnp.zeros((x.shape[0], hidden), x.dtype)
        return jnp.moveaxis(jax.lax.scan(step, h, jnp.moveaxis(x, 1, 0))[1], 0, 1)

    return run, {
        "kernel": jnp.zeros((inputs, 3 * hidden)),
        "recurrent": jnp.zeros((hidden, 3 * hidden)),
        "bias": jnp.zeros((2, 3 * hidden)),
    }


def bias_of_the_sum_port() -> Any:
    """A plain RNN that adds one bias to the input's product and the other to the sum of both products."""

    def run(p: Any, x: jax.Array) -> jax.Array:
        def step(h: jax.Array, i: jax.Array) -> Any:
            h = jnp.tanh(i + h @ p["recurrent"] + p["recurrent_bias"])
            return h, h

        h = jnp.zeros((x.shape[0], 7), x.dtype)
        taken = x @ p["kernel"] + p["bias"]
        return jnp.moveaxis(jax.lax.scan(step, h, jnp.moveaxis(taken, 1, 0))[1], 0, 1)

    return run, {
        "kernel": jnp.zeros((5, 7)),
        "bias": jnp.zeros(7),
        "recurrent": jnp.zeros((7, 7)),
        "recurrent_bias": jnp.zeros(7),
    }


class Added(nn.Module):
    """Two layers whose sum is taken, and so both biases."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.out = nn.Linear(5, 7), nn.Linear(5, 7), nn.Linear(7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.left(x) + self.right(x * x)))


def added_port(weight: float = 1.0) -> Any:
    """One bias where the original has two. weight: of what the second layer adds."""

    def run(p: Any, x: jax.Array) -> jax.Array:
        added = x @ p["left"] + weight * (x * x @ p["right"]) + p["bias"]
        return jnp.tanh(added) @ p["out"] + p["end"]

    shapes = {"left": (5, 7), "right": (5, 7), "bias": (7,), "out": (7, 3), "end": (3,)}
    return run, {name: jnp.zeros(shape) for name, shape in shapes.items()}


class Cell(nn.Module):
    """A cell by hand, of two layers with a bias each: an LSTM's of 4 gates, or a GRU's of 3 in the order r, z, n."""

    def __init__(self, gates: int) -> None:
        super().__init__()
        self.x2h, self.h2h, self.gates = nn.Linear(5, gates * 7), nn.Linear(7, gates * 7), gates

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = c = x.new_zeros(x.shape[0], 7)
        states = []
        for step in x.unbind(1):
            taken, kept = self.x2h(step), self.h2h(h)
            if self.gates == 4:
                i, f, g, o = (taken + kept).chunk(4, -1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
            else:
                (r, z, n), (r_h, z_h, n_h) = taken.chunk(3, -1), kept.chunk(3, -1)
                n = torch.tanh(n + torch.sigmoid(r + r_h) * n_h)
                h = n + torch.sigmoid(z + z_h) * (h - n)
            states.append(h)
        return torch.stack(states, 1)


def cell_by_hand(gates: int, cell: Any, *obstacles: str) -> Case:
    return Case(lambda: Cell(gates), lambda: nnx.RNN(cell(5, 7, rngs=nnx.Rngs(0))), alike(3, 4, 5), None, obstacles)


def projected_port() -> Any:
    """An LSTM of 7 units of which 3 sums are handed on; with one bias."""

    def run(p: Any, x: jax.Array) -> jax.Array:
        def step(state: Any, x: jax.Array) -> Any:
            h, c = state
            i, f, g, o = jnp.split(x @ p["kernel"] + h @ p["recurrent"] + p["bias"], 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c) @ p["projection"]
            return (h, c), h

        begun = jnp.zeros((x.shape[0], 3), x.dtype), jnp.zeros((x.shape[0], 7), x.dtype)
        return jnp.moveaxis(jax.lax.scan(step, begun, jnp.moveaxis(x, 1, 0))[1], 0, 1)

    shapes = {"kernel": (5, 28), "recurrent": (3, 28), "bias": (28,), "projection": (7, 3)}
    return run, {name: jnp.zeros(shape) for name, shape in shapes.items()}


CASES = {
    "lstm": recurrent(nn.LSTM, nnx.LSTMCell, "cannot train alike"),
    "optimized lstm": recurrent(nn.LSTM, nnx.OptimizedLSTMCell, "cannot train alike"),
    "gru": recurrent(nn.GRU, nnx.GRUCell, "not representable", "cannot train alike"),
    "rnn": recurrent(nn.RNN, nnx.SimpleCell, "cannot train alike"),
    "rows of biases": Case(lambda: nn.GRU(5, 7, batch_first=True), rows_of_biases_port, alike(3, 4, 5), outputs_alone),
    # A gate's matrix of input and state, joined, would have as many numbers as the input's of all gates.
    "sizes that coincide": Case(
        lambda: nn.GRU(4, 8, batch_first=True), lambda: rows_of_biases_port(4, 8), alike(3, 4, 4), outputs_alone
    ),
    "bias of the sum": Case(
        lambda: nn.RNN(5, 7, batch_first=True), bias_of_the_sum_port, alike(3, 4, 5), outputs_alone
    ),
    "biases added up": Case(Added, added_port, alike(4, 5), None, ("cannot train alike",)),
    "lstm by hand": cell_by_hand(4, nnx.OptimizedLSTMCell, "cannot train alike"),
    "lstm by hand, gates apart": cell_by_hand(4, nnx.LSTMCell, "cannot train alike"),
    "gru by hand": cell_by_hand(3, nnx.GRUCell, "not representable", "cannot train alike"),
    "projected": Case(
        lambda: nn.LSTM(5, 7, proj_size=3, batch_first=True),
        projected_port,
        alike(3, 4, 5),
        outputs_alone,
        ("cannot train alike",),
    ),
    "convolutions": Case(Convolutions, ConvolutionsPort, images),
    "encoder layer": Case(lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), EncoderPort, alike(3, 5, 8)),
    "lstm and attention": Case(Attended, attended_port, alike(3, 6, 5), None, ("cannot train alike",)),
    "tied": Case(Tied, tied_port, tokens),
    "tied apart": Case(Tied, lambda: tied_port(apart=True), tokens, None, ("cannot train alike",)),
    "stacked for a scan": Case(Stack, stack_port, alike(3, 6)),
    "fused": Case(Heads, fused_port, alike(2, 5, 16)),
    "fused, interleaved": Case(Heads, lambda: fused_port(interleaved=True), alike(2, 5, 16)),
    "fused, grouped": Case(lambda: Heads(2), lambda: fused_port(groups=2), alike(2, 5, 16)),
    "fused at first": Case(Fused, HeadsPort, alike(2, 5, 16)),
    "heads before groups": Case(lambda: Heads(2), counted_port, alike(2, 5, 16)),
    "positions added": Case(Positions, positions_port, tokens),
    "perceptron": Case(Perceptron, PerceptronPort, alike(4, 8)),
}


@cache
def verified(name: str) -> tuple[Map, Report]:
    """A case's map, and what was found when it was proven; computed once."""
    case = CASES[name]
    first, second = case.sides()
    return verify(propose(first, second, case.inputs), first, second, case.inputs)
