"""The verdicts on a pair and their exit codes: see crosscheck.exit_codes, whose numbers these are."""

from crosscheck.exit_codes import COULD_NOT_RUN, DIFFERENT, PARTLY_CHECKED, SAME
from spec.exit_codes import SIGNALS, USAGE, ExitCode

TABLE = (
    ExitCode(USAGE, "usage", "wrong flags, or a pair file, map or weights that do not fit"),
    ExitCode(DIFFERENT, "different", "or cannot train alike, or not representable, unless the pair expects it"),
    ExitCode(COULD_NOT_RUN, "could not run", "something missing, a model that raises, no answer in time"),
    ExitCode(PARTLY_CHECKED, "partly checked", "also: ambiguous, where another map would do as well"),
    ExitCode(SAME, "the same", "in all that the pair gives"),
    *SIGNALS,
)
"""In the order in which they are decided."""
