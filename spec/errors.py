"""The errors a user can cause, each with the exit code that the command line gives it."""

from spec.exit_codes import COULD_NOT_RUN, NON_FINITE, USAGE
from spec.text import admit

LONGEST_VALUE = 200
"""Characters of a value in a message; what is longer is cut."""

LONGEST_LINE = 2000
"""Characters of a message."""


def shorten(text: str, largest: int = LONGEST_VALUE) -> str:
    """The text, or its beginning, its end and how much of it there is."""
    if len(text) <= largest:
        return text
    return f"{text[: largest // 2]}... ({len(text)} characters) ...{text[-(largest // 2) :]}"


def encodable(text: str) -> str:
    """The text with what no encoding has, such as a byte of a path that is no character, escaped."""
    return text.encode(errors="backslashreplace").decode()


def one_line(text: str) -> str:
    """A message as one line of characters that can be printed, however it came to be: others are escaped."""
    return admit(" ".join(shorten(text, 2 * LONGEST_LINE).split()), LONGEST_LINE)


class OhlolError(Exception):
    """Base of the errors whose message is meant for the user; printed as one line, without a traceback."""

    exit_code = USAGE


class SpecError(OhlolError):
    """A wrong experiment: names the file, the key, what was expected there and what came."""

    def __init__(self, file: str, key: str, expected: str, got: str):
        file, key, expected, got = (shorten(text) for text in (file, key, expected, got))
        super().__init__(f"{file}: {key}: expected {expected}, got {got}")
        self.file, self.key, self.expected, self.got = file, key, expected, got


class ParameterMismatch(OhlolError):
    """Parameters that do not fit the model's table: missing, extra, or of another shape or dtype."""


class InvalidBatch(OhlolError):
    """A batch that the model cannot take, such as an index outside the embedding's vocabulary."""


class UsageError(OhlolError):
    """A command line that cannot be carried out, such as an output directory that is in use."""


class Unsupported(OhlolError):
    """Something the spec allows and this implementation leaves out; reported as not checked, never as passed."""

    exit_code = COULD_NOT_RUN


class DeviceMissing(OhlolError):
    """A device that was asked for and is not there; never a silent run on another one."""

    exit_code = COULD_NOT_RUN


class DeviceLost(OhlolError):
    """A device that a training went on without: its process has ended, or it computes something else."""

    exit_code = COULD_NOT_RUN


class FrameworkMissing(OhlolError):
    """An implementation whose framework is not installed."""

    exit_code = COULD_NOT_RUN


class BrokenFramework(FrameworkMissing):
    """An implementation whose framework is installed and fails when it is imported."""


class NonFiniteLoss(OhlolError):
    """Training arrived at a loss that is NaN or infinite."""

    exit_code = NON_FINITE
