"""Two implementations asked about one experiment after another, by processes that go on."""

import secrets
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from crosscheck.checks.wanted import Wanted
from crosscheck.judging.verdict import RecordedSide, Verdict, judge
from crosscheck.recording import recording, worker_pool
from crosscheck.recording.recording import Recording, Stale
from crosscheck.recording.worker import Broken, Done, Job, Refused
from crosscheck.recording.worker_pool import CouldNotRun
from spec.experiment import Experiment

LONGEST_SERVICE = 30
"""Experiments after which a worker is started anew. What JAX has compiled stays in memory, and takes of the 65,530
mappings that Linux allows a process: after about 65 experiments LLVM ends it with a segmentation fault (jaxlib 0.10.2).
"""


class Question(msgspec.Struct, frozen=True):
    """What both sides are asked about. seed: of the recordings."""

    experiment: Experiment
    seed: int


class Stopped(Exception):
    """The pair was stopped while it was asking."""


class Pair:
    """A worker of each side. One thread asks; any may stop.

    place: a directory for recordings and logs, which no other pair has. timeout: seconds for an experiment on one side.
    """

    def __init__(self, implementations: Sequence[str], labels: Sequence[str], place: Path, timeout: float):
        self._implementations = implementations
        self._labels = labels
        self._place = place
        self._timeout = timeout
        self._lock = threading.Lock()
        self._workers: list[worker_pool.Worker | None] = [None, None]
        self._served = [0, 0]
        self._stopped = False
        self.seconds = [0.0, 0.0]
        """What each side has spent on its recordings."""
        self.told: list[Recording | None] = [None, None]
        """The last recording of each side, which says what versions it has."""
        for side in ("first", "second"):
            (place / side).mkdir(parents=True)

    def ask(self, question: Question, wanted: Wanted, together: bool = False) -> Verdict:
        """Record both sides and judge. together: both at once, which takes a core each.

        Raises CouldNotRun where a side cannot run at all, and Stopped.
        """
        token = secrets.token_hex(8)
        found: list[RecordedSide | Exception] = []

        def second() -> None:
            try:
                found.append(self._side(1, question, wanted, token))
            except Exception as error:
                found.append(error)

        thread = threading.Thread(target=second, daemon=True)
        if together:
            thread.start()
        one = self._side(0, question, wanted, token)
        if together:
            thread.join()
        else:
            second()
        two = found[0]
        if isinstance(two, Exception):
            raise two
        return judge(question.experiment, question.experiment.name, wanted, (one, two))

    def stop(self) -> None:
        """End both workers, now; the pair answers nothing until it is opened again."""
        with self._lock:
            self._stopped = True
            workers = [worker for worker in self._workers if worker]
        for worker in workers:
            worker.ask_to_stop()
        for worker in workers:
            worker.stop()

    def close(self) -> None:
        """End both workers, and give back what they held; only the thread that asks may."""
        self.stop()
        for side in (0, 1):
            self._retire(side)

    def reopen(self) -> None:
        """Let it be asked again, by new workers, where nobody is asking just now."""
        for side in (0, 1):
            self._retire(side)
        self._stopped = False

    def _side(self, side: int, question: Question, wanted: Wanted, token: str) -> RecordedSide:
        """One side's recording, or why there is none."""
        directory = self._place / ("first", "second")[side]
        answer = self._worker(side).serve(_job(question, wanted, directory, token, envelope=side == 0), self._timeout)
        if self._stopped:
            raise Stopped
        self._served[side] += 1
        label, experiment = self._labels[side], question.experiment
        match answer:
            case Done():
                try:
                    made = recording.read(directory, experiment.name, token, experiment.hash)
                except Stale as error:
                    return RecordedSide(label, None, {}, str(error))
                finally:
                    recording.file(directory, experiment.name).unlink(missing_ok=True)
                self.told[side] = made[0]
                self.seconds[side] += made[0].seconds
                return RecordedSide(label, *made)
            case Refused(message=message, exit_code=exit_code):
                raise CouldNotRun(message, exit_code)
            case Broken(message=message):
                return RecordedSide(label, None, {}, message)
            case reason:
                self._retire(side)
                return RecordedSide(label, None, {}, reason)

    def _worker(self, side: int) -> worker_pool.Worker:
        if self._served[side] >= LONGEST_SERVICE:
            self._retire(side)
        worker = self._workers[side]
        if worker is None:
            # What is compiled for experiments that nobody asks for again is not kept.
            worker = worker_pool.Worker(self._implementations[side], self._place / f"{side}.log", {})
            with self._lock:
                self._workers[side] = worker
                stopped = self._stopped
            if stopped:
                worker.stop()
                raise Stopped
        return worker

    def _retire(self, side: int) -> None:
        with self._lock:
            worker, self._workers[side] = self._workers[side], None
        self._served[side] = 0
        if worker:
            worker.stop()
            worker.close()


def _job(question: Question, wanted: Wanted, directory: Path, token: str, envelope: bool) -> Job:
    return Job(
        directory=str(directory),
        token=token,
        experiment=question.experiment,
        checks=list(wanted.checks),
        precisions=list(wanted.precisions),
        device="cpu",
        seed=question.seed,
        # As in a comparison: bounds come from the first side's rounding.
        envelope=envelope,
        thorough=wanted.thorough,
        case=wanted.case,
    )
