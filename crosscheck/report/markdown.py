"""report.md: the report for a pull request or a GitHub step summary, which holds 1 MiB."""

import statistics
from collections.abc import Iterator

from crosscheck.judging.summary import Summary
from crosscheck.judging.verdict import Cell, cell_text
from crosscheck.report import convergence
from crosscheck.report.details import blame_facts, facts, failures, line, looks_like, reused, unchecked, unsteady
from crosscheck.report.markup import code, fence, folded, head, inline, row

LARGEST = 900_000
"""Bytes of the whole report; a longer one is cut, since GitHub drops a summary that is over 1 MiB."""

SHOWN = 20
"""So many failures of an experiment are listed; report.json has them all."""


def render(summary: Summary) -> str:
    """The report as Markdown."""
    kept, size = [], 0
    for block in _lines(summary):
        size += len(block.encode()) + 1
        if size > LARGEST:
            kept.append("\n... cut here; report.json has it all.")
            break
        kept.append(block)
    return "\n".join(kept) + "\n"


def _lines(summary: Summary) -> Iterator[str]:
    names = " against ".join(code(side.name) for side in summary.sides)
    yield f"# crosscheck: {names}"
    yield f"\n**{inline(summary.verdict)}**\n"
    made = f"{summary.comparisons} comparisons of {summary.elements} values"
    yield f"{made}, seed {summary.seed}, {inline(summary.device)}, {summary.seconds:.0f} s.\n"
    for side in summary.sides:
        versions = ", ".join(f"{name} {version}" for name, version in side.describe.items())
        yield f"- {code(side.name)}: {side.seconds:.0f} s in workers; {inline(versions)}"
    yield from (f"- {inline(text)}" for text in reused(summary))
    yield "\nok: the largest difference, in units of its bound.\n"
    yield from (f"{text}.\n" for text in convergence.legend(summary))
    yield head("experiment", *summary.checks)
    for verdict in summary.experiments:
        yield row(inline(verdict.experiment), *(_cell(cell) for cell in verdict.cells))
    yield from _failures(summary)
    yield from _unchecked(summary)
    yield from _convergence(summary)
    yield from _headroom(summary)
    yield from _time(summary)


def _failures(summary: Summary) -> Iterator[str]:
    for verdict, found in failures(summary):
        yield f"\n## {inline(verdict.experiment)}\n\nFirst failure:\n"
        for name, text in facts(found[0]):
            yield f"- {inline(name)}: {code(text)}"
        if verdict.blame:
            yield from (f"- {inline(name)}: {code(text)}" for name, text in blame_facts(verdict.blame))
        yield from (f"- {inline(name)}: {code(text)}" for name, text in looks_like(verdict.explanation))
        if verdict.explanation and not verdict.explanation.looks_like and verdict.explanation.tried:
            yield from folded("tried", verdict.explanation.tried)
        yield f"- reproduce: {code(summary.reproduce(verdict, found[0]))}"
        if found[0].traceback:
            yield f"\n{fence(found[0].traceback)}"
        if len(found) > 1:
            yield f"\nAll {len(found)} failures, in order:\n"
            yield from (f"- {code(line(comparison))}" for comparison in found[:SHOWN])
        if len(found) > SHOWN:
            yield f"- and {len(found) - SHOWN} more in report.json"


def _unchecked(summary: Summary) -> Iterator[str]:
    if found := unchecked(summary):
        yield "\n## Not checked\n"
        yield from (
            f"- {inline(experiment)} ({', '.join(checks)}): {code(reason)}" for experiment, checks, reason in found
        )
    if differing := list(unsteady(summary)):
        yield "\n## Not deterministic\n"
        yield from (f"- {code(text)}" for text in differing)


def _convergence(summary: Summary) -> Iterator[str]:
    """Each endpoint of the ensembles, and how fast they were trained."""
    if rows := list(convergence.endpoints(summary)):
        yield "\n## Convergence\n\nMeans and rates with their 95 % intervals. n: members of each sample.\n"
        yield head(*convergence.ENDPOINTS)
        yield from (row(*map(inline, cells)) for cells in rows)
        yield "\n## Trainings per second\n\nIn each side's worker, starting up and compiling included.\n"
        yield head("experiment", *(inline(side.name) for side in summary.sides), "second / first")
        yield from (row(*map(inline, cells)) for cells in convergence.speeds(summary))


def _headroom(summary: Summary) -> Iterator[str]:
    """Where each check comes closest to its bound."""
    yield "\n## Headroom\n\nHow many times the largest difference fits into its bound, where it is tightest:\n"
    yield head("check", "precision", "headroom", "experiment", "tensor", "step")
    for check in summary.checks:
        for precision in summary.precisions:
            measured = [
                comparison
                for verdict in summary.experiments
                for comparison in verdict.comparisons
                if (comparison.check, comparison.precision) == (check, precision)
                and comparison.headroom
                and comparison.evidence is None
            ]
            if measured:
                tightest = max(measured, key=lambda comparison: comparison.ratio or 0.0)
                step = "" if tightest.step is None else str(tightest.step)
                headroom = f"{tightest.headroom or 0.0:.3g}"
                yield row(check, precision, headroom, inline(tightest.experiment), code(tightest.tensor), step)
    yield from _envelopes(summary)


def _envelopes(summary: Summary) -> Iterator[str]:
    """How far apart the two sides' losses are, compared with what a change of the start's last bits makes of them."""
    for precision in summary.precisions:
        comparisons = [c for verdict in summary.experiments for c in verdict.comparisons if c.precision == precision]
        if found := [c.envelopes for c in comparisons if c.envelopes is not None and c.sides == _names(summary)]:
            middle = f"{statistics.median(found):.2g} of the one-bit envelope in the median over {len(found)}"
            yield f"\n{precision}: in trajectory losses differ by {middle} trajectories, by {max(found):.2g} at most."


def _names(summary: Summary) -> tuple[str, ...]:
    return tuple(side.name for side in summary.sides)


def _time(summary: Summary) -> Iterator[str]:
    """Where the seconds went."""
    yield "\n## Seconds\n\nIn the workers of either side, several of them side by side.\n"
    yield head("check", *(inline(side.name) for side in summary.sides))
    for check in summary.checks:
        spent = [cell.seconds for verdict in summary.experiments for cell in verdict.cells if cell.check == check]
        yield row(check, *(f"{sum(seconds[i] for seconds in spent):.1f}" for i in range(len(summary.sides))))
    kinds = {kind for side in summary.sides for kind in side.overhead}
    for kind in sorted(kinds, key=lambda kind: (kind != "starting", kind)):
        words = "before that, starting" if kind == "starting" else f"of these, {kind}"
        yield row(inline(words), *(f"{side.overhead.get(kind, 0.0):.1f}" for side in summary.sides))
    if any(side.reused for side in summary.sides):
        yield "\nA check's seconds are those that its recording took, also where an earlier run made it."
    if summary.comparing:
        yield f"\nComparing took {summary.comparing:.1f} s of the run's {summary.seconds:.0f}, while workers went on."


def _cell(cell: Cell) -> str:
    text = cell_text(cell)
    return f"**{text}**" if cell.status in ("different", "crashed", "underpowered") else text
