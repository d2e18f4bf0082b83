"""What a command prints and leaves behind: the verdict first, and whatever befalls the rest does not touch it."""

import argparse
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from spec import files, text
from spec.command.progress import complain, silence
from spec.errors import UsageError
from spec.text import visible

if TYPE_CHECKING:
    from rich.console import Console

PREVIOUS = ".previous"
"""Added to the name of an earlier run's report where a later run came to no verdict."""


@contextmanager
def reports(directory: Path, names: Sequence[str]) -> Iterator[None]:
    """For a block that comes to a verdict: checks that reports can be written, and lets no older one pass for its own.

    Nothing is touched before the block, nor after one that ends well or in a mistake of the user's (exit code 2). After
    any other the older reports are moved aside. Raises UsageError where the reports cannot be written.
    """
    check(directory, names)
    try:
        yield
    except BaseException as error:
        if not isinstance(error, UsageError) and getattr(error, "exit_code", None) != UsageError.exit_code:
            for name in names:
                aside(directory, name)
        raise


def check(directory: Path, names: Sequence[str]) -> None:
    """Raise UsageError, before any work, where files of those names cannot be written into the directory."""
    found = directory
    try:
        missing: list[str] = []
        while not found.exists() and found != found.parent:
            if found.is_symlink():
                break
            missing.append(found.name)
            found = found.parent
        if not found.is_dir():
            mode = found.lstat().st_mode
            got = "a file or a broken link" if found.is_file() or found.is_symlink() else files.kind(mode)
            raise UsageError(f"--out: expected a directory to write to, got {directory}: {found} is {got}")
        for name in missing:
            # A name that is too long is told only where the folder that it is to be in is there.
            with suppress(FileNotFoundError):
                (found / name).lstat()
        if found == directory:
            for name in names:
                files.check_writable(directory / name, "--out")
        else:
            files.check_writable(found / f"{os.getpid()}{files.PARTIAL}", "--out")
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise UsageError(f"--out: expected a directory to write to, got {directory}: {reason}") from None


def aside(directory: Path, name: str) -> None:
    """Move a report of an earlier run aside, where this run leaves none of that name."""
    with suppress(OSError):
        if (directory / name).is_file():
            os.replace(directory / name, directory / f"{name}{PREVIOUS}")


def conclude(
    options: argparse.Namespace,
    rendered: bytes,
    show: Callable[["Console"], None],
    contents: Mapping[str, Callable[[], bytes]],
) -> None:
    """Print what was found, as `rendered` JSON where --json asks for that, and then write the reports.

    In this order, since a verdict is not to be lost with its reports.
    """
    if options.json:
        say(rendered.decode())
    else:
        say_in_full(show)
    leave(options.out, contents, quiet=options.json)


def leave(directory: Path, contents: Mapping[str, Callable[[], bytes]], quiet: bool = False) -> None:
    """Write the reports, and say where unless `quiet`.

    One that cannot be made or written is complained about, and costs nothing else.
    """
    written = []
    for name, content in contents.items():
        try:
            directory.mkdir(parents=True, exist_ok=True)
            files.write(directory / name, content())
        except UsageError as error:
            complain(f"error: the report is lost: {error}")
        except Exception as error:
            # A picture whose library is missing, a disk that is full: the verdict stands.
            complain(f"error: the report {name} is lost: {text.exception(error)}")
        else:
            written.append(visible(str(directory / name)))
    if written and not quiet:
        for line in text.fold(f"report: {', '.join(written)}", text.width()):
            say(line)


def say(text: str) -> None:
    """Print on standard output, now; where that cannot be written, say so once and let all that follows go nowhere."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Who closed it has read enough.
        silence(sys.stdout)
    except (OSError, ValueError) as error:
        silence(sys.stdout)
        complain(f"error: standard output cannot be written: {error}")


def say_in_full(show: Callable[["Console"], None]) -> None:
    """Print what `show` prints on a console like standard output."""
    from rich.console import Console

    like = Console()
    # Not the console itself: what it cannot write it raises in its own way, or ends the process with 1.
    shown = io.StringIO()
    colors = cast(Any, like.color_system)
    show(Console(file=shown, force_terminal=like.is_terminal, width=like.width, color_system=colors))
    say(shown.getvalue().rstrip("\n"))


def flush() -> None:
    """Write what the streams still hold: Python would leave with an exit code of its own where it cannot."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            silence(cast(TextIO, stream))


class Forgiving:
    """A stream for what is shown while a run is under way: where it cannot be written, the run goes on without it."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write it if that is possible."""
        with self._forgiven():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush it if that is possible."""
        with self._forgiven():
            self._stream.flush()

    @contextmanager
    def _forgiven(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):
            silence(self._stream)
