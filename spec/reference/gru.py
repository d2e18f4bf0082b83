"""Gated recurrent unit. See spec.models.gru."""

import numpy as np

from spec.models.gru import GRU as Spec
from spec.reference import recurrent
from spec.reference.arithmetic import Array, sigmoid
from spec.reference.model import Evaluation
from spec.reference.recurrent import State


def step(from_input: Array, from_hidden: Array, state: State) -> State:
    """One step."""
    input_r, input_z, input_n = np.split(from_input, 3, axis=-1)
    hidden_r, hidden_z, hidden_n = np.split(from_hidden, 3, axis=-1)
    r, z = sigmoid(input_r + hidden_r), sigmoid(input_z + hidden_z)
    n = np.tanh(input_n + r * hidden_n)
    return ((1 - z) * n + z * state[0],)


def GRU(at: Evaluation, spec: Spec) -> Array:  # noqa: N802
    """See spec.models.GRU."""
    return recurrent.forward(at, spec, step)
