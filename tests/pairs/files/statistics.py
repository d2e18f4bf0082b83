"""BatchNorm on images, whose layout is another on either side."""

import jax
import optax
import torch
from flax import nnx
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


class Port(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(3, 4, (3, 3), padding="VALID", rngs=rngs)
        self.norm = nnx.BatchNorm(4, momentum=0.9, epsilon=1e-5, rngs=rngs)
        self.out = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.out(jax.nn.relu(self.norm(self.conv(x))).mean((1, 2)))


def original():
    return Net()


def port():
    return Port()


def inputs(rng):
    return (rng.standard_normal((4, 3, 6, 6)),)


def to_port(x):
    return (x.transpose(0, 2, 3, 1),)


def loss(output, x):
    return (output**2).mean()


optimizers = (lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9), optax.sgd(0.1, 0.9))
expected = {"train mode: norm.var": "torch keeps the unbiased variance, Flax the biased one"}
