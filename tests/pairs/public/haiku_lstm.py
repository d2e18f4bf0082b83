"""torch's LSTM against Haiku's, which joins both matrices and adds 1 to the forget gate."""

import haiku
import jax
import jax.numpy as jnp
from torch import nn


def original():
    return nn.LSTM(5, 7)


def call_original(model, x):
    return model(x)[0]


def port():
    def run(x):
        core = haiku.LSTM(7)
        return haiku.dynamic_unroll(core, x, core.initial_state(x.shape[1]))[0]

    made = haiku.without_apply_rng(haiku.transform(run))
    return made, made.init(jax.random.key(0), jnp.zeros((6, 3, 5), jnp.float32))


def inputs(rng):
    return (rng.standard_normal((6, 3, 5)),)
