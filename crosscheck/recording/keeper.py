"""Stands between crosscheck and one worker, so that nothing of the worker is left, however either of them ends.

Run as a script, `python -I -S keeper.py JOBS ANSWERS COMMAND...`: it starts the command in a session of its own, with
the two pipes of those numbers as its standard input and output, and waits. When the command ends, or when crosscheck
closes this process's standard input (also by being killed), it ends everything that the command has started: on Linux
also what has left the process group or has lost its parent, since such processes come to be children of this one.
Then it ends as the command did. It is a process rather than a thread of the worker because it must act where the
worker hangs in native code, has died, or has been told to ignore signals.

What the command writes to its standard error is read here, whatever its amount, and the end of it is written to this
process's own when all is over. Standard output says the command's process id, and ends with this process.
"""

import ctypes
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

TAIL = 2**16
"""Bytes of standard error that are kept."""

PATIENCE = 3.0
"""Seconds in which everything must have ended; what the system cannot end in that time is left to it."""

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""Of Linux's prctl."""


def main(arguments: list[str]) -> int:
    """Keep one command; returns its exit code, or ends by the signal that it was ended by."""
    jobs, answers, *command = arguments
    control = _control()
    if control:
        control(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, frame: None)
    errors, written = os.pipe()
    worker = os.fork()
    if worker == 0:
        _become(command, int(jobs), int(answers), written, control)
    for handle in (int(jobs), int(answers), written):
        os.close(handle)
    os.set_blocking(errors, False)
    with suppress(OSError):
        os.write(1, f"{worker}\n".encode())
    kept = Tail(errors)
    status = _wait(worker, kept, woken)
    end = time.monotonic() + PATIENCE
    with suppress(OSError):
        os.killpg(worker, signal.SIGKILL)
    _end_descendants(end, kept)
    if status is None:
        status = _reap(worker)
    while time.monotonic() < end and kept.read():
        pass
    with suppress(OSError):
        os.write(2, kept.content)
    return _end_alike(status)


class Tail:
    """The end of what comes through a pipe."""

    def __init__(self, pipe: int):
        self._pipe = pipe
        self._open = True
        self.content = b""

    @property
    def pipe(self) -> int | None:
        """The pipe, while something may come through it."""
        return self._pipe if self._open else None

    def read(self) -> bool:
        """Take what is there; whether there was anything."""
        try:
            found = os.read(self._pipe, TAIL)
        except BlockingIOError:
            return False
        self._open = bool(found)
        self.content = (self.content + found)[-TAIL:]
        return bool(found)


def _wait(worker: int, kept: Tail, woken: int) -> int | None:
    """Until the worker or who asked for it has ended; the worker's status if it has."""
    while True:
        watched = [0, woken] + ([kept.pipe] if kept.pipe is not None else [])
        ready, _, _ = select.select(watched, [], [])
        if kept.pipe in ready:
            kept.read()
        if woken in ready:
            asked = set(os.read(woken, 100)) - {signal.SIGCHLD}
            status = _reap(worker)
            if status is not None or asked:
                return status
        if 0 in ready:
            return None


def _reap(worker: int) -> int | None:
    """Take note of every child that has ended; the worker's status if it is among them."""
    found = None
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == worker:
                found = status
    return found


def _end_descendants(end: float, kept: Tail) -> None:
    """End every process that descends from this one.

    All are stopped before any is killed: a process that runs may start another between our looking and our killing.
    """
    stopped: set[int] = set()
    while (found := _descendants()) and time.monotonic() < end:
        fresh = found - stopped
        for pid in fresh or found:
            with suppress(OSError):
                os.kill(pid, signal.SIGSTOP if fresh else signal.SIGKILL)
        stopped |= fresh
        kept.read()
        if not fresh:
            time.sleep(0.002)


def _descendants() -> set[int]:
    """Processes below this one, but for those that have ended; none where there is no /proc."""
    parents: dict[int, int] = {}
    with suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with suppress(OSError, IndexError, ValueError), open(f"/proc/{name}/stat", "rb") as file:
                    # The command's name, in parentheses, may hold anything.
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
                    if state not in (b"Z", b"X"):
                        parents[int(name)] = int(parent)
    below, grown = {os.getpid()}, True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in below} - below
        below |= more
        grown = bool(more)
    return below - {os.getpid()}


def _become(command: list[str], jobs: int, answers: int, errors: int, control: Callable[..., int] | None) -> None:
    """In the child: become the command. Never returns."""
    try:
        os.setsid()
        if control:
            # Should this process's parent be killed, nobody else would end it.
            control(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        for source, target in ((jobs, 0), (answers, 1), (errors, 2)):
            os.dup2(source, target)
        os.closerange(3, 256)
        # Python ignores these two, which the command would inherit.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.execv(command[0], command)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(127)


def _control() -> Callable[..., int] | None:
    """Linux's prctl, where there is one."""
    if sys.platform != "linux":
        return None
    with suppress(OSError, AttributeError):
        return ctypes.CDLL(None).prctl
    return None


def _end_alike(status: int | None) -> int:
    """End by the signal that the command was ended by, or return its exit code. None: nobody knows how it ended."""
    if status is None:
        return 0
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
