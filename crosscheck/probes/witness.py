"""Stands before an implementation: notes what it is given, looks at what it gives, and has it asked again."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np

from crosscheck import plain
from crosscheck.probes.determinism import Asked, Repeats
from crosscheck.subject import Subject
from spec.framework import Framework, Settings, Side

ASIDE = ("train_starts",)
"""What is asked again although the other side is not asked: nothing else shows whether it is deterministic."""


class ArgumentChanged(Exception):
    """An implementation wrote into an array that it was given. The contract's functions are pure."""


class Witness:
    """Stands between a check and an implementation; `digest` changes with every byte that was handed over.

    repeats: who asks again; None for nobody. aside: whether the calls are made of one side alone.
    """

    def __init__(self, framework: Framework, repeats: Repeats | None = None, aside: bool = False):
        self._framework = framework
        self._repeats = repeats
        self._aside = aside
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits for everything handed over so far."""
        return self._hash.hexdigest()[:16]

    def describe(self, settings: Settings) -> dict[str, str]:
        """As the implementation does: words, which count in no digest."""
        return self._framework.describe(settings)

    def open(self, subject: Subject, settings: Settings) -> Side:
        """The implementation's side, each of whose functions is watched."""
        side = self._framework.open(subject, settings)
        watched = {name: self._watched(side, subject, settings, name) for name in side.functions()}
        return msgspec.structs.replace(side, **watched)

    def _watched(self, side: Side, subject: Subject, settings: Settings, name: str) -> Callable[..., Any]:
        function = getattr(side, name)
        # An implementation's own choices are nothing that both sides are given.
        common = msgspec.structs.replace(settings, choices=())

        def call(*arguments: Any, **options: Any) -> Any:
            given = _encode((name, subject.hash, common, arguments, options))
            self._hash.update(given)
            result = function(*arguments, **options)
            if _encode((name, subject.hash, common, arguments, options)) != given:
                raise ArgumentChanged(f"{name}: expected its arguments to stay as they are, got one changed in place")
            plain.check(name, result)
            if self._repeats and (name in ASIDE or not self._aside):
                self._repeats.ask(Asked(subject, settings, name), arguments, options, result, side.compiles)
            return result

        return call


def aside(framework: Framework, again: bool = True) -> Framework:
    """The same implementation, where it is asked what the other side is not: that counts in no digest.

    again: whether what nothing else shows to be deterministic is asked twice.
    """
    if not isinstance(framework, Witness):
        return framework
    return Witness(framework._framework, framework._repeats if again else None, aside=True)


def _encode(value: Any) -> bytes:
    """Bytes that differ wherever two values do."""
    match value:
        case np.ndarray():
            # `str` of a dtype, which is a word, takes longer than all else of a small array.
            return f"{value.dtype.str}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
        case Mapping():
            return b"{" + b",".join(_encode(key) + b":" + _encode(item) for key, item in value.items()) + b"}"
        case tuple() | list():
            return b"(" + b",".join(_encode(item) for item in value) + b")"
        case msgspec.Struct():
            return msgspec.json.encode(value)
        case _:
            return repr(value).encode()
