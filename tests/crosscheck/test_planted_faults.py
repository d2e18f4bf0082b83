"""Real porting bugs, planted one at a time in a copy of flax_impl: each must be seen, in the right place.

torch_impl is recorded once; each copy is recorded on one experiment where its fault is live, in float64.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from crosscheck.command import main

pytest.importorskip("torch")
pytest.importorskip("jax")

FLAX = Path(__file__).parents[2] / "flax_impl"


class Fault(NamedTuple):
    """edits: (file, text, replacement). rung, tensor: where the first failure must be; step: of a trajectory."""

    name: str
    experiment: str
    rung: str
    tensor: str
    edits: tuple[tuple[str, str, str], ...]
    step: int | None = None


FAULTS = [
    Fault(
        "GRU without b_hn",
        "hello-gru",
        "forward",
        "rnn.h_l0",
        (("gru.py", "r * hidden_n)", "r * (hidden_n - jnp.split(self.dense_h.bias[...], 3)[2]))"),),
    ),
    Fault(
        "two LSTM gates swapped",
        "hello-lstm-attention",
        "forward",
        "rnn.h_l0",
        (("lstm.py", "i, f, g, o = jnp.split", "f, i, g, o = jnp.split"),),
    ),
    Fault(
        "backward direction not flipped",
        "hello-bidirectional-gru",
        "forward",
        "rnn.h_l0_reverse",
        (("recurrent.py", "inputs, valid, bool(suffix), start)", "inputs, valid, False, start)"),),
    ),
    Fault(
        "LayerNorm epsilon 1e-6",
        "hello-transformer",
        "forward",
        "encoder.layers.0.norm1",
        (("transformer.py", "epsilon=spec.layer_norm_epsilon", "epsilon=1e-6"),),
    ),
    Fault(
        "scale by the model's width in the Transformer",
        "hello-transformer",
        "forward",
        "encoder.layers.0.self_attn",
        (("transformer.py", "math.sqrt(query.shape[-1])", "math.sqrt(hidden.shape[-1])"),),
    ),
    Fault(
        "scale by the model's width in multi-head attention",
        "hello-multi-head-attention",
        "forward",
        "attention.weights",
        (("attention.py", "math.sqrt(self.width), by_head)", "math.sqrt(self.width * self.heads), by_head)"),),
    ),
    Fault(
        "one bias instead of two",
        "hello-gru",
        "structure",
        "rnn.bias_hh_l0",
        (
            (
                "recurrent.py",
                "nnx.Linear(hidden_size, self.gates * hidden_size, rngs",
                "nnx.Linear(hidden_size, self.gates * hidden_size, use_bias=False, rngs",
            ),
            (
                "parameters.py",
                '        yield Leaf(f"{prefix}bias_{side}',
                '        if side == "ih": yield Leaf(f"{prefix}bias_{side}',
            ),
        ),
    ),
    Fault(
        "two biases of which one is trained",
        "hello-gru",
        "gradients",
        "rnn.bias_hh_l0",
        (
            (
                "gru.py",
                "jnp.split(self.dense_h(hidden), 3, -1)",
                "jnp.split(hidden @ self.dense_h.kernel[...] + jax.lax.stop_gradient(self.dense_h.bias[...]), 3, -1)",
            ),
        ),
    ),
    Fault(
        "mean instead of sum of losses",
        "course-rnn-cell",
        "gradients",
        "loss",
        (("loss.py", ' if spec.reduction == "mean" else total', ""),),
    ),
    Fault(
        "the gradient's sum instead of its mean",
        "hello-gru",
        "gradients",
        "rnn.weight_ih_l0",
        (
            (
                "loss.py",
                "return total / asked.sum()",
                "return total - jax.lax.stop_gradient(total - total / asked.sum())",
            ),
            ("loss.py", "import optax", "import jax\nimport optax"),
        ),
    ),
    Fault(
        "Adam epsilon 1e-7",
        "hello-gru",
        "lock-step",
        "parameters/rnn.weight_ih_l0",
        (("optimizer.py", "+ spec.epsilon), mean", "+ 1e-7), mean"),),
        step=0,
    ),
]

LIVE = sorted({(fault.experiment, fault.rung) for fault in FAULTS})


@pytest.fixture(scope="session")
def torch_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What torch_impl does with every experiment that a fault is live in."""
    directory = tmp_path_factory.mktemp("recordings") / "torch"
    names = sorted({fault.experiment for fault in FAULTS})
    rungs = "structure,forward,gradients,lock-step"
    arguments = ["record", "torch_impl", *names, "--rungs", rungs, "--precision", "float64", "--out", str(directory)]
    assert main(arguments) == 0
    return directory


Judge = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def judge(tmp_path: Path, torch_recording: Path) -> Judge:
    """Record a copy of flax_impl with edits and compare it with torch_impl; the exit code and the report."""

    def run(experiment: str, rungs: str, *edits: tuple[str, str, str]) -> tuple[int, dict[str, Any]]:
        copy = tmp_path / "flax_impl"
        shutil.copytree(FLAX, copy, ignore=shutil.ignore_patterns("__pycache__"))
        for file, old, new in edits:
            text = (copy / file).read_text()
            assert text.count(old) >= 1, f"the text to edit is not in {file}: {old!r}"
            edited = text.replace(old, new, 1)
            assert edited != text
            (copy / file).write_text(edited)
        chosen = ["--rungs", rungs, "--precision", "float64"]
        main(["record", str(copy), experiment, *chosen, "--out", str(tmp_path / "recording")])
        directories = [str(torch_recording), str(tmp_path / "recording")]
        report = tmp_path / "report"
        code = main(["compare", *directories, "--experiments", experiment, *chosen, "--out", str(report)])
        return code, json.loads((report / "report.json").read_text())

    return run


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_is_found_and_its_tensor_named(fault: Fault, judge: Judge, capsys: pytest.CaptureFixture[str]):
    code, report = judge(fault.experiment, fault.rung, *fault.edits)
    first = next(c for c in report["experiments"][0]["comparisons"] if not c["passed"])
    assert code == 1
    assert (first["rung"], first["tensor"], first["step"]) == (fault.rung, fault.tensor, fault.step)
    assert fault.tensor in capsys.readouterr().out


@pytest.mark.parametrize(("experiment", "rung"), LIVE)
def test_an_unedited_copy_passes(experiment: str, rung: str, judge: Judge):
    code, report = judge(experiment, rung)
    assert code == 0
    assert report["experiments"][0]["cells"][0]["status"] == "same"
    assert report["elements"] > 0


def test_sum_instead_of_mean_shows_in_the_parameters_under_adam(judge: Judge):
    """Adam divides the scale of a gradient out but for its epsilon: 3e-7 is left, and must not go under."""
    edit = ("loss.py", "return total / asked.sum()", "return total")
    code, report = judge("hello-gru", "lock-step", edit)
    failures = [c for c in report["experiments"][0]["comparisons"] if not c["passed"]]
    moved = [c for c in failures if c["tensor"].startswith("parameters/")]
    assert code == 1
    assert moved
    assert max(c["difference"] for c in moved) < 1e-3
