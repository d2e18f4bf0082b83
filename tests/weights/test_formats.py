"""What reading and fitting weights rests on: numbers that are widened, sizes that are told, names that tell enough."""

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blocked import JAX, TORCH, environment

sys.path.append(str(Path(__file__).parent))

from rows import arrays, of, orbax, saved, torch_file
from rows import as_pickle as pickle_of

from spec.command import main
from spec.errors import FrameworkMissing, ParameterMismatch, UsageError
from spec.experiment import load
from spec.weights import conversion, kinds, sizes, small_floats
from spec.weights.fitting import fit
from spec.weights.reading import read
from spec.weights.units import SWAPPED, units

ROOT = Path(__file__).parents[2]


@pytest.mark.needs("flax")
@pytest.mark.parametrize("name", small_floats.FLOAT8)
def test_every_code_of_eight_bits_is_what_ml_dtypes_says(name: str) -> None:
    import ml_dtypes

    codes = np.arange(256, dtype=np.uint8)
    expected = codes.view(getattr(ml_dtypes, name)).astype(np.float32)
    found = small_floats.widened(codes, name)
    np.testing.assert_array_equal(found, expected)
    assert np.array_equal(np.signbit(found), np.signbit(expected)) or np.isnan(expected).any()


@pytest.mark.needs("flax")
def test_every_code_of_bfloat16_is_what_ml_dtypes_says() -> None:
    import ml_dtypes

    codes = np.arange(2**16, dtype=np.uint16)
    found = small_floats.widened(codes, "bfloat16")
    np.testing.assert_array_equal(found, codes.view(ml_dtypes.bfloat16).astype(np.float32))


def lstm(**changes: Any) -> dict[str, np.ndarray]:
    found = arrays("hello-lstm") | changes
    return {name: array for name, array in found.items() if array is not None}


def fitted(experiment: str, given: dict[str, np.ndarray]) -> Any:
    return fit(load(experiment).model.parameters(), given, "f")


@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize("prefix", ["", "a.", "a.b.c."])
def test_a_prefix_is_found_however_deep(prefix: str, separator: str) -> None:
    given = {(prefix + name).replace(".", separator): array for name, array in lstm().items()}
    given |= {"optimizer.step": np.zeros(1, np.float32)}
    found = fitted("hello-lstm", given)
    assert all(np.array_equal(found.parameters[name], array) for name, array in lstm().items())
    assert any("optimizer" in sentence for sentence in found.said)


def test_two_prefixes_with_the_same_values_are_one_set() -> None:
    given = {f"{top}.{name}": array for top in ("model", "best") for name, array in lstm().items()}
    assert fitted("hello-lstm", given).parameters.keys() == lstm().keys()
    given["best.head.bias"] = given["best.head.bias"] + 1
    with pytest.raises(ParameterMismatch, match="several"):
        fitted("hello-lstm", given)


def renamed(experiment: str, *names: tuple[str, str]) -> dict[str, np.ndarray]:
    found = {}
    for name, array in arrays(experiment).items():
        for old, new in names:
            name = name.replace(old, new)
        found[name] = array
    return found


@pytest.mark.parametrize(
    ("experiment", "names"),
    [
        ("hello-self-attention", [("query", "wq"), ("key", "wk"), ("value", "wv"), ("head", "classify")]),
        ("hello-self-attention", [("query", "to_q"), ("key", "to_k"), ("value", "to_v")]),
        ("hello-encoder-decoder", [("encoder", "enc"), ("decoder", "dec"), ("head", "fc")]),
        ("hello-transformer", [("encoder.layers", "h"), ("norm", "ln_"), ("linear", "fc")]),
        ("hello-lstm-attention", [("rnn", "lstm"), ("attention", "score")]),
        ("hello-rnn-cell", [("cell", "rnn_cell"), ("head", "out")]),
    ],
)
def test_names_that_tell_enough(experiment: str, names: list[tuple[str, str]]) -> None:
    found = fitted(experiment, renamed(experiment, *names))
    for name, array in arrays(experiment).items():
        np.testing.assert_array_equal(found.parameters[name], array)


@pytest.mark.parametrize(
    ("experiment", "names", "said"),
    [
        # Four norms of one shape: which is which of a layer is in no number.
        ("hello-transformer", [("norm1", "ln_attn"), ("norm2", "ln_mlp"), ("head", "fc")], "tell which of"),
        # Numbers in one place where the model has them in two.
        (
            "hello-transformer",
            [("layers.0.norm1", "n0"), ("layers.0.norm2", "n1"), ("layers.1.norm1", "n2"), ("layers.1.norm2", "n3")],
            "tell which of",
        ),
        ("hello-stacked-rnn", [("_l1", "_l7"), ("head", "fc"), ("rnn", "lstm")], None),
        ("hello-bidirectional-gru", [("_l0_reverse", "_l1")], "tell which of rnn.l0, rnn.l1"),
        ("hello-self-attention", [("query", "one"), ("key", "two"), ("value", "three")], "tell which of"),
    ],
)
def test_names_that_tell_too_little(experiment: str, names: list[tuple[str, str]], said: str | None) -> None:
    given = renamed(experiment, *names)
    if said is None:  # in the order of their numbers, whatever these are
        found = fitted(experiment, given).parameters
        np.testing.assert_array_equal(found["rnn.weight_hh_l2"], arrays(experiment)["rnn.weight_hh_l1"])
        return
    with pytest.raises(ParameterMismatch, match=said):
        fitted(experiment, given)


def test_layers_are_in_the_order_of_their_numbers_not_of_the_file() -> None:
    given = {}
    for number in (10, 9, 2):
        for leaf in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            array = arrays("hello-stacked-rnn")[f"rnn.{leaf}_l1"]
            given[f"rnns.{number}.{leaf}_l0"] = np.full_like(array, number)
    first = arrays("hello-stacked-rnn")
    given |= {f"first.{leaf}_l0": first[f"rnn.{leaf}_l0"] for leaf in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    given |= {"out.weight": first["head.weight"], "out.bias": first["head.bias"]}
    with pytest.raises(ParameterMismatch, match=r"rnns\.10"):
        fitted("hello-stacked-rnn", given)
    given = {name: array for name, array in given.items() if ".10." not in name}
    found = fitted("hello-stacked-rnn", given).parameters
    assert (found["rnn.weight_hh_l1"] == 2).all()
    assert (found["rnn.weight_hh_l2"] == 9).all()


def gru_of_keras(width: int = 8) -> dict[str, np.ndarray]:
    """Each gate's block holds its number in z, r, h."""
    gates = np.repeat(np.arange(3.0), width)
    return {
        "layers/gru/cell/vars/0": np.tile(gates, (4, 1)),
        "layers/gru/cell/vars/1": np.tile(gates, (width, 1)),
        "layers/gru/cell/vars/2": np.tile(gates, (2, 1)),
        "layers/dense/vars/0": np.zeros((width, 4)),
        "layers/dense/vars/1": np.zeros(4),
    }


def test_gates_are_put_in_the_order_of_the_equations(monkeypatch: pytest.MonkeyPatch) -> None:
    found = fitted("hello-gru", gru_of_keras()).parameters
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        blocks = found[f"rnn.{name}_l0"].reshape(3, -1)
        # r, z, n are Keras's second, first and third.
        assert blocks[:, 0].tolist() == [1, 0, 2]
    monkeypatch.setattr("spec.weights.units.SWAPPED", (0, 1, 2))
    wrong = fitted("hello-gru", gru_of_keras()).parameters
    assert wrong["rnn.bias_ih_l0"].tolist() != found["rnn.bias_ih_l0"].tolist()
    assert SWAPPED == (1, 0, 2)


def test_a_kernel_of_no_known_cell_is_named() -> None:
    given = gru_of_keras() | {"layers/gru/cell/vars/1": np.zeros((8, 40))}
    with pytest.raises(ParameterMismatch, match=r"f: layers/gru/cell/recurrent_kernel: expected .* got \(8, 40\)"):
        fitted("hello-gru", given)


def test_what_units_do_not_know_they_keep() -> None:
    (found,) = units({"conv.weight": np.zeros((3, 3, 1, 2)), "conv.bias": np.zeros(2), "conv.running_mean": np.ones(2)})
    assert found.leaves.keys() == {"weight", "bias", "running_mean"}


def test_sizes_are_told_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(2**20))
    sizes.check(path, sizes.EXPANSION * 2**20)
    with pytest.raises(UsageError, match=r"expected at most 100 times its 1\.05 MB"):
        sizes.check(path, sizes.EXPANSION * 2**20 + 1)
    monkeypatch.setattr(sizes, "memory", lambda: 2**21)
    with pytest.raises(UsageError, match=r"of memory, got 2\.1 MB"):
        sizes.check(path, 2**21 + 1)


def test_what_is_missing_is_said_with_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x07")
    (tmp_path / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    for file, package in (("model.onnx", "onnx"), ("model.h5", "h5py")):
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.delitem(sys.modules, "spec.weights.onnx_graph", raising=False)
        monkeypatch.delitem(sys.modules, "spec.weights.hdf5", raising=False)
        monkeypatch.setattr(sys, "meta_path", [Absent(package), *sys.meta_path])
        with pytest.raises(FrameworkMissing, match=rf"expected {package} to be installed, got none.*ohlol\[weights\]"):
            read(tmp_path / file)


class Absent:
    """Makes a package one that is not installed."""

    def __init__(self, package: str):
        self.package = package

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=self.package)


WRITERS: dict[str, tuple[str, tuple[str, ...], Callable[[Path], Path]]] = {
    "torch_impl": ("torch", TORCH, of(torch_file("lstm", pickle_of()))),
    "flax_impl": ("orbax", (*JAX, "orbax"), of(orbax("lstm", lambda state: state))),
}


@pytest.mark.by_default("torch_impl")
@pytest.mark.parametrize("name", WRITERS)
def test_where_a_framework_is_missing_the_way_to_convert_is_said(name: str, tmp_path: Path) -> None:
    package, blocked, write = WRITERS[name]
    path = write(tmp_path)
    program = f"from pathlib import Path; from spec.weights.reading import read; read(Path({str(path)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment(blocked),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert f"expected {package} to be installed, got none" in last or "expected jax to be installed" in last
    assert f"where it is there: python -m {name}.weights {path}" in last


@pytest.mark.by_default("torch_impl")
@pytest.mark.parametrize("name", WRITERS)
def test_a_converter_writes_what_everything_reads(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # which the converter sets
    convert = importlib.import_module(f"{name}.weights").main
    path, out = WRITERS[name][2](tmp_path), tmp_path / "out.safetensors"
    assert convert([str(path), str(out)]) == 0
    converted, direct = read(out), read(path)  # the latter in a process of its own
    assert converted.arrays.keys() == direct.arrays.keys()
    assert all(np.array_equal(converted.arrays[key], array) for key, array in direct.arrays.items())
    for arguments, said in (([], "usage: "), ([str(out), str(out)], "expected another, got a safetensors file")):
        capsys.readouterr()
        assert convert(arguments) == 2
        assert said in capsys.readouterr().err


def test_readers_are_found_without_their_frameworks() -> None:
    assert conversion.readers() == {kinds.PICKLED: "torch_impl", kinds.TREE: "flax_impl"}


@pytest.mark.needs("torch", "flax")
def test_both_train_commands_start_from_the_same_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = of(torch_file("lstm", pickle_of()))(tmp_path)
    starts = []
    for name in WRITERS:
        out = tmp_path / f"{name}.safetensors"
        assert main(name, ["hello-lstm", "--trace", "--init-weights", str(path), "--export-weights", str(out)]) == 0
        assert "weights: lstm.l0 is rnn.l0" in capsys.readouterr().out
        starts.append(read(out).arrays)
    assert starts[0].keys() == starts[1].keys()
    assert all(np.array_equal(starts[0][name], starts[1][name]) for name in starts[0])


def test_a_file_s_name_says_nothing(tmp_path: Path) -> None:
    path = saved(lstm(), tmp_path, "model.pt")
    assert kinds.kind_of(path).format == kinds.SAFETENSORS
    assert read(path).arrays.keys() == lstm().keys()
