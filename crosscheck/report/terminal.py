"""The report on a terminal, or in a log: causes first, then rows in words, which are folded and never cut."""

from rich.console import Console

from crosscheck.report import rows
from crosscheck.report.model import FAILING, Cause, RunReport
from crosscheck.report.rows import LABELS, say
from spec.text import visible

SHOWN = 5
"""So many further failures of a cause are listed; report-details.json.gz has them all."""

CAUSES = 10
"""So many causes are shown; report.json has them all."""

SUBJECTS = 8
"""So many of a cause's experiments are named."""

REPRODUCE = "reproduce"

NAMES = 24
"""Columns of the names of facts, at most: two are of sides, which may be paths."""


def show(report: RunReport, console: Console) -> None:
    """Print the causes, the table with its legend, the sides and the verdict."""
    say(console, report.title, "bold")
    if report.kind == "pair":
        count = " and ".join(f"{side.leaves} leaves, {side.numbers:,} numbers" for side in report.sides)
        say(console, f"seed {report.seed}: {count}")
    else:
        say(console, f"checks: {', '.join(report.checks)}")
    say(console, "")
    show_causes(report, console)
    for line in report.legend:
        say(console, line)
    say(console, "")
    if report.kind == "pair":
        rows.show(console, [rows.cell_row(cell) for cell in report.subjects[0].cells])
    else:
        rows.show(console, [rows.row_of(subject) for subject in report.subjects])
    say(console, "")
    for said, checks in report.remarks.items():
        say(console, f"ok in {', '.join(checks)} beside failures: {said}")
    for left in report.unchecked:
        words = f"not checked: {left.subject} ({', '.join(left.checks)}): {left.reason}"
        say(console, words, LABELS["not checked"].style)
    for known in report.expected:
        say(console, f"expected: {known.name}: {known.reason}", indent=10)
    for note in report.notes:
        say(console, f"note: {note}" if report.kind == "pair" else note)
    if report.map:
        say(console, f"map: {report.map.file}")
    for side in report.sides:
        versions = ", ".join(f"{name} {version}" for name, version in side.versions.items())
        worked = f"{side.seconds:.0f} s in workers; " if report.kind == "experiments" else ""
        if versions or worked:
            say(console, f"{side.name}: {worked}{versions}")
    say(console, f"{report.comparisons} comparisons of {report.elements} values in {report.seconds:.0f} s")
    if len(report.causes) and report.kind == "experiments":
        count = len(report.causes)
        first = f"the first of {count} causes" if count > 1 else "the cause"
        say(console, f"{first}: {report.causes[0].title}", "bold")
    say(console, report.verdict, "bold green" if report.exit_code == 0 else "bold red")


def show_causes(report: RunReport, console: Console) -> None:
    """What keeps the run from "the same", each with all that is known of one example."""
    for number, cause in enumerate(report.causes[:CAUSES], 1):
        _cause(report, cause, number, console)
    if len(report.causes) > CAUSES:
        say(console, f"and {len(report.causes) - CAUSES} more causes, all in report.json")
        say(console, "")


def _cause(report: RunReport, cause: Cause, number: int, console: Console) -> None:
    style = LABELS[cause.status].style
    say(console, f"{number}. {LABELS[cause.status].word}: {cause.title}", style, indent=3)
    known = [(fact.name, fact.text) for fact in cause.facts]
    if report.kind == "experiments":
        known = [("source", f"{line.where} ({line.name})") for line in cause.sources] + known
    if len(cause.subjects) > 1:
        more = f" and {len(cause.subjects) - SUBJECTS} more" if len(cause.subjects) > SUBJECTS else ""
        say(console, f"  in {', '.join(cause.subjects[:SUBJECTS])}{more}", indent=2)
        if cause.status in FAILING:
            say(console, f"  of these {cause.example}:", indent=2)
    if cause.later:
        known.append(("also fail", ", ".join(cause.later)))
    longest = max((len(visible(name)) for name, _ in known), default=0)
    width = max(min(longest, NAMES, console.width // 4), len(REPRODUCE))
    for name, words in known:
        bold = "bold" if name in ("at fault", "looks like", "source") else None
        say(console, f"  {visible(name):<{width}} {words}", bold, indent=width + 1)
    if cause.reproduce:
        say(console, f"  {REPRODUCE:<{width}} {cause.reproduce}", whole=True)
    for line in cause.also[:SHOWN]:
        say(console, f"  also {line}")
    left = len(cause.also) - SHOWN + cause.more
    if left > 0:
        say(console, f"  and {left} more, all in report-details.json.gz")
    say(console, "")
