"""A perceptron and its port: alike in everything, initialization too."""

import jax
import numpy as np
import optax
import torch
from flax import nnx
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.norm, self.drop, self.down = nn.Linear(6, 16), nn.LayerNorm(16), nn.Dropout(0.2), nn.Linear(16, 3)

    def forward(self, x):
        return self.down(self.drop(torch.relu(self.norm(self.up(x)))))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.up, self.down = linear(6, 16, rngs), linear(16, 3, rngs)
        self.norm = nnx.LayerNorm(16, epsilon=1e-5, rngs=rngs)
        self.drop = nnx.Dropout(0.2, rngs=rngs)

    def __call__(self, x):
        return self.down(self.drop(nnx.relu(self.norm(self.up(x)))))


def linear(inside, outside, rngs):
    """torch's own start: uniform, within 1 / sqrt(inputs)."""

    def uniform(key, shape, dtype):
        return jax.random.uniform(key, shape, dtype, -1, 1) / np.sqrt(inside)

    return nnx.Linear(inside, outside, kernel_init=uniform, bias_init=uniform, rngs=rngs)


def original(seed):
    return Net()


def port(seed):
    return Port(nnx.Rngs(seed))


def inputs(rng):
    return (rng.standard_normal((5, 6)),)


def loss(output, x):
    return (output**2).mean()


optimizers = (
    lambda parameters: torch.optim.AdamW(parameters, 0.01, weight_decay=0.1),
    optax.adamw(0.01, weight_decay=0.1),
)
