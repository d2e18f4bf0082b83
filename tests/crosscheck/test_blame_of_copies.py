"""Faults planted in copies of torch_impl and flax_impl: the report blames the copy, at the right stage and step."""

import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from crosscheck.cli.command import main
from crosscheck.faults import plant
from crosscheck.faults.fault import Edit, Fault
from crosscheck.faults.table import FAULTS
from tests import reports

pytestmark = pytest.mark.needs("torch", "flax")

ROOT = Path(__file__).parents[2]
TABLE = {plant.label(fault): fault for fault in FAULTS}


class Planted(NamedTuple):
    """A fault, and what the blame must say of it. stage: where it departs first."""

    fault: Fault
    stage: str
    step: int | None = None
    time: int | None = None
    wrong: tuple[str, ...] = ()
    downstream: tuple[str, ...] = ()


def own(what: str, implementation: Any, edit: Edit, experiment: str, check: str) -> Fault:
    """A fault that the table of crosscheck faults has not."""
    return Fault(what, what, implementation, (edit,), experiment, check, "*")


PLANTED = [
    Planted(
        TABLE["torch_impl/layer-norm-epsilon-1e-6"],
        "encoder.layers.0.norm1",
        wrong=(
            "encoder.layers.0.norm1",
            "encoder.layers.0.norm2",
            "encoder.layers.1.norm1",
            "encoder.layers.1.norm2",
        ),
        downstream=(
            "encoder.layers.0.linear2",
            "encoder.layers.0.output",
            "encoder.layers.1.self_attn",
            "encoder.layers.1.linear2",
            "encoder.layers.1.output",
            "logits",
        ),
    ),
    Planted(
        TABLE["torch_impl/adam-epsilon-1e-7"]._replace(experiment="hello-gru", check="trajectory"), "update", step=0
    ),
    Planted(
        own(
            "twice the gradient of the right loss",
            "torch_impl",
            Edit("contract.py", "loss.backward()", "(2 * loss).backward()"),
            "hello-rnn",
            "gradients",
        ),
        "head or the loss",
    ),
    Planted(
        own(
            "a crash",
            "torch_impl",
            Edit(
                "loss.py",
                "    if whole is None or spec.reduction",
                "    raise ValueError('planted')\n    if whole is None or spec.reduction",
            ),
            "hello-rnn",
            "gradients",
        ),
        "crash",
    ),
    Planted(
        TABLE["flax_impl/gru-without-b-hn"], "rnn.h_l0", time=0, wrong=("rnn.h_l0",), downstream=("rnn.h_n", "logits")
    ),
    Planted(
        own(
            "backward direction not flipped",
            "flax_impl",
            Edit("recurrent.py", "inputs, valid, bool(suffix), start, resets)", "inputs, valid, False, start, resets)"),
            "hello-bidirectional-gru",
            "forward",
        ),
        "rnn.h_l0_reverse",
        time=4,
        wrong=("rnn.h_l0_reverse",),
        downstream=("rnn.h_n", "logits"),
    ),
    Planted(TABLE["flax_impl/gru-b-hn-frozen"], "rnn", wrong=("rnn.bias_hh_l0",)),
    Planted(
        own(
            "twice the weight decay from step 3 on",
            "flax_impl",
            Edit(
                "optimizer.py",
                "                decayed(decay),",
                # 1 - 0.9^4, the fourth step's correction, is 0.34.
                "                optax.add_decayed_weights(decay * jnp.where(at.correction1 > 0.3, 2.0, 1.0)),",
            ),
            "hello-lstm-adamw-warm-up",
            "trajectory",
        ),
        "update",
        step=3,
    ),
]


def copied(fault: Fault, directory: Path) -> str:
    """A copy of the package with the fault in it."""
    return str(plant.plant(fault, ROOT / fault.implementation, directory))


def checked(directory: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit code, and the only experiment of the report."""
    code = main([*arguments, "--out", str(directory / "report")])
    return code, reports.load(directory / "report")["experiments"][0]


@pytest.mark.by_default("torch_impl*adam-epsilon-1e-7", "flax_impl*twice the weight decay*")
@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: plant.label(planted.fault))
def test_the_copy_is_blamed(planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    fault = planted.fault
    copy = copied(fault, tmp_path)
    chosen = ["--checks", fault.check, "--precision", "float64"]
    # The fault is on the first side in one half of the cases and on the second in the other.
    pair = [copy, "torch_impl"] if fault.implementation == "torch_impl" else ["torch_impl", copy]
    code, found = checked(tmp_path, fault.experiment, *chosen, "--implementations", *pair)
    blame = found["blame"]
    assert code in (1, 3)
    assert blame["at_fault"] == copy
    (departure,) = blame["departures"]
    assert departure["side"] == copy
    assert (departure["stage"], departure["step"], departure["time"]) == (planted.stage, planted.step, planted.time)
    if planted.wrong:
        assert (departure["wrong"], departure["downstream"]) == (list(planted.wrong), list(planted.downstream))
    assert f" at fault {copy} (" in " ".join(capsys.readouterr().out.split())
    assert f"- at fault: `{copy}` (" in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.long
def test_recordings_are_blamed_alike_and_the_command_shows_the_same_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    fault = PLANTED[0].fault
    copy = copied(fault, tmp_path)
    chosen = ["--checks", "forward,gradients", "--precision", "float64", "--seed", "3"]
    _, live = checked(tmp_path, fault.experiment, *chosen, "--implementations", "torch_impl", copy)
    command = reproduce(capsys.readouterr().out)
    assert {"--case", "--seed", "--implementations"} < set(command)
    _, again = checked(tmp_path, *command)
    assert first_failure(again) == first_failure(live)
    assert again["blame"] == live["blame"]
    assert {(c["check"], c["precision"], c["case"]) for c in again["comparisons"]} == {("forward", "float64", "own")}
    for name, implementation in (("one", "torch_impl"), ("two", copy)):
        assert main(["record", implementation, fault.experiment, *chosen, "--out", str(tmp_path / name)]) == 0
    capsys.readouterr()
    _, compared = checked(tmp_path, "compare", str(tmp_path / "one"), str(tmp_path / "two"))
    assert compared["blame"] == live["blame"]
    _, again = checked(tmp_path, *reproduce(capsys.readouterr().out))
    assert first_failure(again) == first_failure(live)
    assert again["blame"] == live["blame"]


def reproduce(output: str) -> list[str]:
    """The arguments of the command that the report gives."""
    (line,) = (line for line in output.splitlines() if line.lstrip().startswith("reproduce"))
    words = shlex.split(line.split(maxsplit=1)[1])
    assert words[:3] == ["python", "-m", "crosscheck"]
    return words[3:]


def first_failure(found: dict[str, Any]) -> dict[str, Any]:
    return next(comparison for comparison in found["comparisons"] if not comparison["passed"])
