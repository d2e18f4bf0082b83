"""`python -m crosscheck explore`: its options, the run, and what it leaves behind.

What exploring needs is imported where that begins: help and mistakes are answered at once.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crosscheck.checks import BY_DEFAULT
from crosscheck.checks.wanted import Wanted
from crosscheck.cli import output
from crosscheck.cli.options import duration, seconds
from spec.arguments import at_least
from spec.errors import FrameworkMissing, UsageError
from spec.requirements import EXTRAS, hint, is_installed

if TYPE_CHECKING:
    from crosscheck.explore.findings import Explored

DESCRIPTION = """\
Do two implementations agree on experiments that nobody thought of? Draws them at random out of all that the spec can
express, in small sizes, and compares the two on each. One that fails is shrunk to the smallest that still does.
"""

MINUTES = 10.0
"""Where neither --minutes nor --experiments says when to stop."""

LONGEST = 7 * 24 * 60.0
"""Minutes."""

FILES = ("explore.md", "explore.json")

LIBRARY = "hypothesis"
"""What shrinking is done by."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """All options but those that other commands have too."""
    parser.add_argument(
        "--minutes",
        type=_minutes,
        metavar="M",
        help=f"how long to draw (default {MINUTES:g}, without --experiments); shrinking may take a minute more",
    )
    parser.add_argument("--experiments", type=at_least(1), metavar="N", help="how many to draw at most")
    parser.add_argument(
        "--timeout", type=seconds, default=300.0, metavar="SECONDS", help="for one experiment on one side (default 300)"
    )


def carry_out(options: argparse.Namespace, names: Sequence[str], wanted: Wanted) -> int:
    """Run the command; returns its exit code. names: of the two implementations."""
    if not is_installed(LIBRARY):
        raise FrameworkMissing(f"explore: expected {LIBRARY} to be installed, got none; {hint(EXTRAS['crosscheck'])}")
    if not {check.NAME for check in BY_DEFAULT} & set(wanted.checks):
        raise UsageError("explore: expected a check that judges one experiment, got none")
    from crosscheck.explore import run

    minutes = options.minutes or (None if options.experiments else MINUTES)
    plan = run.Exploration(
        seed=options.seed,
        experiments=options.experiments,
        seconds=minutes * 60 if minutes else math.inf,
        wanted=wanted,
        implementations=(names[0], names[1]),
        timeout=options.timeout,
        directory=options.out,
    )
    with output.reports(options.out, FILES):
        findings = run.explore(plan, quiet=options.json)
    return _report(findings, options)


def _report(findings: "Explored", options: argparse.Namespace) -> int:
    import msgspec

    from crosscheck.explore import report
    from crosscheck.report import data

    rendered = data.encode(msgspec.to_builtins(findings), indent=2) + b"\n"
    contents: dict[str, Callable[[], bytes]] = {
        "explore.json": lambda: rendered,
        "explore.md": lambda: report.markdown(findings).encode(),
    }
    for failure in findings.failures:
        contents[Path(failure.file).name] = failure.toml.encode
    output.conclude(options, rendered, lambda console: report.show(findings, console), contents)
    return findings.exit_code


def _minutes(text: str) -> float:
    return duration(text, LONGEST, "minutes")
