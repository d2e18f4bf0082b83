"""Gated recurrent unit. See spec.models.gru."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_impl.recurrent import Cell, Recurrent, State


class GRUCell(Cell):
    """One step. See spec.models.GRU."""

    gates = 3

    def __call__(self, state: State, inputs: Float[Array, "batch features"]) -> tuple[State, Array]:
        (hidden,) = state
        input_r, input_z, input_n = jnp.split(self.dense_i(inputs), 3, -1)
        hidden_r, hidden_z, hidden_n = jnp.split(self.dense_h(hidden), 3, -1)
        r = jax.nn.sigmoid(input_r + hidden_r)
        z = jax.nn.sigmoid(input_z + hidden_z)
        n = jnp.tanh(input_n + r * hidden_n)
        hidden = (1 - z) * n + z * hidden
        return (hidden,), hidden


class GRU(Recurrent):
    """Stacked GRU layers. See spec.models.GRU."""

    cell = GRUCell
