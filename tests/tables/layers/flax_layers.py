"""Flax's recurrent layers and attention, of nnx or of linen: flax_layers.py nnx"""

import sys

import jax
import jax.numpy as jnp
from flax import linen, nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from serve import HEADS, Attention, Recurrent, serve

jax.config.update("jax_enable_x64", True)


def state_of(module):
    return {".".join(map(str, path)): one for path, one in nnx.to_flat_state(nnx.state(module, nnx.Param))}


def loaded(module, parameters):
    flat = nnx.to_flat_state(nnx.state(module, nnx.Param))
    given = [(path, one.replace(jnp.asarray(parameters[".".join(map(str, path))]))) for path, one in flat]
    nnx.update(module, nnx.from_flat_state(given))
    return module


def of_nnx(cell, kind):
    def initial(seed, inputs, hidden):
        made = cell(inputs, hidden, rngs=nnx.Rngs(seed), dtype=jnp.float64, param_dtype=jnp.float64)
        return {name: one.get_value() for name, one in state_of(made).items()}

    def run(parameters, x, states, lengths):
        hidden = next(one.shape[0] for name, one in parameters.items() if len(one.shape) == 1) // GATES[kind, cell]
        made = loaded(
            cell(x.shape[2], hidden, rngs=nnx.Rngs(0), dtype=jnp.float64, param_dtype=jnp.float64), parameters
        )
        carry = None if states is None else tuple(map(jnp.asarray, states))
        carry = carry[0] if carry is not None and len(carry) == 1 else carry
        layer = nnx.RNN(made, return_carry=True)
        after, outputs = layer(jnp.asarray(x), initial_carry=carry, seq_lengths=lengths, rngs=nnx.Rngs(0))
        return outputs, after if isinstance(after, tuple) else (after,)

    return Recurrent(kind, initial, run, "seq_lengths", cell)


GATES = {
    ("rnn", nnx.SimpleCell): 1,
    ("gru", nnx.GRUCell): 3,
    ("lstm", nnx.LSTMCell): 1,
    ("lstm", nnx.OptimizedLSTMCell): 4,
}
"""How many times as long as the state a bias is."""


def of_linen(cell, kind):
    def shaped(variables):
        return {".".join(path): one for path, one in flatten_dict(variables["params"]).items()}

    def initial(seed, inputs, hidden):
        made = cell(hidden, param_dtype=jnp.float64)
        carry = made.initialize_carry(jax.random.key(0), (1, inputs))
        return shaped(made.init(jax.random.key(seed), carry, jnp.zeros((1, inputs))))

    def run(parameters, x, states, lengths):
        hidden = next(one.shape[0] for one in parameters.values() if len(one.shape) == 1)
        layer = linen.RNN(cell(hidden, param_dtype=jnp.float64), return_carry=True)
        nested = unflatten_dict({("cell", *name.split(".")): jnp.asarray(one) for name, one in parameters.items()})
        carry = None if states is None else tuple(map(jnp.asarray, states))
        carry = carry[0] if carry is not None and len(carry) == 1 else carry
        given = {"initial_carry": carry, "seq_lengths": lengths}
        after, outputs = layer.apply({"params": nested}, jnp.asarray(x), **given)
        return outputs, after if isinstance(after, tuple) else (after,)

    return Recurrent(kind, initial, run, "seq_lengths", cell)


def nnx_attention():
    def made(seed, features, heads):
        return nnx.MultiHeadAttention(
            num_heads=heads, in_features=features, param_dtype=jnp.float64, decode=False, rngs=nnx.Rngs(seed)
        )

    def initial(seed, features, heads):
        return {name: one.get_value() for name, one in state_of(made(seed, features, heads)).items()}

    def run(parameters, query, key, value, mask):
        layer = loaded(made(0, query.shape[2], HEADS), parameters)
        return layer(*map(jnp.asarray, (query, key, value)), mask=None if mask is None else jnp.asarray(mask)[:, None])

    return Attention(initial, run, True, "mask")


def linen_attention():
    def initial(seed, features, heads):
        made = linen.MultiHeadDotProductAttention(heads, param_dtype=jnp.float64)
        variables = made.init(jax.random.key(seed), jnp.zeros((1, 2, features)))
        return {".".join(path): one for path, one in flatten_dict(variables["params"]).items()}

    def run(parameters, query, key, value, mask):
        made = linen.MultiHeadDotProductAttention(HEADS, param_dtype=jnp.float64)
        nested = unflatten_dict({tuple(name.split(".")): jnp.asarray(one) for name, one in parameters.items()})
        given = {"mask": None if mask is None else jnp.asarray(mask)[:, None]}
        return made.apply({"params": nested}, *map(jnp.asarray, (query, key, value)), **given)

    return Attention(initial, run, True, "mask")


def plain(parameters, query, key, value, mask):
    split = [jnp.asarray(one).reshape(*one.shape[:2], HEADS, -1) for one in (query, key, value)]
    given = None if mask is None else jnp.asarray(mask)[:, None]
    return jax.nn.dot_product_attention(*split, mask=given).reshape(query.shape)


NNX = {
    "nnx.SimpleCell": of_nnx(nnx.SimpleCell, "rnn"),
    "nnx.GRUCell": of_nnx(nnx.GRUCell, "gru"),
    "nnx.LSTMCell": of_nnx(nnx.LSTMCell, "lstm"),
    "nnx.OptimizedLSTMCell": of_nnx(nnx.OptimizedLSTMCell, "lstm"),
    "nnx.MultiHeadAttention": nnx_attention(),
    "jax.nn.dot_product_attention": Attention(lambda *_: {}, plain, None, "mask", laws=False),
}
LINEN = {
    "linen.SimpleCell": of_linen(linen.SimpleCell, "rnn"),
    "linen.GRUCell": of_linen(linen.GRUCell, "gru"),
    "linen.LSTMCell": of_linen(linen.LSTMCell, "lstm"),
    "linen.OptimizedLSTMCell": of_linen(linen.OptimizedLSTMCell, "lstm"),
    "linen.MultiHeadDotProductAttention": linen_attention(),
}
serve({"nnx": NNX, "linen": LINEN}[sys.argv[1]], ("flax", "jax", "numpy"))
