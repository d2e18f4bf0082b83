"""Failures in words, the same for the terminal and for Markdown."""

from collections.abc import Iterator

from crosscheck.comparison import Comparison, Value
from crosscheck.summary import Summary
from crosscheck.verdict import Verdict


def failures(summary: Summary) -> Iterator[tuple[Verdict, list[Comparison]]]:
    """Each experiment that failed, with what failed from the ground up."""
    for verdict in summary.experiments:
        if verdict.failures:
            yield verdict, verdict.failures


def unchecked(summary: Summary) -> list[tuple[str, list[str], str]]:
    """What was left out: experiment, rungs, and the reason that they share."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for verdict in summary.experiments:
        for cell in verdict.cells:
            if cell.status == "not checked":
                by_reason.setdefault((verdict.experiment, cell.reason), []).append(cell.rung)
    return [(experiment, rungs, reason) for (experiment, reason), rungs in by_reason.items()]


def facts(comparison: Comparison) -> list[tuple[str, str]]:
    """What is known of a comparison, each fact with its name."""
    found = [("rung", comparison.rung), ("precision", comparison.precision), ("case", comparison.case)]
    found.append(("tensor", comparison.tensor))
    if comparison.step is not None:
        found.append(("step", str(comparison.step)))
    if comparison.index:
        found.append(("index", str(list(comparison.index))))
    if comparison.values is not None:
        found += [(side, number(value)) for side, value in zip(comparison.sides, comparison.values, strict=True)]
    if comparison.difference is not None and comparison.bound is not None:
        found.append(("difference", f"{comparison.difference:.3g}, bound {comparison.bound:.3g}"))
    found.append(("note", comparison.note))
    return [(name, text) for name, text in found if text]


def line(comparison: Comparison) -> str:
    """A comparison in a line."""
    place = f"{comparison.precision} {comparison.case}".strip()
    step = f", step {comparison.step}" if comparison.step is not None else ""
    index = str(list(comparison.index)) if comparison.index else ""
    difference = (
        f": {comparison.difference:.2g} > {comparison.bound:.2g}"
        if comparison.difference is not None and comparison.bound is not None
        else ""
    )
    note = f" ({comparison.note})" if comparison.note else ""
    return f"{comparison.rung}, {place}{step}: {comparison.tensor}{index}{difference}{note}"


def number(value: Value) -> str:
    """With all the digits that tell two floats apart."""
    return value if isinstance(value, str) else f"{value:.17g}"
