"""A porting bug in a copy of flax_impl, by `record` and `compare` alone: it is seen, and its tensor and step named.

The whole table of such bugs is crosscheck.faults.table; see test_fault_table.py.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from crosscheck.command import main

pytestmark = pytest.mark.needs("torch", "flax")

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
    rungs = "forward,lock-step"
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
