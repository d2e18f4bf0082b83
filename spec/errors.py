"""The errors a user can cause, each with the exit code that the command line gives it."""

from spec.exit_codes import COULD_NOT_RUN, NON_FINITE, USAGE


class OhlolError(Exception):
    """Base of the errors whose message is meant for the user; printed as one line, without a traceback."""

    exit_code = USAGE


class SpecError(OhlolError):
    """A wrong experiment: names the file, the key, what was expected there and what came."""

    def __init__(self, file: str, key: str, expected: str, got: str):
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


class FrameworkMissing(OhlolError):
    """An implementation whose framework is not installed."""

    exit_code = COULD_NOT_RUN


class NonFiniteLoss(OhlolError):
    """Training arrived at a loss that is NaN or infinite."""

    exit_code = NON_FINITE
