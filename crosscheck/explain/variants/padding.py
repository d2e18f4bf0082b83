"""Which steps count: lengths that are read otherwise, padding that is not left out, the inputs of other steps."""

from collections.abc import Callable, Iterator

import numpy as np

from crosscheck.explain.variant import Case, Variant
from spec.reference import recurrent
from spec.reference.model import Evaluation

STAGES = ("rnn",)

Change = Callable[[Evaluation], None]


def longer(by: int, least: int = 0) -> Change:
    """Every sequence is so many steps longer."""

    def prepare(at: Evaluation) -> None:
        if at.batch.lengths is not None:
            lengths = np.maximum(at.batch.lengths + by, least)
            at.valid = np.arange(at.batch.inputs.shape[1]) < lengths[:, None]

    return prepare


def one_length(at: Evaluation) -> None:
    if at.batch.lengths is not None:
        at.valid = np.broadcast_to(np.arange(at.batch.inputs.shape[1]) < at.batch.lengths.max(), at.valid.shape)


def earlier_inputs(at: Evaluation) -> None:
    at.batch = at.batch._replace(inputs=np.roll(at.batch.inputs, 1, axis=1))


def without_start(at: Evaluation) -> None:
    at.batch = at.batch._replace(initial=None)


def without_start_where_full(at: Evaluation) -> None:
    if at.batch.lengths is None:
        at.batch = at.batch._replace(initial=None)


def states_alike(at: Evaluation) -> None:
    """The hidden state that the batch brings is taken for the cell state too."""
    if at.batch.initial is not None:
        changed = dict(at.batch.initial)
        for name in changed:
            if name.endswith("c_0"):
                changed[name] = at.batch.initial[f"{name[:-3]}h_0"]
        at.batch = at.batch._replace(initial=changed)


def goes_on(backward_only: bool) -> dict[str, object]:
    """The state moves on through padding, whose inputs are zero."""

    def run(at, cell, names, inputs, valid, states, initial=None, reverse=False):
        everywhere = np.ones_like(valid) if reverse or not backward_only else valid
        trace, last = PLAIN(at, cell, names, inputs, everywhere, states, initial, reverse)
        shown = tuple(np.where(valid[None, :, :, None], values, 0) for values in trace)
        for name, values in zip(states, shown, strict=True):
            at.intermediates[f"{names[0]}{name}{names[1]}"] = values
        return shown, last

    return {"recurrent.run": run}


def swapped_axes(at, cell, names, inputs, valid, states, initial=None, reverse=False):
    """The recurrence runs over the batch, (batch, time) being taken for (time, batch)."""
    every = np.ones(valid.T.shape, bool)
    trace, last = PLAIN(at, cell, names, inputs.swapaxes(1, 2), every, states, None, reverse)
    back = tuple(values.swapaxes(1, 2) for values in trace)
    for name, values in zip(states, back, strict=True):
        at.intermediates[f"{names[0]}{name}{names[1]}"] = values
    return back, last


PLAIN = recurrent.run

CHANGES: tuple[tuple[str, str, Change], ...] = (
    ("sequences were a step shorter", "", longer(-1)),
    ("sequences were a step shorter, but one step at least", "", longer(-1, 1)),
    ("sequences were a step longer", "", longer(1)),
    ("every sequence were as long as the longest", "", one_length),
    ("each step read the inputs of the step before", "", earlier_inputs),
)

STARTS: tuple[tuple[str, str, Change], ...] = (
    ("the states that a batch brings were ignored", "", without_start),
    ("the states that a batch brings were ignored where it has no lengths", "", without_start_where_full),
    ("the cell state that a batch brings were its hidden state", "", states_alike),
)


def of_experiment(case: Case) -> Iterator[Variant]:
    if not case.computes:
        return
    for words, source, change in CHANGES:
        yield Variant(words, source, prepare=change)
    if case.model.initial_states(1):
        for words, source, change in STARTS:
            yield Variant(words, source, prepare=change)
    if case.kind in ("RNN", "GRU", "LSTM", "RNNCell", "LSTMAttention", "EncoderDecoder"):
        yield Variant("the state went on through padding", "PB22", substitutes=goes_on(False))
        if getattr(case.model, "bidirectional", False):
            yield Variant("the backward direction began in the padding", "PB14", substitutes=goes_on(True))
        yield Variant("the recurrence ran over the batch", "PB55", substitutes={"recurrent.run": swapped_axes})
