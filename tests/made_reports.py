"""Reports that were never run, for tests of what is made of reports."""

from typing import Any

from crosscheck.report.model import (
    SCHEMA_VERSION,
    Cause,
    Headroom,
    ReportCell,
    ReportSide,
    ReportStatus,
    ReportSubject,
    RunReport,
)


def cell(check: str, status: ReportStatus = "same", ratio: float | None = 0.2) -> ReportCell:
    return ReportCell(check=check, status=status, ratio=ratio, comparisons=3, elements=12)


def subject(name: str, status: ReportStatus = "same", *cells: ReportCell) -> ReportSubject:
    return ReportSubject(name=name, status=status, cells=list(cells or (cell("forward"), cell("gradients"))))


def cause(title: str = "every GRU, forward", **fields: Any) -> Cause:
    return Cause(**{"title": title, "status": "different", "check": "forward", "subjects": ["hello-gru"], **fields})


def side(name: str, **versions: str) -> ReportSide:
    return ReportSide(name=name, given=name, versions=versions, machine={"numpy": "2.4.6"})


def headroom(check: str, times: float, precision: str = "float64") -> Headroom:
    return Headroom(check=check, precision=precision, times=times, subject="hello-gru", tensor="logits")


def report(*subjects: ReportSubject, **fields: Any) -> RunReport:
    given: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "kind": "experiments",
        "title": "torch_impl against flax_impl",
        "verdict": "THE SAME: 2 experiments",
        "status": "same",
        "exit_code": 0,
        "command": "python -m crosscheck",
        "sides": (side("torch_impl", torch="2.13.0"), side("flax_impl", jax="0.10.2")),
        "checks": ["forward", "gradients"],
        "precisions": ["float64"],
        "subjects": list(subjects or (subject("hello-gru"), subject("hello-lstm"))),
        "causes": [],
        "seconds": 12.34,
        "made": "2026-11-29T20:00:00Z",
        "comparisons": 6,
        "headroom": [headroom("forward", 20.0), headroom("gradients", 3.0)],
    }
    return RunReport(**{**given, **fields})
