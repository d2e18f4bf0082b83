"""What the ensembles came to."""

from collections.abc import Iterator

from crosscheck.comparison import Comparison, Evidence
from crosscheck.judging.summary import Summary
from crosscheck.judging.verdict import Cell, Verdict
from crosscheck.report.details import number
from crosscheck.report.model import Endpoint, Speed
from spec.convergence import CONVERGENCE
from spec.text import NAME, admit


def legend(summary: Summary) -> list[str]:
    """What the cells mean, where there are any."""
    if not any(cell.shown for verdict in summary.experiments for cell in verdict.cells):
        return []
    level = f"{CONVERGENCE.level:g}"
    return [
        "SAME, DIFFERENT: the largest difference, in units of its margin; the chance of any false SAME in this run is "
        f"at most {level}, and of any false DIFFERENT {level}",
        "UNDERPOWERED: neither could be shown; the number of seeds a side that would do for sides that are alike",
    ]


def underpowered(summary: Summary) -> Iterator[tuple[Verdict, Comparison]]:
    """What is neither within its margin nor beyond it."""
    for verdict in summary.experiments:
        yield from ((verdict, comparison) for comparison in verdict.comparisons if comparison.underpowered)


def sentence(comparison: Comparison) -> str:
    """An endpoint in a line."""
    first, second = (number(value) for value in comparison.values or ("", ""))
    evidence = comparison.evidence
    if evidence is None or comparison.difference is None or comparison.bound is None:
        return comparison.note
    words = (
        f"{comparison.tensor}: {first} and {second}, difference {comparison.difference:.3g} of {comparison.bound:.3g}"
    )
    words += f" (n = {' and '.join(map(str, evidence.members))})"
    if comparison.underpowered:
        words += f"; --seeds {evidence.needed} would do" if evidence.needed else "; about as large as the margin"
    return words


def endpoints(summary: Summary) -> Iterator[Endpoint]:
    """Each endpoint that was judged."""
    for verdict in summary.experiments:
        for comparison in verdict.comparisons:
            evidence = comparison.evidence
            if evidence is None or comparison.difference is None or comparison.bound is None:
                continue
            first, second = (number(value) for value in comparison.values or ("", ""))
            yield Endpoint(
                subject=admit(verdict.experiment, NAME),
                endpoint=admit(comparison.tensor, NAME),
                sides=(admit(comparison.sides[0], NAME), admit(comparison.sides[1], NAME)),
                first=first,
                second=second,
                difference=comparison.difference,
                margin=comparison.bound,
                same=evidence.same,
                different=evidence.different,
                members=list(evidence.members),
                word=_word(comparison, evidence),
            )


def _word(comparison: Comparison, evidence: Evidence) -> str:
    if comparison.failed:
        return "DIFFERENT"
    if comparison.underpowered:
        return f"UNDERPOWERED {evidence.needed or ''}".strip()
    # A control need not be shown to be the same.
    return "not different" if evidence.control else "SAME"


def speeds(summary: Summary) -> Iterator[Speed]:
    """Trainings per second of either side on each experiment."""
    for verdict in summary.experiments:
        for cell in verdict.cells:
            members = _members(verdict, cell)
            if members and min(cell.seconds) > 0:
                first, second = (count / seconds for count, seconds in zip(members, cell.seconds, strict=True))
                yield Speed(subject=admit(verdict.experiment, NAME), first=first, second=second)


def _members(verdict: Verdict, cell: Cell) -> tuple[int, ...] | None:
    """Of the two ensembles that were compared there."""
    judged = (c.evidence for c in verdict.comparisons if c.check == cell.check and c.evidence is not None)
    return next((e.members for e in judged if len(e.members) == 2 and not e.control), None)
