"""Failures in words, the same for the terminal and for Markdown."""

from collections.abc import Iterator

from crosscheck.comparison import Comparison, Value
from crosscheck.diagnosis.finding import Blame, Departure
from crosscheck.explain.explanation import Explanation
from crosscheck.judging.summary import Summary
from crosscheck.judging.verdict import Verdict

LISTED = 8
"""So many stages or tensors are named in one line; report.json has them all."""


def failures(summary: Summary) -> Iterator[tuple[Verdict, list[Comparison]]]:
    """Each experiment that failed, with what failed from the ground up."""
    for verdict in summary.experiments:
        if verdict.failures:
            yield verdict, verdict.failures


def unchecked(summary: Summary) -> list[tuple[str, list[str], str]]:
    """What was left out: experiment, checks, and the reason that they share."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for verdict in summary.experiments:
        for cell in verdict.cells:
            if cell.status in ("not checked", "left out"):
                by_reason.setdefault((verdict.experiment, cell.reason), []).append(cell.check)
    return [(experiment, checks, reason) for (experiment, reason), checks in by_reason.items()]


def unsteady(summary: Summary) -> Iterator[str]:
    """What an accelerator did not compute twice alike, which is no failure there: the largest by side and check."""
    found: dict[tuple[str, str], list[Comparison]] = {}
    for verdict in summary.experiments:
        for comparison in verdict.comparisons:
            if comparison.passed and comparison.kind == "unsteady":
                found.setdefault((comparison.sides[0], comparison.check), []).append(comparison)
    for (side, check), comparisons in found.items():
        worst = max(comparisons, key=lambda comparison: comparison.difference or 0.0)
        where = f"{worst.experiment}, {worst.precision}, {worst.tensor}"
        largest = f", by {worst.difference:.2g} at most" if worst.difference is not None else ""
        yield f"not deterministic: {side}, {check}: {len(comparisons)} answers{largest} ({where}); they widen no bound"


def facts(comparison: Comparison) -> list[tuple[str, str]]:
    """What is known of a comparison, each fact with its name."""
    found = [("check", comparison.check), ("precision", comparison.precision), ("case", comparison.case)]
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


def blame_facts(blame: Blame) -> list[tuple[str, str]]:
    """Who is wrong, and where; each fact with its name."""
    found = [("at fault", f"{blame.at_fault} ({blame.reason})")]
    if blame.reference is not None:
        found.append(("reference", number(blame.reference)))
    for departure in blame.departures:
        found.append((f"in {departure.side}", _where(departure)))
        if also := departure.wrong[1:]:
            found.append(("also wrong", _listed(also)))
        if departure.downstream:
            found.append(("downstream", _listed(departure.downstream)))
    return found


def looks_like(explanation: Explanation | None) -> list[tuple[str, str]]:
    """What the difference looks like; else how much was tried, and why no more."""
    if explanation is None:
        return []
    if explanation.looks_like:
        return [("looks like", explanation.looks_like)]
    stopped = f"; {explanation.stopped}" if explanation.stopped else ""
    count = len(explanation.tried)
    return [("looks like", f"none of {count} known variants{stopped}")] if count else []


def _where(departure: Departure) -> str:
    """Where a side departs by itself, in words."""
    words = [f"first wrong: {departure.stage}"]
    if departure.step is not None:
        words.append(f"at step {departure.step}")
    if departure.time is not None:
        words.append(f"at time step {departure.time}")
    text = ", ".join(words)
    if departure.value is not None:
        at = departure.tensor + (str(list(departure.index)) if departure.index else "")
        text += f"; {at} is {number(departure.value)}" if at else f"; {departure.value}"
        if departure.expected is not None:
            text += f", expected {number(departure.expected)}"
    return text


def _listed(names: list[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


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
    return f"{comparison.check}, {place}{step}: {comparison.tensor}{index}{difference}{note}"


def number(value: Value) -> str:
    """With all the digits that tell two floats apart."""
    return value if isinstance(value, str) else f"{value:.17g}"


def reused(summary: Summary) -> Iterator[str]:
    """What an earlier run has recorded, of each side of which it has."""
    for side in summary.sides:
        if side.reused:
            yield (
                f"{side.name}: {side.reused} of {len(summary.experiments)} recordings are an earlier run's; "
                "nothing that they were made from has changed (--fresh records anew)"
            )
