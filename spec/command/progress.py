"""What a run says while it goes on: lines for people, with a bar on a terminal, or JSON lines for programs."""

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from spec.command.events import End, Epoch, Event, Start, Step, encode

LINES = 15
"""About how many epoch lines a person is shown, whatever the number of epochs; the course trains for 15."""


class Reporter(Protocol):
    """Where the events of a run go."""

    def start(self, event: Start) -> None:
        """Something begins."""
        ...

    def note(self, text: str) -> None:
        """Something a person may want to know."""
        ...

    @contextmanager
    def training(self, epochs: int, epochs_done: int) -> Iterator[Callable[[Epoch], None]]:
        """Hand out the function that reports each epoch."""
        ...

    def step(self, event: Step, text: str) -> None:
        """One time step of a walk, also in words."""
        ...

    def end(self, event: End, text: str) -> None:
        """The run is over; `text` says how in words."""
        ...


class Lines:
    """For people: results on stdout, errors and the bar on stderr."""

    def __init__(self, log_every: int | None):
        self.log_every = log_every

    def start(self, event: Start) -> None:
        say(f"{event.experiment} (spec {event.hash}) by {event.implementation}")
        say(", ".join(f"{name} {version}" for name, version in event.versions.items()))
        say(f"precision {event.precision}, seed {event.seed}, {event.parameters} parameters, {event.epochs} epochs")
        if event.directory is not None:
            say(f"run directory {event.directory}")

    def note(self, text: str) -> None:
        say(text)

    @contextmanager
    def training(self, epochs: int, epochs_done: int) -> Iterator[Callable[[Epoch], None]]:
        log_every = self.log_every or math.ceil(epochs / LINES)
        with bar(epochs, epochs_done) as advance:

            def report(event: Epoch) -> None:
                advance(event)
                if event.epoch % log_every == 0 or event.epoch == epochs:
                    say(f"{event.predicted}, epoch {event.epoch}/{epochs}, loss {event.loss:.4f}")

            yield report

    def step(self, event: Step, text: str) -> None:
        del event
        say(text)

    def end(self, event: End, text: str) -> None:
        if event.error is None:
            say(text)
        else:
            print(text, file=sys.stderr, flush=True)


class JSONLines:
    """For programs: events on stdout, one a line; errors for people on stderr as well."""

    def __init__(self, log_every: int | None):
        self.log_every = log_every or 1

    def start(self, event: Start) -> None:
        self._write(event)

    def note(self, text: str) -> None:
        del text

    @contextmanager
    def training(self, epochs: int, epochs_done: int) -> Iterator[Callable[[Epoch], None]]:
        del epochs_done

        def report(event: Epoch) -> None:
            if event.epoch % self.log_every == 0 or event.epoch == epochs:
                self._write(event)

        yield report

    def step(self, event: Step, text: str) -> None:
        del text
        self._write(event)

    def end(self, event: End, text: str) -> None:
        self._write(event)
        if event.error is not None:
            print(text, file=sys.stderr, flush=True)

    def _write(self, event: Event) -> None:
        say(encode(event).decode())


def say(text: str) -> None:
    """Print a line at once, also into a pipe, which would otherwise hold it back.

    Raises KeyboardInterrupt when nobody reads the pipe any more: to go on would be to work for nobody.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # What is still buffered has to go somewhere, or Python complains about it at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise KeyboardInterrupt("nobody reads the output any more") from None


@contextmanager
def bar(epochs: int, epochs_done: int) -> Iterator[Callable[[Epoch], None]]:
    """A progress bar on stderr if that is a terminal; hands out the function that moves it."""
    if not sys.stderr.isatty():
        yield lambda event: None
        return
    # Imported here: it takes longer than all the rest of --help or --list.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeElapsedColumn(),
    )
    # Rich sends what is printed meanwhile to its own console, stderr; right only where both are the same terminal.
    progress = Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=True,
    )
    with progress:
        task = progress.add_task("training", total=epochs, completed=epochs_done, loss="-")
        yield lambda event: progress.update(task, completed=event.epoch, loss=f"{event.loss:.4f}")
