"""The reference, asked by a check as the two sides were: in float64 throughout, from the very same numbers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np

from crosscheck.checks import Check
from crosscheck.comparison import Arrays, Comparison
from crosscheck.request import Request
from crosscheck.subject import Subject
from spec.framework import Framework, Settings


class Intercepted(Exception):
    """Ends a request at the call that was looked for."""


class Call(NamedTuple):
    """One call of a function of the contract. result: what it gave."""

    name: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    result: Any


class Arbiter:
    """Stands where an implementation would; remembers what it was asked for.

    reference: see crosscheck.subject.Subject.
    stages: for each call of `forward` in turn, the intermediates to force. stop: the function whose call is noted and
    not carried out.
    """

    def __init__(self, reference: Any, stages: Sequence[Arrays] = (), stop: str = ""):
        self.calls: list[Call] = []
        self._reference = reference
        self._stages = list(stages)
        self._stop = stop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self._reference, name)

        def call(*given: Any, **named: Any) -> Any:
            arguments = tuple(widened(value) for value in given)
            options = {key: widened(value) for key, value in named.items()}
            result = None
            if name != self._stop:
                if name == "forward" and self._stages:
                    result = self._reference.forced(*arguments, stages=self._stages.pop(0), **options)
                else:
                    result = function(*arguments, **options)
            self.calls.append(Call(name, arguments, options, result))
            if name == self._stop:
                raise Intercepted
            return result

        return call


def ask(check: Check, subject: Subject, failure: Comparison, seed: int, arbiter: Arbiter) -> Arrays:
    """What the reference records for the case of that comparison. Raises what the reference raises."""
    request = Request(failure.precision, "cpu", seed)
    return check.record(cast(Framework, arbiter), subject, failure.case, request)


def widened(value: Any) -> Any:
    """The same numbers in float64, on a CPU."""
    match value:
        case Settings():
            return msgspec.structs.replace(value, precision="float64", device="cpu")
        case np.ndarray():
            return value.astype(np.float64) if value.dtype.kind == "f" else value
        case Mapping():
            return {key: widened(item) for key, item in value.items()}
        case list():
            return [widened(item) for item in value]
        case tuple() if hasattr(value, "_fields"):
            return type(value)(*(widened(item) for item in value))  # type: ignore[call-arg]
        case _:
            return value
