"""The Elman recurrence. See spec.models.rnn."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from flax_impl.linear import Linear
from flax_impl.mixed_precision import products
from flax_impl.model import ArrayBatch, Model, valid_steps, zero_padding
from flax_impl.recurrent import Cell, Recurrent, State, initial_state, record_final, unroll_cell
from spec.models.rnn import RNN as RNNSpec
from spec.models.rnn import RNNCell as RNNCellSpec


class ElmanCell(Cell):
    """One step. See spec.models.RNNCell."""

    gates = 1

    def __init__(self, input_size: int, hidden_size: int, *, nonlinearity: str, rngs: nnx.Rngs, **options: Any):
        super().__init__(input_size, hidden_size, rngs=rngs, **options)
        self.activation = {"tanh": jnp.tanh, "relu": jax.nn.relu}[nonlinearity]

    def __call__(self, state: State, inputs: Float[Array, "batch features"]) -> tuple[State, Array]:
        (hidden,) = state
        hidden = self.activation(self.dense_i(inputs) + self.dense_h(hidden))
        return (hidden,), hidden


class RNNCell(Model):
    """One cell, scanned over time. See spec.models.RNNCell."""

    def __init__(self, spec: RNNCellSpec, *, rngs: nnx.Rngs):
        super().__init__(spec, rngs=rngs)
        options: Any = {"dot_general": products(spec).dot_general, "rngs": rngs}
        self.cell = ElmanCell(
            spec.inputs.size, spec.hidden_size, nonlinearity=spec.nonlinearity, bias=spec.bias, **options
        )
        self.head = Linear(spec.hidden_size, spec.classes, **options) if spec.head else None

    def forward(self, batch: ArrayBatch) -> Float[Array, "batch time classes"]:
        valid = valid_steps(batch)
        inputs = self.embed(batch, valid)
        initial = initial_state(batch, "cell")
        (trace,) = unroll_cell(self.cell, inputs, valid, initial=initial, resets=batch.resets)
        outputs = zero_padding(trace, valid)
        self.record("cell.h", outputs)
        record_final(self, "cell", (trace[:, -1],))
        logits = outputs if self.head is None else zero_padding(self.head(outputs), valid)
        self.record("logits", logits)
        return logits

    def begin(self, batch: int, steps: int) -> State:
        del steps
        return self.cell.zeros(jnp.zeros((batch, 0), self.cell.dense_h.kernel.dtype))

    def step(self, symbols: Int[Array, " batch"], state: State) -> tuple[Float[Array, "batch classes"], State]:
        state, hidden = self.cell(state, self.read(symbols))
        return hidden if self.head is None else self.head(hidden), state


class RNN(Recurrent):
    """Stacked Elman layers. See spec.models.RNN."""

    cell = ElmanCell

    def __init__(self, spec: RNNSpec, *, rngs: nnx.Rngs):
        super().__init__(spec, rngs=rngs, nonlinearity=spec.nonlinearity)
