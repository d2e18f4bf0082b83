"""How a training or an ensemble ends: stopped, with what is saved and how to go on, or with its last files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from spec import files, signals, text
from spec.command.progress import Reporter
from spec.errors import DeviceLost, OhlolError, UsageError
from spec.framework import Settings


class Interrupted(OhlolError):
    """The user stopped the run, by Ctrl-C or another signal, which the exit code says: 130 for Ctrl-C."""

    def __init__(self, message: str):
        super().__init__(message)
        self.exit_code = signals.exit_code()


class Unwritten(UsageError):
    """A training came to its end, and a file that it was to leave could not be written.

    reached, text: the verdict, which stands all the same.
    """

    def __init__(self, message: str, reached: bool, text: str = ""):
        super().__init__(message)
        self.reached, self.text = reached, text


@contextmanager
def interruptible(saved: Callable[[], str], implementation: str, directory: Path, settings: Settings) -> Iterator[None]:
    """Raise Interrupted in place of a KeyboardInterrupt, or of whatever else became of a signal on its way; and have a
    DeviceLost say how to go on.

    saved: what of the run is in its directory, asked when it has been stopped: the signal may have come between a
    file's writing and our noting it.
    """
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt) or signals.received()
        if not stopped and not isinstance(error, DeviceLost):
            raise
        signals.wind_down()
        command = f"python -m {implementation}.train --resume --out {text.command([str(directory)])}"
        if settings.device != Settings().device:
            command += f" --device {settings.device}"
        if settings.compiled:
            command += " --compile"
        if settings.fixed_order:
            command += " --fixed-order"
        if not stopped:
            raise DeviceLost(f"{error}; {saved()} saved, go on with any number of devices: {command}") from None
        if settings.devices > 1:
            command += f" --devices {settings.devices}"
        raise Interrupted(f"interrupted; {saved()} saved, go on with: {command}") from None


def leave_picture(file: Path, draw: Callable[[], bytes], reporter: Reporter) -> None:
    """Write a picture. One that cannot be drawn or written is missing, and the run is none the worse for it."""
    try:
        files.write(file, draw())
    except Exception as error:
        if signals.received():
            raise
        why = str(error) if isinstance(error, OhlolError) else text.exception(error)
        reporter.warn(f"no {file}: {why}")
