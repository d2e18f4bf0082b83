"""The report on a terminal, or in a log: rows in words, which are folded where it is narrow and never cut."""

from rich.console import Console

from crosscheck.judging.summary import Summary
from crosscheck.report import convergence, rows
from crosscheck.report.details import blame_facts, facts, failures, line, looks_like, reused, unchecked, unsteady
from crosscheck.report.rows import LABELS, say
from spec.text import visible

SHOWN = 5
"""So many further failures of an experiment are listed; report.json has them all."""

NAMES = 24
"""Columns of the names of facts, at most: two are of sides, which may be paths."""


def show(summary: Summary, console: Console) -> None:
    """Print the legend, the table, the failures and the verdict."""
    say(console, " against ".join(side.name for side in summary.sides), "bold")
    say(console, f"checks: {', '.join(summary.checks)}")
    for text in (*rows.legend(summary.experiments), *convergence.legend(summary)):
        say(console, text)
    say(console, "")
    rows.show(console, [rows.row(verdict) for verdict in summary.experiments])
    say(console, "")
    for experiment, checks, reason in unchecked(summary):
        say(console, f"not checked: {experiment} ({', '.join(checks)}): {reason}", LABELS["not checked"].style)
    for text in unsteady(summary):
        say(console, text, LABELS["not checked"].style)
    show_failures(summary, console)
    for verdict, comparison in convergence.underpowered(summary):
        style = LABELS["underpowered"].style
        say(console, f"underpowered: {verdict.experiment}: {convergence.sentence(comparison)}", style)
    for side in summary.sides:
        versions = ", ".join(f"{name} {version}" for name, version in side.describe.items())
        say(console, f"{side.name}: {side.seconds:.0f} s in workers; {versions}")
    for text in reused(summary):
        say(console, text)
    say(console, f"{summary.comparisons} comparisons of {summary.elements} values in {summary.seconds:.0f} s")
    say(console, summary.verdict, "bold green" if summary.exit_code == 0 else "bold red")


def show_failures(summary: Summary, console: Console) -> None:
    """The first failure of each experiment with all that is known of it, and some of the others."""
    for verdict, found in failures(summary):
        say(console, f"{verdict.experiment}: first failure", "bold red")
        known = [*facts(found[0]), *(blame_facts(verdict.blame) if verdict.blame else [])]
        known += looks_like(verdict.explanation)
        width = min(max(len(visible(name)) for name, _ in known), NAMES, console.width // 4)
        for name, text in known:
            say(
                console,
                f"  {visible(name):<{width}} {text}",
                "bold" if name in ("at fault", "looks like") else None,
                indent=width + 1,
            )
        say(console, f"  {'reproduce':<{width}} {summary.reproduce(verdict, found[0])}", whole=True)
        for comparison in found[1 : SHOWN + 1]:
            say(console, f"  also {line(comparison)}")
        if len(found) > SHOWN + 1:
            say(console, f"  and {len(found) - SHOWN - 1} more, all in report.json")
        say(console, "")
