"""torch's encoder layer against a block of Equinox's layers."""

import equinox
import jax
from torch import nn


class Block(equinox.Module):
    attention: equinox.nn.MultiheadAttention
    norm1: equinox.nn.LayerNorm
    norm2: equinox.nn.LayerNorm
    up: equinox.nn.Linear
    down: equinox.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        biases = {f"use_{name}_bias": True for name in ("query", "key", "value", "output")}
        self.attention = equinox.nn.MultiheadAttention(2, 8, **biases, key=keys[0])
        self.norm1, self.norm2 = equinox.nn.LayerNorm(8), equinox.nn.LayerNorm(8)
        self.up, self.down = equinox.nn.Linear(8, 16, key=keys[1]), equinox.nn.Linear(16, 8, key=keys[2])

    def __call__(self, x):
        x = jax.vmap(self.norm1)(x + self.attention(x, x, x))
        return jax.vmap(self.norm2)(x + jax.vmap(self.down)(jax.nn.relu(jax.vmap(self.up)(x))))


def original():
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)


def port():
    return Block(jax.random.key(0))


def call_port(model, x):
    return jax.vmap(model)(x)


def inputs(rng):
    return (rng.standard_normal((3, 5, 8)),)
