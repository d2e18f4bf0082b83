"""From a comparison of experiments to its report."""

import statistics
import time
from collections.abc import Iterator

from crosscheck.checks import BY_DEFAULT, LADDER, outcome, trajectory
from crosscheck.comparison import Comparison
from crosscheck.judging.summary import SideSummary, Summary
from crosscheck.judging.verdict import Cell, Verdict
from crosscheck.report import convergence, details, rows
from crosscheck.report.causes import causes_of, named
from crosscheck.report.model import (
    FAILING,
    OPEN,
    SCHEMA_VERSION,
    Cause,
    Envelopes,
    Headroom,
    ReportCell,
    ReportSide,
    ReportStatus,
    ReportSubject,
    RunReport,
    Unchecked,
)
from crosscheck.request import DEFAULT_IMPLEMENTATIONS
from spec import text
from spec.convergence import CONVERGENCE

OK_BESIDE_FAILURES = (
    "each side by itself reaches what the recipe states; that says nothing of whether they compute alike"
)
"""Of an outcome, where other checks fail."""

WORST_FIRST: tuple[ReportStatus, ...] = ("different", "crashed", "underpowered", "partly checked")


def report_of(summary: Summary) -> RunReport:
    """Everything that renderings show of a comparison."""
    causes = causes_of(summary)
    sides = [_side(side) for side in summary.sides]
    return RunReport(
        schema_version=SCHEMA_VERSION,
        kind="experiments",
        title=text.admit(" against ".join(side.name for side in summary.sides)),
        verdict=text.admit(summary.verdict),
        status=_status(summary),
        exit_code=summary.exit_code,
        command=text.admit(_command(summary), text.TRACEBACK),
        sides=(sides[0], sides[1]),
        checks=summary.checks,
        precisions=summary.precisions,
        subjects=[_subject(verdict, causes) for verdict in summary.experiments],
        causes=causes,
        seed=summary.seed,
        seeds=summary.seeds,
        device=text.admit(summary.device, text.NAME),
        thorough=summary.thorough,
        options=summary.options,
        seconds=summary.seconds,
        comparing=summary.comparing,
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        comparisons=summary.comparisons,
        elements=summary.elements,
        legend=[*rows.legend(summary.experiments), *convergence.legend(summary)],
        notes=[text.admit(said) for said in (*details.unsteady(summary), *details.reused(summary))],
        unchecked=[
            Unchecked(subject=text.admit(name, text.NAME), checks=checks, reason=text.admit(reason))
            for name, checks, reason in details.unchecked(summary)
        ],
        questions={check.NAME: check.QUESTION for check in LADDER if check.NAME in summary.checks},
        headroom=list(_headroom(summary)),
        endpoints=list(convergence.endpoints(summary)),
        speeds=list(convergence.speeds(summary)),
        envelopes=list(_envelopes(summary)),
    )


def _status(summary: Summary) -> ReportStatus:
    """Of the whole: the worst there is, as crosscheck.judging.summary.conclude has it."""
    found = {verdict.status for verdict in summary.experiments}
    for status in WORST_FIRST:
        if status in found:
            return status
    return "same" if "same" in found else "partly checked"


def _side(side: SideSummary) -> ReportSide:
    return ReportSide(
        name=text.admit(side.name, text.NAME),
        given=text.admit(side.implementation, text.NAME),
        versions=text.descriptions(side.describe),
        machine=text.descriptions(side.machine),
        seconds=side.seconds,
        overhead=side.overhead,
        compilations=side.compilations,
        reused=side.reused,
    )


def _subject(verdict: Verdict, causes: list[Cause]) -> ReportSubject:
    own = [number for number, cause in enumerate(causes) if named(verdict) in cause.subjects]
    told = _same_batches(verdict)
    return ReportSubject(
        name=named(verdict),
        status=verdict.status,
        cells=[_cell(verdict, cell, own, causes) for cell in verdict.cells],
        family=text.admit(verdict.family, text.NAME),
        hash=text.admit(verdict.hash, text.NAME),
        argument=text.admit(verdict.argument),
        blame=verdict.blame,
        explanation=verdict.explanation,
        failures=len(verdict.failures),
        causes=own,
        batches={one.precision: str(one.values[0]) for one in told if one.values},
        steps=max((one.elements for one in told), default=0),
        comparisons=verdict.comparisons,
    )


def _same_batches(verdict: Verdict) -> list[Comparison]:
    """A comparison of each precision in which both sides told what they were trained on, and that it is the spec's."""
    found: dict[str, list[Comparison]] = {}
    for one in verdict.comparisons:
        if (one.check, one.case, one.tensor) == (trajectory.NAME, trajectory.RECIPE, trajectory.BATCHES):
            found.setdefault(one.precision, []).append(one)
    return [each[0] for each in found.values() if len(each) == 2 and all(one.passed for one in each)]


def _cell(verdict: Verdict, cell: Cell, own: list[int], causes: list[Cause]) -> ReportCell:
    failing = cell.status in FAILING
    hit = [
        number
        for number in own
        if (failing and causes[number].status in FAILING)
        or (causes[number].status in OPEN and causes[number].check == cell.check)
    ]
    beside = cell.check == outcome.NAME and cell.status == "same" and verdict.status in FAILING
    return ReportCell(
        check=cell.check,
        status=cell.status,
        ratio=cell.ratio,
        comparisons=cell.comparisons,
        elements=cell.elements,
        reason=text.admit(cell.reason),
        note=OK_BESIDE_FAILURES if beside else "",
        seconds=cell.seconds,
        shown=cell.shown,
        needed=cell.needed,
        causes=hit,
    )


def _command(summary: Summary) -> str:
    """What makes the same run again."""
    words = ["compare", *summary.directories] if summary.directories else list(summary.asked)
    if summary.directories and summary.asked:
        words += ["--experiments", *summary.asked]
    known = LADDER if summary.thorough else BY_DEFAULT
    if summary.checks != [check.NAME for check in known]:
        words += ["--checks", ",".join(summary.checks)]
    if len(summary.precisions) == 1:
        words += ["--precision", *summary.precisions]
    if summary.directories:
        return text.command(["python", "-m", "crosscheck", *words])
    names = tuple(side.implementation for side in summary.sides)
    if names != DEFAULT_IMPLEMENTATIONS:
        words += ["--implementations", *names]
    words += ["--seed", str(summary.seed)] if summary.seed else []
    words += ["--thorough"] if summary.thorough else []
    words += ["--seeds", str(summary.seeds)] if summary.seeds != CONVERGENCE.seeds else []
    words += summary.options.words()
    words += ["--device", summary.device] if summary.device != "cpu" else []
    return text.command(["python", "-m", "crosscheck", *words])


def _headroom(summary: Summary) -> Iterator[Headroom]:
    """Where each check comes closest to its bound, in either precision."""
    tightest: dict[tuple[str, str], Comparison] = {}
    for verdict in summary.experiments:
        for comparison in verdict.comparisons:
            if comparison.ratio and comparison.passed and comparison.evidence is None:
                place = (comparison.check, comparison.precision)
                found = tightest.get(place)
                if found is None or comparison.ratio > (found.ratio or 0.0):
                    tightest[place] = comparison
    for check in summary.checks:
        for precision in summary.precisions:
            found = tightest.get((check, precision))
            if found is not None:
                yield Headroom(
                    check=check,
                    precision=precision,
                    times=found.headroom or 0.0,
                    subject=text.admit(found.experiment, text.NAME),
                    tensor=text.admit(found.tensor, text.NAME),
                    step=found.step,
                )


def _envelopes(summary: Summary) -> Iterator[Envelopes]:
    """How far apart the two sides' losses are, compared with what a change of the start's last bits makes of them."""
    names = tuple(side.name for side in summary.sides)
    for precision in summary.precisions:
        found = [
            comparison.envelopes
            for verdict in summary.experiments
            for comparison in verdict.comparisons
            if comparison.envelopes is not None and comparison.precision == precision and comparison.sides == names
        ]
        if found:
            middle = statistics.median(found)
            yield Envelopes(precision=precision, median=middle, largest=max(found), count=len(found))
