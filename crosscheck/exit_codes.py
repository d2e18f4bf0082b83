"""The verdicts of a comparison and their exit codes, once: see spec.exit_codes."""

from spec.exit_codes import COULD_NOT_RUN, SIGNALS, USAGE, ExitCode

SAME, DIFFERENT, UNDERPOWERED, PARTLY_CHECKED = 0, 1, 4, 5

VERDICTS = (
    ExitCode(DIFFERENT, "different", "something that was compared differs, or an answer is not deterministic"),
    ExitCode(COULD_NOT_RUN, "could not run", "framework or device missing, a crash, no answer in time"),
    ExitCode(UNDERPOWERED, "underpowered", "too few runs for a test to tell, or to be able to fail"),
    ExitCode(
        PARTLY_CHECKED,
        "partly checked",
        "of an experiment nothing was compared, or its structure alone, or a side left out forward, gradients or "
        "trajectory without having declared that",
    ),
    ExitCode(SAME, "the same", "'in what was asked' where that was not everything"),
)
"""Of a comparison; the first that applies."""

TABLE = (ExitCode(USAGE, "usage", "wrong flags or a bad spec; nothing was compared"), *VERDICTS, *SIGNALS)
"""All, in the order in which they are decided."""
