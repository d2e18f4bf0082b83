"""junit.xml: the report for CI systems. A suite is a subject, a case a check."""

from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from crosscheck.report.model import FAILING, Cause, ReportCell, ReportSubject, RunReport
from crosscheck.report.rows import LABELS
from spec.text import visible, visible_lines

SKIPPED = ("not checked", "left out", "not applicable", "not asked")
"""Statuses of checks in which nothing was compared, where that is no lack."""


def render(report: RunReport) -> bytes:
    """The report as JUnit XML. A case that keeps the run from "the same" is a failure where the sides are known to
    differ, and an error where a side gave no answer or nobody can tell."""
    top = Element("testsuites", name=f"crosscheck {visible(report.title)}")
    suites = [_suite(report, subject) for subject in report.subjects]
    for name in ("tests", "failures", "errors", "skipped"):
        top.set(name, str(sum(int(suite.get(name, "0")) for suite in suites)))
    top.set("time", f"{report.seconds:.3f}")
    top.extend(suites)
    ElementTree.indent(top)
    return ElementTree.tostring(top, encoding="utf-8", xml_declaration=True) + b"\n"


def _suite(report: RunReport, subject: ReportSubject) -> Element:
    cases = [_case(report, subject, cell) for cell in subject.cells]
    suite = Element("testsuite", name=visible(subject.name))
    suite.set("tests", str(len(cases)))
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(sum(case.find(tag) is not None for case in cases)))
    suite.set("time", f"{sum(sum(cell.seconds) for cell in subject.cells):.3f}")
    if report.made:
        suite.set("timestamp", report.made.removesuffix("Z"))
    properties = SubElement(suite, "properties")
    told = {"verdict": report.verdict, "model": subject.family, "hash": subject.hash, "command": report.command}
    for side in report.sides:
        told |= {f"{side.name}: {name}": version for name, version in side.versions.items()}
    for name, value in told.items():
        if value:
            SubElement(properties, "property", name=visible(name), value=visible(value))
    suite.extend(cases)
    return suite


def _case(report: RunReport, subject: ReportSubject, cell: ReportCell) -> Element:
    case = Element("testcase", name=visible(cell.check), classname=visible(subject.name))
    case.set("time", f"{sum(cell.seconds):.3f}")
    if cell.causes:
        causes = [report.causes[number] for number in cell.causes]
        for line in causes[0].sources[:1]:
            case.set("file", visible(line.file))
            if line.line:
                case.set("line", str(line.line))
        # Readers take one of them for a case's result, and some refuse more.
        _result(case, cell, causes)
    elif cell.status in SKIPPED:
        SubElement(case, "skipped", message=visible(cell.reason or LABELS[cell.status].meaning))
    return case


def _result(case: Element, cell: ReportCell, causes: list[Cause]) -> None:
    failing = cell.status in FAILING and cell.status != "crashed"
    found = SubElement(case, "failure" if failing else "error", type=visible(cell.status))
    found.set("message", visible("; ".join(cause.title for cause in causes)))
    found.text = "\n\n".join(_told(cause, cell.check) for cause in causes)


def _told(cause: Cause, check: str) -> str:
    """Blame, explanation, values and the command, a line each."""
    if check in cause.later:
        return visible(f"fails in {cause.check} first, from which this may follow: see there")
    lines = [f"{line.where}: {line.name}" for line in cause.sources]
    lines += [f"{fact.name}: {fact.text}" for fact in cause.facts]
    if cause.reproduce:
        lines.append(f"reproduce: {cause.reproduce}")
    if cause.example and len(cause.subjects) > 1:
        lines.insert(0, f"of {len(cause.subjects)} experiments this is {cause.example}")
    shown = "\n".join(map(visible, lines))
    return f"{shown}\n{visible_lines(cause.traceback)}" if cause.traceback else shown
