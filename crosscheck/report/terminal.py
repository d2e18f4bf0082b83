"""The report on a terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crosscheck.report import convergence
from crosscheck.report.details import blame_facts, facts, failures, line, reused, unchecked, unsteady
from crosscheck.summary import Summary
from crosscheck.verdict import Status, cell_text

STYLES: dict[Status, str] = {
    "same": "green",
    "different": "bold red",
    "crashed": "bold red",
    "underpowered": "bold yellow",
    "not checked": "yellow",
    "left out": "yellow",
    "partly checked": "bold yellow",
    "not applicable": "dim",
}

SHOWN = 5
"""So many further failures of an experiment are listed; report.json has them all."""


def show(summary: Summary, console: Console) -> None:
    """Print the table, the failures and the verdict."""
    _print(console, " against ".join(side.name for side in summary.sides), "bold")
    table = Table(box=SIMPLE_HEAD)
    table.add_column("experiment", no_wrap=True)
    for rung in summary.rungs:
        # A space lets a narrow terminal break the name instead of cutting it.
        table.add_column(rung.replace("-", " "), justify="right")
    for verdict in summary.experiments:
        cells = [Text(cell_text(cell), STYLES[cell.status]) for cell in verdict.cells]
        table.add_row(Text(verdict.experiment, STYLES[verdict.status]), *cells)
    console.print(table)
    _print(console, "ok: the largest difference, in units of its bound")
    for text in convergence.legend(summary):
        _print(console, text)
    for experiment, rungs, reason in unchecked(summary):
        _print(console, f"not checked: {experiment} ({', '.join(rungs)}): {reason}", "yellow")
    for text in unsteady(summary):
        _print(console, text, "yellow")
    for verdict, found in failures(summary):
        _print(console, f"\n{verdict.experiment}: first failure", "bold red")
        for name, text in facts(found[0]):
            _print(console, f"  {name:<12} {text}")
        for name, text in blame_facts(verdict.blame) if verdict.blame else []:
            _print(console, f"  {name:<12} {text}", "bold" if name == "departs" else None)
        _print(console, f"  {'reproduce':<12} {summary.reproduce(verdict, found[0])}")
        for comparison in found[1 : SHOWN + 1]:
            _print(console, f"  also {line(comparison)}")
        if len(found) > SHOWN + 1:
            _print(console, f"  and {len(found) - SHOWN - 1} more, all in report.json")
    for verdict, comparison in convergence.underpowered(summary):
        _print(console, f"underpowered: {verdict.experiment}: {convergence.sentence(comparison)}", "yellow")
    for side in summary.sides:
        versions = ", ".join(f"{name} {version}" for name, version in side.describe.items())
        _print(console, f"{side.name}: {side.seconds:.0f} s in workers; {versions}")
    for text in reused(summary):
        _print(console, text)
    _print(console, f"{summary.comparisons} comparisons of {summary.elements} values in {summary.seconds:.0f} s")
    _print(console, summary.verdict, "bold green" if summary.exit_code == 0 else "bold red")


def _print(console: Console, text: str, style: str | None = None) -> None:
    """A line as it is: its brackets are indices, and a terminal may wrap it but not we."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
