"""Long short-term memory. See spec.models.lstm."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flax_impl.recurrent import Cell, Recurrent, State
from spec.models.lstm import LSTM as Spec


class LSTMCell(Cell):
    """One step. See spec.models.LSTM."""

    gates = 4
    states = 2

    def __call__(self, state: State, inputs: Float[Array, "batch features"]) -> tuple[State, Array]:
        hidden, cell = state
        i, f, g, o = jnp.split(self.dense_i(inputs) + self.dense_h(hidden), 4, -1)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return (hidden, cell), hidden


class LSTM(Recurrent):
    """Stacked LSTM layers. See spec.models.LSTM."""

    cell = LSTMCell

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs):
        super().__init__(spec, rngs=rngs, forget_bias=spec.forget_bias)
