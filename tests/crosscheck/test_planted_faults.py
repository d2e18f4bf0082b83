"""A porting bug in a copy of flax_impl, by `record` and `compare` alone: it is seen, and its tensor and step named.

The whole table of such bugs is crosscheck.faults.table; see test_fault_table.py.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crosscheck.cli.command import main
from crosscheck.faults import plant, table
from crosscheck.faults.fault import Edit, Fault
from tests import reports

pytestmark = pytest.mark.needs("torch", "flax")

FLAX = Path(__file__).parents[2] / "flax_impl"


TABLE = {plant.label(fault): fault for fault in table.FAULTS}
SEEN = [
    (TABLE["flax_impl/gru-without-b-hn"], "rnn.h_l0", None),
    (
        TABLE["flax_impl/adam-epsilon-1e-7"]._replace(check="trajectory"),
        "parameters/rnn.weight_ih_l0",
        0,
    ),
]
"""Faults of the table; the tensor and, of a trajectory, the step at which the first failure must be."""

SUM = Edit("loss.py", "return total / divisor(spec, targets if whole is None else whole, logits)", "return total")

LIVE = sorted({(fault.experiment, fault.check) for fault, _, _ in SEEN})


@pytest.fixture(scope="session")
def torch_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What torch_impl does with every experiment that a fault is live in."""
    directory = tmp_path_factory.mktemp("recordings") / "torch"
    names = sorted({experiment for experiment, _ in LIVE})
    checks = "forward,trajectory"
    arguments = ["record", "torch_impl", *names, "--checks", checks, "--precision", "float64", "--out", str(directory)]
    assert main(arguments) == 0
    return directory


Judge = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def judge(tmp_path: Path, torch_recording: Path) -> Judge:
    """Record a copy of flax_impl with edits and compare it with torch_impl; the exit code and the report."""

    def run(experiment: str, checks: str, *edits: Edit) -> tuple[int, dict[str, Any]]:
        copy = plant.plant(SEEN[0][0]._replace(edits=edits), FLAX, tmp_path)
        chosen = ["--checks", checks, "--precision", "float64"]
        main(["record", str(copy), experiment, *chosen, "--out", str(tmp_path / "recording")])
        directories = [str(torch_recording), str(tmp_path / "recording")]
        report = tmp_path / "report"
        code = main(["compare", *directories, "--experiments", experiment, *chosen, "--out", str(report)])
        return code, reports.load(report)

    return run


@pytest.mark.by_default("adam-epsilon*")
@pytest.mark.parametrize(("fault", "tensor", "step"), SEEN, ids=lambda value: getattr(value, "name", ""))
def test_fault_is_found_and_its_tensor_named(
    fault: Fault, tensor: str, step: int | None, judge: Judge, capsys: pytest.CaptureFixture[str]
):
    code, report = judge(fault.experiment, fault.check, *fault.edits)
    first = next(c for c in report["experiments"][0]["comparisons"] if not c["passed"])
    assert code == 1
    assert (first["check"], first["tensor"], first["step"]) == (fault.check, tensor, step)
    assert tensor in capsys.readouterr().out


@pytest.mark.by_default("hello-gru-trajectory")
@pytest.mark.parametrize(("experiment", "check"), LIVE)
def test_an_unedited_copy_passes(experiment: str, check: str, judge: Judge):
    code, report = judge(experiment, check)
    assert code == 0
    assert report["experiments"][0]["cells"][0]["status"] == "same"
    assert report["elements"] > 0


def test_sum_instead_of_mean_shows_in_the_parameters_under_adam(judge: Judge):
    """Adam divides the scale of a gradient out but for its epsilon: 3e-7 is left, and must not go under."""
    code, report = judge("hello-gru", "trajectory", SUM)
    failures = [c for c in report["experiments"][0]["comparisons"] if not c["passed"]]
    moved = [c for c in failures if c["tensor"].startswith("parameters/")]
    assert code == 1
    assert moved
    assert max(c["difference"] for c in moved) < 1e-3
