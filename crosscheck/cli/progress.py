"""What is shown while a run is under way: bars on a terminal, a line an experiment elsewhere."""

import sys
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.theme import Theme

from crosscheck.cli.output import Forgiving
from crosscheck.judging.verdict import Verdict
from crosscheck.report import rows
from spec.command.progress import STYLES
from spec.text import visible

BAR = 20
"""Columns of a bar: beside it stand the side, the count, the time and the experiment, and many terminals have 80."""


class OnStandardError:
    """Shows there, so that standard output holds the report alone: bars on a terminal, lines elsewhere.

    columns: of the bars, for so many columns of the terminal.
    """

    def __init__(self, columns: Callable[[int], Iterable[ProgressColumn]], quiet: bool):
        self._console = Console(
            file=cast(TextIO, Forgiving(sys.stderr)), quiet=quiet, highlight=False, theme=Theme(STYLES)
        )
        self._bars = None
        if self._console.is_terminal and not quiet:
            self._bars = Bars(*columns(self._console.width), console=self._console, transient=True)

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.stop()


class Progress(OnStandardError):
    """Of a comparison: a bar for each side."""

    def __init__(self, labels: Sequence[str], experiments: int, quiet: bool = False):
        super().__init__(lambda width: _columns(width, labels, len(f"{experiments}/{experiments}")), quiet)
        self._experiments = experiments
        self._done = 0
        self._unfit: set[str] = set()
        if self._bars:
            self._tasks = {label: self._bars.add_task(visible(label), total=experiments, now="") for label in labels}

    def recorded(self, label: str, experiment: str, seconds: float, lost: str, reused: bool = False) -> None:
        """One side is done with an experiment. reused: by a recording of an earlier run."""
        if self._bars:
            self._bars.update(self._tasks[label], advance=1, now=visible(experiment))
        if lost:
            rows.say(self._console, f"{label} {experiment}: {lost}")
        elif not self._bars:
            how = "recorded by an earlier run" if reused else f"recorded in {seconds:.1f} s"
            rows.say(self._console, f"{label} {experiment}: {how}")

    def unfit(self, label: str, reason: str) -> None:
        """Why a side's recordings are not kept for later runs, if there is a reason; told once."""
        if reason and label not in self._unfit:
            self._unfit.add(label)
            rows.say(self._console, f"{label}: its recordings are not kept for later runs: {reason}")

    def judged(self, verdict: Verdict) -> None:
        """Both sides were compared."""
        self._done += 1
        if self._bars and verdict.status == "same":
            return
        word, style, name, details = rows.row(verdict)
        rows.say(self._console, f"[{self._done}/{self._experiments}] {word} {name}: {details}", style)


def _columns(width: int, labels: Sequence[str], count: int) -> list[ProgressColumn]:
    """What fits into so many columns, the numbers always; what they are numbers of is cut where it must be.

    count: characters of how many are done of how many.
    """
    label = min(max(len(visible(label)) for label in labels), width // 3)
    free = width - label - count - len("0:00:00") - 4  # A space after each but the last.
    bar = max(min(BAR, free // 2), 1)

    def column(size: int) -> Column:
        return Column(width=size, no_wrap=True)

    made = [
        TextColumn("{task.description}", markup=False, table_column=column(label)),
        BarColumn(bar, table_column=column(bar)),
        MofNCompleteColumn(table_column=column(count)),
        TimeElapsedColumn(table_column=column(len("0:00:00"))),
    ]
    if free - bar > 0:
        made.append(TextColumn("{task.fields[now]}", markup=False, table_column=column(free - bar)))
    return made
