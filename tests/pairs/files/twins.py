"""Two branches that are added up: nothing can tell which is which."""

import jax.numpy as jnp
import torch
from torch import nn


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return torch.tanh(self.a(x)) + torch.tanh(self.b(x))


def original():
    return Branches()


def port():
    def run(p, x):
        return jnp.tanh(x @ p["x"]["w"] + p["x"]["c"]) + jnp.tanh(x @ p["y"]["w"] + p["y"]["c"])

    each = {"w": jnp.zeros((4, 4)), "c": jnp.zeros(4)}
    return run, {"x": each, "y": dict(each)}


def inputs(rng):
    return (rng.standard_normal((3, 4)),)
