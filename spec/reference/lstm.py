"""Long short-term memory. See spec.models.lstm."""

import numpy as np

from spec.models.lstm import LSTM as Spec
from spec.reference import recurrent
from spec.reference.arithmetic import Array, sigmoid
from spec.reference.model import Evaluation
from spec.reference.recurrent import State


def step(from_input: Array, from_hidden: Array, state: State) -> State:
    """One step."""
    i, f, g, o = np.split(from_input + from_hidden, 4, axis=-1)
    cell = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(cell), cell


def LSTM(at: Evaluation, spec: Spec) -> Array:  # noqa: N802
    """See spec.models.LSTM."""
    return recurrent.forward(at, spec, step)
