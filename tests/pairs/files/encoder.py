"""torch's encoder layer, and a port as one first writes it: with Flax's defaults."""

import jax
import optax
import torch
from flax import nnx
from torch import nn


class Port(nnx.Module):
    def __init__(self, rngs):
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.norm1, self.norm2 = nnx.LayerNorm(8, rngs=rngs), nnx.LayerNorm(8, rngs=rngs)
        self.up, self.down = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 8, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        x = self.norm1(x + self.drop(self.attention(x)))
        h = self.drop(jax.nn.gelu(self.up(x)))
        return self.norm2(x + self.drop(self.down(h)))


def original():
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, activation="gelu", batch_first=True)


def port():
    return Port(nnx.Rngs(0))


def inputs(rng):
    return (rng.standard_normal((3, 5, 8)),)


optimizers = (lambda parameters: torch.optim.AdamW(parameters, 1e-3), optax.adamw(1e-3))
