"""Options that several of crosscheck's commands have, and what they do with them."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from crosscheck.summary import DEFAULT_IMPLEMENTATIONS
from spec.errors import UsageError

REPORT = Path("crosscheck-report")
"""Where reports go by default, below the current directory."""


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
    parser.add_argument("--out", type=Path, default=REPORT, help=f"directory of the report (default ./{REPORT})")
    parser.add_argument("--json", action="store_true", help=f"print {file} in place of the table")


def clear(directory: Path, files: Iterable[str]) -> None:
    """Make --out and take away the last run's files, lest they be read for this one's where this one fails.

    Raises UsageError where that cannot be done: better before the work than after it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in files:
            (directory / name).unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"--out: expected a directory to write to, got {directory}: {error.strerror}") from None
