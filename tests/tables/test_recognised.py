"""Layers are recognised by names and shapes together, and nothing else is."""

import pytest

from crosscheck.libraries import layers, recognised
from crosscheck.libraries.recognised import Shape

NNX_GRU: dict[str, Shape] = {
    "rnn.cell.dense_i.kernel": (3, 12),
    "rnn.cell.dense_i.bias": (12,),
    "rnn.cell.dense_h.kernel": (4, 12),
    "head.kernel": (4, 2),
    "head.bias": (2,),
}


def test_a_gru_of_flax_has_no_b_hn() -> None:
    (said,) = recognised.facts(NNX_GRU, ["rnn.cell.dense_i.bias"])
    assert said == "rnn.cell is laid out as flax nnx's nnx.GRUCell, which has no b_hn of torch's nn.GRU"
    assert recognised.facts(NNX_GRU, ["rnn.cell.dense_i.bias", "rnn.cell.dense_h.kernel"]) == [said]


@pytest.mark.parametrize(
    ("shapes", "path", "words"),
    [
        (
            {"cell.weight_ih": (12, 3), "cell.weight_hh": (12, 3), "cell.bias": (12,)},
            "cell.bias",
            "equinox's nn.LSTMCell, which has one bias where torch's nn.LSTM has two",
        ),
        (
            {"g.w_i": (3, 12), "g.w_h": (4, 12), "g.b": (12,)},
            "g.w_h",
            "haiku's hk.GRU, which applies the reset gate before the product, torch's nn.GRU after it",
        ),
        (
            {"gru.kernel": (3, 12), "gru.recurrent_kernel": (4, 12), "gru.bias": (12,)},
            "gru.bias",
            "GRU, reset_after=False, which applies the reset gate before",
        ),
    ],
)
def test_others_are_told_apart(shapes: dict[str, Shape], path: str, words: str) -> None:
    (said,) = recognised.facts(shapes, [path])
    assert words in said


@pytest.mark.parametrize(
    "change",
    [
        {"rnn.cell.dense_i.kernel": (3, 16)},  # No whole number of gates.
        {"rnn.cell.dense_h.bias": (12,)},  # One more.
        {"rnn.cell.dense_i.bias": (9,)},
    ],
)
def test_what_is_laid_out_otherwise_is_not_recognised(change: dict[str, Shape]) -> None:
    assert recognised.facts(NNX_GRU | change, ["rnn.cell.dense_i.kernel"]) == []


def test_a_layer_of_two_arrays_is_no_recurrent_one() -> None:
    # Haiku's LSTM has a linear layer's names and shapes, and is told by its module's name too.
    assert recognised.facts({"linear.w": (7, 16), "linear.b": (16,)}, ["linear.w"]) == []
    held: dict[str, Shape] = {"lstm/linear.w": (7, 16), "lstm/linear.b": (16,), "linear.w": (4, 2), "linear.b": (2,)}
    (said,) = recognised.facts(held, ["lstm/linear.b"])
    assert "is laid out as haiku's hk.LSTM, which has one bias where torch's nn.LSTM has two" in said
    assert recognised.facts(NNX_GRU, ["head.kernel", "head.bias"]) == []
    # torch's own, which is what others are held against.
    shapes = {"a.weight_ih_l0": (12, 3), "a.weight_hh_l0": (12, 4), "a.bias_ih_l0": (12,), "a.bias_hh_l0": (12,)}
    assert recognised.facts(shapes, ["a.weight_ih_l0"]) == []
    assert recognised.holding(shapes, "a.weight_ih_l0")[0] == [layers.layer_of("torch", "nn.GRU")]
