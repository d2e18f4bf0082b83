"""What is shown while a run is under way: bars on a terminal, a line an experiment elsewhere."""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any, Self, TextIO, cast

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text
from rich.theme import Theme

from crosscheck.cli.output import Forgiving
from crosscheck.cli.remaining import Remaining, about, keep, load
from crosscheck.judging.verdict import Verdict
from crosscheck.report import details, rows
from spec.command.progress import STYLES
from spec.text import visible

BAR = 20
"""Columns of a bar: beside it stand the side, the count, the time and the experiment, and many terminals have 80."""


class WithFooter(Bars):
    """Bars, and a line below them."""

    def __init__(self, footer: Callable[[], str], *columns: ProgressColumn, **given: Any):
        self._footer = footer
        super().__init__(*columns, **given)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if told := self._footer():
            yield Text(told, no_wrap=True, overflow="ellipsis")


class OnStandardError:
    """Shows there, so that standard output holds the report alone: bars on a terminal, lines elsewhere.

    columns: of the bars, for so many columns of the terminal. footer: a line below them, asked for whenever they are
    drawn; none where it is empty.
    """

    def __init__(
        self,
        columns: Callable[[int], Iterable[ProgressColumn]],
        quiet: bool,
        footer: Callable[[], str] = lambda: "",
    ):
        self._console = Console(
            file=cast(TextIO, Forgiving(sys.stderr)), quiet=quiet, highlight=False, theme=Theme(STYLES)
        )
        self._bars = None
        if self._console.is_terminal and not quiet:
            self._bars = WithFooter(footer, *columns(self._console.width), console=self._console, transient=True)

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
    """Of a comparison: on a terminal a bar for each side, with what it records now, and a line that says what was
    judged and how long is left; elsewhere a line an experiment.
    """

    def __init__(self, labels: Sequence[str], experiments: int, quiet: bool = False):
        self._labels = labels
        self._experiments = experiments
        self._judged: Counter[str] = Counter()
        self._failing = 0
        self._unfit: set[str] = set()
        self._how: dict[str, list[str]] = {}
        self._running: dict[str, list[str]] = {label: [] for label in labels}
        self._remaining: Remaining | None = None
        self._lock = threading.Lock()
        # Last, since what draws the bars asks for the line below them at once.
        count = len(f"{experiments}/{experiments}")
        super().__init__(lambda width: _columns(width, labels, count), quiet, self._footer)
        if self._bars:
            self._tasks = {label: self._bars.add_task(visible(label), total=experiments, now="") for label in labels}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if self._remaining:
            keep(self._remaining.measured)

    def plan(
        self,
        implementations: Sequence[str],
        jobs: Mapping[tuple[int, str], tuple[str, ...]],
        sizes: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """What is to be recorded, by side and experiment: its checks. sizes: see crosscheck.cli.remaining.size."""
        with self._lock:
            self._remaining = Remaining(implementations, load())
            self._remaining.plan(jobs, sizes)

    def begun(self, side: int, experiment: str) -> None:
        """One side has taken up an experiment. Any thread may say so."""
        with self._lock:
            if self._remaining:
                self._remaining.begin(side, experiment)
            self._running[self._labels[side]].append(experiment)
        self._show(self._labels[side])

    def recorded(self, label: str, experiment: str, seconds: float, lost: str, reused: bool = False) -> None:
        """One side is done with an experiment. reused: by a recording of an earlier run."""
        with self._lock:
            running = self._running.setdefault(label, [])
            if experiment in running:
                running.remove(experiment)
            if self._remaining and label in self._labels:
                self._remaining.end(self._labels.index(label), experiment, 0.0 if lost or reused else seconds)
        self._show(label, 1, experiment)
        if lost:
            rows.say(self._console, f"{label} {experiment}: {lost}")
        elif not self._bars:
            how = "recorded by an earlier run" if reused else f"recorded in {seconds:.1f} s"
            if len(self._labels) == 2:
                # Said with the verdict, which comes when both are done.
                self._how.setdefault(experiment, []).append(f"{label} {how}")
            else:
                rows.say(self._console, f"{label} {experiment}: {how}")

    def measured(self, side: int, experiment: str, seconds: Mapping[str, float], starting: float = 0.0) -> None:
        """What each check took of a side's recording, and what its worker took to start, where it did."""
        with self._lock:
            if self._remaining:
                self._remaining.measure(side, experiment, seconds, starting)

    def unfit(self, label: str, reason: str) -> None:
        """Why a side's recordings are not kept for later runs, if there is a reason; told once."""
        if reason and label not in self._unfit:
            self._unfit.add(label)
            rows.say(self._console, f"{label}: its recordings are not kept for later runs: {reason}")

    def judged(self, verdict: Verdict) -> None:
        """Both sides were compared. What is first to fail is told with what is known of it."""
        word, style, name, told = rows.row(verdict)
        with self._lock:
            self._judged[word] += 1
        if self._bars and verdict.status == "same":
            return
        number = self._judged.total()
        how = "".join(f"; {each}" for each in self._how.pop(verdict.experiment, []))
        rows.say(self._console, f"[{number}/{self._experiments}] {word} {name}: {told}{how}", style)
        if verdict.failures:
            self._failing += 1
            if self._failing == 1:
                rows.say(self._console, f"  first failure: {_first(verdict)}", indent=4)

    def concluded(self, row: rows.Row, as_expected: bool) -> None:
        """What became of a planted fault. On a terminal no line where it is what the table says."""
        if not (self._bars and as_expected):
            rows.say(self._console, f"{row.word} {row.name}: {row.details}", row.style)

    def _show(self, label: str, done: int = 0, last: str = "") -> None:
        """On its bar, what a side records now; where that is nothing, what it did last."""
        if self._bars:
            with self._lock:
                running = list(self._running.get(label, ()))
            now = ", ".join(map(visible, running)) or visible(last)
            self._bars.update(self._tasks[label], advance=done, now=now)

    def _footer(self) -> str:
        with self._lock:
            judged = ", ".join(f"{count} {word}" for word, count in self._judged.items())
            left = about(*self._remaining.left()) if self._remaining else ""
            done = self._judged.total()
        if not self._experiments or (not done and not left):
            return ""
        told = f"{done} of {self._experiments} judged" + (f": {judged}" if judged else "")
        return "; ".join(part for part in (told, left if done < self._experiments else "") if part)


def _first(verdict: Verdict) -> str:
    """The first failure of an experiment, and who is at fault."""
    told = details.line(verdict.failures[0])
    blame = verdict.blame
    return f"{told}; at fault: {blame.at_fault}" if blame and blame.at_fault else told


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
