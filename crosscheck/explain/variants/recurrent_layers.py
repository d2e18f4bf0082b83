"""How recurrent layers and directions are put together, and which state is read out."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from crosscheck.explain.variant import Case, Variant
from spec.parameters import directions
from spec.reference.arithmetic import Array
from spec.reference.model import Evaluation
from spec.reference.recurrent import read_out, run

STAGES = ("rnn",)


class Stack(NamedTuple):
    """Layers of recurrence as spec.reference.recurrent.forward has them, but for what is said here.

    residual: layers above the first add their input. swapped: the backward direction's outputs come first; read: where
    the last steps are read out too, or there alone. unflipped: those outputs are in the order of computation. forwards:
    both directions run forward. last: how final states are found. by_direction: their order.
    first_start: every layer starts as the first one.
    """

    residual: bool = False
    swapped: str = ""
    unflipped: str = ""
    forwards: bool = False
    last: str = ""
    by_direction: bool = False
    first_start: bool = False
    columns: str = ""

    def __call__(self, at: Evaluation, spec: Any, cell: Any) -> Array:
        hidden, returned = at.inputs(), []
        reads_last = spec.readout == "last step"
        suffixes = directions(spec.bidirectional)
        for layer in range(spec.num_layers):
            outputs = []
            for number, suffix in enumerate(suffixes):
                index = number if self.first_start else len(returned)
                reverse = bool(suffix) and not self.forwards
                trace, last = run(
                    at,
                    cell,
                    ("rnn.", f"_l{layer}{suffix}"),
                    hidden,
                    at.valid,
                    spec.states,
                    at.initial("rnn", index),
                    reverse,
                )
                if self.unflipped == "states" and suffix:
                    trace = tuple(values[:, :, ::-1] for values in trace)
                    for name, values in zip(spec.states, trace, strict=True):
                        at.intermediates[f"rnn.{name}_l{layer}{suffix}"] = values
                outputs.append(trace[0][:, :, ::-1] if self.unflipped == "outputs" and suffix else trace[0])
                returned.append(self._last(at, trace, last, bool(suffix)))
            ordered = outputs[::-1] if self.swapped == "outputs" else outputs
            joined = np.concatenate(ordered, axis=-1)
            if self.residual and layer:
                joined = joined + hidden
            hidden = at.dropout(f"rnn.dropout_l{layer}", joined)
        for state, values in zip(spec.states, zip(*returned, strict=True), strict=True):
            stacked = np.stack(values, axis=1)
            if self.by_direction:
                order = [i for first in range(len(suffixes)) for i in range(first, len(returned), len(suffixes))]
                stacked = stacked[:, order]
            at.record(f"rnn.{state}_n", stacked)
        final = returned[-len(suffixes) :]
        states = [state[0] for state in (final[::-1] if self.swapped == "states" else final)]
        read = read_out(at, spec, hidden, np.concatenate(states, axis=-1))
        if reads_last and self.columns and not (self.columns == "last step, full" and at.batch.lengths is not None):
            read = self._column(at, hidden, spec.hidden_size)
        logits = at.linear("head", read) if spec.head else read
        return at.record("logits", logits if spec.reads_once else at.zero_padding(logits))

    def _last(self, at: Evaluation, trace: Any, last: Any, backward: bool) -> Any:
        if self.last == "column" and backward:
            ends = _lengths(at) - 1
            return tuple(values[:, np.arange(len(ends)), ends] for values in trace)
        if self.last == "first column" and backward:
            return tuple(values[:, :, 0] for values in trace)
        if self.last == "before" and not backward:
            ends = np.maximum(_lengths(at) - 2, 0)
            return tuple(values[:, np.arange(len(ends)), ends] for values in trace)
        if self.last == "column before" and not backward:
            return tuple(values[:, :, -2] for values in trace)
        return last

    def _column(self, at: Evaluation, hidden: Array, width: int) -> Array:
        if self.columns == "last column":
            return hidden[:, :, -1]
        ends = np.maximum(_lengths(at) - 1, 0)
        return hidden[:, np.arange(len(ends)), ends]


def _lengths(at: Evaluation) -> np.ndarray:
    return at.valid.sum(axis=1)


def weights_of(number: int, minimum: int) -> Variant:
    """Layers from `minimum` on are computed with the weights of another."""

    def other(at: Evaluation) -> None:
        for name in list(at.parameters):
            layer = _layer(name)
            if layer is not None and layer[1] >= minimum:
                source = f"{layer[0]}{number}{layer[2]}"
                if at.parameters.get(source, np.empty(0)).shape == at.parameters[name].shape:
                    at.parameters = {**at.parameters, name: at.parameters[source]}

    return Variant(f"layers from the {minimum + 1}. on had the weights of the {number + 1}.", "PB13", prepare=other)


def reversed_layers(at: Evaluation) -> None:
    """Layers above the first, from the last to the first."""
    numbers = [found[1] for found in map(_layer, at.parameters) if found]
    last, changed = max(numbers, default=0), dict(at.parameters)
    for name in at.parameters:
        layer = _layer(name)
        if layer is not None and layer[1]:
            changed[name] = at.parameters[f"{layer[0]}{last + 1 - layer[1]}{layer[2]}"]
    at.parameters = changed


def exchanged_directions(at: Evaluation) -> None:
    """Each direction has the other's weights."""
    changed = dict(at.parameters)
    for name in at.parameters:
        other = f"{name}_reverse"
        if other in at.parameters:
            changed[name], changed[other] = at.parameters[other], at.parameters[name]
    at.parameters = changed


def _layer(name: str) -> tuple[str, int, str] | None:
    """Of "rnn.weight_hh_l2_reverse" what stands before and after the number of the layer, and that."""
    for mark in ("_l", "layers."):
        before, found, rest = name.rpartition(mark)
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        if found and digits:
            return before + mark, int(digits), rest[len(digits) :]
    return None


def of_experiment(case: Case) -> Iterator[Variant]:
    if not case.computes:
        return
    layers = getattr(case.model, "num_layers", 1)
    if layers > 2:
        for number in range(1, min(layers - 1, 3)):
            yield weights_of(number, number + 1)
        yield Variant("layers above the first were loaded in reverse", "PB19", prepare=reversed_layers)
    if layers > 1:
        yield weights_of(0, 1)
    if not hasattr(case.model, "bidirectional"):
        return
    stacks = [("final states were those before the last step", "", Stack(last="before"))]
    stacks += [("final states were those before the last step", "", Stack(last="column before"))]
    if layers > 1:
        stacks += [
            ("recurrent layers added their input", "", Stack(residual=True)),
            ("every layer started from the first one's state", "PB19", Stack(first_start=True)),
        ]
    if case.model.bidirectional:
        yield Variant("the two directions had each other's weights", "PB19", prepare=exchanged_directions)
        stacks += [
            ("the backward direction's outputs came first", "", Stack(swapped="outputs")),
            ("the backward outputs were not flipped back", "PB16", Stack(unflipped="outputs")),
            ("the backward outputs were not flipped back", "PB16", Stack(unflipped="states", last="first column")),
            ("both directions ran forward", "PB16", Stack(forwards=True)),
            ("both directions ran forward", "PB16", Stack(forwards=True, last="first column")),
            ("the backward direction's final state were its output at the last step", "PB17", Stack(last="column")),
            ("final states were ordered by direction first", "PB19", Stack(by_direction=True)),
        ]
    if case.model.readout == "last step":
        stacks.append(("the last column were read out, padding or not", "PB20", Stack(columns="last column")))
        if case.model.bidirectional:
            stacks += [
                ("the backward direction's last step were read out first", "", Stack(swapped="states")),
                ("the outputs at the last step were read out for both directions", "PB17", Stack(columns="last step")),
                (
                    "the outputs at the last step were read out for both directions, without padding",
                    "PB17",
                    Stack(columns="last step, full"),
                ),
            ]
    for words, source, stack in stacks:
        yield Variant(words, source, substitutes={"recurrent.forward": stack})
