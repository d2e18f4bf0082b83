"""`python -m crosscheck pair my_pair.py`."""

import argparse
import sys
from pathlib import Path
from typing import TextIO, cast

from rich.console import Console

from crosscheck.cli import output
from crosscheck.cli.options import PAGE, add_html, add_report, seconds
from crosscheck.pair import ladder, subject
from crosscheck.pair.given import NEEDED, OPTIONAL, Source
from crosscheck.pair.ladder import CHECKS, PairWanted
from crosscheck.pair.report import report_of, reported_cell
from crosscheck.pair.result import CheckCell, PairResult
from crosscheck.pair.verdicts import TABLE
from crosscheck.report import data, files, rows, terminal
from crosscheck.report.rows import say
from spec import text
from spec.arguments import Parser, path_argument, seed
from spec.exit_codes import epilog
from spec.files import check_writable
from spec.text import visible
from spec.weights import reading

MAP = ".map.toml"
"""What the map's file is called after the pair's."""

TIMEOUT = 600.0


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = Parser(
        prog="python -m crosscheck pair",
        description="Does a port start, compute and train as its original does? Any PyTorch model against any JAX "
        f"model, or two of one framework. The file has {', '.join(NEEDED)}; it may have {', '.join(OPTIONAL)}.",
        epilog=epilog(TABLE),
    )
    made.add_argument("pair", type=path_argument, metavar="PAIR.py", help="the pair file")
    made.add_argument(
        "--weights", type=path_argument, metavar="FILE", help="the original's weights, see docs/weights.md"
    )
    made.add_argument("--map", type=path_argument, metavar="FILE", help=f"the map's file (default PAIR{MAP})")
    made.add_argument(
        "--emit", type=path_argument, metavar="FILE", help="write a converter of weights, which needs NumPy alone"
    )
    made.add_argument("--seed", type=seed, default=0, help="of inputs, points and batches (default 0)")
    made.add_argument(
        "--timeout", type=seconds, default=TIMEOUT, metavar="SECONDS", help="for one answer of one side (default 600)"
    )
    add_report(made, "report.json")
    add_html(made)
    return made


def carry_out(options: argparse.Namespace) -> int:
    """Run the checks, print and leave the report; returns the exit code."""
    file: Path = options.pair
    wanted = PairWanted(
        seed=options.seed,
        map_file=options.map or file.with_name(f"{file.stem}{MAP}"),
        emit=options.emit,
        weights=(options.weights, reading.read(options.weights)) if options.weights else None,
    )
    for path, name in ((wanted.emit, "--emit"), (wanted.map_file, "--map")):
        if path is not None:
            check_writable(path, name)
    progress = PairProgress(quiet=options.json)
    with (
        output.reports(options.out, files.NAMES),
        progress,
        subject.opened(Source(file=str(file)), options.timeout) as pair,
    ):
        result = ladder.climb(pair, wanted, progress.say, progress.done)
    return leave(result, options)


def leave(result: PairResult, options: argparse.Namespace) -> int:
    """Print the report and write its files."""
    report = report_of(result, _command(options))
    rendered = data.render(report)
    contents = files.contents(report, rendered, options.out if options.html else None)
    if not options.html:
        output.aside(options.out, PAGE)
    output.conclude(options, rendered, lambda console: terminal.show(report, console), contents)
    return result.exit_code


def _command(options: argparse.Namespace) -> str:
    """What runs it again. What wrote files, a map for one, need not do so again."""
    words = ["python", "-m", "crosscheck", "pair", str(options.pair)]
    for name, value in (("--weights", options.weights), ("--map", options.map)):
        words += [name, str(value)] if value else []
    words += ["--seed", str(options.seed)] if options.seed else []
    return text.command(words)


class PairProgress:
    """What is being done, on standard error: on a terminal one line that is written over, else a line a check."""

    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(file=cast(TextIO, output.Forgiving(sys.stderr)), quiet=quiet, highlight=False)
        self._status = self._console.status("starting both sides") if self._console.is_terminal and not quiet else None
        self._count = 0

    def __enter__(self) -> "PairProgress":
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def say(self, words: str) -> None:
        """What is being done now."""
        if self._status:
            self._status.update(f"[{self._count + 1}/{len(CHECKS)}] {visible(words)}".replace("[", "\\["))

    def done(self, cell: CheckCell) -> None:
        """A check has ended."""
        self._count += 1
        if not self._status:
            row = rows.cell_row(reported_cell(cell))
            say(
                self._console,
                f"[{self._count}/{len(CHECKS)}] {row.word} {row.name} in {cell.seconds:.1f} s: {row.details}",
            )
