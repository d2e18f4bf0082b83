"""What is shown while experiments are drawn: a line on a terminal, and elsewhere one now and then."""

import math
import time

from rich.progress import TextColumn, TimeElapsedColumn

from crosscheck.cli.progress import OnStandardError
from crosscheck.judging.verdict import Verdict
from crosscheck.report import rows
from spec.text import visible

EVERY = 30.0
"""Seconds between two lines where there is no terminal."""


class DrawingProgress(OnStandardError):
    """One line. seconds, experiments: when it will end; infinite or None where that does not say."""

    def __init__(self, seconds: float, experiments: int | None, quiet: bool = False):
        super().__init__(lambda _: (TextColumn("{task.description}", markup=False), TimeElapsedColumn()), quiet)
        self._of = f" of {experiments}" if experiments is not None else ""
        self._until = f" of {seconds / 60:g}" if seconds < math.inf else ""
        self._begin = self._last = time.monotonic()
        if self._bars:
            self._task = self._bars.add_task("starting", total=None)

    def judged(self, verdict: Verdict, done: int, failing: int) -> None:
        """An experiment is done. done, failing: how many are, by now."""
        if verdict.failures:
            word, style, name, details = rows.row(verdict)
            rows.say(self._console, f"{word} {name}: {details}", style)
        minutes = (time.monotonic() - self._begin) / 60
        self._now(f"{done}{self._of} experiments, {failing} failing, {minutes:.1f}{self._until} minutes")

    def shrinking(self, name: str, tried: int) -> None:
        """Another experiment was tried in the place of a failing one."""
        self._now(f"shrinking {visible(name)}: {tried} tried")

    def _now(self, text: str) -> None:
        if self._bars:
            self._bars.update(self._task, description=text)
        elif time.monotonic() - self._last >= EVERY:
            self._last = time.monotonic()
            rows.say(self._console, text)
