"""Processes beside this one that run functions of an implementation; they end when this one does.

What they read is what this process reads: the function's module is imported here, too.
"""

import atexit
import importlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from spec import text
from spec.errors import DeviceLost, OhlolError
from spec.tasks.python import allow_imports

WORDS = 300
"""Characters of the last line that a process left, at most."""

LAST_WORDS = 5.0
"""Seconds in which a process has ended whose connections have."""

_running: dict[str, "list[Process]"] = {}
"""By who has started them."""


class Process:
    """A process that calls a function without arguments, and ends with what that returns.

    function: by its module and name. environment: variables on top of this process's own.
    """

    def __init__(self, function: Callable[[], int], environment: Mapping[str, str]):
        module, name = function.__module__, function.__name__
        package = importlib.import_module(module.partition(".")[0])
        # An edited copy of a package may stand nowhere on the path, and the folder that we work in has another one.
        path = [str(Path(str(package.__file__)).parent.parent), *sys.path]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (it is read when the process has ended)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from spec.processes import begin; begin()", module, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(each or os.getcwd() for each in path)},
        )
        _running.setdefault(module.partition(".")[0], []).append(self)

    def ended(self, within: float = 0.0) -> str:
        """How it has ended, in words; empty while it runs. within: seconds to wait for that."""
        with suppress(subprocess.TimeoutExpired):
            code = self.process.wait(within)
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            return how + (f": {text.admit(lines[-1], WORDS)}" if lines else "")
        return ""

    def ask(self, *arguments: Any) -> Any:
        """What the function that it `answers` by gives for these arguments; raises what that raises, and DeviceLost."""
        requests, answers = self.process.stdin, self.process.stdout
        assert requests is not None
        assert answers is not None
        try:
            pickle.dump(arguments, requests)
            requests.flush()
            answer, error = pickle.load(answers)
        except (EOFError, OSError, pickle.UnpicklingError):
            how = self.ended(LAST_WORDS) or "sent what is no answer"
            self.stop()
            raise DeviceLost(f"the process of the devices ({self.process.pid}) {how}") from None
        except BaseException:
            # An answer that comes later would be taken for another's.
            self.stop()
            raise
        if error is not None:
            raise error
        return answer

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._errors):
            with suppress(OSError):
                if stream:
                    stream.close()
        for processes in _running.values():
            if self in processes:
                processes.remove(self)


def running(package: str) -> list[Process]:
    """Those that functions of this package run in, in the order in which they were started."""
    return list(_running.get(package, ()))


def stop(package: str) -> None:
    """End those of a package."""
    for process in running(package):
        process.stop()


def lost(processes: list[Process], names: list[str]) -> str:
    """Which of these have ended and how, in words, once their connections have; empty where none has."""
    until = time.monotonic() + LAST_WORDS
    while True:
        found = [(name, process.ended()) for name, process in zip(names, processes, strict=True)]
        said = [f"{name} {how}" for name, how in found if how]
        if said or time.monotonic() > until:
            return "; ".join(said)
        time.sleep(0.05)


def begin() -> None:
    """In such a process: call the function that its arguments name."""
    # Ctrl-C comes to all processes of a terminal; what is to be done about it, the first one says.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    allow_imports()
    module, name = sys.argv[1:]
    function = getattr(importlib.import_module(module), name)
    sys.exit(function())


def answer(function: Callable[..., Any]) -> int:
    """In such a process: answer whoever asks, until nobody does any more."""
    # What a framework prints is no answer.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return 0
        try:
            result = function(*arguments), None
        except OhlolError as error:
            result = None, error
        except Exception as error:
            result = None, RuntimeError(text.exception(error))
        pickle.dump(result, answers)
        answers.flush()


@atexit.register
def _stop_all() -> None:
    for package in list(_running):
        stop(package)
