"""The exit codes of the commands, once: helps are made from these tables, and a test holds the docs to them."""

from collections.abc import Iterable
from typing import NamedTuple

REACHED, MISSED, USAGE, COULD_NOT_RUN, NON_FINITE, UNDERPOWERED = range(6)
"""Of the train command. USAGE and COULD_NOT_RUN are those of every other command as well."""

INTERRUPTED, TERMINATED, HUNG_UP = 130, 143, 129
"""Of every command: 128 and the signal's number, as shells have it."""


class ExitCode(NamedTuple):
    """A row of a table. word: the verdict. meaning: when it is that; empty where the word says all."""

    code: int
    word: str
    meaning: str = ""


SIGNALS = (
    ExitCode(INTERRUPTED, "interrupted", "Ctrl-C"),
    ExitCode(TERMINATED, "terminated", "SIGTERM"),
    ExitCode(HUNG_UP, "hung up", "SIGHUP"),
)

TRAIN = (
    ExitCode(REACHED, "reached", "it came out as the experiment states, or there was nothing to train"),
    ExitCode(MISSED, "missed", "it did not"),
    ExitCode(USAGE, "usage", "wrong flags, a bad experiment or bad weights"),
    ExitCode(
        COULD_NOT_RUN,
        "could not run",
        "framework or device missing, something that this implementation leaves out, a crash",
    ),
    ExitCode(NON_FINITE, "non-finite", "training arrived at a loss that is NaN or infinite"),
    ExitCode(UNDERPOWERED, "underpowered", "--seeds trained too few to tell"),
    *SIGNALS,
)
"""Of `python -m IMPLEMENTATION.train`, whichever it is."""


def epilog(table: Iterable[ExitCode]) -> str:
    """The table in a sentence, for --help."""
    rows = (f"{row.code} {row.word}" + (f" ({row.meaning})" if row.meaning else "") for row in table)
    return f"exit codes: {'; '.join(rows)}"
