"""Recurrence over time, layers and directions. See spec.models.recurrent, and the cells in rnn.py, lstm.py, gru.py."""

from collections.abc import Callable

import numpy as np

from spec.models.recurrent import Recurrent
from spec.parameters import directions
from spec.reference.arithmetic import Array, linear
from spec.reference.model import Evaluation

State = tuple[Array, ...]
"""(h,), or (h, c) for an LSTM, each (perturbations, batch, hidden)."""

Cell = Callable[[Array, Array, State], State]
"""(W_ih x_t + b_ih, W_hh h_(t-1) + b_hh, state) -> next state."""


def run(
    at: Evaluation,
    cell: Cell,
    names: tuple[str, str],
    inputs: Array,
    valid: Array,
    states: tuple[str, ...],
    initial: State | None = None,
    reverse: bool = False,
) -> tuple[State, State]:
    """Every state over time, (perturbations, batch, time, hidden), zero at padding, and the state after the last step.

    names: the prefix and suffix of the weights' names, and of the states' as intermediates, which are recorded here.
    A padded step hands the state on as it is.
    """
    prefix, suffix = names
    weight_hh, bias_hh = at[f"{prefix}weight_hh{suffix}"], at[f"{prefix}bias_hh{suffix}"]
    from_inputs = linear(inputs, at[f"{prefix}weight_ih{suffix}"], at[f"{prefix}bias_ih{suffix}"])
    zeros = np.zeros((len(weight_hh), inputs.shape[1], weight_hh.shape[2]), weight_hh.dtype)
    state = initial or (zeros,) * len(states)
    named = [f"{prefix}{name}{suffix}" for name in states]
    trace = []
    steps = range(inputs.shape[2])
    for time in reversed(steps) if reverse else steps:
        new = cell(from_inputs[:, :, time], linear(state[0], weight_hh, bias_hh), state)
        goes_on = valid[None, :, time, None]
        own = tuple(np.where(goes_on, n, s) for n, s in zip(new, state, strict=True))
        trace.append(own)
        # Where the states are forced, each step starts from the one that was given.
        state = tuple(
            np.where(goes_on, at.forced[name][None, :, time], s) if name in at.forced else o
            for name, o, s in zip(named, own, state, strict=True)
        )
    ordered = trace[::-1] if reverse else trace
    over_time = tuple(np.stack(values, axis=2) for values in zip(*ordered, strict=True))
    shown = (np.where(valid[None, :, :, None], values, 0) for values in over_time)
    return tuple(at.record(name, values) for name, values in zip(named, shown, strict=True)), state


def forward(at: Evaluation, spec: Recurrent, cell: Cell) -> Array:
    """Layers of recurrence, then a readout."""
    hidden = at.inputs()
    returned: list[State] = []
    for layer in range(spec.num_layers):
        outputs = []
        for suffix in directions(spec.bidirectional):
            names = ("rnn.", f"_l{layer}{suffix}")
            initial = at.initial("rnn", len(returned))
            trace, last = run(at, cell, names, hidden, at.valid, spec.states, initial, reverse=bool(suffix))
            outputs.append(trace[0])
            returned.append(last)
        hidden = at.dropout(f"rnn.dropout_l{layer}", np.concatenate(outputs, axis=-1))
    for state, values in zip(spec.states, zip(*returned, strict=True), strict=True):
        at.record(f"rnn.{state}_n", np.stack(values, axis=1))
    last_step = spec.readout == "last step"
    final = returned[-len(directions(spec.bidirectional)) :]
    read = np.concatenate([state[0] for state in final], axis=-1) if last_step else hidden
    logits = at.linear("head", read) if spec.head else read
    return at.record("logits", logits if last_step else at.zero_padding(logits))
