"""What a user is told of an error that nobody foresaw: one line, and where its traceback is kept."""

import os
import tempfile
import traceback
from pathlib import Path

from spec.errors import shorten
from spec.exit_codes import COULD_NOT_RUN

EXIT_CODE = COULD_NOT_RUN
"""Of a fault in the program: like whatever else could not run. Never 1, which is a verdict."""


def tell(error: BaseException, said: str = "an error that was not foreseen; its traceback is kept in {}") -> str:
    """One line: what it was, and the file that its traceback now stands in."""
    return f"{in_words(error)} ({said.format(keep(error) or 'no file, for none could be written')})"


def in_words(error: BaseException) -> str:
    """The error's type and what it says."""
    said = shorten(" ".join(str(error).split()), 500)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def keep(error: BaseException) -> Path | None:
    """Write the traceback to a new file among the system's temporary ones; None where there is no place for it."""
    try:
        handle, name = tempfile.mkstemp(prefix="ohlol-traceback-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(traceback.format_exception(error))
    except OSError:
        return None
    return Path(name)
