"""The cells' own formulas: gates, their order, and the two biases."""

from collections.abc import Callable, Iterator
from itertools import permutations

import numpy as np

from crosscheck.explain.variant import Case, Variant
from spec.reference import gru, lstm
from spec.reference.arithmetic import Array, linear, sigmoid
from spec.reference.model import Evaluation
from spec.reference.recurrent import State, run

STAGES = ("rnn", "cell")

Step = Callable[[Array, Array, State, Array, Array], State]
"""As spec.reference.recurrent.Cell, and the recurrent weight and bias, (perturbations, gates hidden, ...)."""


def by(step: Step) -> dict[str, object]:
    """Every recurrence takes its steps so."""

    def runs(at: Evaluation, cell, names: tuple[str, str], *given, **named):
        weight, bias = (at[f"{names[0]}{kind}_hh{names[1]}"] for kind in ("weight", "bias"))
        return run(at, lambda x, h, state: step(x, h, state, weight, bias), names, *given, **named)

    return {"recurrent.run": runs}


def _gru(x: Array, h: Array, state: State, made: Callable[[Array, Array, Array], Array]) -> State:
    input_r, input_z, input_n = np.split(x, 3, axis=-1)
    hidden_r, hidden_z, hidden_n = np.split(h, 3, axis=-1)
    r, z = sigmoid(input_r + hidden_r), sigmoid(input_z + hidden_z)
    return ((1 - z) * np.tanh(made(input_n, r, hidden_n)) + z * state[0],)


def reset_first(x: Array, h: Array, state: State, weight: Array, bias: Array) -> State:
    def made(n: Array, r: Array, _: Array) -> Array:
        third = weight.shape[1] // 3
        return n + linear(r * state[0], weight[:, 2 * third :], bias[:, 2 * third :])

    return _gru(x, h, state, made)


def bias_outside(x: Array, h: Array, state: State, weight: Array, bias: Array) -> State:
    b = np.split(bias, 3, axis=-1)[2][:, None]
    return _gru(x, h, state, lambda n, r, hn: n + b + r * (hn - b))


def without_b_hn(x: Array, h: Array, state: State, weight: Array, bias: Array) -> State:
    b = np.split(bias, 3, axis=-1)[2][:, None]
    return _gru(x, h, state, lambda n, r, hn: n + r * (hn - b))


def no_reset(x: Array, h: Array, state: State, weight: Array, bias: Array) -> State:
    return _gru(x, h, state, lambda n, r, hn: n + hn)


def update_negated(x: Array, h: Array, state: State, weight: Array, bias: Array) -> State:
    input_r, input_z, input_n = np.split(x, 3, axis=-1)
    hidden_r, hidden_z, hidden_n = np.split(h, 3, axis=-1)
    r, z = sigmoid(input_r + hidden_r), sigmoid(input_z + hidden_z)
    return (z * np.tanh(input_n + r * hidden_n) + (1 - z) * state[0],)


def forget_bias(x: Array, h: Array, state: State, weight: Array, bias: Array) -> State:
    i, f, g, o = np.split(x + h, 4, axis=-1)
    return lstm.step(np.concatenate([i, f + 1, g, o], axis=-1), np.zeros_like(h), state)


def no_recurrent_bias(plain: Callable[[Array, Array, State], State]) -> Step:
    return lambda x, h, state, weight, bias: plain(x, h - bias[:, None], state)


def n_bias_without_gradient(x: Array, h: Array, state: State, weight: Array, bias: Array) -> State:
    third = bias.shape[1] // 3
    held = np.concatenate([bias[:, : 2 * third], np.real(bias[:, 2 * third :])], axis=1)
    return gru.step(x, h - bias[:, None] + held[:, None], state)


def reordered(order: tuple[int, ...]) -> Callable[[Evaluation], None]:
    """Blocks of rows stand in another order: block i is read from block order[i]."""

    def prepare(at: Evaluation) -> None:
        changed = dict(at.parameters)
        for name, value in at.parameters.items():
            if ".weight_ih" in name or ".weight_hh" in name or ".bias_ih" in name or ".bias_hh" in name:
                blocks = np.split(value, len(order), axis=1)
                changed[name] = np.concatenate([blocks[i] for i in order], axis=1)
        at.parameters = changed

    return prepare


def biases_exchanged(at: Evaluation) -> None:
    changed = dict(at.parameters)
    for name, value in at.parameters.items():
        if ".bias_ih" in name:
            other = name.replace(".bias_ih", ".bias_hh")
            changed[name], changed[other] = at.parameters[other], value
    at.parameters = changed


def _cell(case: Case) -> str:
    """The kind of cell that the model has: "GRU", "LSTM", "RNN", or nothing."""
    if case.kind == "EncoderDecoder":
        return case.model.cell
    return {"GRU": "GRU", "LSTM": "LSTM", "LSTMAttention": "LSTM", "RNN": "RNN", "RNNCell": "RNN"}.get(case.kind, "")


GRU_STEPS = (
    ("the reset gate acted on the state, before its product", "PB01", reset_first),
    ("both biases of n stood outside the reset product", "PB04", bias_outside),
    ("the bias inside the reset product were missing", "PB02", without_b_hn),
    ("there were no reset gate", "", no_reset),
    ("the update gate were negated, h = z n + (1 - z) h", "PB10", update_negated),
)


def of_experiment(case: Case) -> Iterator[Variant]:
    cell = _cell(case)
    if not case.computes or not cell:
        return
    letters = {"GRU": "rzn", "LSTM": "ifgo"}.get(cell, "")
    if cell == "GRU":
        for words, source, step in GRU_STEPS:
            yield Variant(words, source, substitutes=by(step))
        if case.check == "gradients":
            yield Variant(
                "the bias inside the reset product were not trained", "PB02", substitutes=by(n_bias_without_gradient)
            )
    if cell == "LSTM":
        yield Variant("1 were added to the forget gate", "PB08", substitutes=by(forget_bias))
    plain = {"GRU": gru.step, "LSTM": lstm.step}.get(cell)
    if plain is None:
        activation = {"tanh": np.tanh}.get(case.model.nonlinearity)
        plain = None if activation is None else lambda x, h, state: (activation(x + h),)
    if plain is not None:
        yield Variant("the recurrent bias were not added", "PB02", substitutes=by(no_recurrent_bias(plain)))
    if cell == "GRU":
        yield Variant("b_ih and b_hh stood in each other's place", "PB04", prepare=biases_exchanged)
    for order in permutations(range(len(letters))):
        if order != tuple(range(len(letters))):
            held = ", ".join(letters[i] for i in order)
            words = f"gates stood in the order {held} ({', '.join(letters)} in the equations)"
            yield Variant(words, "PB05" if cell == "GRU" else "PB07", prepare=reordered(order))
