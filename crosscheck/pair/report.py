"""From a pair's result to its report."""

import io
import math
import time
from collections.abc import Iterator, Sequence

import msgspec
from rich.console import Console

from crosscheck.comparison import Comparison, StageGrowth
from crosscheck.exit_codes import DIFFERENT, PARTLY_CHECKED, SAME
from crosscheck.mapping.words import LinkTold
from crosscheck.pair.given import SIDES
from crosscheck.pair.result import CheckCell, Difference, PairResult, SideTold, SourcePlace
from crosscheck.report import stages, terminal
from crosscheck.report.details import looks_like
from crosscheck.report.model import (
    FAILING,
    SCHEMA_VERSION,
    Cause,
    Fact,
    MapTold,
    PairDifference,
    ReportCell,
    ReportSide,
    ReportStatus,
    ReportSubject,
    RunReport,
    SourceLine,
)
from spec import text
from spec.exit_codes import COULD_NOT_RUN
from spec.framework import Precision

LEGEND = "ok: no difference is beyond its bound; the figure is the largest, in units of its bound"

ALSO = 20
"""Further differences of a check that are listed, each in a line."""

TRIED = 100
"""Variants tried in vain that are listed."""

PRECISIONS: tuple[Precision, ...] = ("float64", "float32")

ORDER: tuple[ReportStatus, ...] = ("different", "not representable", "cannot train alike", "crashed", "ambiguous")
"""In which causes are told."""


def report_of(result: PairResult, command: str = "", asked: tuple[str, str] = ("", "")) -> RunReport:
    """Everything that renderings show of a pair. command: what runs it again. asked: of each side, what was given."""
    causes = list(_causes(result, command))
    name = text.admit(result.pair, text.NAME)
    status = _status(result, causes)
    compared = sum(cell.comparisons for cell in result.cells), sum(cell.elements for cell in result.cells)
    one, two = result.sides
    return RunReport(
        schema_version=SCHEMA_VERSION,
        kind="pair",
        title=text.admit(f"{name}: {one.name} ({one.kind}) against {two.name} ({two.kind})"),
        verdict=text.admit(result.verdict),
        status=status,
        exit_code=result.exit_code,
        command=command,
        sides=(_side(one, asked[0]), _side(two, asked[1])),
        checks=[cell.check for cell in result.cells],
        precisions=list(PRECISIONS),
        subjects=[
            ReportSubject(
                name=name,
                status=status,
                cells=[reported_cell(cell, causes) for cell in result.cells],
                failures=sum(not one.expected and one.kind != "ambiguous" for one in result.differences),
                causes=list(range(len(causes))),
                comparisons=result.compared,
            )
        ],
        causes=causes,
        seed=result.seed,
        seconds=result.seconds,
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        comparisons=compared[0],
        elements=compared[1],
        legend=[LEGEND],
        notes=[
            *(text.admit(note) for note in result.notes),
            *(text.admit(f"expected, and not found: {entry}") for entry in result.unused),
        ],
        differences=[_difference(one, causes) for one in result.differences],
        map=MapTold(file=text.admit(result.map_file), links=result.map, rows=list(map(_link, result.links))),
    )


def _link(link: LinkTold) -> LinkTold:
    kept = {name: text.admit(getattr(link, name), text.NAME) for name in ("target", "sources", "note")}
    return msgspec.structs.replace(link, **kept)


def _side(side: SideTold, asked: str) -> ReportSide:
    return ReportSide(
        name=text.admit(side.name, text.NAME),
        given=text.admit(asked or side.kind, text.NAME),
        versions=text.descriptions(side.versions),
        leaves=side.leaves,
        numbers=side.numbers,
    )


def _difference(one: Difference, causes: list[Cause]) -> PairDifference:
    status = _kind(one)
    own = [number for number, cause in enumerate(causes) if (cause.check, cause.status) == (one.check, status)]
    like = text.admit(one.explanation.looks_like) if one.explanation else ""
    own = [number for number in own if causes[number].looks_like == like] or own
    told = [text.admit(value) if isinstance(value, str) else float(value) for value in one.values or ()]
    return PairDifference(
        name=text.admit(one.name, text.NAME),
        check=one.check,
        text=text.admit(one.text),
        status=status,
        reason=text.admit(one.expected),
        cause=None if one.expected or not own else own[0],
        sources=_lines(one),
        index=one.index,
        values=(told[0], told[1]) if told else None,
        size=one.size,
        bound=one.bound,
        precision=one.precision,
        case=one.case,
        looks_like=like,
    )


def _kind(one: Difference) -> ReportStatus:
    return "partly checked" if one.kind in ("partly", "not checked") else one.kind


def _lines(one: Difference) -> list[SourceLine]:
    places = zip(SIDES, (one.first, one.second), strict=True)
    return [line for side, place in places if place is not None and (line := _line(side, place)) is not None]


def _status(result: PairResult, causes: list[Cause]) -> ReportStatus:
    """Of the whole, by the exit code that crosscheck.pair.result.conclude gave."""
    if result.exit_code == SAME:
        return "same"
    if result.exit_code == COULD_NOT_RUN:
        return "crashed"
    if result.exit_code == PARTLY_CHECKED:
        return "ambiguous" if any(cause.status == "ambiguous" for cause in causes) else "partly checked"
    assert result.exit_code == DIFFERENT, result.exit_code
    statuses: list[ReportStatus] = [cause.status for cause in causes if cause.status in FAILING]
    return statuses[0] if statuses else "different"


def reported_cell(cell: CheckCell, causes: Sequence[Cause] = ()) -> ReportCell:
    """A check's cell, with its causes among those."""
    status: ReportStatus = "partly checked"
    if cell.status != "partly":
        status = "not asked" if cell.status == "not checked" and cell.scope else cell.status
    return ReportCell(
        check=cell.check,
        status=status,
        ratio=cell.ratio,
        comparisons=cell.comparisons,
        elements=cell.elements,
        reason=text.admit(cell.text),
        seconds=(cell.seconds, 0.0),
        causes=[number for number, cause in enumerate(causes) if cell.check in (cause.check, *cause.later)],
    )


def _causes(result: PairResult, command: str) -> Iterator[Cause]:
    """Differences of one check and kind that look alike, and what was not checked: the lowest check first."""
    groups: dict[tuple[str, str, str], list[Difference]] = {}
    for one in result.differences:
        if not one.expected:
            variant = one.explanation.looks_like if one.explanation else ""
            groups.setdefault((one.kind, one.check, variant), []).append(one)
    merged = _unexplained_with_explained(groups)
    known = [_of_differences(result, group, command) for group in merged]
    known += [_of_cell(result, cell, "crashed", command) for cell in result.cells if cell.status == "crashed"]
    checks = [cell.check for cell in result.cells]
    known.sort(key=lambda cause: (ORDER.index(cause.status), checks.index(cause.check)))
    yield from known
    for cell in result.cells:
        if cell.status == "not checked" and not cell.scope:
            yield _of_cell(result, cell, "partly checked", command)


def _unexplained_with_explained(groups: dict[tuple[str, str, str], list[Difference]]) -> list[list[Difference]]:
    """What nobody could explain goes with the only explanation that others of its kind have; several stay apart."""
    merged: dict[tuple[str, str], dict[str, list[Difference]]] = {}
    for (kind, check, variant), found in groups.items():
        merged.setdefault((kind, check), {})[variant] = found
    lists = []
    for same in merged.values():
        alone = len(same.keys() - {""}) < 2
        lists += [[one for found in same.values() for one in found]] if alone else same.values()
    return lists


def _of_differences(result: PairResult, found: list[Difference], command: str) -> Cause:
    first = next((one for one in found if one.explanation and one.explanation.looks_like), found[0])
    others = [one for one in found if one is not first]
    explained = first.explanation
    status = _kind(first)
    compared = [one for one in result.compared if one.check == first.check and one.failed]
    title = f"{first.name}" if first.name.startswith(first.check) else f"{first.check}: {first.name}"
    title += f", and {len(others)} more" if others else ""
    later = [cell.check for cell in result.cells if cell.status in FAILING and cell.check != first.check]
    checks = [cell.check for cell in result.cells]
    return Cause(
        title=text.admit(title),
        status=status,
        check=first.check,
        subjects=[text.admit(result.pair, text.NAME)],
        stage=text.admit((first.first.module or first.first.op) if first.first else first.name, text.NAME),
        looks_like=text.admit(explained.looks_like) if explained else "",
        tried=[text.admit(one) for one in explained.tried[:TRIED]] if explained and not explained.looks_like else [],
        sources=[line for line in _lines(first) if line.file],
        example=text.admit(result.pair, text.NAME),
        facts=[Fact(name=name, text=text.admit(words)) for name, words in facts(first)],
        comparison=compared[0] if compared else None,
        reproduce=command,
        failures=len(found),
        later=[check for check in later if checks.index(check) > checks.index(first.check)],
        also=[text.admit(f"{one.name}: {sentence(one)}") for one in others[:ALSO]],
        more=max(len(others) - ALSO, 0),
        growth=_growth(result, first, compared),
    )


def _growth(result: PairResult, first: Difference, compared: Sequence[Comparison]) -> StageGrowth | None:
    """Of a forward pass over its stages; of gradients over the leaves that are kept."""
    if first.check == "forward":
        return stages.thinned(result.stages) if result.stages and first.first else None
    return stages.of_comparisons(compared[0], result.compared, ()) if compared else None


def _of_cell(result: PairResult, cell: CheckCell, status: ReportStatus, command: str) -> Cause:
    said = "no answer" if status == "crashed" else "not checked"
    return Cause(
        title=text.admit(f"{cell.check}: {said}{f': {cell.text}' if cell.text else ''}"),
        status=status,
        check=cell.check,
        subjects=[text.admit(result.pair, text.NAME)],
        example=text.admit(result.pair, text.NAME),
        facts=[Fact(name="reason", text=text.admit(cell.text))] if cell.text else [],
        reproduce=command,
    )


def _line(side: str, place: SourcePlace) -> SourceLine | None:
    """The place, whose source is "model.py:31" where that is known."""
    file, _, number = place.source.rpartition(":")
    if not (place.source or place.module or place.op):
        return None
    known = bool(file) and number.isdigit()
    return SourceLine(
        side=side,
        file=text.admit(file if known else place.source, text.NAME),
        line=int(number) if known else 0,
        name=text.admit(place.module or place.op, text.NAME),
    )


def facts(one: Difference) -> Iterator[tuple[str, str]]:
    """What is known of a difference, in order."""
    yield "what", one.text
    for side, place in zip(SIDES, (one.first, one.second), strict=True):
        if place is not None:
            yield side, where(place)
    if one.index:
        yield "index", str(list(one.index))
    if one.values is not None:
        yield "values", " and ".join(_value(value) for value in one.values)
    if one.bound is not None and one.size is not None:
        yield "difference", f"{_value(one.size)}, allowed {_value(one.bound)}"
    if one.precision:
        yield "precision", one.precision
    yield from looks_like(one.explanation)


def where(place: SourcePlace) -> str:
    """A place in a line."""
    return ", ".join(word for word in (place.source, place.module, place.op) if word) or "(unknown)"


def sentence(one: Difference) -> str:
    """A difference in a line, without its name and what it looks like."""
    places = [where(place) for place in (one.first, one.second) if place is not None]
    values = f"; {' and '.join(_value(value) for value in one.values)}" if one.values is not None else ""
    return one.text + values + (f"; at {' / '.join(places)}" if places else "")


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.9g}" if math.isfinite(value) else str(value)
    return str(value)


def plain_text(result: PairResult) -> str:
    """What a terminal of 80 columns shows, for an exception's message."""
    written = io.StringIO()
    terminal.show(report_of(result), Console(file=written, width=80, force_terminal=True, color_system=None))
    return written.getvalue().rstrip()
