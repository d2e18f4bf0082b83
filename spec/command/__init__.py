"""The command line that every implementation's train.py shares. See entry.py."""

import os
import sys

from spec import signals


def main(implementation_name: str, arguments: list[str] | None = None) -> int:
    """Run the command with these arguments, or the process's own, and return its exit code.

    See `spec.command.entry.main`, which is imported here: Ctrl-C may come meanwhile, and is no reason for a traceback.
    """
    if arguments is not None:
        return _main(implementation_name, arguments)
    open_standard_streams()
    try:
        code = _main(implementation_name, arguments)
    finally:
        signals.leave_to_the_system()
    signals.leave(code)
    return code


def _main(implementation_name: str, arguments: list[str] | None) -> int:
    try:
        with signals.noticed():
            from spec.command import entry

            return entry.main(implementation_name, arguments)
    except KeyboardInterrupt:  # While there was nobody yet, or nobody any more, to say more about it.
        signals.wind_down()
        if sys.stderr is not None:
            print("interrupted", file=sys.stderr)
        return signals.exit_code()


def open_standard_streams() -> None:
    """Have file descriptors 0 to 2 taken: where one was closed, a file that is opened later would get its number."""
    handle = os.open(os.devnull, os.O_RDWR)
    while handle <= 2:
        handle = os.open(os.devnull, os.O_RDWR)
    os.close(handle)
