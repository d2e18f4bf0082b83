"""Pairs whose sides are in this process: to start two that import both frameworks takes longer than most checks do."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crosscheck.pair import remote
from crosscheck.pair.messages import Message, SideCall
from crosscheck.pair.worker import Service

KEPT = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]))
"""Where modules are that stay loaded: those of a pair file's own are gone when another of its name comes."""


class Near:
    """In the place of `Worker`, with the same arguments; messages are the same as between processes."""

    def __init__(
        self,
        source: str,
        log: Path,
        environment: Mapping[str, str],
        module: str,
        arguments: Sequence[str],
        answers: Any,
    ):
        self._log = log
        side, directory = arguments
        self._service = Service(source, int(side), Path(directory))

    def serve(self, call: SideCall, timeout: float) -> Message:
        """What a process would say, and complain of into its log."""
        asked = msgspec.json.decode(msgspec.json.encode(call), type=SideCall)
        with (
            self._log.open("a") as log,
            contextlib.redirect_stdout(log),
            contextlib.redirect_stderr(log),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("default")
            answer = self._service.answer(asked)
        return msgspec.json.decode(msgspec.json.encode(answer), type=Message)

    def stop(self) -> None:
        """There is nothing to end."""

    def close(self) -> None:
        """There is nothing to give back."""


@pytest.fixture(autouse=True)
def near_sides(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """But where processes are what a test is about, or other people's libraries, of which some want one to themselves.

    What a process would take with it when it ends goes after the test.
    """
    if any(map(request.node.get_closest_marker, ("own_processes", "pairs"))):
        yield
        return
    monkeypatch.setattr(remote, "Worker", Near)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", ""))
    before = sys.modules.keys() | set()
    yield
    for name in sys.modules.keys() - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and not file.startswith(KEPT):
            del sys.modules[name]
