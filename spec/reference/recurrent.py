"""Recurrence over time, layers and directions. See spec.models.recurrent, and the cells in rnn.py, lstm.py, gru.py."""

from collections.abc import Callable

import numpy as np

from spec.models.recurrent import Recurrent
from spec.parameters import directions
from spec.reference.arithmetic import Array
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
    A padded step hands the state on as it is; none is handed across a step at which something new begins.
    """
    prefix, suffix = names
    weight_hh = at[f"{prefix}weight_hh{suffix}"]
    bias_ih, bias_hh = (at.parameters.get(f"{prefix}bias_{part}{suffix}") for part in ("ih", "hh"))
    from_inputs = at.affine(inputs, at[f"{prefix}weight_ih{suffix}"], bias_ih)
    zeros = np.zeros((len(weight_hh), inputs.shape[1], weight_hh.shape[2]), weight_hh.dtype)
    state = initial or (zeros,) * len(states)
    named = [f"{prefix}{name}{suffix}" for name in states]
    trace = []
    steps = range(inputs.shape[2])
    # What is handed on to a step: from the one before it, or, from the end, from the one behind it.
    begins = None if at.resets is None else np.pad(at.resets, ((0, 0), (0, 1)))[:, int(reverse) :]
    for time in reversed(steps) if reverse else steps:
        if begins is not None:
            state = tuple(np.where(begins[None, :, time, None], 0, s) for s in state)
        new = cell(from_inputs[:, :, time], at.affine(state[0], weight_hh, bias_hh), state)
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
    final = returned[-len(directions(spec.bidirectional)) :]
    read = read_out(at, spec, hidden, np.concatenate([state[0] for state in final], axis=-1))
    logits = at.linear("head", read) if spec.head else read
    return at.record("logits", logits if spec.reads_once else at.zero_padding(logits))


def read_out(at: Evaluation, spec: Recurrent, hidden: Array, final: Array) -> Array:
    """What the head reads, of the last layer's outputs, zero at padding, and its final states."""
    if spec.readout == "every step":
        return hidden
    if spec.readout == "last step":
        return final
    valid = at.valid[None, :, :, None]
    if spec.readout == "mean":
        return hidden.sum(axis=2) / np.maximum(valid.sum(axis=2), 1)
    highest = np.max(np.real(hidden), axis=2, keepdims=True, where=valid, initial=-np.inf)
    largest = valid & (np.real(hidden) == highest)
    return (hidden * largest).sum(axis=2) / np.maximum(largest.sum(axis=2), 1)
