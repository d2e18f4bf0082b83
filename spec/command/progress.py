"""What a run says while it goes on: lines for people, with a bar on a terminal, or JSON lines for programs."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from spec.command.events import (
    End,
    EnsembleStart,
    Epoch,
    Evaluated,
    Event,
    Generated,
    Members,
    Speed,
    Start,
    Step,
    Summary,
    WeightsFitted,
    encode,
)
from spec.errors import one_line
from spec.text import fold, of_json, visible, width

LINES = 15
"""About how many epoch lines a person is shown, whatever the number of epochs; the course trains for 15."""


LONGEST_SILENCE = 30.0
"""Seconds without a line after which a person is told how far it is, at first."""


LONGEST_VALUE = "12.3456, 12.3 k tokens/s, 10:00:00 left"
"""Beside a training's bar."""


class Reporter(Protocol):
    """Where the events of a run go."""

    def start(self, event: Start) -> None:
        """Something begins."""
        ...

    def note(self, text: str) -> None:
        """Something a person may want to know."""
        ...

    def weights(self, event: WeightsFitted) -> None:
        """What was done to the weights that were given."""
        ...

    @contextmanager
    def training(self, epochs: int, epochs_done: int) -> Iterator[Callable[[Epoch | Speed], None]]:
        """Hand out the function that reports each epoch, and now and then how fast it goes."""
        ...

    def warn(self, text: str) -> None:
        """Something that went wrong and costs less than the run: for people, on stderr."""
        ...

    def found(self, event: Evaluated | Generated, text: str) -> None:
        """What trained parameters are worth or write, also in words."""
        ...

    def step(self, event: Step, text: str) -> None:
        """One time step of a walk, also in words."""
        ...

    def ensemble_start(self, event: EnsembleStart) -> None:
        """An ensemble begins, or goes on."""
        ...

    @contextmanager
    def ensemble(self, event: EnsembleStart) -> Iterator[Callable[[Members], None]]:
        """Hand out the function that reports each chunk of members."""
        ...

    def summary(self, event: Summary) -> None:
        """The numbers of an ensemble; the words come with its end."""
        ...

    def end(self, event: End, text: str) -> None:
        """The run is over; `text` says how in words."""
        ...


class Lines:
    """For people: results on stdout, errors and the bar on stderr."""

    def __init__(self, log_every: int | None):
        self.log_every = log_every

    def start(self, event: Start) -> None:
        tell(f"{event.experiment} (spec {event.hash}) by {event.implementation}")
        tell(", ".join(f"{name} {version}" for name, version in event.versions.items()))
        length = f"{event.epochs} epochs" if event.epochs else "nothing is trained"
        tell(f"precision {event.precision}, seed {event.seed}, {event.parameters} parameters, {length}")
        tell(f"seed {event.seed} draws otherwise in each framework; --init-weights starts two alike")
        if event.data:
            tell(f"data {event.data}")
        if event.directory is not None:
            tell(f"run directory {event.directory}")

    def weights(self, event: WeightsFitted) -> None:
        for sentence in event.said:
            tell_lines(f"weights: {sentence}", indent=0)

    def note(self, text: str) -> None:
        # Paragraphs that are lines already: further in, a line would look like one of its own.
        tell_lines(text, indent=0)

    def warn(self, text: str) -> None:
        complain(f"warning: {text}")

    @contextmanager
    def training(self, epochs: int, epochs_done: int) -> Iterator[Callable[[Epoch | Speed], None]]:
        log_every = self.log_every or math.ceil(epochs / LINES)
        began = told = time.monotonic()
        speed: Speed | None = None

        def pace(done: float) -> str:
            """After so many epochs. By how far they have come and by no clock: many may be told at once."""
            if speed is None:
                return ""
            rate = f", {in_units(speed.tokens_per_second)} tokens/s"
            ahead = 1 - speed.step / speed.steps
            if done >= epochs or not ahead:
                return rate
            return f"{rate}, {in_hours(speed.seconds_left * (1 - done / epochs) / ahead)} left"

        with bar("epoch", epochs, epochs_done, "loss", LONGEST_VALUE) as advance:

            def report(event: Epoch | Speed) -> None:
                nonlocal told, speed
                now = time.monotonic()
                if isinstance(event, Epoch):
                    advance(event.epoch, f"{event.loss:.4f}{pace(event.epoch)}")
                    if event.epoch % log_every == 0 or event.epoch == epochs:
                        told = now
                        bits = "" if event.bits_per_byte is None else f"{event.bits_per_byte:.4f} bits per byte, "
                        losses = f"loss {event.loss:.4f}{validated(event)}"
                        tell(f"{bits}{event.predicted}, epoch {event.epoch}/{epochs}, {losses}{pace(event.epoch)}")
                    return
                speed, done = event, event.step / event.steps * epochs
                advance(done, f"{event.loss:.4f}{pace(done)}")
                # Fewer and fewer of them: a run of a day is to fit on a screen too.
                if now - told >= max(LONGEST_SILENCE, (now - began) / LINES):
                    told = now
                    tell(f"step {event.step}/{event.steps}, loss {event.loss:.4f}{pace(done)}")

            yield report

    def found(self, event: Evaluated | Generated, text: str) -> None:
        del event
        # Lines of a text are its own: further in, they would be others.
        tell_lines(text, indent=0)

    def step(self, event: Step, text: str) -> None:
        del event
        tell_lines(text)

    def ensemble_start(self, event: EnsembleStart) -> None:
        tell(f"{event.experiment} (spec {event.hash}) by {event.implementation}")
        tell(", ".join(f"{name} {version}" for name, version in event.versions.items()))
        last = event.first_seed + event.seeds - 1
        tell(f"precision {event.precision}, seeds {event.first_seed} to {last}, {event.chunk} at once")
        tell(f"run directory {event.directory}")
        if event.seeds_done:
            tell(f"{event.seeds_done} of {event.seeds} seeds are done already")

    @contextmanager
    def ensemble(self, event: EnsembleStart) -> Iterator[Callable[[Members], None]]:
        with bar("seed", event.seeds, event.seeds_done, "a second") as advance:

            def report(members: Members) -> None:
                advance(members.seeds_done, f"{members.per_second:.4g}")

            yield report

    def summary(self, event: Summary) -> None:
        del event

    def end(self, event: End, text: str) -> None:
        if event.error is None:
            tell_lines(text)
        else:
            complain(text)


class JSONLines:
    """For programs: events on stdout, one a line; errors for people on stderr as well."""

    def __init__(self, log_every: int | None):
        self.log_every = log_every or 1

    def start(self, event: Start) -> None:
        self._write(event)

    def weights(self, event: WeightsFitted) -> None:
        self._write(event)

    def note(self, text: str) -> None:
        del text

    def warn(self, text: str) -> None:
        complain(f"warning: {text}")

    @contextmanager
    def training(self, epochs: int, epochs_done: int) -> Iterator[Callable[[Epoch | Speed], None]]:
        del epochs_done

        def report(event: Epoch | Speed) -> None:
            if isinstance(event, Speed) or event.epoch % self.log_every == 0 or event.epoch == epochs:
                self._write(event)

        yield report

    def found(self, event: Evaluated | Generated, text: str) -> None:
        del text
        self._write(event)

    def step(self, event: Step, text: str) -> None:
        del text
        self._write(event)

    def ensemble_start(self, event: EnsembleStart) -> None:
        self._write(event)

    @contextmanager
    def ensemble(self, event: EnsembleStart) -> Iterator[Callable[[Members], None]]:
        del event
        yield self._write

    def summary(self, event: Summary) -> None:
        self._write(event)

    def end(self, event: End, text: str) -> None:
        self._write(event)
        if event.error is not None:
            complain(text)

    def _write(self, event: Event) -> None:
        say(of_json(encode(event).decode()))


def validated(event: Epoch) -> str:
    """What an epoch's line says of its validation, if there was one: bits per byte where it begins with those."""
    found = event.validation
    if found is None:
        return ""
    return (
        f", validation {found.loss:.4f}" if found.bits_per_byte is None else f", validation {found.bits_per_byte:.4f}"
    )


def in_units(number: float) -> str:
    """A count in three digits."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"


def in_hours(seconds: float) -> str:
    """A time as clocks show it."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"


def tell(line: str, indent: int = 2) -> None:
    """Print a line for people: nothing in it is a terminal's or a CI system's command, and a terminal's is folded."""
    for part in fold(visible(line), width(), indent):
        say(part)


def tell_lines(lines: str, indent: int = 2) -> None:
    """The same for several."""
    for line in lines.split("\n"):
        tell(line, indent)


class Unread(KeyboardInterrupt):
    """Nobody reads the output any more: to go on would be to work for nobody."""


def say(line: str) -> None:
    """Print a line at once, also into a pipe, which would otherwise hold it back.

    Raises Unread when nobody reads the pipe any more. An output that cannot be written for another reason, a disk that
    is full, is complained about once, and what is computed goes on without it.
    """
    try:
        print(line, flush=True)
    except BrokenPipeError:
        silence(sys.stdout)
        raise Unread("nobody reads the output any more") from None
    except OSError as error:
        silence(sys.stdout)
        complain(f"warning: the output cannot be written: {error.strerror}; what follows is lost")


def complain(text: str) -> None:
    """Print a line of an error or a warning on stderr, if there is one that can be written; a terminal's is folded."""
    if sys.stderr is None:
        return
    try:
        print("\n".join(fold(one_line(text), width(sys.stderr))), file=sys.stderr, flush=True)
    except OSError:
        silence(sys.stderr)


def silence(stream: TextIO) -> None:
    """Let what is still buffered, and all that follows, go nowhere; or Python complains about it at its exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


STYLES = {"progress.elapsed": "none"}
"""Of rich's, those that are replaced: its yellow cannot be read on white."""


@contextmanager
def bar(
    unit: str, total: int, done: int, value: str, longest: str = "0.1234e-10"
) -> Iterator[Callable[[float, str], None]]:
    """A progress bar on stderr if that is a terminal; hands out the function that moves it and shows a value.

    longest: a value that takes as much room as any.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda completed, shown: None
        return
    # Imported here: it takes longer than all the rest of --help or --list.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.theme import Theme

    console = Console(stderr=True, theme=Theme(STYLES))
    columns = (
        SpinnerColumn(),
        TextColumn(unit),
        MofNCompleteColumn(),
        # What is left beside the words and numbers, which are never cut.
        BarColumn(min(40, max(console.width - len(f"  {unit} {total}/{total}  {value} {longest} 0:00:00"), 1))),
        TextColumn(f"{value} {{task.fields[shown]}}"),
        TimeElapsedColumn(),
    )
    # Rich sends what is printed meanwhile to its own console, stderr; right only where both are the same terminal.
    progress = Progress(
        *columns,
        console=console,
        transient=True,
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        redirect_stderr=True,
    )
    with progress:
        task = progress.add_task("training", total=total, completed=done, shown="-")
        yield lambda completed, shown: progress.update(task, completed=completed, shown=shown)
