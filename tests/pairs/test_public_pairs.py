"""Models of other people's libraries: `make test-pairs` installs what they need; elsewhere they are left out."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from crosscheck.cli import command
from tests import reports

FILES = Path(__file__).parent / "public"

PAIRS = {
    # Needs, exit code, and what is found.
    "bert": ("transformers", 0, ["different", "different"]),  # Both expected.
    "equinox_block": ("equinox", 0, []),
    "haiku_lstm": ("haiku", 1, ["cannot train alike"]),
    "keras_images": ("keras", 0, []),
    "keras_nnx": ("keras", 0, []),
    "keras_attention": ("keras", 0, []),
    "keras_recurrent": ("keras", 0, []),
}

FAULTS = {
    # In the port: what stands instead of what, the check that says so, and the module or leaf that it names.
    "keras_images": {
        "epsilon": ("epsilon=1e-3", "epsilon=1e-5", "forward", "batch_normalization"),
        "tanh gelu": ('"gelu"', "lambda x: keras.activations.gelu(x, approximate=True)", "forward", "dense"),
        "mean pooling": ("MaxPooling2D()", "AveragePooling2D(2)", "forward", "average_pooling2d"),
        "momentum": ("momentum=0.99", "momentum=0.9", "train mode", "batch_normalization.moving_mean"),
        "Keras's epsilon": ("optax.adam(1e-3)", "optax.adam(1e-3, eps=1e-7)", "optimizer", "dense.kernel"),
    },
    "keras_attention": {
        "epsilon": ("epsilon=1e-5", "epsilon=1e-3", "forward", "norm"),
        "causal": ("attention(x, x)", "attention(x, x, use_causal_mask=True)", "forward", "attention"),
    },
    "keras_recurrent": {
        "hard gates": (
            "GRU(4, ",
            'GRU(4, recurrent_activation="hard_sigmoid", ',
            "forward",
            "bidirectional.forward_layer",
        ),
        "hard states": ("LSTM(3, ", 'LSTM(3, activation="hard_tanh", ', "forward", "lstm.cell"),
    },
    "keras_nnx": {
        "rate": ("nnx.Dropout(0.2", "nnx.Dropout(0.3", "dropout", "drop"),
        "start": ("glorot_uniform", "lecun_uniform", "initialization", "up.kernel"),
    },
}

pytestmark = pytest.mark.needs("torch", "flax")


def reported(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, edit: tuple[str, str] = ("", "")) -> Any:
    """Exit code and report. edit: of the last place in the pair file that has the text."""
    package = PAIRS[name][0]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}: make test-pairs")
    monkeypatch.setenv("KERAS_HOME", str(folder / "keras"))
    before, after = edit
    text = (FILES / f"{name}.py").read_text()
    assert before in text
    file = folder / f"{name}.py"
    file.write_text(after.join(text.rsplit(before, 1)) if before else text)
    code = command.main(["pair", str(file), "--out", str(folder / "out")])
    return code, reports.load(folder / "out")


@pytest.mark.parametrize("name", PAIRS)
def test_a_public_pair(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _, code, kinds = PAIRS[name]
    found, report = reported(name, tmp_path, monkeypatch)
    assert found == code, report["verdict"]
    assert [one["status"] for one in report["differences"]] == kinds
    by_check = {cell["check"]: cell["status"] for cell in report["cells"]}
    assert by_check["forward"] == by_check["gradients"] == "same"


@pytest.mark.parametrize(("name", "fault"), [(name, fault) for name, faults in FAULTS.items() for fault in faults])
def test_a_fault_in_a_public_pair(name: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before, after, check, where = FAULTS[name][fault]
    code, report = reported(name, tmp_path, monkeypatch, (before, after))
    assert code == 1
    found = [one for one in report["differences"] if one["check"] == check]
    places = [place["name"] for one in found for place in one["sources"]]
    assert any(where in (*places, one["name"].removeprefix(f"{check}: ")) for one in found), report["differences"]
    others = {one["check"] for one in report["differences"]} - {check}
    assert not others, report["differences"]


UNFIT = {
    "keras.Sequential([keras.layers.Dense(3)])": "expected a Keras model that is built (begin with keras.Input, or",
    "keras.layers.Dense(3)": "got Dense without variables",
}


@pytest.mark.parametrize("made", UNFIT)
@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_a_keras_model_that_does_not_fit_is_one_line(
    made: str, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    if importlib.util.find_spec("keras") is None:
        pytest.skip("needs keras: make test-pairs")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")  # which counts for nothing
    lines = ["import os", 'os.environ["KERAS_BACKEND"] = "numpy"'] if backend == "numpy" else []
    lines += ["import keras", f"def original(): return {made}", "port = original", "def inputs(rng): return (rng,)"]
    (tmp_path / "unfit.py").write_text("\n".join(lines))
    assert command.main(["pair", str(tmp_path / "unfit.py"), "--out", str(tmp_path / "out")]) == 2
    printed, complained = capsys.readouterr()
    assert (UNFIT[made] if backend == "torch" else "on numpy, which is none of torch and jax") in complained
    assert "Traceback" not in complained
    assert printed == ""
