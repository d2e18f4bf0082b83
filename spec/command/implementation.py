"""Importing an implementation, whose framework may be missing or broken."""

import importlib
import os
from typing import cast

from spec import cache, crash, requirements, signals
from spec.errors import BrokenFramework, FrameworkMissing, UsageError
from spec.framework import Framework, Settings
from spec.text import descriptions


def load_implementation(name: str) -> Framework:
    """Import an implementation.

    Raises FrameworkMissing, naming what to install, where its framework is missing, and BrokenFramework, in the
    framework's own words, where it is there and cannot be imported.
    """
    os.environ.update(cache.variables())
    try:
        with signals.held():
            module = importlib.import_module(name)
            missing = [function for function in ("describe", "open") if not has(module, function)]
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in (name, "spec"):
            raise  # Not a missing framework: a fault of ours.
        hint = f"; {requirements.hint(requirements.EXTRAS[name])}" if name in requirements.EXTRAS else ""
        raise FrameworkMissing(f"{name}: {error}{hint}") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit as well: who imports is not to end without a word.
        signals.check()
        if isinstance(error, ImportError) and (error.name or "").partition(".")[0] in (name, "spec"):
            raise
        told = crash.tell(error, "its traceback is kept in {}")
        raise BrokenFramework(f"{name}: what it imports is installed and fails: {told}") from None
    if missing:
        raise UsageError(f"{name}: expected a module with the functions of the contract, got none of {missing}")
    return cast(Framework, module)


def has(module: object, function: str) -> bool:
    """Whether a module has that function; asking makes it import its framework, if it does so late."""
    try:
        getattr(module, function)
    except AttributeError as error:
        # Not by the error's name, which is that of what was asked for whatever went wrong meanwhile.
        if f"has no attribute {function!r}" in str(error):
            return False
        raise  # Of something that it imports.
    return True


def describe(framework: Framework, settings: Settings) -> dict[str, str]:
    """What computes. Plain strings: a version may be of a type of its own, which JSON does not take."""
    return descriptions(framework.describe(settings))
