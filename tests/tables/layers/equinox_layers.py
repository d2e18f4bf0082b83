"""Equinox's cells, carried over time by `lax.scan`, and its attention."""

import equinox
import jax
import jax.numpy as jnp
from serve import HEADS, Attention, Recurrent, serve

jax.config.update("jax_enable_x64", True)


def named(module):
    flat, _ = jax.tree_util.tree_flatten_with_path(equinox.filter(module, equinox.is_array))
    return {jax.tree_util.keystr(path).lstrip("."): one for path, one in flat}


def loaded(module, parameters):
    arrays, rest = equinox.partition(module, equinox.is_array)
    flat, structure = jax.tree_util.tree_flatten_with_path(arrays)
    given = [jnp.asarray(parameters[jax.tree_util.keystr(path).lstrip(".")]) for path, _ in flat]
    return equinox.combine(jax.tree_util.tree_unflatten(structure, given), rest)


def recurrent(cell, kind):
    def initial(seed, inputs, hidden):
        return named(cell(inputs, hidden, key=jax.random.key(seed)))

    def run(parameters, x, states, lengths):
        hidden = parameters["weight_hh"].shape[1]
        made = loaded(cell(x.shape[2], hidden, key=jax.random.key(0)), parameters)
        count = 2 if kind == "lstm" else 1
        states = states or [jnp.zeros((x.shape[0], hidden))] * count

        def one(xs, *given):
            def step(state, value):
                after = made(value, state)
                return after, after[0] if kind == "lstm" else after

            return jax.lax.scan(step, given if kind == "lstm" else given[0], xs)

        after, outputs = jax.vmap(one)(jnp.asarray(x), *map(jnp.asarray, states))
        return outputs, after if isinstance(after, tuple) else (after,)

    return Recurrent(kind, initial, run, "", cell)


def attention():
    def made(seed, features, heads):
        biases = {f"use_{name}_bias": True for name in ("query", "key", "value", "output")}
        return equinox.nn.MultiheadAttention(heads, features, **biases, key=jax.random.key(seed))

    def run(parameters, query, key, value, mask):
        layer = loaded(made(0, query.shape[2], HEADS), parameters)
        arrays = list(map(jnp.asarray, (query, key, value)))
        if mask is None:
            return jax.vmap(layer)(*arrays)
        return jax.vmap(layer)(*arrays, jnp.asarray(mask))

    plain = equinox.nn.MultiheadAttention(2, 4, key=jax.random.key(0))
    default = any(name.endswith("bias") for name in named(plain))
    return Attention(lambda *given: named(made(*given)), run, default, "mask")


serve(
    {
        "nn.GRUCell": recurrent(equinox.nn.GRUCell, "gru"),
        "nn.LSTMCell": recurrent(equinox.nn.LSTMCell, "lstm"),
        "nn.MultiheadAttention": attention(),
    },
    ("equinox", "jax", "numpy"),
)
