"""What an implementation alone has a choice of, and what moves its results by rounding and no more.

It declares each with its values, the first being what is taken where nothing is said:

    CHOICES = {"recurrence": ("automatic", "scan")}

and reads `chosen(CHOICES, settings, "recurrence")`; nothing else lists them. `python -m crosscheck --choice
my_impl.recurrence=scan` asks for one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from spec import text
from spec.errors import UsageError
from spec.framework import Settings

ATTRIBUTE = "CHOICES"
"""The implementation's mapping, choice -> values; may be missing from a module."""

Choices = Mapping[str, Sequence[str]]


def chosen(declared: Choices, settings: Settings, name: str) -> str:
    """What the settings say of that choice, or its default."""
    return dict(settings.choices).get(name, declared[name][0])


def check(name: str, implementation: Any, settings: Settings) -> None:
    """Raise UsageError where the settings choose what the implementation of that name does not declare."""
    if not settings.choices:
        return
    declared = _declared(name, implementation)
    for choice, value in settings.choices:
        if choice not in declared:
            known = f"some of {', '.join(declared)}" if declared else "no choice"
            raise UsageError(f"--choice: expected {known} of {name}, got {choice!r}")
        if value not in declared[choice]:
            raise UsageError(f"--choice: expected {name}.{choice}={'|'.join(declared[choice])}, got {value!r}")


def _declared(name: str, implementation: Any) -> dict[str, tuple[str, ...]]:
    declared = read(name, implementation, ATTRIBUTE, "values")
    # The type that an object has, not the one that it says.
    sound = all(issubclass(type(each), str) for choice, values in declared.items() for each in (choice, *values))
    if not sound or not all(declared.values()):
        raise UsageError(f"{name}: {ATTRIBUTE}: expected a mapping from names to one or more, got {declared!r}")
    return declared


def read(name: str, implementation: Any, attribute: str, values: str) -> dict[str, tuple[Any, ...]]:
    """A mapping to sequences that a module declares; empty where it declares none. Raises UsageError for anything else.

    values: what the sequences are of, in words.
    """
    try:
        return {key: tuple(each) for key, each in getattr(implementation, attribute, {}).items()}
    # Its methods are the implementation's, and so is what they raise.
    except (Exception, SystemExit) as error:
        raise UsageError(f"{name}: {attribute}: expected a mapping to {values}, got {text.exception(error)}") from error
