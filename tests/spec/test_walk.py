"""The shape walk: which tensors a time step shows, and under which names."""

from typing import Any

import numpy as np
import pytest

from spec.command.events import Step
from spec.command.walk import introduction, text_of, walk
from spec.experiment import load, override


def walked(name: str, shapes: dict[str, tuple[int, ...]]) -> tuple[list[Step], dict[str, np.ndarray]]:
    """The steps of an experiment's walk over intermediates that count upwards from 1, so that none is like another."""
    experiment = load(name)
    first = 1.0
    intermediates = {}
    for intermediate in experiment.model.intermediates():
        if intermediate in experiment.model.returned_states():  # Not shown: they repeat the last step's.
            intermediates[intermediate] = np.zeros((1, 1, 8))
            continue
        shape = shapes[intermediate]
        intermediates[intermediate] = np.arange(first, first + np.prod(shape)).reshape(shape)
        first += float(np.prod(shape))
    return list(walk(experiment, experiment.evaluation_batch("float64"), intermediates)), intermediates


def equal(value: Any, array: np.ndarray) -> bool:
    return np.array_equal(np.array(value), array)


def test_a_state_is_shown_before_and_after_the_step() -> None:
    steps, arrays = walked("course-rnn-cell-walk", {"cell.h": (1, 3, 2), "logits": (1, 3, 2)})
    assert [(s.step, s.steps, s.part) for s in steps] == [(1, 3, ""), (2, 3, ""), (3, 3, "")]
    h = arrays["cell.h"]
    for t, step in enumerate(steps):
        assert list(step.tensors) == ["x[t]", "cell.h[t-1]", "cell.h[t]", "logits[t]"]
        assert equal(step.tensors["cell.h[t-1]"], h[:, t - 1] if t else np.zeros((1, 2)))
        assert equal(step.tensors["cell.h[t]"], h[:, t])
    batch = load("course-rnn-cell-walk").task.evaluation_batch("float64")
    assert equal(steps[1].tensors["x[t]"], batch.inputs[:, 1])
    # Noise: there is nothing to read out of it and nothing to say about it.
    assert (steps[0].reads, steps[0].should_say, steps[0].says) == (None, None, None)


def test_the_backward_direction_comes_from_the_step_after() -> None:
    shapes = {"rnn.h_l0": (1, 5, 8), "rnn.h_l0_reverse": (1, 5, 8), "logits": (1, 5, 4)}
    steps, arrays = walked("hello-bidirectional-gru", shapes)
    backward = arrays["rnn.h_l0_reverse"]
    names = ["x[t]", "rnn.h_l0[t-1]", "rnn.h_l0[t]", "rnn.h_l0_reverse[t+1]", "rnn.h_l0_reverse[t]", "logits[t]"]
    assert list(steps[0].tensors) == names
    assert equal(steps[0].tensors["rnn.h_l0_reverse[t+1]"], backward[:, 1])
    assert equal(steps[4].tensors["rnn.h_l0_reverse[t+1]"], np.zeros((1, 8)))


def test_symbols_are_named() -> None:
    steps, _ = walked("hello-gru", {"rnn.h_l0": (1, 5, 8), "logits": (1, 5, 4)})
    assert [step.reads for step in steps] == list("hello")
    assert [step.should_say for step in steps] == list("ohlol")
    assert [step.says for step in steps] == list("ooooo")  # Logits that count upwards are largest at the end.


def test_every_head_shows_its_row_of_weights() -> None:
    projections = dict.fromkeys(("query", "key", "value"), (1, 5, 16))
    attention = {"attention.weights": (1, 5, 2, 5), "attention.context": (1, 5, 16)}
    shapes = {**projections, **attention, "output": (1, 5, 8), "logits": (1, 5, 4)}
    steps, arrays = walked("hello-multi-head-attention", shapes)
    assert equal(steps[3].tensors["attention.weights[t]"], arrays["attention.weights"][:, 3])
    assert np.shape(steps[3].tensors["attention.weights[t]"]) == (1, 2, 5)
    assert not any(name.endswith("[t-1]") for name in steps[3].tensors)


def test_the_decoder_starts_where_the_encoder_ended() -> None:
    states = ("encoder.h_l0", "encoder.c_l0", "decoder.h_l0", "decoder.c_l0")
    shapes = {**dict.fromkeys(states, (1, 5, 8)), **dict.fromkeys(("encoder.h_n", "encoder.c_n"), (1, 1, 8))}
    shapes |= {"attention.weights": (1, 5, 5)}
    shapes |= {"attention.context": (1, 5, 8), "logits": (1, 5, 4)}
    steps, arrays = walked("hello-encoder-decoder-lstm", shapes)
    assert [step.part for step in steps] == ["encoder"] * 5 + ["decoder"] * 5
    encoder, decoder = steps[0], steps[5]
    assert not any(name.startswith(("decoder", "attention", "logits")) for name in encoder.tensors)
    assert (encoder.should_say, encoder.says) == (None, None)
    # The state after a sequence's own last step, which is not the last column where others are longer.
    assert equal(decoder.tensors["decoder.h_l0[t-1]"], arrays["encoder.h_n"][0])
    assert equal(decoder.tensors["decoder.c_l0[t-1]"], arrays["encoder.c_n"][0])
    assert equal(steps[6].tensors["decoder.h_l0[t-1]"], arrays["decoder.h_l0"][:, 0])
    assert [step.reads for step in steps[5:]] == ["start", *"ohlo"]
    assert decoder.tensors["y[t-1]"] == [4]


def test_states_begin_where_the_batch_says() -> None:
    states = [f"rnn.{state}_l0{direction}" for direction in ("", "_reverse") for state in ("h", "c")]
    shapes = {"embedding": (32, 5, 4), **dict.fromkeys(states, (32, 5, 8)), "logits": (32, 5, 3)}
    steps, arrays = walked("ragged-lstm", shapes)
    initial = load("ragged-lstm").evaluation_batch("float64").initial
    assert initial is not None
    assert equal(steps[0].tensors["rnn.h_l0[t-1]"], initial["rnn.h_0"][0])
    assert equal(steps[0].tensors["rnn.c_l0[t-1]"], initial["rnn.c_0"][0])
    assert equal(steps[4].tensors["rnn.h_l0_reverse[t+1]"], initial["rnn.h_0"][1])
    assert equal(steps[1].tensors["rnn.h_l0[t-1]"], arrays["rnn.h_l0"][:, 0])
    # Of its first step nothing is asked.
    assert [step.should_say for step in steps] == [None, *(step.reads for step in steps[:4])]


def test_logits_of_the_last_step_are_shown_there() -> None:
    shapes = {"embedding": (1000, 3, 8), "rnn.h_l0": (1000, 3, 16), "logits": (1000, 5)}
    steps, arrays = walked("last-step-classifier", shapes)
    assert ["logits" in step.tensors for step in steps] == [False, False, True]
    assert equal(steps[2].tensors["logits"], arrays["logits"])
    assert [step.reads for step in steps] == ["0", "0", "0"]
    assert [step.should_say for step in steps] == [None, None, "0"]


def test_the_text_has_a_line_for_every_tensor() -> None:
    steps, _ = walked("hello-gru", {"rnn.h_l0": (1, 5, 8), "logits": (1, 5, 4)})
    lines = text_of(steps[2]).splitlines()
    assert lines[:2] == ["", "step 3 of 5: reads 'l', should say 'l', says 'o'"]
    assert lines[2].split() == ["x[t]", "(1,", "4)", "[0.", "0.", "1.", "0.]"]
    assert lines[5].split() == ["logits[t]", "(1,", "4)", "[49.", "50.", "51.", "52.]"]
    assert len(lines) == 6


def test_the_text_of_a_part_that_speaks_of_nothing() -> None:
    steps, _ = walked("course-rnn-cell-walk", {"cell.h": (1, 3, 2), "logits": (1, 3, 2)})
    assert text_of(steps[0]).splitlines()[1] == "step 1 of 3"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hello-gru", ["GRU: Stacked GRU layers", "z_t = sigmoid(W_iz x_t", "shape (batch first), values."]),
        ("last-step-classifier", ["values of the first of 1000 sequences"]),
        ("hello-encoder-decoder", ["teacher forcing)."]),
    ],
)
def test_the_introduction_shows_the_equations(name: str, expected: list[str]) -> None:
    experiment = load(name)
    said = introduction(experiment, experiment.evaluation_batch("float32"))
    assert all(words in said for words in expected)
    assert ("teacher forcing)." in said) == (name == "hello-encoder-decoder")


def test_only_the_first_sequence_is_printed() -> None:
    experiment = override(load("course-rnn-cell-walk"), task__batch_size=2)
    h = np.stack([np.ones((3, 2)), np.full((3, 2), 7.0)])
    steps = walk(experiment, experiment.evaluation_batch("float32"), {"cell.h": h, "logits": h})
    first = next(iter(steps))
    assert np.shape(first.tensors["cell.h[t]"]) == (2, 2)
    assert "7." not in text_of(first)
