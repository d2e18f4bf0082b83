"""What explore found, on a terminal and in Markdown."""

from collections.abc import Iterator

from rich.console import Console

from crosscheck.explore.coverage import Coverage
from crosscheck.explore.findings import Explored, left_out
from crosscheck.report import markdown as comparison
from crosscheck.report import rows, terminal
from crosscheck.report.experiments import report_of
from crosscheck.report.markup import code, fence, head, inline, row
from crosscheck.report.rows import LABELS, say

SHOWN = 12
"""Values of an option that are listed with their counts, at most; explore.json has them all."""

NEVER = 40
"""Pairs that did not meet that are listed, at most."""

NAMED = 8
"""Options that were never drawn whose names a terminal shows, at most."""

REASONS = 8
"""Reasons why something was left out that a terminal shows, at most."""


def show(findings: Explored, console: Console) -> None:
    """Print what fails, what is left out, what was covered, and the verdict."""
    if findings.failures:
        rows.show(console, [rows.row(verdict) for verdict in findings.summary.experiments])
        say(console, "")
        terminal.show_causes(report_of(findings.summary), console)
        for failure in findings.failures:
            begun, smallest = failure.sizes
            say(console, f"{failure.smallest}: {begun} choices, shrunk to {smallest} in {failure.tried} attempts")
            say(console, f"  {failure.file}", whole=True)
            if failure.experiments[1:]:
                say(console, f"  the same check fails in {', '.join(failure.experiments[1:])}", indent=4)
    style = LABELS["left out"].style
    for reason, count in left_out(findings.looked)[:REASONS]:
        say(console, f"left out in {count} of {len(findings.looked)}: {reason}", style)
    for line in _covered(findings.coverage):
        say(console, line)
    for side in findings.summary.sides:
        versions = ", ".join(f"{name} {version}" for name, version in side.describe.items())
        say(console, f"{side.name}: {side.seconds:.0f} s in workers; {versions}")
    made = sum(one.comparisons for one in findings.looked)
    say(console, f"{made} comparisons, seed {findings.seed}, {findings.seconds:.0f} s")
    say(console, findings.verdict, "bold green" if findings.exit_code == 0 else "bold red")


def markdown(findings: Explored) -> str:
    """The report as Markdown."""
    return "\n".join(_lines(findings)) + "\n"


def _covered(coverage: Coverage) -> Iterator[str]:
    taken = [name for name, values in coverage.values.items() if values]
    missing = [name for name, values in coverage.values.items() if not values]
    met = len(coverage.pairs)
    yield f"covered: {len(taken)} of {len(coverage.values)} options; {met} pairs of settings have met"
    if len(missing) > NAMED:
        yield f"never drawn: {len(missing)} options, see explore.md"
    elif missing:
        yield f"never drawn: {', '.join(missing)}"


def _lines(findings: Explored) -> Iterator[str]:
    yield f"# crosscheck explore: {' against '.join(code(side.name) for side in findings.summary.sides)}"
    yield f"\n**{inline(findings.verdict)}**\n"
    ended = ", ended before its time" if findings.interrupted else ""
    made = sum(one.comparisons for one in findings.looked)
    yield f"{made} comparisons, seed {findings.seed}, {findings.seconds:.0f} s{ended}.\n"
    for failure in findings.failures:
        begun, smallest = failure.sizes
        yield f"\n## {inline(failure.smallest)}: {inline(failure.check)}\n"
        yield f"{code(failure.file)}, shrunk from {begun} choices to {smallest} in {failure.tried} attempts:\n"
        yield fence(failure.toml)
        if failure.experiments[1:]:
            yield f"\nThe same check fails in {', '.join(map(inline, failure.experiments[1:]))}."
    if findings.failures:
        yield comparison.render(report_of(findings.summary), "As compared", level=2)
    if reasons := left_out(findings.looked):
        yield "\n## Left out\n"
        yield head("experiments", "by whom, and why")
        yield from (row(str(count), code(reason)) for reason, count in reasons)
    yield from _coverage(findings.coverage)


def _coverage(coverage: Coverage) -> Iterator[str]:
    yield f"\n## Coverage\n\nOf {coverage.experiments} experiments, how many have each value:\n"
    yield head("option", "values")
    for name, values in coverage.values.items():
        listed = [f"{value} ({count})" for value, count in values.items()][:SHOWN]
        more = f", and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
        yield row(inline(name), code(", ".join(listed)) + more if values else "never drawn")
    yield f"\n{len(coverage.pairs)} pairs of settings have met, {len(coverage.never)} that could have not"
    if coverage.never:
        yield ":\n"
        yield from (f"- {code(one)} with {code(two)}" for one, two in coverage.never[:NEVER])
        if len(coverage.never) > NEVER:
            yield f"- and {len(coverage.never) - NEVER} more in explore.json"
    yield "\nSizes that were equal, or 1:\n"
    yield from (f"- {code(name)}: {count}" for name, count in list(coverage.coincidences.items())[:NEVER])
