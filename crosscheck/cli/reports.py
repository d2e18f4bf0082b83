"""`python -m crosscheck report`: what is made of reports that are there already."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from crosscheck.cli import output
from crosscheck.report import annotations, changes, data, history
from crosscheck.report.model import RunReport
from crosscheck.report.rows import Row, say, show
from spec.arguments import Parser, path_argument
from spec.errors import UsageError
from spec.exit_codes import SIGNALS, USAGE, ExitCode, epilog

NO_WORSE, WORSE = 0, 1

TABLE = (
    ExitCode(USAGE, "usage", "wrong flags, or a file that is no report"),
    ExitCode(WORSE, "worse", "a verdict got worse from OLD to NEW"),
    ExitCode(NO_WORSE, "no worse", "also where nothing changed, and of `annotations` and `history` always"),
    *SIGNALS,
)

LAST = 10
"""Runs of a history that are printed."""

PLOT, BADGE, ENDPOINT = "history.svg", "badge.svg", "badge.json"
"""What is made of a history."""

STYLES = {0: "bold green", 1: "bold red"}


def parser() -> argparse.ArgumentParser:
    """Of `report OLD NEW`."""
    made = Parser(
        prog="python -m crosscheck report",
        description="What changed between two runs: verdicts that flipped, headroom that shrank, ratios that moved, "
        "versions that differ, what was added or removed. OLD and NEW are reports, or directories of one, or both "
        "directories of recordings of one implementation, which are compared first.",
        epilog="also: python -m crosscheck report annotations --help; python -m crosscheck report history --help; "
        + epilog(TABLE),
    )
    made.add_argument("old", type=path_argument, metavar="OLD")
    made.add_argument("new", type=path_argument, metavar="NEW")
    _add_formats(made)
    return made


def annotations_parser() -> argparse.ArgumentParser:
    """Of `report annotations REPORT`."""
    made = Parser(
        prog="python -m crosscheck report annotations",
        description=f"Print at most {annotations.MOST} GitHub workflow commands (::error file=,line=::): causes that "
        "concern most, at the lines that are at fault.",
    )
    made.add_argument("report", type=path_argument, metavar="REPORT", help="report.json, or its directory")
    made.add_argument(
        "--root", type=path_argument, help="of the repository (default: $GITHUB_WORKSPACE, or the current directory)"
    )
    return made


def history_parser() -> argparse.ArgumentParser:
    """Of `report history FILE`."""
    made = Parser(
        prog="python -m crosscheck report history",
        description="A file of JSON Lines with a line for each run. Prints the last runs; --add adds one first; --out "
        f"leaves a picture ({PLOT}) and a badge ({BADGE}, and {ENDPOINT} for shields.io's endpoint).",
    )
    made.add_argument("file", type=path_argument, metavar="FILE")
    made.add_argument("--add", type=path_argument, metavar="REPORT", help="add the run of this report")
    made.add_argument("--commit", default=None, help="what was compared, for --add (default: $GITHUB_SHA, or nothing)")
    made.add_argument("--out", type=path_argument, metavar="DIRECTORY", help="for the picture and the badge")
    _add_formats(made)
    return made


def _add_formats(made: argparse.ArgumentParser) -> None:
    formats = made.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print JSON")
    formats.add_argument("--markdown", action="store_true", help="print Markdown, for a step summary")


def compare(options: argparse.Namespace) -> int:
    """`report OLD NEW`; returns the exit code."""
    found = _between(options.old, options.new)
    if options.json:
        output.say(changes.as_json(found).decode().rstrip("\n"))
    elif options.markdown:
        output.say(changes.markdown(found).rstrip("\n"))
    else:
        output.say_in_full(lambda console: changes.terminal(found, console))
    return WORSE if found.worse else NO_WORSE


def _between(old: Path, new: Path) -> changes.Changes:
    recorded = [_is_recordings(path) for path in (old, new)]
    if all(recorded):
        return changes.of_recordings(_compared(old, new))
    if any(recorded):
        which = old if recorded[0] else new
        raise UsageError(f"report: expected two reports or two directories of recordings, got one of each: {which}")
    before, after = data.read(old), data.read(new)
    if before.kind != after.kind:
        told = {"pair": "a pair", "experiments": "experiments"}
        raise UsageError(f"report: expected two reports of one kind, got {told[before.kind]} and {told[after.kind]}")
    return changes.between(before, after)


def _is_recordings(path: Path) -> bool:
    from crosscheck.recording.recording import MANIFEST

    return (path / MANIFEST).is_file() and not (path / data.NAME).is_file()


def _compared(old: Path, new: Path) -> RunReport:
    from crosscheck.cli import run
    from crosscheck.cli.progress import Progress
    from crosscheck.report.experiments import report_of

    with Progress([], 0, quiet=True) as progress:
        return report_of(run.compare((old, new), [], None, None, "", progress))


def annotate(options: argparse.Namespace) -> int:
    """`report annotations`."""
    root = options.root or Path(os.environ.get("GITHUB_WORKSPACE") or ".")
    for line in annotations.render(data.read(options.report), root):
        output.say(line)
    return NO_WORSE


def remember(options: argparse.Namespace) -> int:
    """`report history`."""
    if options.add is not None:
        commit = options.commit if options.commit is not None else os.environ.get("GITHUB_SHA", "")
        history.append(options.file, history.of_report(data.read(options.add), commit))
    found = history.read(options.file)
    if options.out is not None:
        output.check(options.out, (PLOT, BADGE, ENDPOINT))
    if options.json:
        output.say(data.encode(history.as_json(found)).decode())
    elif options.markdown:
        output.say(history.markdown(found).rstrip("\n"))
    else:
        output.say_in_full(lambda console: _print(found, console))
    if options.out is not None:
        from crosscheck.report.history_plot import history_plot

        last = found.runs[-1]
        contents = {
            PLOT: lambda: history_plot(found.runs),
            BADGE: lambda: history.badge_svg(last),
            ENDPOINT: lambda: history.badge_json(last),
        }
        output.leave(options.out, contents, quiet=options.json or options.markdown)
    return NO_WORSE


def _print(found: history.History, console: Console) -> None:
    shown = found.runs[-LAST:]
    rows = [
        Row(date or "-", STYLES.get(run.exit_code, "bold magenta"), commit, f"{word}; {tightest}; {seconds}")
        for run, (date, commit, word, tightest, seconds) in zip(shown, history.rows(shown), strict=True)
    ]
    show(console, rows)
    if len(found.runs) > len(shown):
        say(console, f"and {len(found.runs) - len(shown)} before these")
    if found.unread:
        say(console, f"note: {found.unread} lines are no runs, as one that was killed leaves them")


COMMANDS = {
    "": (parser, compare),
    "annotations": (annotations_parser, annotate),
    "history": (history_parser, remember),
}


class Chosen(argparse.ArgumentParser):
    """Takes the command's words to whichever parser they are for."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: object = None) -> argparse.Namespace:  # pyright: ignore[reportIncompatibleMethodOverride]
        words = list(args or ())
        name = words[0] if words and words[0] in COMMANDS else ""
        made, carry_out = COMMANDS[name]
        options = made().parse_args(words[1:] if name else words)
        options.carry_out = carry_out
        return options


def carry_out(options: argparse.Namespace) -> int:
    """Whichever of them it is; returns the exit code."""
    return options.carry_out(options)
