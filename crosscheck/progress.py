"""What is shown while a run is under way: bars on a terminal, a line an experiment elsewhere."""

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from crosscheck.output import Forgiving
from crosscheck.verdict import Verdict, cell_text
from spec.errors import one_line


class Progress:
    """Shows on standard error, so that standard output holds the report alone."""

    def __init__(self, labels: Sequence[str], experiments: int, quiet: bool = False):
        self._console = Console(file=cast(TextIO, Forgiving(sys.stderr)), quiet=quiet, highlight=False)
        self._experiments = experiments
        self._done = 0
        self._unfit: set[str] = set()
        self._bars = None
        if self._console.is_terminal and not quiet:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bars = Bars(*columns, TextColumn("{task.fields[now]}"), console=self._console, transient=True)
            self._tasks = {label: self._bars.add_task(label, total=experiments, now="") for label in labels}

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.stop()

    def recorded(self, label: str, experiment: str, seconds: float, lost: str, reused: bool = False) -> None:
        """One side is done with an experiment. reused: by a recording of an earlier run."""
        if self._bars:
            self._bars.update(self._tasks[label], advance=1, now=experiment)
        if lost:
            self._console.print(f"{label} {experiment}: {lost}", markup=False, soft_wrap=True)
        elif not self._bars:
            how = "recorded by an earlier run" if reused else f"recorded in {seconds:.1f} s"
            self._console.print(f"{label} {experiment}: {how}", markup=False, soft_wrap=True)

    def unfit(self, label: str, reason: str) -> None:
        """Why a side's recordings are not kept for later runs, if there is a reason; told once."""
        if reason and label not in self._unfit:
            self._unfit.add(label)
            told = f"{label}: its recordings are not kept for later runs: {one_line(reason)}"
            self._console.print(told, markup=False, soft_wrap=True)

    def judged(self, verdict: Verdict) -> None:
        """Both sides were compared."""
        self._done += 1
        if self._bars and verdict.status == "same":
            return
        cells = ", ".join(f"{cell.rung} {cell_text(cell)}" for cell in verdict.cells)
        line = f"[{self._done}/{self._experiments}] {verdict.experiment}: {verdict.status} ({cells})"
        self._console.print(line, markup=False, soft_wrap=True)
