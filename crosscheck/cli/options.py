"""Options that several of crosscheck's commands have, and what they do with them."""

import argparse
import math
import os
from pathlib import Path

from crosscheck.request import DEFAULT_IMPLEMENTATIONS
from spec.arguments import path_argument
from spec.errors import shorten

REPORT = Path("crosscheck-report")
"""Where reports go by default, below the current directory."""


PAGE = "report.html"
"""The report as a page, see crosscheck.report.page."""

LONGEST = 10**6
"""Seconds that may be waited for an answer; eleven days."""


def add_implementations(parser: argparse.ArgumentParser, what: str) -> None:
    """--implementations: a list of two; what: is said of them beside what they may be."""
    parser.add_argument(
        "--implementations",
        nargs=2,
        metavar=("FIRST", "SECOND"),
        default=list(DEFAULT_IMPLEMENTATIONS),
        help=f"modules, or paths of packages{what} (default: {' '.join(DEFAULT_IMPLEMENTATIONS)})",
    )


def add_report(parser: argparse.ArgumentParser, file: str) -> None:
    """--out and --json; file: the report's JSON."""
    parser.add_argument(
        "--out", type=path_argument, default=REPORT, help=f"directory of the report (default ./{REPORT})"
    )
    parser.add_argument("--json", action="store_true", help=f"print {file} in place of the table")


def add_html(parser: argparse.ArgumentParser) -> None:
    """--html, which a CI system's runs have by themselves."""
    parser.add_argument(
        "--html",
        action="store_true",
        default=os.environ.get("CI", "") not in ("", "0", "false"),
        help=f"write {PAGE} too, a page with pictures that needs no network (default where $CI is set)",
    )


def whole(text: str) -> int:
    """A type for argparse: an integer, or an error that says so, whatever the number of its digits."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {shorten(text)!r}") from None


def seconds(text: str) -> float:
    """A type for argparse: a time that can be waited for, or an error that says so."""
    return duration(text, LONGEST, "seconds")


def duration(text: str, longest: float, unit: str) -> float:
    """More than 0 and at most so many; raises argparse's error for anything else."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= longest:
        raise argparse.ArgumentTypeError(
            f"expected more than 0 and at most {longest:.0f} {unit}, got {shorten(text)!r}"
        )
    return value
