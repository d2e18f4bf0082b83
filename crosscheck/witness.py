"""Notes what an implementation is given, so that both sides can be shown to have been asked the same."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np

from spec.framework import Framework


class ArgumentChanged(Exception):
    """An implementation wrote into an array that it was given. The contract's functions are pure."""


class Witness:
    """Stands between a rung and an implementation; `digest` changes with every byte that was handed over."""

    def __init__(self, framework: Framework):
        self._framework = framework
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits for everything handed over so far."""
        return self._hash.hexdigest()[:16]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self._framework, name)

        def call(*arguments: Any, **options: Any) -> Any:
            given = _encode((name, arguments, options))
            self._hash.update(given)
            result = function(*arguments, **options)
            if _encode((name, arguments, options)) != given:
                raise ArgumentChanged(f"{name}: expected its arguments to stay as they are, got one changed in place")
            return result

        return call


def behind(framework: Framework) -> Framework:
    """The implementation itself, for what only one side is asked: that is no part of what both must have been given."""
    return framework._framework if isinstance(framework, Witness) else framework


def _encode(value: Any) -> bytes:
    """Bytes that differ wherever two values do."""
    match value:
        case np.ndarray():
            return f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
        case Mapping():
            return b"{" + b",".join(_encode(key) + b":" + _encode(item) for key, item in value.items()) + b"}"
        case tuple() | list():
            return b"(" + b",".join(_encode(item) for item in value) + b")"
        case msgspec.Struct():
            return msgspec.json.encode(value)
        case _:
            return repr(value).encode()
