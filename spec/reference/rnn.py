"""The Elman recurrence. See spec.models.rnn."""

import numpy as np

from spec.models.rnn import RNN as RNNSpec
from spec.models.rnn import RNNCell as RNNCellSpec
from spec.reference import recurrent
from spec.reference.arithmetic import Array, relu
from spec.reference.model import Evaluation
from spec.reference.recurrent import Cell, State


def cell(nonlinearity: str) -> Cell:
    """One step with that nonlinearity."""
    activation = {"tanh": np.tanh, "relu": relu}[nonlinearity]

    def step(from_input: Array, from_hidden: Array, _: State) -> State:
        return (activation(from_input + from_hidden),)

    return step


def RNNCell(at: Evaluation, spec: RNNCellSpec) -> Array:  # noqa: N802
    """See spec.models.RNNCell."""
    (outputs,), (last,) = recurrent.run(
        at, cell(spec.nonlinearity), ("cell.", ""), at.inputs(), at.valid, ("h",), at.initial("cell")
    )
    at.record("cell.h_n", last)
    return at.record("logits", at.zero_padding(at.linear("head", outputs)) if spec.head else outputs)


def RNN(at: Evaluation, spec: RNNSpec) -> Array:  # noqa: N802
    """See spec.models.RNN."""
    return recurrent.forward(at, spec, cell(spec.nonlinearity))
