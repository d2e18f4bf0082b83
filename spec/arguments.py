"""Types of command-line arguments that several commands have."""

import argparse
from collections.abc import Callable
from typing import NoReturn

from spec.text import admit

LARGEST_SEED = 2**32 - 1
"""Every framework's generator takes seeds of 32 bits."""


class Parser(argparse.ArgumentParser):
    """argparse's, whose errors repeat what was given: a file's name may be among it, which is anybody's text."""

    def error(self, message: str) -> NoReturn:
        super().error(admit(message))


def at_least(least: int) -> Callable[[str], int]:
    """A type for argparse: an integer that is not below `least`, or an error that says so."""

    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"expected at least {least}, got {text}")
        return value

    return integer


def seed(text: str) -> int:
    """A type for argparse: a seed, or an error that says which there are."""
    number = int(text)
    if not 0 <= number <= LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"expected 0 to {LARGEST_SEED}, got {text}")
    return number
