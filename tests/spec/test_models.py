"""Each model's parameters, intermediates and dropout sites, against tables written by hand."""

import math

import msgspec
import numpy as np
import pytest

from spec.errors import InvalidBatch
from spec.experiment import load, shipped
from spec.models import MODELS, Embedding, Features, Model, keep_masks
from spec.models.attention import LSTMAttention, MultiHeadAttention, SelfAttention
from spec.models.encoder_decoder import EncoderDecoder
from spec.models.gru import GRU
from spec.models.lstm import LSTM
from spec.models.rnn import RNN, RNNCell
from spec.models.transformer import TransformerEncoder
from spec.parameters import Constant, Normal, Uniform, generator_for

TRANSFORMER = TransformerEncoder(
    inputs=Features(4),
    classes=5,
    hidden_size=8,
    heads=2,
    num_layers=2,
    feed_forward_size=16,
    activation="relu",
    positions="sinusoidal",
    norm_first=False,
    dropout=0.1,
    attention_dropout=0.2,
)

TABLES: dict[str, tuple[Model, list[tuple[str, tuple[int, ...]]]]] = {
    "RNNCell without a head": (
        RNNCell(inputs=Features(4), classes=4, hidden_size=4, head=False),
        [
            ("cell.weight_ih", (4, 4)),
            ("cell.weight_hh", (4, 4)),
            ("cell.bias_ih", (4,)),
            ("cell.bias_hh", (4,)),
        ],
    ),
    "RNN of two layers on an embedding": (
        RNN(inputs=Embedding(4, 10), classes=4, hidden_size=8, num_layers=2),
        [
            ("embedding.weight", (4, 10)),
            ("rnn.weight_ih_l0", (8, 10)),
            ("rnn.weight_hh_l0", (8, 8)),
            ("rnn.bias_ih_l0", (8,)),
            ("rnn.bias_hh_l0", (8,)),
            ("rnn.weight_ih_l1", (8, 8)),
            ("rnn.weight_hh_l1", (8, 8)),
            ("rnn.bias_ih_l1", (8,)),
            ("rnn.bias_hh_l1", (8,)),
            ("head.weight", (4, 8)),
            ("head.bias", (4,)),
        ],
    ),
    "bidirectional GRU": (
        GRU(inputs=Features(3), classes=5, hidden_size=2, bidirectional=True),
        [
            ("rnn.weight_ih_l0", (6, 3)),
            ("rnn.weight_hh_l0", (6, 2)),
            ("rnn.bias_ih_l0", (6,)),
            ("rnn.bias_hh_l0", (6,)),
            ("rnn.weight_ih_l0_reverse", (6, 3)),
            ("rnn.weight_hh_l0_reverse", (6, 2)),
            ("rnn.bias_ih_l0_reverse", (6,)),
            ("rnn.bias_hh_l0_reverse", (6,)),
            ("head.weight", (5, 4)),
            ("head.bias", (5,)),
        ],
    ),
    "LSTM with attention": (
        LSTMAttention(inputs=Features(4), classes=4, hidden_size=8),
        [
            ("rnn.weight_ih_l0", (32, 4)),
            ("rnn.weight_hh_l0", (32, 8)),
            ("rnn.bias_ih_l0", (32,)),
            ("rnn.bias_hh_l0", (32,)),
            ("attention.weight", (8, 8)),
            ("head.weight", (4, 16)),
            ("head.bias", (4,)),
        ],
    ),
    "multi-head attention with one-hot positions": (
        MultiHeadAttention(inputs=Features(4), classes=4, hidden_size=8, heads=2, positions="one-hot", max_length=5),
        [
            ("query.weight", (16, 9)),
            ("query.bias", (16,)),
            ("key.weight", (16, 9)),
            ("key.bias", (16,)),
            ("value.weight", (16, 9)),
            ("value.bias", (16,)),
            ("output.weight", (8, 16)),
            ("output.bias", (8,)),
            ("head.weight", (4, 8)),
            ("head.bias", (4,)),
        ],
    ),
    "encoder and decoder": (
        EncoderDecoder(inputs=Features(4), classes=6, cell="LSTM", hidden_size=8),
        [
            ("encoder.weight_ih_l0", (32, 4)),
            ("encoder.weight_hh_l0", (32, 8)),
            ("encoder.bias_ih_l0", (32,)),
            ("encoder.bias_hh_l0", (32,)),
            ("decoder.weight_ih_l0", (32, 7)),
            ("decoder.weight_hh_l0", (32, 8)),
            ("decoder.bias_ih_l0", (32,)),
            ("decoder.bias_hh_l0", (32,)),
            ("head.weight", (6, 16)),
            ("head.bias", (6,)),
        ],
    ),
    "Transformer": (
        TRANSFORMER,
        [
            ("input.weight", (8, 4)),
            ("input.bias", (8,)),
            *(
                (f"encoder.layers.{layer}.{name}", shape)
                for layer in (0, 1)
                for name, shape in [
                    ("self_attn.in_proj_weight", (24, 8)),
                    ("self_attn.in_proj_bias", (24,)),
                    ("self_attn.out_proj.weight", (8, 8)),
                    ("self_attn.out_proj.bias", (8,)),
                    ("linear1.weight", (16, 8)),
                    ("linear1.bias", (16,)),
                    ("linear2.weight", (8, 16)),
                    ("linear2.bias", (8,)),
                    ("norm1.weight", (8,)),
                    ("norm1.bias", (8,)),
                    ("norm2.weight", (8,)),
                    ("norm2.bias", (8,)),
                ]
            ),
            ("head.weight", (5, 8)),
            ("head.bias", (5,)),
        ],
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_table(name: str) -> None:
    model, expected = TABLES[name]
    assert [(p.name, p.shape) for p in model.parameters()] == expected
    assert model.parameter_count == sum(math.prod(shape) for _, shape in expected)


@pytest.mark.parametrize(
    ("experiment", "count"), [("course-rnn-cell", 40), ("course-embedding-rnn", 380), ("last-step-classifier", 581)]
)
def test_parameter_count_of_the_courses_models(experiment: str, count: int) -> None:
    assert load(experiment).model.parameter_count == count


def test_every_model_is_found_by_its_class() -> None:
    classes = (
        RNNCell,
        RNN,
        LSTM,
        GRU,
        LSTMAttention,
        SelfAttention,
        MultiHeadAttention,
        EncoderDecoder,
        TransformerEncoder,
    )
    assert {model.__name__: model for model in classes} == MODELS


def test_every_model_ships_in_an_experiment() -> None:
    assert {type(load(name).model).__name__ for name in shipped()} == set(MODELS)


@pytest.mark.parametrize("name", shipped())
def test_names_are_unique_and_logits_come_last(name: str) -> None:
    model = load(name).model
    parameters = [parameter.name for parameter in model.parameters()]
    assert len(set(parameters)) == len(parameters)
    intermediates = model.intermediates()
    assert len(set(intermediates)) == len(intermediates)
    assert intermediates[-1] == "logits"
    assert (intermediates[0] == "embedding") == isinstance(model.inputs, Embedding)


def test_intermediates_follow_the_order_of_computation() -> None:
    assert TRANSFORMER.intermediates() == (
        "input",
        "positions",
        "encoder.layers.0.self_attn",
        "encoder.layers.0.norm1",
        "encoder.layers.0.linear2",
        "encoder.layers.0.norm2",
        "encoder.layers.0.output",
        "encoder.layers.1.self_attn",
        "encoder.layers.1.norm1",
        "encoder.layers.1.linear2",
        "encoder.layers.1.norm2",
        "encoder.layers.1.output",
        "logits",
    )
    first = msgspec.structs.replace(TRANSFORMER, norm_first=True).intermediates()
    assert first[2:6] == tuple(f"encoder.layers.0.{stage}" for stage in ("norm1", "self_attn", "norm2", "linear2"))
    lstm = LSTM(inputs=Features(3), classes=2, hidden_size=2, num_layers=2, bidirectional=True)
    assert lstm.intermediates() == (
        *("rnn.h_l0", "rnn.c_l0", "rnn.h_l0_reverse", "rnn.c_l0_reverse"),
        *("rnn.h_l1", "rnn.c_l1", "rnn.h_l1_reverse", "rnn.c_l1_reverse"),
        *("rnn.h_n", "rnn.c_n"),
        "logits",
    )
    assert TABLES["encoder and decoder"][0].intermediates() == (
        *("encoder.h_l0", "encoder.c_l0", "encoder.h_n", "encoder.c_n", "decoder.h_l0", "decoder.c_l0"),
        *("attention.weights", "attention.context", "logits"),
    )


@pytest.mark.parametrize(
    ("table", "states"),
    [
        ("RNNCell without a head", {"cell.h_0": (5, 4)}),
        ("RNN of two layers on an embedding", {"rnn.h_0": (2, 5, 8)}),
        ("bidirectional GRU", {"rnn.h_0": (2, 5, 2)}),
        ("LSTM with attention", {"rnn.h_0": (1, 5, 8), "rnn.c_0": (1, 5, 8)}),
        ("encoder and decoder", {"encoder.h_0": (1, 5, 8), "encoder.c_0": (1, 5, 8)}),
        ("multi-head attention with one-hot positions", {}),
        ("Transformer", {}),
    ],
)
def test_initial_states(table: str, states: dict[str, tuple[int, ...]]) -> None:
    assert TABLES[table][0].initial_states(5) == states


def test_laws_are_torchs() -> None:
    laws = {p.name: p.law for p in TRANSFORMER.parameters()}
    layer = "encoder.layers.1"
    # Xavier's bound, sqrt(6 / (fan in + fan out)), of the packed (24, 8) matrix.
    assert laws[f"{layer}.self_attn.in_proj_weight"] == Uniform(math.sqrt(6 / 32))
    assert laws[f"{layer}.self_attn.in_proj_bias"] == Constant(0.0)
    assert laws[f"{layer}.self_attn.out_proj.bias"] == Constant(0.0)
    assert laws[f"{layer}.linear2.weight"] == Uniform(0.25)
    assert laws[f"{layer}.norm1.weight"] == Constant(1.0)
    embedding = Embedding(4, 10, padding_idx=2).parameters()[0]
    assert embedding.law == Normal(1.0, zero_row=2)


def test_zero_gradients_are_where_theory_has_them() -> None:
    def rows(model: Model | Embedding) -> dict[str, tuple[int, int]]:
        return {p.name: p.zero_gradient for p in model.parameters() if p.zero_gradient is not None}

    assert rows(TRANSFORMER) == {f"encoder.layers.{n}.self_attn.in_proj_bias": (8, 16) for n in (0, 1)}
    assert rows(TABLES["multi-head attention with one-hot positions"][0]) == {"key.bias": (0, 16)}
    assert rows(Embedding(4, 10, padding_idx=2)) == {"embedding.weight": (2, 3)}
    assert rows(TABLES["bidirectional GRU"][0]) == {}


def test_features_check_their_inputs() -> None:
    Features(3).check(np.zeros((2, 5, 3), np.float32))
    for wrong in (np.zeros((5, 3)), np.zeros((2, 5, 4)), np.zeros((2, 5, 3), np.int64)):
        with pytest.raises(InvalidBatch, match=r"inputs: expected floating \(batch, time, 3\), got"):
            Features(3).check(wrong)


def test_embedding_checks_every_valid_index() -> None:
    embedding = Embedding(4, 10)
    embedding.check(np.array([[0, 3]]))
    for wrong in (4, -1):
        with pytest.raises(InvalidBatch, match=rf"indices in \[0, 4\), got {wrong}"):
            embedding.check(np.array([[0, wrong]]))
    with pytest.raises(InvalidBatch, match="expected integer"):
        embedding.check(np.zeros((1, 2)))


def test_dropout_sites_have_their_shapes_and_rates() -> None:
    sites = TRANSFORMER.dropout_sites(batch=3, time=5)
    assert {name: (site.shape, site.rate) for name, site in sites.items() if ".1." in name} == {
        "encoder.layers.1.self_attn.dropout": ((3, 2, 5, 5), 0.2),
        "encoder.layers.1.dropout1": ((3, 5, 8), 0.1),
        "encoder.layers.1.dropout": ((3, 5, 16), 0.1),
        "encoder.layers.1.dropout2": ((3, 5, 8), 0.1),
    }
    assert len(sites) == 8
    lstm = LSTM(inputs=Features(4), classes=4, hidden_size=6, num_layers=3, bidirectional=True, dropout=0.3)
    assert {n: (s.shape, s.rate) for n, s in lstm.dropout_sites(2, 7).items()} == {
        "rnn.dropout_l0": ((2, 7, 12), 0.3),
        "rnn.dropout_l1": ((2, 7, 12), 0.3),
    }
    assert msgspec.structs.replace(lstm, dropout=0.0).dropout_sites(2, 7) == {}


def test_keep_masks_drop_at_their_rate_and_keep_the_mean() -> None:
    masks = keep_masks(TRANSFORMER, 50, 20, generator_for(0, "masks"))
    assert masks.keys() == TRANSFORMER.dropout_sites(50, 20).keys()
    for name, site in TRANSFORMER.dropout_sites(50, 20).items():
        mask = masks[name]
        assert mask.shape == site.shape
        assert mask.dtype == np.float64
        assert set(np.unique(mask)) == {0.0, 1 / (1 - site.rate)}
        # Six standard deviations of a binomial.
        tolerance = 6 * math.sqrt(site.rate * (1 - site.rate) / mask.size)
        assert (mask == 0).mean() == pytest.approx(site.rate, abs=tolerance)
        assert mask.mean() == pytest.approx(1, abs=tolerance / (1 - site.rate))


def test_keep_masks_are_a_function_of_the_generator() -> None:
    one, same, other = (keep_masks(TRANSFORMER, 2, 5, generator_for(0, "m", step)) for step in (1, 1, 2))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not all(np.array_equal(one[name], other[name]) for name in one)
    first, second = one["encoder.layers.0.dropout1"], one["encoder.layers.0.dropout2"]
    assert not np.array_equal(first, second)
