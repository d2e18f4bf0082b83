"""An implementation made of a test's functions, each (experiment, arguments ..., settings, options ...)."""

from importlib.util import find_spec
from typing import Any

from spec.framework import FUNCTIONS, REQUIRED, Settings, Side, side_of

INSTALLED = [side for side in ("torch_impl", "flax_impl") if find_spec(side.removesuffix("_impl"))]
"""Where one framework alone is installed, the other's is left out; else a missing one is an error in other tests."""


def left_out(*_: Any, **__: Any) -> Any:
    raise AssertionError("expected only the functions that the test has, got another one called")


class Opened:
    """Opens the functions that `functions` has: a module, a class, or whatever else has attributes."""

    def __init__(self, functions: Any):
        self._functions = functions

    def describe(self, settings: Settings) -> dict[str, str]:
        """Nothing to say."""
        return {}

    def open(self, subject: Any, settings: Settings) -> Side:
        """Those that are there; the others fail when they are called, or are None where they may be."""
        found = {name: getattr(self._functions, name) for name in FUNCTIONS if hasattr(self._functions, name)}
        return side_of(dict.fromkeys(REQUIRED, left_out) | found, subject, settings)
