"""Types of command-line arguments that several commands have."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from spec.errors import one_line


class Parser(argparse.ArgumentParser):
    """One whose errors are one line, as all that this program says of what is wrong; flags are written in full."""

    def __init__(self, *arguments: Any, **named: Any):
        # Half a word is not to be enough to delete something.
        super().__init__(*arguments, **{"allow_abbrev": False, **named})

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, on stderr, and leave with 2."""
        self.exit(2, one_line(f"error: {message} (see --help)") + "\n")


LARGEST_SEED = 2**32 - 1
"""Every framework's generator takes seeds of 32 bits."""


def at_least(least: int) -> Callable[[str], int]:
    """A type for argparse: an integer that is not below `least`, or an error that says so."""

    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"expected at least {least}, got {text}")
        return value

    return integer


def above_zero(text: str) -> float:
    """A type for argparse: a finite number above zero, or an error that says so."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def temperature(text: str) -> float:
    """A type for argparse: a finite number that is not below zero, or an error that says so."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected 0 or a number above, got {text}")
    return value


def seed(text: str) -> int:
    """A type for argparse: a seed, or an error that says which there are."""
    number = int(text)
    if not 0 <= number <= LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"expected 0 to {LARGEST_SEED}, got {text}")
    return number


def path_argument(text: str) -> Path:
    """A type for argparse: a path, or an error that says so: an empty one would be the working directory."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got ''")
    return Path(text)
