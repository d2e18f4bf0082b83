"""The reference against the ONNX standard's own cases for RNN, LSTM and GRU."""

from typing import Any

import numpy as np
import pytest
from onnx import helper
from onnx.backend.test.case import node as node_cases
from onnx.backend.test.case.node import gru, lstm, rnn  # noqa: F401
from onnx.backend.test.case.test_case import TestCase

import spec.reference as reference
from spec.experiment import Experiment, parse
from spec.framework import Settings
from spec.tasks import Batch

# ONNX's order of gates, in terms of ours: our block number k is theirs number ORDER[k].
ORDER = {"RNN": (0,), "LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2)}
BEFORE = "resets the state before the product (linear_before_reset = 0); ours, like torch's, resets after it"
NOT_APPLICABLE = {
    "test_lstm_with_peepholes": "connects the cell to the gates; ours, like torch's, does not",
    # The other GRU cases have equal weights throughout, where both orders give the same.
    "test_gru_bidirectional": BEFORE,
    "test_gru_seq_length": BEFORE,
}

EXPERIMENT = """
description = "one ONNX case"
seeds = 1
[model]
name = "{kind}"
classes = {classes}
hidden_size = {hidden}
bidirectional = {bidirectional}
head = false
[model.inputs]
name = "Features"
size = {features}
[task]
name = "Noise"
features = {features}
length = {length}
classes = {classes}
[training]
epochs = 0
[training.loss]
name = "CrossEntropy"
reduction = "mean"
[training.optimizer]
name = "Adam"
learning_rate = 0.1
[outcome]
name = "Walk"
"""


# Importing an operator's module registers its cases.
CASES: dict[str, TestCase] = {
    case.name: case
    for case in node_cases._NodeTestCases
    if case.model is not None and case.model.graph.node[0].op_type in ORDER
}


def test_all_cases_are_known() -> None:
    assert len(CASES) == 18
    assert NOT_APPLICABLE.keys() < CASES.keys()


@pytest.mark.parametrize("name", sorted(CASES.keys() - NOT_APPLICABLE.keys()))
def test_case(name: str) -> None:
    case = CASES[name]
    assert case.model is not None
    node = case.model.graph.node[0]
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    (inputs, outputs), *_ = case.data_sets or []
    given: dict[str, Any] = dict(zip([n for n in node.input if n], inputs, strict=True))
    expected: dict[str, Any] = dict(zip([n for n in node.output if n], outputs, strict=True))

    batch_first = attributes.get("layout", 0) == 1
    features = given["X"] if batch_first else given["X"].swapaxes(0, 1)
    lengths = given.get("sequence_lens")
    direction = attributes.get("direction", b"forward").decode()
    experiment, parameters = build(node.op_type, attributes["hidden_size"], direction, features, given)
    targets = np.zeros(features.shape[:2], np.int64)
    batch = Batch(features.astype(np.float64), targets, None if lengths is None else lengths.astype(np.int64))
    found = reference.forward(experiment, parameters, batch, Settings("float64"))

    # Our states over time, one direction after the other: (directions, batch, time, hidden).
    suffixes = {"forward": [""], "reverse": ["_reverse"], "bidirectional": ["", "_reverse"]}[direction]
    states = np.stack([found[f"rnn.h_l0{suffix}"] for suffix in suffixes])
    ends = np.full(len(features), features.shape[1]) if lengths is None else lengths
    last = np.stack(
        [h[:, 0] if suffix else h[np.arange(len(h)), ends - 1] for suffix, h in zip(suffixes, states, strict=True)]
    )
    np.testing.assert_allclose(last.swapaxes(0, 1) if batch_first else last, expected["Y_h"], rtol=2e-6)
    returned = found["rnn.h_n"][-len(suffixes) :] if direction != "forward" else found["rnn.h_n"]
    np.testing.assert_array_equal(returned, last)
    if "Y" in expected:
        over_time = np.einsum("dbth->btdh" if batch_first else "dbth->tdbh", states)
        np.testing.assert_allclose(over_time, expected["Y"], rtol=2e-6)
    assert np.any(expected["Y_h"])


def build(
    kind: str, hidden: int, direction: str, features: np.ndarray, given: dict[str, Any]
) -> tuple[Experiment, dict[str, np.ndarray]]:
    """The experiment and the canonical parameters of an ONNX node; float32 numbers as float64."""
    bidirectional = direction != "forward"
    text = EXPERIMENT.format(
        kind=kind, hidden=hidden, features=features.shape[2], length=features.shape[1],
        bidirectional=str(bidirectional).lower(), classes=hidden * (2 if bidirectional else 1),
    )  # fmt: skip
    experiment = parse(text, "onnx")
    parameters = {p.name: np.zeros(p.shape) for p in experiment.model.parameters()}
    biases = given.get("B", np.zeros((len(given["W"]), 2 * given["W"].shape[1])))
    suffixes = ["_reverse"] if direction == "reverse" else ["", "_reverse"]
    for suffix, w, r, b in zip(suffixes, given["W"], given["R"], biases, strict=False):
        from_input, from_hidden = np.split(b, 2)
        named = {"weight_ih": w, "weight_hh": r, "bias_ih": from_input, "bias_hh": from_hidden}
        for name, value in named.items():
            blocks = np.split(value, len(ORDER[kind]))
            parameters[f"rnn.{name}_l0{suffix}"][:] = np.concatenate([blocks[k] for k in ORDER[kind]])
    return experiment, parameters
