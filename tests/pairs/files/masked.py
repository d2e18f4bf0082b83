"""A mean over what is no padding."""

import jax.numpy as jnp
import numpy as np
import torch
from torch import nn


class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x, lengths):
        valid = (torch.arange(x.shape[1])[None, :] < lengths[:, None])[..., None]
        return self.out((torch.tanh(self.inner(x)) * valid).sum(1))


def original():
    return Mean()


def port():
    def run(p, x, lengths):
        valid = (jnp.arange(x.shape[1])[None, :] < lengths[:, None])[..., None]
        return (jnp.tanh(x @ p["inner"] + p["b"]) * valid).sum(1) @ p["out"] + p["c"]

    return run, {"inner": jnp.zeros((4, 5)), "b": jnp.zeros(5), "out": jnp.zeros((5, 2)), "c": jnp.zeros(2)}


def inputs(rng):
    lengths = rng.integers(1, 4, 3)
    x = rng.standard_normal((3, 4, 4)) * (np.arange(4)[None, :] < lengths[:, None])[..., None]
    return x, lengths


lengths = 1
