"""What a user is told of an error that nobody foresaw: one line, and where its traceback is kept."""

import errno
import os
import tempfile
import traceback
from pathlib import Path

from spec import text
from spec.exit_codes import COULD_NOT_RUN

EXIT_CODE = COULD_NOT_RUN
"""Of a fault in the program: like whatever else could not run. Never 1, which is a verdict."""


SCARCE = {
    errno.EMFILE: "open files: `ulimit -n` says how many a process may have",
    errno.ENFILE: "open files: the system has no more",
    errno.EAGAIN: "processes: `ulimit -u` says how many there may be",
    errno.EFBIG: "bytes in a file: `ulimit -f` says how many there may be",
    errno.ENOSPC: "space on the disk",
    errno.EDQUOT: "space on the disk: the quota is used up",
}
"""What the system may refuse, which is no fault of the program's."""


def tell(error: BaseException, said: str = "an error that was not foreseen; its traceback is kept in {}") -> str:
    """One line: what it was, and the file that its traceback now stands in; or what there was too little of."""
    if isinstance(error, OSError) and error.errno in SCARCE:
        return f"expected more {SCARCE[error.errno]}; got {text.exception(error)}"
    return f"{text.exception(error)} ({said.format(keep(error) or 'no file, for none could be written')})"


def keep(error: BaseException) -> Path | None:
    """Write the traceback to a new file among the system's temporary ones; None where there is no place for it."""
    try:
        handle, name = tempfile.mkstemp(prefix="ohlol-traceback-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(traceback.format_exception(error))
    except OSError:
        return None
    return Path(name)
