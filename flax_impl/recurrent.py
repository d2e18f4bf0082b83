"""Stacked recurrent networks, out of cells of our own. See spec.models.recurrent.

`nnx.RNN` and its cells would not do: one bias where torch has two trains differently under Adam, `nnx.GRUCell` has no
bias inside the reset product, and `nnx.RNN` neither stops at a sequence's length nor zeroes what comes after it.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from flax_impl.dropout import Dropout
from flax_impl.fast.choice import chosen
from flax_impl.fast.linearization import At
from flax_impl.linear import Linear, initializer
from flax_impl.mixed_precision import DotGeneral, products
from flax_impl.model import ArrayBatch, Model, valid_steps, zero_padding
from flax_impl.settings import recurrence
from spec.models.recurrent import Recurrent as Spec
from spec.parameters import directions, linear, recurrent

State = tuple[Array, ...]
"""(h,), or (h, c) for an LSTM: each (batch, hidden) for a cell, (layers * directions, batch, hidden) for layers, in
the order layer 0 forward, layer 0 backward, layer 1 forward, ..."""


class Cell(nnx.Module):
    """One step of recurrence, `(state, inputs) -> (state, output)` as `lax.scan` wants it."""

    gates: ClassVar[int]
    states: ClassVar[int] = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        forget_bias: float = 0.0,
        dot_general: DotGeneral = jax.lax.dot_general,
        rngs: nnx.Rngs,
    ):
        self.hidden_size = hidden_size
        table = recurrent("", self.gates, input_size, hidden_size, forget_bias=forget_bias)
        laws = [parameter.law for parameter in table]
        outputs = self.gates * hidden_size
        options = {"use_bias": bias, "dot_general": dot_general, "rngs": rngs}
        self.dense_i = Linear(input_size, outputs, laws=laws[0::2], **options)
        self.dense_h = Linear(hidden_size, outputs, laws=laws[1::2], **options)

    def __call__(self, state: State, inputs: Float[Array, "batch features"]) -> tuple[State, Array]:
        raise NotImplementedError

    def zeros(self, inputs: Array) -> State:
        """The state before the first step."""
        return (jnp.zeros((inputs.shape[0], self.hidden_size), inputs.dtype),) * self.states


class Layers(nnx.Module):
    """Cells in layers and directions, the counterpart of `torch.nn.RNN`, `LSTM` and `GRU`."""

    def __init__(
        self,
        cell: type[Cell],
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        self.num_layers = num_layers
        self.suffixes = directions(bidirectional)
        sizes = [input_size] + [hidden_size * len(self.suffixes)] * (num_layers - 1)
        self.cells = nnx.List([cell(size, hidden_size, rngs=rngs, **options) for size in sizes for _ in self.suffixes])
        for layer in range(num_layers - 1):
            setattr(self, f"dropout_l{layer}", Dropout(dropout))

    def __call__(
        self,
        inputs: Float[Array, "batch time features"],
        valid: Bool[Array, "batch time"] | None = None,
        initial: State | None = None,
        resets: Bool[Array, "batch time"] | None = None,
    ) -> tuple[Float[Array, "batch time outputs"], State, dict[str, Array]]:
        """Outputs, zero at padding; the state after each sequence's last valid step; every state over time."""
        trace = {}
        final = []
        for layer in range(self.num_layers):
            outputs = []
            for direction, suffix in enumerate(self.suffixes):
                index = layer * len(self.suffixes) + direction
                start = tuple(s[index] for s in initial) if initial else None
                states = unroll_cell(self.cells[index], inputs, valid, bool(suffix), start, resets)
                for state, values in zip(("h", "c"), states, strict=False):
                    trace[f"{state}_l{layer}{suffix}"] = zero_padding(values, valid)
                outputs.append(zero_padding(states[0], valid))
                final.append(tuple(values[:, 0 if suffix else -1] for values in states))
            inputs = jnp.concatenate(outputs, -1)
            if layer < self.num_layers - 1:
                inputs = getattr(self, f"dropout_l{layer}")(inputs)
        return inputs, tuple(jnp.stack(s) for s in zip(*final, strict=True)), trace

    def step(
        self, states: tuple[State, ...], inputs: Float[Array, "batch features"]
    ) -> tuple[tuple[State, ...], Float[Array, "batch hidden"]]:
        """One step of every layer, of layers in one direction: a state of each, and the last one's output."""
        after = []
        for cell, state in zip(self.cells, states, strict=True):
            state, inputs = cell(state, inputs)
            after.append(state)
        return tuple(after), inputs


class Recurrent(Model):
    """Layers of recurrence, then a readout."""

    cell: ClassVar[type[Cell]]

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs, **options: Any):
        super().__init__(spec, rngs=rngs)
        self.rnn = Layers(
            self.cell,
            spec.inputs.size,
            spec.hidden_size,
            num_layers=spec.num_layers,
            bidirectional=spec.bidirectional,
            dropout=spec.dropout,
            bias=spec.bias,
            dot_general=products(spec).dot_general,
            rngs=rngs,
            **options,
        )
        head = TiedHead if spec.tied else Linear
        options = {"dot_general": products(spec).dot_general, "rngs": rngs}
        self.head = head(spec.output_size, spec.classes, **options) if spec.head else None
        self.readout = spec.readout
        self.directions = len(directions(spec.bidirectional))

    def forward(self, batch: ArrayBatch) -> Float[Array, "batch *time classes"]:
        valid = valid_steps(batch)
        inputs = self.embed(batch, valid)
        outputs, final, trace = self.rnn(inputs, valid, initial_state(batch, "rnn"), batch.resets)
        for name, value in trace.items():
            self.record(f"rnn.{name}", value)
        record_final(self, "rnn", final)
        if self.readout == "every step":
            logits = zero_padding(self.classify(outputs), valid)
        elif self.readout == "last step":
            logits = self.classify(jnp.concatenate(final[0][-self.directions :], -1))
        else:
            logits = self.classify(pool(outputs, valid, self.readout))
        self.record("logits", logits)
        return logits

    def classify(self, outputs: Float[Array, "*batch outputs"]) -> Float[Array, "*batch classes"]:
        """The logits of the last layer's outputs."""
        if self.head is None:
            return outputs
        if isinstance(self.head, TiedHead):
            assert self.embedding is not None
            return self.head(outputs, self.embedding.embedding[...])
        return self.head(outputs)

    def begin(self, batch: int, steps: int) -> tuple[State, ...]:
        del steps
        return tuple(cell.zeros(jnp.zeros((batch, 0), cell.dense_h.kernel.dtype)) for cell in self.rnn.cells)

    def step(
        self, symbols: Int[Array, " batch"], state: tuple[State, ...]
    ) -> tuple[Float[Array, "batch classes"], tuple[State, ...]]:
        state, outputs = self.rnn.step(state, self.read(symbols))
        return self.classify(outputs), state


class TiedHead(nnx.Module):
    """A linear layer by the rows of the embedding, and a bias of its own."""

    def __init__(self, in_features: int, out_features: int, *, dot_general: DotGeneral, rngs: nnx.Rngs):
        _, bias = linear("", in_features, out_features)
        self.dot_general = dot_general
        self.bias = nnx.Param(initializer(bias.law)(rngs.params(), bias.shape, jnp.float32))

    def __call__(
        self, outputs: Float[Array, "*batch outputs"], rows: Float[Array, "classes outputs"]
    ) -> Float[Array, "*batch classes"]:
        return self.dot_general(outputs, rows, (((outputs.ndim - 1,), (1,)), ((), ()))) + self.bias[...]


def pool(
    outputs: Float[Array, "batch time outputs"], valid: Bool[Array, "batch time"] | None, readout: str
) -> Float[Array, "batch outputs"]:
    """The mean or the largest of all valid steps, of outputs that are zero at padding. Zero where there is none."""
    if valid is None:
        return outputs.mean(1) if readout == "mean" else outputs.max(1)
    count = valid.sum(1, keepdims=True)
    if readout == "mean":
        return outputs.sum(1) / jnp.maximum(count, 1)
    # The lowest finite number, as in attention.
    lowest = jnp.finfo(outputs.dtype).min
    return jnp.where(count > 0, jnp.where(valid[..., None], outputs, lowest).max(1), 0)


def initial_state(batch: ArrayBatch, module: str) -> State | None:
    """The state in which that module starts; None for zeros."""
    if batch.initial is None:
        return None
    names = (f"{module}.h_0", f"{module}.c_0")
    return tuple(batch.initial[name] for name in names if name in batch.initial)


def record_final(model: Model, module: str, final: State) -> None:
    """Keep the state in which that module ended."""
    for state, values in zip(("h", "c"), final, strict=False):
        model.record(f"{module}.{state}_n", values)


def unroll_cell(
    cell: Cell,
    inputs: Float[Array, "batch time features"],
    valid: Bool[Array, "batch time"] | None = None,
    reverse: bool = False,
    initial: State | None = None,
    resets: Bool[Array, "batch time"] | None = None,
) -> tuple[Float[Array, "batch time hidden"], ...]:
    """h, and c for an LSTM, over time, in the order of time; a padded step hands the state on as it is, and none is
    handed across a step at which something new begins.

    A faster formulation of the same may take the place of the scan: see flax_impl.fast.
    """

    def step(cell: Cell, state: State, at: At) -> State:
        step_inputs, (step_valid, begins) = at
        if begins is not None:
            state = tuple(jnp.where(begins[:, None], 0, s) for s in state)
        new, _ = cell(state, step_inputs)
        if step_valid is not None:
            new = tuple(jnp.where(step_valid[:, None], n, s) for n, s in zip(new, state, strict=True))
        return new

    # Padding must reach no product: a gradient of zero times NaN would be NaN.
    inputs = zero_padding(inputs, valid)
    start = initial or cell.zeros(inputs)
    over_time = (inputs, (valid, None if resets is None else handed_on(resets, valid, reverse)))
    if (fast := chosen(recurrence.value, cell, inputs)) is not None:
        return fast(cell, step, start, over_time, reverse=reverse)

    def carry(state: State, at: At) -> tuple[State, State]:
        state = step(cell, state, at)
        return state, state

    # lax.scan wants time first.
    by_time = jax.tree.map(lambda values: values.swapaxes(0, 1), over_time)
    _, trace = jax.lax.scan(carry, start, by_time, reverse=reverse)
    return tuple(values.swapaxes(0, 1) for values in trace)


def handed_on(
    resets: Bool[Array, "batch time"], valid: Bool[Array, "batch time"] | None, reverse: bool = False
) -> Bool[Array, "batch time"]:
    """True where the state that a step is handed has to be zero: from the end, where the step behind it resets."""
    begins = resets if valid is None else resets & valid
    return jnp.pad(begins[:, 1:], ((0, 0), (0, 1))) if reverse else begins
