"""Models as people write them in Flax, linen and nnx. All in float64."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Predict = Callable[[np.ndarray], np.ndarray]
F64 = {"param_dtype": jnp.float64}


class Tagger(nn.Module):
    """A stock cell carried over time, and a linear map."""

    cell: type[nn.RNNCellBase]

    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(4, **F64)(nn.RNN(self.cell(8, **F64))(x))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.LayerNorm(epsilon=1e-5, name="norm_1", **F64)(
            x + nn.MultiHeadDotProductAttention(num_heads=2, name="attention", **F64)(x)
        )
        y = nn.Dense(8, name="mlp_2", **F64)(nn.relu(nn.Dense(16, name="mlp_1", **F64)(x)))
        return nn.LayerNorm(epsilon=1e-5, name="norm_2", **F64)(x + y)


class Transformer(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Dense(8, name="project", **F64)(x)
        for number in range(2):
            x = Block(name=f"block_{number}")(x)
        return nn.Dense(4, name="classify", **F64)(x)


LINEN: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "lstm": ("hello-lstm", lambda: Tagger(nn.OptimizedLSTMCell)),
    "gru": ("hello-gru", lambda: Tagger(nn.GRUCell)),
    "rnn": ("hello-rnn", lambda: Tagger(nn.SimpleCell)),
    "transformer": ("hello-transformer-no-positions", Transformer),
}
"""Each with the experiment whose model it is."""


def linen(name: str) -> tuple[Any, Predict]:
    """Variables, their values drawn anew, and what the model predicts with them."""
    with jax.enable_x64(True):
        model = LINEN[name][1]()
        variables = model.init(jax.random.key(0), jnp.zeros((1, 5, 4)))
        random = np.random.default_rng(0)
        variables = jax.tree.map(lambda one: one + random.normal(0, 0.2, one.shape), variables)

    def predict(inputs: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(model.apply(variables, jnp.asarray(inputs)))

    return variables, predict


class Recurrent(nnx.Module):
    """A stock nnx cell, and a linear map."""

    def __init__(self, cell: type, rngs: nnx.Rngs):
        self.rnn = nnx.RNN(cell(4, 8, rngs=rngs, **F64))
        self.head = nnx.Linear(8, 4, rngs=rngs, **F64)

    def __call__(self, x: Any) -> Any:
        return self.head(self.rnn(x))


NNX: dict[str, tuple[str, type]] = {
    "lstm": ("hello-lstm", nnx.LSTMCell),
    "optimized lstm": ("hello-lstm", nnx.OptimizedLSTMCell),
    "gru": ("hello-gru", nnx.GRUCell),
}


def stock(name: str) -> tuple[nnx.State, Predict]:
    """The state of a model with one of the cells in NNX, and what it predicts."""
    with jax.enable_x64(True):
        model = Recurrent(NNX[name][1], nnx.Rngs(0))
        random = np.random.default_rng(0)
        state = jax.tree.map(lambda one: one + random.normal(0, 0.2, one.shape), nnx.state(model, nnx.Param))
        nnx.update(model, state)

    def predict(inputs: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(model(jnp.asarray(inputs)))

    return state, predict
