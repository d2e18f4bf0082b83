"""What lets no gradient through. An imaginary part stands for a derivative, so that a real part has none."""

from collections.abc import Iterator

import numpy as np

from crosscheck.explain.variant import Case, Variant, everywhere
from spec.reference import recurrent
from spec.reference.arithmetic import linear, softmax
from spec.reference.model import INPUTS, Evaluation


def states(which: tuple[int, ...] | None):
    """Steps begin from states without derivative: all of them, or those of these numbers."""

    def run(at, cell, *given, **named):
        def step(x, h, state):
            held = tuple(np.real(s) if which is None or i in which else s for i, s in enumerate(state))
            return cell(x, h, held)

        return recurrent_run(at, step, *given, **named)

    return {"recurrent.run": run}


def whole_states(at: Evaluation, cell, names, inputs, *given, **named):
    """Also where the state enters by its product."""
    weight, bias = (at[f"{names[0]}{kind}_hh{names[1]}"] for kind in ("weight", "bias"))

    def step(x, _, state):
        held = tuple(np.real(s) for s in state)
        return cell(x, linear(held[0], weight, bias), held)

    return recurrent_run(at, step, names, inputs, *given, **named)


def start(at, cell, names, inputs, valid, kinds, initial=None, reverse=False):
    """What a recurrence is handed to start from."""
    held = None if initial is None else tuple(np.real(s) for s in initial)
    return recurrent_run(at, cell, names, inputs, valid, kinds, held, reverse)


def weights(scores, keep):
    return np.real(softmax(scores, keep))


def inputs(at: Evaluation) -> None:
    if INPUTS in at.parameters:
        at.parameters = {**at.parameters, INPUTS: np.real(at.parameters[INPUTS])}


def frozen(name: str):
    def prepare(at: Evaluation) -> None:
        at.parameters = {**at.parameters, name: np.real(at.parameters[name])}

    return prepare


recurrent_run = recurrent.run


def of_experiment(case: Case) -> Iterator[Variant]:
    if case.check != "gradients":
        return
    yield Variant("no gradient came back to the inputs", "", prepare=inputs)
    if hasattr(case.model, "cell") or case.kind in ("RNN", "GRU", "LSTM", "RNNCell", "LSTMAttention"):
        yield Variant("no gradient went through time", "", substitutes={"recurrent.run": whole_states})
        if "LSTM" in (case.kind, getattr(case.model, "cell", "")) or case.kind == "LSTMAttention":
            yield Variant("no gradient went along the cell state", "", substitutes=states((1,)))
    if case.kind == "EncoderDecoder":
        yield Variant("no gradient came back from the decoder's start", "", substitutes={"recurrent.run": start})
    if case.kind in ("LSTMAttention", "SelfAttention", "MultiHeadAttention", "TransformerEncoder", "EncoderDecoder"):
        places = everywhere(("attention.softmax", "transformer.softmax", "encoder_decoder.softmax"), weights)
        yield Variant("no gradient went through the attention weights", "", substitutes=places)
    for parameter in case.experiment.parameters():
        given = case.side.get(f"{case.failure.point}/{parameter.name}" if case.failure.point else parameter.name)
        if given is not None and given.size and not given.any():
            yield Variant(f"{parameter.name} were not trained", "", prepare=frozen(parameter.name))
