"""The reference, asked by a check as the two sides were: in float64 throughout, from the very same numbers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from crosscheck.checks import Check
from crosscheck.comparison import Arrays, Comparison
from crosscheck.request import Request
from crosscheck.subject import Subject
from spec.framework import Settings, Side


class Intercepted(Exception):
    """Ends a request at the call that was looked for."""


class Call(NamedTuple):
    """One call of a function of a side. result: what it gave."""

    name: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    result: Any


class Arbiter:
    """Stands where an implementation would; remembers what it was asked for.

    reference: see crosscheck.subject.Subject.
    stages: for each call of `forward` in turn, the intermediates to force. stop: the function whose call is noted and
    not carried out. elements: for each call of `gradients` in turn, those that are asked for; None for all of all.
    """

    def __init__(
        self,
        reference: Any,
        stages: Sequence[Arrays] = (),
        stop: str = "",
        elements: Sequence[Mapping[str, Sequence[int]]] | None = None,
    ):
        self.calls: list[Call] = []
        self._reference = reference
        self._stages = list(stages)
        self._stop = stop
        self._elements = None if elements is None else list(elements)

    def describe(self, settings: Settings) -> dict[str, str]:
        """As the reference does."""
        return self._reference.describe(settings)

    def open(self, subject: Subject, settings: Settings) -> Side:
        """The reference's side in float64, each of whose functions is noted when it is called."""
        settings = msgspec.structs.replace(settings, precision="float64", device="cpu")
        side = self._reference.open(subject, settings)

        def forward(*given: Any, **named: Any) -> Any:
            if not self._stages:
                return side.forward(*given, **named)
            return self._reference.forced(subject, *given, settings, stages=self._stages.pop(0), **named)

        def gradients(*given: Any, **named: Any) -> Any:
            if self._elements is None:
                return side.gradients(*given, **named)
            return self._reference.gradients(subject, *given, settings, **named, only=self._elements.pop(0))

        functions = side.functions() | {"forward": forward, "gradients": gradients}
        noted = {name: self._noted(name, function) for name, function in functions.items()}
        return msgspec.structs.replace(side, **noted)

    def _noted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            arguments = tuple(widened(value) for value in given)
            options = {key: widened(value) for key, value in named.items()}
            result = None if name == self._stop else function(*arguments, **options)
            self.calls.append(Call(name, arguments, options, result))
            if name == self._stop:
                raise Intercepted
            return result

        return call


def ask(check: Check, subject: Subject, failure: Comparison, seed: int, arbiter: Arbiter) -> Arrays:
    """What the reference records for the case of that comparison. Raises what the reference raises."""
    request = Request(failure.precision, "cpu", seed)
    return check.record(arbiter, subject, failure.case, request)


def widened(value: Any) -> Any:
    """The same numbers in float64."""
    match value:
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
