"""Laws, canonical files, and the strict check of names and shapes."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from spec import parameters
from spec.errors import ParameterMismatch, UsageError
from spec.parameters import (
    Constant,
    Normal,
    Parameter,
    Uniform,
    check,
    draw,
    generator_for,
    layer_norm,
    linear,
    load,
    recurrent,
    save,
)

TABLE = (Parameter("a", (2, 3), Uniform(0.5)), Parameter("b", (4,), Constant(1.0)))


def test_uniform_fills_its_range() -> None:
    values = draw([Parameter("w", (100, 100), Uniform(0.25))], 0, "float64")["w"]
    assert np.abs(values).max() < 0.25
    assert values.min() < -0.249
    assert values.max() > 0.249
    assert values.mean() == pytest.approx(0, abs=0.005)
    assert values.std() == pytest.approx(0.25 / math.sqrt(3), rel=0.02)


def test_normal_has_its_deviation_and_its_zero_row() -> None:
    values = draw([Parameter("e", (50, 200), Normal(2.0, zero_row=7))], 0, "float64")["e"]
    assert not values[7].any()
    others = np.delete(values, 7, axis=0)
    assert np.count_nonzero(others) == others.size
    assert others.std() == pytest.approx(2.0, rel=0.03)


def test_constant_is_constant_unless_spread() -> None:
    table = [Parameter("b", (1000,), Constant(1.0))]
    assert np.array_equal(draw(table, 0, "float32")["b"], np.ones(1000, np.float32))
    spread = draw(table, 0, "float32", spread=0.1)["b"]
    assert len(np.unique(spread)) > 900
    assert np.abs(spread - 1).max() <= 0.1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_draw_has_the_dtype_and_depends_on_seed_and_name_only(dtype: str) -> None:
    alone = draw(TABLE[:1], 3, dtype)["a"]
    assert alone.dtype == dtype
    among_others = draw([Parameter("first", (9,), Uniform(1.0)), *TABLE], 3, dtype)["a"]
    assert np.array_equal(alone, among_others)
    assert not np.array_equal(alone, draw(TABLE[:1], 4, dtype)["a"])
    renamed = draw([Parameter("z", (2, 3), Uniform(0.5))], 3, dtype)["z"]
    assert not np.array_equal(alone, renamed)


def test_generators_are_the_same_on_every_machine() -> None:
    assert generator_for(1, "batch", 2).integers(0, 1000, 5).tolist() == [335, 170, 394, 492, 865]
    assert generator_for(1, "batch", 3).integers(0, 1000, 5).tolist() != [335, 170, 394, 492, 865]


def test_linear_is_torchs() -> None:
    weight, bias = linear("head", 16, 5)
    assert (weight.name, weight.shape, weight.law) == ("head.weight", (5, 16), Uniform(0.25))
    assert (bias.name, bias.shape, bias.law, bias.zero_gradient) == ("head.bias", (5,), Uniform(0.25), None)
    assert [p.name for p in linear("a", 2, 3, bias=False)] == ["a.weight"]
    assert linear("key", 2, 3, zero_gradient_bias=True)[1].zero_gradient == (0, 3)


def test_recurrent_is_torchs() -> None:
    table = recurrent("rnn", gates=4, input_size=3, hidden_size=2, num_layers=2, bidirectional=True)
    assert [(p.name, p.shape) for p in table] == [
        ("rnn.weight_ih_l0", (8, 3)),
        ("rnn.weight_hh_l0", (8, 2)),
        ("rnn.bias_ih_l0", (8,)),
        ("rnn.bias_hh_l0", (8,)),
        ("rnn.weight_ih_l0_reverse", (8, 3)),
        ("rnn.weight_hh_l0_reverse", (8, 2)),
        ("rnn.bias_ih_l0_reverse", (8,)),
        ("rnn.bias_hh_l0_reverse", (8,)),
        ("rnn.weight_ih_l1", (8, 4)),
        ("rnn.weight_hh_l1", (8, 2)),
        ("rnn.bias_ih_l1", (8,)),
        ("rnn.bias_hh_l1", (8,)),
        ("rnn.weight_ih_l1_reverse", (8, 4)),
        ("rnn.weight_hh_l1_reverse", (8, 2)),
        ("rnn.bias_ih_l1_reverse", (8,)),
        ("rnn.bias_hh_l1_reverse", (8,)),
    ]
    assert {p.law for p in table} == {Uniform(1 / math.sqrt(2))}


def test_layer_norm_starts_as_the_identity() -> None:
    assert [(p.name, p.law) for p in layer_norm("n", 4)] == [("n.weight", Constant(1.0)), ("n.bias", Constant(0.0))]


def test_check_accepts_the_table() -> None:
    check(TABLE, draw(TABLE, 0, "float32"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": None}, r"weights: missing \['a'\]"),
        ({"c": np.zeros(2)}, r"weights: not in the model \['c'\]"),
        ({"a": np.zeros((3, 2))}, r"weights: a: expected shape \(2, 3\), got \(3, 2\)"),
        ({"b": np.zeros((4, 1))}, r"weights: b: expected shape \(4,\), got \(4, 1\)"),
        ({"a": None, "c": np.zeros(2)}, r"missing \['a'\]; not in the model \['c'\]"),
    ],
)
def test_check_names_what_does_not_fit(change: dict[str, np.ndarray | None], message: str) -> None:
    changed = {k: v for k, v in {**draw(TABLE, 0, "float32"), **change}.items() if v is not None}
    with pytest.raises(ParameterMismatch, match=message):
        check(TABLE, changed, "weights")


def test_save_and_load_give_back_every_bit(tmp_path: Path) -> None:
    values = np.array([[0.1, -0.0, np.nan], [np.inf, 5e-324, 1e308]])
    arrays = {"a": values, "b": np.arange(3, dtype=np.float32)}
    save(tmp_path / "w.safetensors", arrays, {"seed": "3", "experiment": "hello-gru"})
    loaded, metadata = load(tmp_path / "w.safetensors")
    assert {n: (a.dtype, a.tobytes()) for n, a in loaded.items()} == {
        n: (a.dtype, a.tobytes()) for n, a in arrays.items()
    }
    assert metadata == {"seed": "3", "experiment": "hello-gru"}


@pytest.mark.parametrize(
    "view",
    [
        np.arange(6.0).reshape(2, 3).T,
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(24.0).reshape(4, 6)[:, 2:4],
        np.arange(6.0)[::-2],
        np.broadcast_to(np.arange(3.0), (2, 3)),
        np.moveaxis(np.arange(24.0).reshape(2, 3, 4), 1, -1),
        np.arange(6.0).astype(">f8"),
    ],
    ids=["transposed", "Fortran order", "columns", "backwards", "broadcast", "channels last", "other byte order"],
)
def test_save_writes_a_view_as_it_looks(tmp_path: Path, view: np.ndarray) -> None:
    save(tmp_path / "w.safetensors", {"a": view})
    assert np.array_equal(load(tmp_path / "w.safetensors")[0]["a"], view)


def test_save_keeps_the_shape_of_a_scalar(tmp_path: Path) -> None:
    save(tmp_path / "w.safetensors", {"a": np.array(2.5)})
    loaded = load(tmp_path / "w.safetensors")[0]["a"]
    assert loaded.shape == ()
    assert loaded == 2.5


def test_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "w.safetensors"
    save(file, {"a": np.ones(3)})
    before = file.read_bytes()
    real = Path.write_bytes

    def half(self: Path, data: bytes) -> int:
        real(self, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(UsageError, match="No space left on device"):
        save(file, {"a": np.zeros(3)})
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == [file.name]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "got nothing: no such file"), (b"", "cannot be read"), (b"not safetensors at all", "cannot be read")],
)
def test_load_says_what_is_wrong_with_a_file(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "w.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=f"w.safetensors: expected a safetensors file, .*{message}"):
        load(file)


def test_load_of_a_damaged_file(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save(file, {"a": np.ones(100)})
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UsageError, match="cannot be read"):
        load(file)


def test_load_of_a_dtype_that_numpy_lacks(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    file = tmp_path / "w.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with safe_open(str(file), framework="numpy") as opened:
        assert list(opened.keys()) == ["a"]  # The file itself is sound.
    with pytest.raises(UsageError, match=r"w\.safetensors: a: expected a dtype of F64, .*, got BF16"):
        load(file)


def test_size_is_the_number_of_elements() -> None:
    assert [p.size for p in TABLE] == [6, 4]
    assert parameters.Parameter("scalar", (), Constant(0.0)).size == 1
