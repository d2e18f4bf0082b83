"""The worker processes: starts them, hands out jobs, and survives whatever becomes of them.

A worker takes one experiment at a time, so that one that dies takes no other with it, and so that a side that is
done early lends its core to the other. Jobs on the same experiment that stand next to each other stay with one worker,
which need not compile again for another seed.
"""

import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from crosscheck.recording import keeper
from crosscheck.recording.reuse import Kept
from crosscheck.recording.sources import Sources
from crosscheck.recording.temporary import undisturbed
from crosscheck.recording.worker import Broken, Done, Job, Message, Refused
from spec import cache, text
from spec.errors import OhlolError
from spec.machine import THREADS

WORTH_A_WORKER = 3
"""So many experiments must be waiting before another worker of a side is started: importing a framework takes time."""

LARGEST_ANSWER = 2**26
"""Bytes of an answer; whatever sends more is no worker of ours."""

CLOSING = 1.0
"""Seconds between the moment at which a worker's pipe ends and that at which its process has."""


WORDS = 300
"""Characters of the last line that a process left, at most."""


class CouldNotRun(OhlolError):
    """An implementation that cannot run at all, so that there is nothing to compare."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class Result(NamedTuple):
    """What became of one job. lost: why there is no recording; empty when there is one. sources, unfit: see Done.

    kept: the recording of an earlier run that stands for this one's.
    """

    side: int
    job: Job
    seconds: float
    lost: str = ""
    sources: Sources | None = None
    unfit: str = ""
    kept: Kept | None = None

    @property
    def experiment(self) -> str:
        """The experiment's name."""
        return self.job.experiment.name


class Worker:
    """One process of one implementation, and everything that it starts.

    module: what it runs, given the implementation and the further arguments. answers: the messages that it sends.
    `process` is the worker's keeper, which ends as the worker does: see crosscheck.recording.keeper.
    """

    def __init__(
        self,
        implementation: str,
        log: Path,
        environment: Mapping[str, str],
        module: str = "crosscheck.recording.worker",
        arguments: Sequence[str] = (),
        answers: Any = Message,
    ):
        self._log = log
        self._answers = answers
        self._received = bytearray()
        self._closed = False
        self._pid: int | None = None
        taken, self._jobs = os.pipe()
        self._channel, given = os.pipe()
        command = [sys.executable, "-m", module, implementation, *arguments]
        try:
            with log.open("ab") as errors:
                self.process = subprocess.Popen(
                    [sys.executable, "-I", "-S", keeper.__file__, str(taken), str(given), *command],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    pass_fds=(taken, given),
                    # Tiny models are fastest on one thread, and the two sides run side by side.
                    # Its temporary files go when the run does, whatever becomes of it.
                    env={**dict.fromkeys(THREADS, "1"), **os.environ, "TMPDIR": str(log.parent), **environment},
                    # So that Ctrl-C comes to the parent alone, which then ends its workers.
                    start_new_session=True,
                )
        except BaseException:
            for handle in (self._jobs, self._channel):
                os.close(handle)
            raise
        finally:
            for handle in (taken, given):
                os.close(handle)
        os.set_blocking(self._jobs, False)
        os.set_blocking(self._channel, False)
        _running.add(self)

    def serve(self, job: msgspec.Struct, timeout: float) -> Any:
        """Hand over a job and wait for the answer; or the reason why there will be none.

        Nothing that the implementation does, or that it starts, keeps this from returning in time.
        """
        end = time.monotonic() + timeout
        late = f"no answer within {timeout:g} s"
        if not self._send(msgspec.json.encode(job) + b"\n", end):
            return late
        line = self._line(end)
        if isinstance(line, bytes):
            try:
                return msgspec.json.decode(line, type=self._answers)
            except msgspec.MsgspecError:
                return f"its process sent {line[:100]!r} where an answer is expected"
        if line == "late":
            return late
        if line == "flood":
            return f"its process sent more than {LARGEST_ANSWER} bytes where an answer is expected"
        try:
            # The pipe and the process end together, unless somebody has closed the pipe.
            code = self.process.wait(min(CLOSING, max(end - time.monotonic(), 0.01)))
        except subprocess.TimeoutExpired:
            return "its process closed the pipe through which it answers"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"its process {how}{self._last_words()}"

    def _send(self, content: bytes, end: float) -> bool:
        """Hand it over; whether that was done in time. One that has died is noticed where its answer is read."""
        while content:
            try:
                content = content[os.write(self._jobs, content) :]
            except BlockingIOError:
                left = end - time.monotonic()
                if left <= 0:
                    return False
                _ready([], [self._jobs], min(left, 1.0))
                if self.process.poll() is not None:
                    return True
            except OSError:
                return True
        return True

    def _line(self, end: float) -> bytes | str:
        """The next line that it sends; "late", "flood", or "ended" where there will be none."""
        gone = _pipe(self.process.stdout).fileno()
        watched = [self._channel, gone]
        searched = 0
        # Of a large answer only what is new is searched, and nothing is copied.
        while self._received.find(b"\n", searched) < 0:
            searched = len(self._received)
            left = end - time.monotonic()
            if left <= 0:
                return "late"
            if len(self._received) > LARGEST_ANSWER:
                return "flood"
            ready = _ready(watched, [], left)
            if self._channel in ready:
                found = self._take()
                if not found:
                    return "ended"
                self._received += found
            elif gone in ready:
                if found := os.read(gone, 100):
                    self._pid = int(found)
                    continue
                # What it sent before it ended has come through the other pipe by now.
                while (found := self._take()) and len(self._received) <= LARGEST_ANSWER:
                    self._received += found
                if self._received.find(b"\n", searched) < 0:
                    return "ended"
        line, _, self._received = self._received.partition(b"\n")
        return bytes(line)

    def _take(self) -> bytes:
        try:
            return os.read(self._channel, 2**20)
        except OSError:
            return b""

    def ask_to_stop(self) -> None:
        """Have the process ended, and everything that it has started."""
        with suppress(OSError):
            _pipe(self.process.stdin).close()

    def stop(self) -> None:
        """End the process, and everything that it has started. Any thread may; who serves the worker closes it."""
        self.ask_to_stop()
        try:
            self.process.wait(keeper.PATIENCE + 1)
        except subprocess.TimeoutExpired:
            # The implementation may have stopped its keeper, too.
            self.process.kill()
            self.process.wait()
        if self.process.returncode == -signal.SIGKILL and self._pid is not None:
            # It may have been the keeper that was killed, and the worker with it, but not what that had started.
            with suppress(OSError):
                os.killpg(self._pid, signal.SIGKILL)
        _running.discard(self)

    def close(self) -> None:
        """Give back what the ended process held."""
        if self._closed:
            return
        self._closed = True
        for handle in (self._jobs, self._channel):
            os.close(handle)
        with suppress(OSError):
            _pipe(self.process.stdout).close()

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f": {text.admit(lines[-1], WORDS)}" if lines else ""


_running: set[Worker] = set()
"""Every worker that has been started and not been ended."""


def stop_all() -> None:
    """End every worker of this process: a signal may have kept a block from doing so."""
    workers = list(_running)
    for worker in workers:
        worker.ask_to_stop()
    for worker in workers:
        worker.stop()


def _ready(read: Sequence[int], write: Sequence[int], timeout: float) -> list[int]:
    """Those of the pipes that can be read from, or written to, or are closed; at most so many seconds later."""
    poll = select.poll()
    for handle in read:
        poll.register(handle, select.POLLIN)
    for handle in write:
        poll.register(handle, select.POLLOUT)
    return [handle for handle, _ in poll.poll(max(timeout, 0) * 1000)]


def _what(job: Job) -> tuple[str, str]:
    """What a worker has compiled after a job."""
    return job.implementation, job.experiment.name


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


class WorkerPool:
    """All workers of a run: at least one for each implementation, more where there are cores and work enough.

    environment: variables that the workers get on top of this process's own; if None, those that keep what is compiled.
    begun: is told of each job's side and experiment when a worker takes it up, from any thread.
    """

    def __init__(
        self,
        implementations: Sequence[str],
        logs: Path,
        size: int,
        timeout: float,
        environment: Mapping[str, str] | None = None,
        begun: Callable[[int, str], None] = lambda side, experiment: None,
    ):
        # Once for all workers, since it goes through the whole directory.
        self._environment = cache.variables() if environment is None else environment
        self._implementations = implementations
        self._logs = logs
        self._size = max(size, len(implementations))
        self._timeout = timeout
        self._begun = begun
        self._lock = threading.Lock()
        self._workers: set[Worker] = set()
        self._stopped = False
        self._results: queue.Queue[Result | Refused | Exception] = queue.Queue()

    def run(self, jobs: Sequence[Sequence[Job]], known: Sequence[Result] = ()) -> Iterator[Result]:
        """Do each side's jobs; yields as they are done. Raises CouldNotRun when a side refuses.

        known: further results, which are there already; they are yielded first, while the workers begin.
        """
        self._waiting = [deque(list(group) for _, group in groupby(side, _what)) for side in jobs]
        threads = [threading.Thread(target=self._work, args=(slot,), daemon=True) for slot in range(self._size)]
        try:
            for thread in threads:
                thread.start()
            yield from known
            for _ in range(sum(len(side) for side in jobs)):
                result = self._results.get()
                if isinstance(result, Refused):
                    raise CouldNotRun(result.message, result.exit_code)
                if isinstance(result, Exception):
                    raise result
                yield result
        finally:
            undisturbed(lambda: self._end(threads))

    def _end(self, threads: Sequence[threading.Thread]) -> None:
        """End the workers, and wait for the threads that served them."""
        self._stop()
        for thread in threads:
            if thread.ident is not None:
                thread.join()

    def _work(self, slot: int) -> None:
        """One slot's thread: a worker of its own side while there are jobs, then one of a side that needs help."""
        try:
            own = slot % len(self._implementations)
            self._serve(own, slot, 1 if slot < len(self._implementations) else WORTH_A_WORKER)
            for side in range(len(self._implementations)):
                self._serve(side, slot, WORTH_A_WORKER)
        except Exception as error:
            # The main thread would otherwise wait forever for this slot's result.
            self._results.put(error)

    def _serve(self, side: int, slot: int, enough: int) -> None:
        """Work on one side's jobs, provided that `enough` of them are waiting."""
        if len(self._waiting[side]) < enough:
            return
        worker = None
        try:
            for job in self._take(side):
                worker = worker or self._start(side, slot)
                self._begun(side, job.experiment.name)
                message: Message | str = worker.serve(job, self._timeout)
                match message:
                    case Done(seconds=seconds, sources=sources, unfit=unfit):
                        self._results.put(Result(side, job, seconds, sources=sources, unfit=unfit))
                    case Broken(message=reason):
                        self._results.put(Result(side, job, 0.0, reason))
                    case Refused():
                        self._results.put(message)
                        return
                    case reason:
                        self._retire(worker)
                        worker = None
                        self._results.put(Result(side, job, 0.0, reason))
        finally:
            if worker:
                self._retire(worker)

    def _take(self, side: int) -> Iterator[Job]:
        """Jobs for one worker, while there are any."""
        while True:
            with self._lock:
                waiting = self._waiting[side]
                group = waiting.popleft() if waiting and not self._stopped else []
            if not group:
                return
            for job in group:
                if not self._stopped:
                    yield job

    def _start(self, side: int, slot: int) -> Worker:
        worker = Worker(self._implementations[side], self._logs / f"{side}-{slot}.log", self._environment)
        with self._lock:
            self._workers.add(worker)
            stopped = self._stopped
        if stopped:
            # It was being started while the others were ended, and nobody else knows of it.
            worker.stop()
        return worker

    def _retire(self, worker: Worker) -> None:
        with self._lock:
            self._workers.discard(worker)
        worker.stop()
        worker.close()

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            workers = list(self._workers)
        for worker in workers:
            worker.ask_to_stop()
        for worker in workers:
            worker.stop()
