"""`python -m crosscheck doctor`."""

import argparse
from collections import Counter
from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.text import Text

from crosscheck.cli import output
from crosscheck.cli.doctor import frameworks, places, settings, versions
from crosscheck.cli.doctor.line import DoctorLine
from crosscheck.cli.options import add_implementations
from crosscheck.report.rows import Row, columns, say, table
from spec import text
from spec.arguments import Parser
from spec.exit_codes import COULD_NOT_RUN, SIGNALS, USAGE, ExitCode, epilog

SCHEMA_VERSION = 1

HEALTHY = 0

TABLE = (
    ExitCode(USAGE, "usage", "wrong flags"),
    ExitCode(COULD_NOT_RUN, "fail", "in at least one line: a comparison cannot run, or cannot be trusted"),
    ExitCode(HEALTHY, "ok or warn", "in all lines"),
    *SIGNALS,
)

STYLES = {"ok": "green", "warn": "bold magenta", "fail": "bold red"}


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = Parser(
        prog="python -m crosscheck doctor",
        description="What of this machine, its packages and its variables would spoil a comparison, and what helps. "
        "Nothing is changed.",
        epilog=epilog(TABLE),
    )
    add_implementations(made, "; each is asked in a process of its own")
    made.add_argument("--json", action="store_true", help="print the lines as JSON in place of the table")
    return made


def carry_out(options: argparse.Namespace) -> int:
    """AskedToLook, print; returns the exit code."""
    found = look(options.implementations)
    failed = any(line.status == "fail" for line in found)
    if options.json:
        output.say(text.of_json(as_json(found).decode()))
    else:
        output.say_in_full(lambda console: show(found, console))
    return COULD_NOT_RUN if failed else HEALTHY


def look(implementations: Sequence[str]) -> list[DoctorLine]:
    """Every line, in the order in which they are shown."""
    return [
        *versions.lines(),
        *frameworks.lines(frameworks.look(implementations)),
        *settings.lines(),
        *places.lines(),
    ]


def as_json(found: Sequence[DoctorLine]) -> bytes:
    """A table whose lines are records: the fields of crosscheck.cli.doctor.line.DoctorLine."""
    whole = {"schema_version": SCHEMA_VERSION, "counts": counts(found), "lines": found}
    return msgspec.json.format(msgspec.json.encode(whole))


def counts(found: Sequence[DoctorLine]) -> dict[str, int]:
    """How many lines have each status."""
    counted = Counter(line.status for line in found)
    return {status: counted[status] for status in STYLES}


def show(found: Sequence[DoctorLine], console: Console) -> None:
    """Print the lines, group by group, what is to be done below each, and how many there are of what."""
    for group in dict.fromkeys(line.group for line in found):
        say(console, group, "bold")
        rows = [line for line in found if line.group == group]
        shown = [Row(line.status, STYLES[line.status], line.name, line.said) for line in rows]
        cells = table(console, [(row.word, row.name, row.details) for row in shown])
        for line, folded in zip(rows, cells, strict=True):
            for number, part in enumerate(folded):
                console.print(_styled(part, line.status if number == 0 else ""), soft_wrap=True)
            if line.fix:
                for part in text.fold(f"        fix: {text.visible(line.fix)}", columns(console), 5):
                    console.print(_styled(part, ""), soft_wrap=True)
    told = ", ".join(f"{count} {status}" for status, count in counts(found).items() if count)
    worst = next(status for status in reversed(STYLES) if counts(found)[status])
    say(console, told, STYLES[worst])


def _styled(line: str, status: str) -> Text:
    shown = Text(line)
    if status:
        shown.stylize(STYLES[status], end=len(line) - len(line.lstrip()) + len(status))
    return shown
