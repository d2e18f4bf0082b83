"""bench and faults on terminals of any width: no word of theirs is cut, and no text that is not ours forges a line."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from crosscheck.benchmark import report as bench
from crosscheck.benchmark.result import BenchmarkRow, BenchmarkSummary, Contender, Round, check
from crosscheck.benchmark.targets import Faster
from crosscheck.faults import report as faults
from crosscheck.faults.findings import BAD, CleanRun, Findings, Trial
from spec.benchmark import Layer
from tests.hostile import HOSTILE, problems

WIDTHS = [40, 60, 80, 130, None]


def shown(show: Any, made: Any, width: int | None) -> str:
    file = io.StringIO()
    show(made, Console(file=file, width=width, force_terminal=width is not None, _environ={"TERM": "xterm-256color"}))
    return re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())


def measured(text: str = "died") -> BenchmarkSummary:
    workload = Layer(
        name="lstm-small-forward+backward", cell="LSTM", gradients=True, series="time", time=8, batch=1, features=2,
        hidden=3,
    )  # type: ignore[call-arg]  # fmt: skip

    def contender(name: str, seconds: float, lost: str = "") -> Contender:
        rounds = [Round(number, seconds, seconds) for number in range(3)]
        return Contender(name=name, implementation="side", rounds=[] if lost else rounds, lost=lost)

    row = BenchmarkRow(
        workload, [contender("flax_impl", 1.0), contender("torch_impl", 0.5), contender("flax.nnx", 1.0, text)]
    )
    return BenchmarkSummary(
        subject="flax_impl", implementations=["torch_impl", "flax_impl"], describe={"flax_impl": {"jax": text}},
        limits={"flax_impl": "one thread"}, machine={"cores": "2", "processor": text}, device="cpu", threads=2,
        load=(0.1, 0.1), seconds=3.0, rows=[row], targets=check([row], [Faster("lstm-*", "torch_impl", 1.3)]),
    )  # fmt: skip


def planted(text: str = "a note") -> Findings:
    def trial(name: str, outcome: Any, fired: bool) -> Trial:
        return Trial(
            name=name, implementation="flax_impl", what="A few words of our own.", entries=(),
            experiment="hello-embedding-scale-by-frequency",
            precision="float64", expected_check="forward", expected_tensor="logits", outcome=outcome,
            checks={"structure": "same", "forward": "different" if fired else "same"}, note=text,
            first_check="forward" if fired else "", tensor=text, blamed="flax_impl", blamed_stage=text,
        )  # fmt: skip

    outcomes = ["caught", "could not run", *BAD]
    trials = [trial(f"fault-{outcome[:6].strip()}", outcome, outcome != "survived") for outcome in outcomes]
    clean = [CleanRun(experiment="hello-gru", seed=0, counted=True, comparisons=3, alarms=[text], lost=text)]
    return Findings(
        schema_version=1,
        checks=["structure", "forward", "trajectory"],
        seed=0,
        seconds=3.0,
        trials=trials,
        clean=clean,
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_a_target_that_is_missed_is_seen_at_any_width(width: int | None) -> None:
    output = shown(bench.show, measured(), width)
    assert "…" not in output
    assert "MISSED lstm-small-forward+backward 1 s; 0.50 ±0.00 against torch_impl;" in " ".join(output.split())
    assert "0 of 1 targets reached" in " ".join(output.split())
    assert " ".join(output.split()).index("not all of its targets") < " ".join(output.split()).index(
        "lstm-small-forward"
    )
    assert width is None or max(map(len, output.splitlines())) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_what_became_of_a_fault_is_seen_at_any_width(width: int | None) -> None:
    made = planted()
    output = shown(faults.show, made, width)
    assert "…" not in output
    told = " ".join(output.split())
    for trial in made.trials:
        seen = "FIRED in forward" if trial.detected else "quiet"
        assert (
            f"{trial.outcome} flax_impl/{trial.name} on {trial.experiment}; {seen}; blamed: flax_impl, a note" in told
        )
    assert faults.verdict(made) in told
    assert told.index("FIRED: checks that saw") < told.index("flax_impl/")
    assert width is None or max(map(len, output.splitlines())) <= width


@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_forges_a_line_or_a_part_of_the_markdown(name: str) -> None:
    for show, render, make in ((bench.show, bench.render_markdown, measured), (faults.show, faults.markdown, planted)):
        for width in (40, None):
            assert problems(shown(show, make(HOSTILE[name]), width)) == []
        assert problems(render(make(HOSTILE[name]))) == []
    assert problems(bench.render_json(measured(HOSTILE[name])).decode()) == []
