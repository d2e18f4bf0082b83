"""`python -m crosscheck`."""

import sys

from spec import signals
from spec.command import open_standard_streams


def main() -> int:
    """Run the command of this process; returns its exit code."""
    open_standard_streams()
    try:
        with signals.noticed():
            try:
                # Here, since a signal may come meanwhile, and is no reason for a traceback.
                from crosscheck import command
            except KeyboardInterrupt:
                signals.wind_down()
                print("interrupted", file=sys.stderr)
                return signals.exit_code()
            return command.main(sys.argv[1:])
    finally:
        signals.leave_to_the_system()


if __name__ == "__main__":
    sys.exit(main())
