"""`python -m crosscheck`."""

import os
import signal
import sys
from contextlib import suppress

from spec import signals
from spec.command import open_standard_streams


def main() -> int:
    """Run the command of this process; returns its exit code."""
    open_standard_streams()
    # Before NumPy is imported: this process judges while workers compute on every core, and threads that share short
    # products with them mostly wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    code = 0
    # One that comes after the work, while Python gives the signals back, changes nothing any more.
    with suppress(KeyboardInterrupt), signals.noticed():
        try:
            # Here, since a signal may come meanwhile, and is no reason for a traceback.
            from crosscheck.cli import command
        except KeyboardInterrupt:
            signals.wind_down()
            code = signals.exit_code()
            print("interrupted", file=sys.stderr)
        else:
            code = command.main(sys.argv[1:])
    # All is done, and its exit code is known: while Python tidies up, nothing is to make another one of it.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signals.leave(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
