"""The Elman recurrence. See spec.models.rnn."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flax_impl.linear import Linear
from flax_impl.model import ArrayBatch, Model, valid_steps, zero_padding
from flax_impl.recurrent import Cell, Recurrent, State, initial_state, record_final, unroll_cell
from spec.models.rnn import RNN as RNNSpec
from spec.models.rnn import RNNCell as RNNCellSpec


class ElmanCell(Cell):
    """One step. See spec.models.RNNCell."""

    gates = 1

    def __init__(self, input_size: int, hidden_size: int, *, nonlinearity: str, rngs: nnx.Rngs):
        super().__init__(input_size, hidden_size, rngs=rngs)
        self.activation = {"tanh": jnp.tanh, "relu": jax.nn.relu}[nonlinearity]

    def __call__(self, state: State, inputs: Float[Array, "batch features"]) -> tuple[State, Array]:
        (hidden,) = state
        hidden = self.activation(self.dense_i(inputs) + self.dense_h(hidden))
        return (hidden,), hidden


class RNNCell(Model):
    """One cell, scanned over time. See spec.models.RNNCell."""

    def __init__(self, spec: RNNCellSpec, *, rngs: nnx.Rngs):
        super().__init__(spec, rngs=rngs)
        self.cell = ElmanCell(spec.inputs.size, spec.hidden_size, nonlinearity=spec.nonlinearity, rngs=rngs)
        self.head = Linear(spec.hidden_size, spec.classes, rngs=rngs) if spec.head else None

    def forward(self, batch: ArrayBatch) -> Float[Array, "batch time classes"]:
        valid = valid_steps(batch)
        inputs = self.embed(batch, valid)
        (trace,) = unroll_cell(self.cell, inputs, valid, initial=initial_state(batch, "cell"))
        outputs = zero_padding(trace, valid)
        self.record("cell.h", outputs)
        record_final(self, "cell", (trace[:, -1],))
        logits = outputs if self.head is None else zero_padding(self.head(outputs), valid)
        self.record("logits", logits)
        return logits


class RNN(Recurrent):
    """Stacked Elman layers. See spec.models.RNN."""

    cell = ElmanCell

    def __init__(self, spec: RNNSpec, *, rngs: nnx.Rngs):
        super().__init__(spec, rngs=rngs, nonlinearity=spec.nonlinearity)
