"""Options that several of crosscheck's commands have, and what they do with them."""

import argparse
from pathlib import Path

from crosscheck.summary import DEFAULT_IMPLEMENTATIONS

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
