"""A stock LSTM and a stock cell: torch has two biases where Flax has one."""

from flax import nnx
from torch import nn


def original():
    return nn.LSTM(5, 7, batch_first=True)


def call_original(model, x):
    return model(x)[0]


def port():
    return nnx.RNN(nnx.LSTMCell(5, 7, rngs=nnx.Rngs(0)))


def inputs(rng):
    return (rng.standard_normal((3, 4, 5)),)
