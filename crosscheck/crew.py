"""The worker processes: starts them, hands out jobs, and survives whatever becomes of them.

A worker takes one experiment at a time, so that one that dies takes no other with it, and so that a side that is
done early lends its core to the other. Jobs on the same experiment that stand next to each other stay with one worker,
which need not compile again for another seed.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from crosscheck.reuse import Kept
from crosscheck.worker import Broken, Done, Job, Message, Refused
from spec import cache, text
from spec.errors import OhlolError
from spec.machine import THREADS

WORTH_A_WORKER = 3
"""So many experiments must be waiting before another worker of a side is started: importing a framework takes time."""


WORDS = 300
"""Characters of the last line that a process left, at most."""


class CouldNotRun(OhlolError):
    """An implementation that cannot run at all, so that there is nothing to compare."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class Result(NamedTuple):
    """What became of one job. lost: why there is no recording; empty when there is one. sources: see Done.

    kept: the recording of an earlier run that stands for this one's.
    """

    side: int
    job: Job
    seconds: float
    lost: str = ""
    sources: Mapping[str, str] = {}
    kept: Kept | None = None

    @property
    def experiment(self) -> str:
        """The experiment's name."""
        return self.job.experiment["name"]


class Worker:
    """One process of one implementation.

    module: what it runs, given the implementation and the further arguments. answers: the messages that it sends.
    """

    def __init__(
        self,
        implementation: str,
        log: Path,
        environment: Mapping[str, str],
        module: str = "crosscheck.worker",
        arguments: Sequence[str] = (),
        answers: Any = Message,
    ):
        self._log = log
        self._answers = answers
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, implementation, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                # Tiny models are fastest on one thread, and the two sides run side by side.
                env={**dict.fromkeys(THREADS, "1"), **os.environ, **environment},
                text=True,
                # So that Ctrl-C comes to the parent alone, which then ends its workers.
                start_new_session=True,
            )

    def serve(self, job: msgspec.Struct, timeout: float) -> Any:
        """Hand over a job and wait for the answer; or the reason why there will be none."""
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self.process.kill()

        timer = threading.Timer(timeout, give_up)
        # An interpreter that ends waits for threads that are no daemons.
        timer.daemon = True
        timer.start()
        try:
            _pipe(self.process.stdin).write(msgspec.json.encode(job).decode() + "\n")
            _pipe(self.process.stdin).flush()
            line = _pipe(self.process.stdout).readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if line.endswith("\n"):
            return msgspec.json.decode(line, type=self._answers)
        code = self.process.wait()
        if late.is_set():
            return f"no answer within {timeout:g} s"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"its process {how}{self._last_words()}"

    def stop(self) -> None:
        """End the process. Any thread may; the one that serves the worker closes it afterwards."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Give back what the ended process held."""
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(BrokenPipeError):
                _pipe(pipe).close()

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f": {text.admit(lines[-1], WORDS)}" if lines else ""


def _what(job: Job) -> tuple[str, str]:
    """What a worker has compiled after a job."""
    return job.implementation, job.experiment["name"]


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


class Crew:
    """All workers of a run: at least one for each implementation, more where there are cores and work enough.

    environment: variables that the workers get on top of this process's own; if None, those that keep what is compiled.
    """

    def __init__(
        self,
        implementations: Sequence[str],
        logs: Path,
        size: int,
        timeout: float,
        environment: Mapping[str, str] | None = None,
    ):
        # Once for all workers, since it goes through the whole directory.
        self._environment = cache.variables() if environment is None else environment
        self._implementations = implementations
        self._logs = logs
        self._size = max(size, len(implementations))
        self._timeout = timeout
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
                message: Message | str = worker.serve(job, self._timeout)
                match message:
                    case Done(seconds=seconds, sources=sources):
                        self._results.put(Result(side, job, seconds, sources=sources))
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
            worker.stop()
