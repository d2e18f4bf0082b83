"""Signals that ask a run to end: noticed even where somebody swallows the exception that they raise."""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALLED = 128
"""An exit code beyond this is that of a signal."""

WORDS = {"SIGINT": "Ctrl-C"}
"""What people call a signal, where they do not say its name."""

AGAIN = 2.0
"""Seconds after which the exception is raised again, unless it has arrived: a callback may have swallowed it."""

_received: list[int] = []
"""The signal that asked this process to end, if one has; emptied by `noticed`."""

_holding: list[bool] = []
"""Not empty while `held` lasts."""

_ending: list[bool] = []
"""Not empty where the request has arrived, and what is left to do is not to be disturbed."""


@contextmanager
def noticed() -> Iterator[None]:
    """While the block lasts, let SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt, so that all leave a checkpoint.

    A signal that this process was told to ignore (`nohup`, a job in the background) stays ignored. Within another such
    block, and outside the main thread, which alone may say what a signal does, nothing changes.
    """
    handled = [number for number in _numbers() if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is _interrupt:
        yield
        return
    _received.clear()
    _ending.clear()
    before = {number: signal.signal(number, _interrupt) for number in handled}
    if hasattr(signal, "setitimer"):
        before[signal.SIGALRM] = signal.signal(signal.SIGALRM, _remind)
    complain, sys.unraisablehook = sys.unraisablehook, _quiet(sys.unraisablehook)
    try:
        yield
    finally:
        wind_down()
        sys.unraisablehook = complain
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held() -> Iterator[None]:
    """Let a signal raise nothing while the block lasts, but when it ends; a second one, or AGAIN seconds, do not wait.

    For who runs Python out of native code that cannot pass an exception on: a framework may abort the process, without
    a word of whose signal it was, where one is raised while it is imported.
    """
    _holding.append(True)
    try:
        yield
    finally:
        _holding.pop()
    check()


def received() -> bool:
    """Whether a signal has asked this process to end."""
    return bool(_received)


def check() -> None:
    """Raise KeyboardInterrupt if a signal has asked this process to end, whether or not that was noticed before."""
    if _received and not _ending:
        raise KeyboardInterrupt(_word(_received[0]))


def wind_down() -> None:
    """From now on, let no signal disturb what is left to do, which is to be short."""
    _ending.append(True)
    if hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) is _remind:
        signal.setitimer(signal.ITIMER_REAL, 0)


def exit_code() -> int:
    """What a shell makes of the signal: 130 for Ctrl-C, also where it was none; 143 for SIGTERM, 129 for SIGHUP."""
    return SIGNALLED + (_received[0] if _received else signal.SIGINT)


def leave(code: int) -> None:
    """End this process where its exit code is a signal's; returns where it is not.

    Python ends itself by SIGINT, whatever the exit code is to be, where a KeyboardInterrupt has ever left text that was
    handed to exec, as modules do while they are imported, whoever has dealt with it since.
    """
    if code <= SIGNALLED:
        return
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(code)


def leave_to_the_system() -> None:
    """Let a signal end this process at once and without a word: for when all is done and Python cleans up."""
    for number in _numbers():
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, signal.SIG_DFL)


def _numbers() -> list[signal.Signals]:
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def _interrupt(number: int, frame: FrameType | None) -> None:
    del frame
    if _ending:
        return
    _received.append(number)
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, AGAIN, AGAIN)
    if _holding and len(_received) == 1:
        return
    raise KeyboardInterrupt(_word(number))


def _remind(number: int, frame: FrameType | None) -> None:
    del number, frame
    check()


def _quiet(complain: Callable[["sys.UnraisableHookArgs"], object]) -> Callable[["sys.UnraisableHookArgs"], object]:
    """A hook that does not print the traceback of a request that a callback swallowed, and leaves others as they were.

    A framework's callback for the garbage collector is a place where it happens: Python runs it, and prints what it
    raises.
    """

    def hook(event: "sys.UnraisableHookArgs") -> object:
        return None if _received and issubclass(event.exc_type, KeyboardInterrupt) else complain(event)

    return hook


def _word(number: int) -> str:
    name = signal.Signals(number).name
    return WORDS.get(name, name)
