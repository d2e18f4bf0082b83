"""Other reports of the same directory, on the page."""

import json
from pathlib import Path

import msgspec
import pytest
from hostile import HOSTILE, problems
from page import made_reports

from crosscheck.benchmark.report import render_json
from crosscheck.benchmark.result import BenchmarkRow, BenchmarkSummary, Checked, Contender, Spread
from crosscheck.explore import coverage
from crosscheck.faults.findings import Findings, Trial
from crosscheck.report.data import encode
from crosscheck.report.page.beside import KINDS, others
from crosscheck.report.page.render import render
from spec.benchmark import Product
from spec.experiment import load


def trial(name: str, outcome: str = "caught") -> Trial:
    return msgspec.convert(
        {
            "name": name, "implementation": "flax_impl", "what": "x", "entries": [], "experiment": "hello-gru",
            "precision": "float64", "expected_check": "forward", "expected_tensor": "logits", "outcome": outcome,
            "checks": {}, "first_check": "forward", "blamed": "flax_impl",
        },
        Trial,
    )  # fmt: skip


def faults(*trials: Trial) -> bytes:
    found = Findings(schema_version=1, checks=["forward"], seed=0, seconds=1.0, trials=list(trials), clean=[])
    return encode(msgspec.to_builtins(found))


def test_planted_faults_stand_with_those_first_that_were_not_caught(tmp_path: Path) -> None:
    (tmp_path / "faults.json").write_bytes(faults(trial("a"), trial("b"), trial("c", "survived")))
    (found,) = others(tmp_path)
    assert found.verdict == "3 faults planted: 2 caught, 1 survived."
    assert [row[0] for row in found.rows] == ["flax_impl/c", "flax_impl/a", "flax_impl/b"]
    page = render(made_reports.passing(1), further=[found]).decode()
    assert 'href="#faults"' in page
    assert "flax_impl/c" in page


def test_coverage_is_what_explore_counts(tmp_path: Path) -> None:
    counted = coverage.covered([load("hello-gru"), load("hello-lstm")])
    (tmp_path / "explore.json").write_bytes(encode({"verdict": "THE SAME", "coverage": msgspec.to_builtins(counted)}))
    (found,) = others(tmp_path)
    assert found.verdict.startswith("THE SAME. 2 experiments drawn; ")
    assert ("GRU.hidden_size", "1", "8 (1)") in found.rows


def test_nothing_is_told_where_there_is_nothing(tmp_path: Path) -> None:
    assert others(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"trials": 3}', b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_is_no_report_is_said(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    (found,) = others(tmp_path)
    assert found.verdict.startswith("it cannot be read: ")
    assert found.rows == ()


def test_no_text_of_theirs_is_more_than_text(tmp_path: Path) -> None:
    text = " ".join(HOSTILE.values())
    (tmp_path / "faults.json").write_bytes(faults(trial(text)))
    found = others(tmp_path)
    page = render(made_reports.passing(1), further=found).decode()
    assert problems(page) == []
    assert "<script>alert" not in page


@pytest.mark.parametrize("kind", KINDS)
def test_long_tables_are_cut(tmp_path: Path, kind: str) -> None:
    made = {
        "faults.json": {"trials": [json.loads(encode(msgspec.to_builtins(trial("x"))))] * 999},
        "explore.json": {
            "verdict": "x",
            "coverage": {"experiments": 1, "values": {f"o{n}": {"1": 1} for n in range(999)}, "pairs": []},
        },
        "bench.json": {
            "subject": "x",
            "targets": [],
            "rows": [{"workload": {"name": "x"}, "ratios": [{"against": "y", "wall": {"median": 2}}]}] * 999,
        },
    }
    (tmp_path / kind).write_text(json.dumps(made[kind]))
    (found,) = others(tmp_path)
    assert len(found.rows) == 300


def test_speeds_are_those_of_the_benchmark(tmp_path: Path) -> None:
    spread = Spread(1.5, 1.4, 1.6)
    contenders = [
        msgspec.convert(
            {
                "name": name, "implementation": name, "repetitions": 1, "first_seconds": seconds,
                "rounds": [{"number": 0, "wall": seconds, "cpu": seconds}],
            },
            Contender,
        )
        for name, seconds in (("flax_impl", 2.0), ("loop", 5.0))
    ]  # fmt: skip
    summary = msgspec.convert(
        {
            "subject": "flax_impl", "implementations": [], "describe": {}, "limits": {}, "machine": {}, "device": "cpu",
            "threads": 1, "load": [0.0, 0.0], "seconds": 1.0, "rows": [], "targets": [],
        },
        BenchmarkSummary,
    )  # fmt: skip
    summary.targets = [Checked("w", "flax_impl", "x", "at least", 1.0, spread, True)]
    workload = msgspec.convert({"kind": "Product", "name": "large", "size": 2}, Product)
    summary.rows = [BenchmarkRow(workload, contenders)]
    (tmp_path / "bench.json").write_bytes(render_json(summary))
    (found,) = others(tmp_path)
    assert (found.head, found.rows) == (("workload", "loop"), (("large", "2.50"),))
    assert found.verdict.endswith("1 of 1 targets reached.")
