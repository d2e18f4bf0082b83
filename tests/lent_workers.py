"""Workers of crosscheck that go on from one test to the next: to start one takes longer than most tests do.

A worker's implementation is loaded anew for whoever it is lent to, as a copy that stands in for it is in a campaign of
planted faults. What is about processes themselves has its own, see `own_processes` in tests/crosscheck/conftest.py.
"""

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from crosscheck.recording import worker_pool
from crosscheck.recording.worker import Broken, Job, Refused
from crosscheck.recording.worker_pool import Message, Worker

ROOT = Path(__file__).parents[1]

FRAMEWORKS = ("torch_impl", "flax_impl")
WITHOUT_FRAMEWORK = "spec.reference"

PASSING = ("PYTEST_CURRENT_TEST", "COLUMNS", "TMPDIR", "TF_", "TORCH", "TPU_")
"""Beginnings of the names of variables that make no difference; JAX and torch set the last in this process."""

IDLE = 2
"""Workers of a kind that are kept."""


class Kind(NamedTuple):
    """What all borrowers of a worker have in common: the module that it began with, and its surroundings."""

    module: str
    directory: str
    variables: tuple[tuple[str, str], ...]


class Pool:
    """The workers that are not lent just now. directory: for their logs and temporary files."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._surroundings = surroundings({})
        self._lock = threading.Lock()
        self._idle: dict[str, list[tuple[Worker, str]]] = {}
        self._started = 0

    def lend(self, implementation: str, log: Path, environment: Mapping[str, str]) -> "Worker | Lent":
        """In the place of `Worker`, with the same arguments."""
        kind = Kind(module_of(implementation), *surroundings(environment))
        if kind[1:] != self._surroundings:
            return Worker(implementation, log, environment)
        return Lent(self, kind.module, implementation, log, environment)

    def take(self, module: str, implementation: str, environment: Mapping[str, str]) -> Worker:
        """A worker whose implementation was another one, or one that no test edits."""
        with self._lock:
            idle = self._idle.setdefault(module, [])
            for position in reversed(range(len(idle))):
                worker, last = idle[position]
                if last != implementation or not is_edited(implementation):
                    del idle[position]
                    if worker.process.poll() is None:
                        worker_pool._running.add(worker)
                        return worker
                    end(worker)
            self._started += 1
            log = self._directory / f"{self._started}.log"
        return Worker(module, log, environment)

    def give_back(self, module: str, implementation: str, worker: Worker) -> None:
        """Keep it for the next one, or end it where there are enough."""
        # It belongs to no run, and outlives those that end all of theirs.
        worker_pool._running.discard(worker)
        with self._lock:
            idle = self._idle.setdefault(module, [])
            idle.append((worker, implementation))
            spare = idle.pop(0)[0] if len(idle) > IDLE else None
        if spare:
            end(spare)

    def close(self) -> None:
        """End them all."""
        for idle in self._idle.values():
            for worker, _ in idle:
                end(worker)
        self._idle.clear()


class Lent:
    """A worker of the pool as one run of crosscheck has it: it ends only where something has gone wrong."""

    def __init__(self, pool: Pool, module: str, implementation: str, log: Path, environment: Mapping[str, str]):
        self._pool, self._module, self._implementation = pool, module, implementation
        self._own = (implementation, log, environment)
        self._worker = pool.take(module, implementation, environment)
        self._lock = threading.Lock()
        self._serving = self._spoilt = self._returned = False

    @property
    def process(self) -> Any:
        """The worker's keeper."""
        return self._worker.process

    def serve(self, job: Job, timeout: float) -> "Message | str":
        """As a worker does. One that cannot load the implementation is no help: a worker of one's own says why."""
        with self._lock:
            if self._returned:
                return "its process was ended"
            self._serving = True
        stands_in = job.implementation or ("" if self._implementation == self._module else self._implementation)
        found = self._worker.serve(msgspec.structs.replace(job, implementation=stands_in), timeout)
        if isinstance(found, Broken) and not job.implementation and not self._returned:
            end(self._worker)
            self._worker, self._spoilt = Worker(*self._own), True
            found = self._worker.serve(job, timeout)
        with self._lock:
            self._serving = False
            # Whoever has refused has ended as well.
            self._spoilt = self._spoilt or isinstance(found, str | Refused)
        return found

    def ask_to_stop(self) -> None:
        """Where it is at work for the run that is to end, it ends; else it goes back."""
        if self._serving:
            self._worker.ask_to_stop()

    def stop(self) -> None:
        """The same, at once."""
        with self._lock:
            returned, self._returned = self._returned, True
            ends = self._serving or self._spoilt
        if ends:
            # Whatever it still answers: its pipes are to be closed.
            self._spoilt = True
            self._worker.stop()
        elif not returned:
            self._pool.give_back(self._module, self._implementation, self._worker)

    def close(self) -> None:
        """Give back what an ended worker held."""
        if self._serving or self._spoilt:
            self._worker.close()


def end(worker: Worker) -> None:
    worker.stop()
    worker.close()


def module_of(implementation: str) -> str:
    """What a worker begins with that is to serve this implementation."""
    path = Path(implementation)
    # A fake may have the name of either.
    with_framework = len(path.parts) == 1 or (path / "contract.py").exists()
    return path.stem if path.stem in FRAMEWORKS and with_framework else WITHOUT_FRAMEWORK


def is_edited(implementation: str) -> bool:
    """Whether its files may have been written by a test."""
    path = Path(implementation)
    return len(path.parts) > 1 and not path.resolve().is_relative_to(ROOT)


def surroundings(environment: Mapping[str, str]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The working directory and the variables of a worker that is started now."""
    variables = {**os.environ, **environment}
    return os.getcwd(), tuple(
        sorted((name, value) for name, value in variables.items() if not name.startswith(PASSING))
    )
