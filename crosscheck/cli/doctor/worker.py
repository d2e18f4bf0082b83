"""An implementation in a process of its own: says what its framework is like there.

Started as `python -m crosscheck.cli.doctor.worker IMPLEMENTATION`; takes one line, answers with one.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import get_args

import msgspec
import numpy as np

from crosscheck.recording import channel, implementation
from spec import text
from spec.environment import SMALLEST_NORMAL, Environment
from spec.errors import DeviceMissing, FrameworkMissing, OhlolError
from spec.framework import Device, Framework, Settings


class AskedToLook(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for all of it. float32 that NumPy computes is looked at as well, once the framework is there."""


class FrameworkSeen(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """described: what `describe` says, by device; environment: None where the implementation has no such module.

    keeps_subnormals: whether NumPy does in that process, which has one switch for all that computes in it.
    """

    described: dict[str, dict[str, str]]
    environment: Environment | None
    keeps_subnormals: bool


class FrameworkMissed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """There is no looking. installed: whether the framework is there, and broken."""

    message: str
    installed: bool


Sight = FrameworkSeen | FrameworkMissed


def main(name: str) -> int:
    """Answer once."""
    with channel.opened() as (jobs, answers):
        for _ in jobs:
            answers.write(encoded(name) + b"\n")
            answers.flush()
    return 0


def encoded(name: str) -> bytes:
    """What is there, as a message; also where an implementation's answer is none."""
    try:
        return msgspec.json.encode(look(name))
    except (TypeError, ValueError) as error:
        said = f"{text.admit(name, text.NAME)}: environment: {text.exception(error)}"
        return msgspec.json.encode(FrameworkMissed(message=said, installed=True))


def look(name: str) -> Sight:
    """What is there; also where it is broken in a way that nobody has thought of."""
    try:
        framework = implementation.load(name)
        described = _described(framework, get_args(Device))
        return FrameworkSeen(described=described, environment=_environment(name, framework), keeps_subnormals=_keeps())
    except FrameworkMissing as error:
        return FrameworkMissed(message=text.admit(str(error)), installed=False)
    except OhlolError as error:
        return FrameworkMissed(message=text.admit(str(error)), installed=True)
    except BaseException as error:
        return FrameworkMissed(message=f"{text.admit(name, text.NAME)}: {text.exception(error)}", installed=True)


def _described(framework: Framework, devices: Sequence[Device]) -> dict[str, dict[str, str]]:
    found = {}
    for device in devices:
        try:
            found[device] = text.descriptions(framework.describe(Settings(device=device)))
        except DeviceMissing as error:
            # Comparisons take this one unless told otherwise.
            if device == "cpu":
                raise OhlolError(str(error)) from None
    return found


def _environment(name: str, framework: Framework) -> Environment | None:
    module = f"{getattr(framework, '__name__', name)}.environment"
    try:
        return importlib.import_module(module).look()
    except ModuleNotFoundError as error:
        if error.name != module and not module.startswith(f"{error.name}."):
            raise
        return None


def _keeps() -> bool:
    halved = np.full(8, SMALLEST_NORMAL, np.float32) * np.float32(0.5)
    return bool(halved.view(np.int32).any())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
