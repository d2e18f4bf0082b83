"""Hands out turns: one contender's block of repetitions, then the next one's, and so on, for many rounds.

A disturbance of the machine so hits all alike, and a ratio is taken within a round.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from crosscheck.benchmark.messages import (
    Answer,
    BenchmarkRefused,
    Introduce,
    Introduced,
    Prepare,
    Ran,
    Ready,
    Release,
    Run,
    Weigh,
    Weighed,
    WorkloadBroken,
)
from crosscheck.benchmark.result import BenchmarkRow, Contender, Round
from crosscheck.recording import temporary
from crosscheck.recording.worker_pool import CouldNotRun, Worker
from spec import cache
from spec.benchmark import AnyWorkload
from spec.framework import Device
from spec.machine import THREADS

BLOCK = 0.06
"""Seconds that a block should take: far above a clock's resolution, far below a disturbance's length."""

ENOUGH = 2.5
"""Seconds that all rounds of one workload should take together; one that takes longer gets fewer rounds."""

FEWEST, LONG = 5, 2.0
"""Rounds that every workload gets; three fifths of them where a round takes more than LONG seconds."""

ROUNDS = 15
"""Rounds by default."""


class BenchmarkPlan(NamedTuple):
    """What to measure. timeout: seconds that a worker may take for one answer. enough: see ENOUGH."""

    workloads: Sequence[AnyWorkload]
    device: Device
    threads: int
    rounds: int
    timeout: float
    enough: float = ENOUGH


class Lost(Exception):
    """A contender that cannot go on; died: because its worker is gone."""

    def __init__(self, reason: str, died: bool):
        super().__init__(reason)
        self.died = died


class MeasuredSide:
    """One implementation's worker, started again where it died."""

    def __init__(self, implementation: str, label: str, plan: BenchmarkPlan, log: Path):
        self.label = label
        self._implementation = implementation
        self._plan = plan
        self._log = log
        self._worker: Worker | None = None
        self.introduced = self._introduce()

    def ask(self, request: Any) -> Answer:
        """The worker's answer. Raises Lost, and CouldNotRun where the implementation refuses."""
        if self._worker is None:
            self._worker = self._start()
        match self._worker.serve(request, self._plan.timeout):
            case BenchmarkRefused(message=message, exit_code=exit_code):
                raise CouldNotRun(message, exit_code)
            case WorkloadBroken(message=message):
                raise Lost(message, died=False)
            case str() as reason:
                self.stop()
                raise Lost(reason, died=True)
            case answer:
                return answer

    def stop(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.stop()
            self._worker.close()
            self._worker = None

    def _introduce(self) -> Introduced:
        try:
            answer = self.ask(Introduce(list(self._plan.workloads), self._plan.device))
            assert isinstance(answer, Introduced)
        except Lost as error:
            self.stop()
            raise CouldNotRun(f"{self._implementation}: {error}", 3) from None
        except BaseException:
            self.stop()
            raise
        return answer

    def _start(self) -> Worker:
        threads = str(self._plan.threads)
        return Worker(
            self._implementation,
            self._log,
            dict.fromkeys(THREADS, threads) | cache.NOTHING_KEPT,
            module="crosscheck.benchmark.worker",
            arguments=(threads,),
            answers=Answer,
        )


class Entry:
    """A contender at one workload: how it stands, and what was measured so far."""

    def __init__(self, side: MeasuredSide, contender: str, workload: AnyWorkload, label: str):
        self.side, self.contender, self.workload = side, contender, workload
        self.key = f"{workload.name} {contender}"
        self.found = Contender(name=label, implementation=side.label)
        self.repetitions = 1

    @property
    def is_lost(self) -> bool:
        return bool(self.found.lost)

    @property
    def block(self) -> float:
        """Seconds that a block takes."""
        return self.repetitions * self._once

    def prepare(self, device: Device) -> None:
        """Make ready, first repetition included, and find out how many repetitions fill a block."""
        ready = self.side.ask(Prepare(self.key, self.contender, self.workload, device))
        assert isinstance(ready, Ready)
        self.found.first_seconds, self.found.share = ready.seconds, ready.share
        wall = self._run(1).wall
        repetitions = 1
        while wall < BLOCK / 2:
            repetitions = math.ceil(repetitions * min(16.0, BLOCK / max(wall, 1e-6)))
            wall = self._run(repetitions).wall
        self._once = wall / repetitions
        self.repetitions = max(1, round(BLOCK / self._once))
        self.found.repetitions = self.repetitions

    def turn(self, number: int) -> None:
        """One block."""
        ran = self._run(self.repetitions)
        whole = self.repetitions * self.found.share
        self.found.rounds.append(Round(number, ran.wall / whole, ran.cpu / whole))
        self.found.waiting_cpu_seconds += ran.waiting

    def weigh(self) -> None:
        """How much memory it takes."""
        weighed = self.side.ask(Weigh(self.key))
        assert isinstance(weighed, Weighed)
        self.found.peak_bytes = weighed.peak
        self.found.temporary_bytes, self.found.result_bytes = weighed.temporary, weighed.results

    def _run(self, repetitions: int) -> Ran:
        ran = self.side.ask(Run(self.key, repetitions))
        assert isinstance(ran, Ran)
        return ran


@contextmanager
def sides(implementations: Sequence[str], labels: Sequence[str], plan: BenchmarkPlan) -> Iterator[list[MeasuredSide]]:
    """A side for each implementation; their workers end with the block."""
    started: list[MeasuredSide] = []
    with temporary.directory() as logs:
        try:
            for number, (implementation, label) in enumerate(zip(implementations, labels, strict=True)):
                started.append(MeasuredSide(implementation, label, plan, logs / f"{number}.log"))
            yield started
        finally:
            for side in started:
                side.stop()


def measure(
    both: Sequence[MeasuredSide], plan: BenchmarkPlan, told: Callable[[BenchmarkRow], None]
) -> list[BenchmarkRow]:
    """Measure every workload, a group at a time; tells of each when it is done."""
    names = named(both)
    numbered = enumerate(plan.workloads)
    rows = []
    for _, group in groupby(numbered, lambda pair: pair[1].group):
        entries = {
            workload.name: [
                Entry(side, contender, workload, names[side.label, contender])
                for side in both
                for contender in side.introduced.contenders[index]
            ]
            for index, workload in group
        }
        _measure_group(entries, plan)
        for found in entries.values():
            if not found:
                continue
            row = BenchmarkRow(found[0].workload, [entry.found for entry in found])
            told(row)
            rows.append(row)
    return rows


def _measure_group(entries: Mapping[str, Sequence[Entry]], plan: BenchmarkPlan) -> None:
    everyone = [entry for workload in entries.values() for entry in workload]
    for entry in everyone:
        _attempt(entry, lambda entry=entry: entry.prepare(plan.device), everyone)
    wanted = {name: _rounds([entry for entry in found if not entry.is_lost], plan) for name, found in entries.items()}
    for number in range(plan.rounds):
        for name, found in entries.items():
            if not takes_part(number, wanted[name], plan.rounds):
                continue
            # Another one begins each time, so that nobody always follows the same one.
            start = number % len(found) if found else 0
            for entry in (*found[start:], *found[:start]):
                _attempt(entry, lambda entry=entry: entry.turn(number), everyone)  # noqa: B023
    for entry in everyone:
        _attempt(entry, entry.weigh, everyone)
    for side in {id(entry.side): entry.side for entry in everyone}.values():
        # One that cannot even forget will be started again.
        try:
            side.ask(Release())
        except Lost:
            side.stop()


def _attempt(entry: Entry, do: Callable[[], None], everyone: Sequence[Entry]) -> None:
    """Do it unless the contender is lost; one that dies takes along what its worker had prepared."""
    if entry.is_lost:
        return
    try:
        do()
    except Lost as error:
        entry.found.lost = str(error)
        if error.died:
            for other in everyone:
                if other.side is entry.side and not other.is_lost and other.found.first_seconds:
                    other.found.lost = f"went with {entry.found.name} at {entry.workload.name}: {error}"


def _rounds(found: Sequence[Entry], plan: BenchmarkPlan) -> int:
    """How many rounds a workload gets."""
    taken = sum(entry.block for entry in found)
    fewest = FEWEST if taken < LONG else FEWEST * 3 // 5
    return min(plan.rounds, max(fewest, int(plan.enough / taken) if taken else plan.rounds))


def takes_part(number: int, wanted: int, rounds: int) -> bool:
    """Whether a workload that gets `wanted` of the rounds has one of them in this one; they are spread evenly."""
    return (number + 1) * wanted // rounds > number * wanted // rounds


def named(both: Sequence[MeasuredSide]) -> dict[tuple[str, str], str]:
    """What each contender is called: its own name, and its side's where both sides have one of that name."""
    owners: dict[str, set[str]] = {}
    for side in both:
        for names in side.introduced.contenders:
            for name in names:
                owners.setdefault(name, set()).add(side.label)
    return {
        (label, name): name if len(labels) == 1 else f"{name} of {label}"
        for name, labels in owners.items()
        for label in labels
    }
