"""Modules of packages that are not among ours: Equinox, Haiku, transformers. Skipped where they are missing."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from torch import nn

from crosscheck.mapping import Map, Report, propose, verify
from flax_impl.pair.side import open_side as open_flax
from spec.pair import PairOptions
from torch_impl.pair.side import open_side as open_torch

sys.path.append(str(Path(__file__).parent))
from models import alike, outputs_alone, tokens

equinox, haiku, transformers = (
    pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed")
    for name in ("equinox", "haiku", "transformers")
)


def checked(first: Any, second: Any, inputs: Any, call: Any = None, call_second: Any = None) -> tuple[Map, Report]:
    sides = open_torch(first, PairOptions(call=call)), open_flax(second, PairOptions(call=call_second))
    return verify(propose(*sides, inputs), *sides, inputs)


@equinox
def test_an_encoder_layer_in_equinox() -> None:
    import equinox as eqx  # pyright: ignore[reportMissingImports]

    class Block(eqx.Module):
        attention: Any
        norm1: Any
        norm2: Any
        up: Any
        down: Any

        def __init__(self) -> None:
            a, b, c = jax.random.split(jax.random.key(0), 3)
            biases = {f"use_{name}_bias": True for name in ("query", "key", "value", "output")}
            self.attention = eqx.nn.MultiheadAttention(2, 8, key=a, **biases)
            self.norm1, self.norm2 = eqx.nn.LayerNorm(8), eqx.nn.LayerNorm(8)
            self.up, self.down = eqx.nn.Linear(8, 16, key=b), eqx.nn.Linear(16, 8, key=c)

        def __call__(self, x: jax.Array) -> jax.Array:
            x = jax.vmap(self.norm1)(x + self.attention(x, x, x))
            return jax.vmap(self.norm2)(x + jax.vmap(self.down)(jax.nn.relu(jax.vmap(self.up)(x))))

    def batched(model: Any, x: jax.Array) -> jax.Array:
        return jax.vmap(model)(x)

    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    _, report = checked(layer, Block(), alike(3, 5, 8), None, batched)
    assert report.standing == "proven"
    assert report.obstacles == ()


@equinox
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_cells_in_equinox(kind: str) -> None:
    import equinox as eqx  # pyright: ignore[reportMissingImports]

    def scanned(cell: Any, x: jax.Array) -> jax.Array:
        def one(x: jax.Array) -> jax.Array:
            zero = jnp.zeros(7, x.dtype)

            def step(state: Any, x: jax.Array) -> Any:
                state = cell(x, state)
                return state, state if kind == "gru" else state[0]

            return jax.lax.scan(step, zero if kind == "gru" else (zero, zero), x)[1]

        return jax.vmap(one)(x)

    layer, cell = {"gru": (nn.GRU, eqx.nn.GRUCell), "lstm": (nn.LSTM, eqx.nn.LSTMCell)}[kind]
    made = cell(5, 7, key=jax.random.key(0))
    _, report = checked(layer(5, 7, batch_first=True), made, alike(3, 3, 5), outputs_alone, scanned)
    assert report.standing == "proven"
    assert {one.verdict for one in report.obstacles} == {"cannot train alike"}


@haiku
@pytest.mark.parametrize(("name", "standing"), [("LSTM", "proven"), ("GRU", "different")])
def test_recurrent_layers_in_haiku(name: str, standing: str) -> None:
    """Its LSTM joins input and state, orders gates i, g, f, o and adds 1 to f; its GRU resets before the product."""
    import haiku as hk  # pyright: ignore[reportMissingImports]

    def run(x: jax.Array) -> jax.Array:
        core = getattr(hk, name)(7)
        return hk.dynamic_unroll(core, x, core.initial_state(x.shape[1]))[0]

    net = hk.without_apply_rng(hk.transform(run))
    parameters = net.init(jax.random.key(0), jnp.zeros((3, 3, 5)))
    mapping, report = checked(getattr(nn, name)(5, 7), (net, parameters), alike(3, 3, 5), outputs_alone)
    assert report.standing == standing
    if name == "LSTM":
        parts = mapping.links["lstm/linear.b"].parts
        assert -1.0 in [part.pieces[0].offset for part in parts]


@haiku
def test_a_batch_norm_in_haiku() -> None:
    import haiku as hk  # pyright: ignore[reportMissingImports]

    def run(x: jax.Array, train: bool = False) -> jax.Array:
        x = hk.BatchNorm(True, True, 0.9)(hk.Linear(6)(x), is_training=train)
        return hk.Linear(3)(jax.nn.relu(x))

    net = hk.without_apply_rng(hk.transform_with_state(run))
    made = net, net.init(jax.random.key(0), jnp.zeros((4, 5)), True)
    first = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    _, report = checked(first, made, alike(4, 5))
    assert report.standing == "proven"


@transformers
@pytest.mark.parametrize("name", ["Bert", "GPT2", "ViT"])
@pytest.mark.filterwarnings("ignore")
def test_models_of_transformers_get_the_librarys_own_map(name: str) -> None:
    os.environ["USE_TF"] = "0"
    import transformers as library  # pyright: ignore[reportMissingImports]
    from transformers.modeling_flax_pytorch_utils import (  # pyright: ignore[reportMissingImports]
        convert_pytorch_state_dict_to_flax,
    )

    if not hasattr(library, f"Flax{name}Model"):
        pytest.skip("this transformers has no Flax models")
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 32}
    if name == "GPT2":
        sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 12}
    sizes |= {"image_size": 16, "patch_size": 4} if name == "ViT" else {"vocab_size": 30}
    config = getattr(library, f"{name}Config")(**sizes)
    first = getattr(library, f"{name}Model")(config).eval()
    model = getattr(library, f"Flax{name}Model")(config)

    def run(p: Any, x: jax.Array) -> jax.Array:
        return model(x, params=p, train=False).last_hidden_state

    def call(module: nn.Module, x: Any) -> Any:
        return module(x).last_hidden_state

    mapping, report = checked(first, (run, model.params), alike(2, 3, 16, 16) if name == "ViT" else tokens, call)
    assert report.standing == "proven"
    right = convert_pytorch_state_dict_to_flax(first.state_dict(), model)
    values = {path: array.detach().double().numpy() for path, array in first.state_dict().items()}
    pushed = mapping.push({leaf.path: values[leaf.path] for leaf in mapping.first if leaf.path in values})
    flat = {".".join(map(str, (one.key for one in path))): leaf for path, leaf in jax.tree.leaves_with_path(right)}
    compared = pushed.keys() & flat.keys()
    assert len(compared) > 20
    for path in compared:
        assert (pushed[path] == flat[path]).all(), path
