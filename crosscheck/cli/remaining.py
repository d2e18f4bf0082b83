"""How long a run still takes, from what its checks have been measured to cost: in this run, and in earlier ones."""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from spec import cache, files
from spec.errors import UsageError
from spec.machine import cores

FILE = "seconds.json"

LARGEST = 2**24
"""Bytes of the file."""

MOST = 50
"""Implementations that are remembered; the ones that were longest not run go."""

STARTING = "starting"
"""In the place of an experiment and of its check: what a worker takes to import its framework."""

RECENT = 8
"""Experiments of this run by which others are guessed, the last ones: what else a machine has to do changes."""

GROWTH = 0.75
"""What an experiment takes grows as its size to that power: a fit to the shipped ones gives 0.78, r = 0.86."""

Costs = dict[str, dict[str, dict[str, float]]]
"""Seconds by implementation, experiment, and check with its precision."""


def load() -> Costs:
    """What earlier runs have measured; nothing where there is no such file, or where it is none."""
    place = _place()
    if place is None or not cache.wanted():
        return {}
    try:
        return msgspec.json.decode(files.read(place, LARGEST), type=Costs)
    except (UsageError, msgspec.MsgspecError):
        return {}


def keep(measured: Costs) -> None:
    """Remember what was measured for the next run; where that cannot be written, it goes."""
    place = _place()
    if place is None or not cache.wanted() or not measured:
        return
    known = load()
    for implementation, experiments in measured.items():
        # At the end: who comes last was run last.
        known[implementation] = {**known.pop(implementation, {}), **experiments}
    kept = dict(list(known.items())[-MOST:])
    with suppress(UsageError, OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        files.write(place, msgspec.json.encode(kept), lasting=False)


def _place() -> Path | None:
    place = cache.durations()
    return place and place / FILE


class Left(NamedTuple):
    """seconds: until all is done; None where nothing is known of what is left. guessed: whether some of it is what no
    earlier run has done."""

    seconds: float | None
    guessed: bool = False


def size(stages: int, parameters: int, rows: int) -> float:
    """Of an experiment, in units of what it takes: stages of its forward pass, sequences of a batch."""
    return (max(stages, 1) * math.sqrt(max(parameters, 1) * max(rows, 1))) ** GROWTH


class Remaining:
    """What is left of a run. Jobs are named by side, 0 or 1, and experiment.

    implementations: of the sides. known: what earlier runs have measured.
    """

    def __init__(self, implementations: Sequence[str], known: Costs):
        self._implementations = implementations
        self._known = known
        self._left: dict[tuple[int, str], tuple[str, ...]] = {}
        self._begun: dict[tuple[int, str], float] = {}
        self._taken: dict[tuple[int, str], float] = {}
        self._sizes: dict[str, float] = {}
        self._planned = time.monotonic()
        self.measured: Costs = {}

    def plan(
        self, jobs: Mapping[tuple[int, str], tuple[str, ...]], sizes: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        """What is to be done: each job's checks with their precisions. sizes: of the experiments, see `size`."""
        self._left, self._sizes = dict(jobs), dict(sizes)
        self._planned = time.monotonic()

    def begin(self, side: int, experiment: str) -> None:
        """A job was begun."""
        self._begun[side, experiment] = time.monotonic()

    def end(self, side: int, experiment: str, seconds: float = 0.0) -> None:
        """A job has ended, whatever became of it. seconds: that it took, where it came to an end of its own."""
        self._begun.pop((side, experiment), None)
        self._left.pop((side, experiment), None)
        if seconds > 0:
            self._taken[side, experiment] = seconds

    def measure(self, side: int, experiment: str, seconds: Mapping[str, float], starting: float = 0.0) -> None:
        """What each check of a job took. starting: what its worker took to import its framework, where it did."""
        found = self.measured.setdefault(self._implementations[side], {})
        found[experiment] = {check: round(taken, 4) for check, taken in seconds.items()}
        if starting:
            found[STARTING] = {STARTING: round(starting, 4)}

    def left(self) -> Left:
        """Until all is done, about."""
        if not self._left:
            return Left(0.0)
        slower = self._slower()
        expected = {job: self._expected(*job, checks, slower) for job, checks in self._left.items()}
        known = [cost for cost, _ in expected.values() if cost is not None]
        if not known:
            return Left(None)
        usual = sum(known) / len(known)
        now = time.monotonic()
        left = [
            # One that takes longer than it should is not done for that.
            max(whole - (now - self._begun.get(job, now)), whole / 10)
            for job, whole in ((job, usual if cost is None else cost) for job, (cost, _) in expected.items())
        ]
        left += [max(each * slower - (now - self._planned), 0.0) for each in self._starting()]
        # The longest is the least that it takes, however many cores there are.
        seconds = max(sum(left) / cores(), *left)
        return Left(seconds, any(guessed or cost is None for cost, guessed in expected.values()))

    def _starting(self) -> list[float]:
        """What sides took to start of which this run has measured nothing yet."""
        waiting = {side for side, _ in self._left if self._implementations[side] not in self.measured}
        known = [self._known.get(self._implementations[side], {}).get(STARTING, {}) for side in sorted(waiting)]
        return [costs[STARTING] for costs in known if STARTING in costs]

    def _slower(self) -> float:
        """How much longer checks take now than in the runs that are remembered, of those that both have measured."""
        now = before = 0.0
        for implementation, experiments in self.measured.items():
            for experiment, checks in experiments.items():
                known = self._known.get(implementation, {}).get(experiment, {})
                now += sum(seconds for check, seconds in checks.items() if check in known)
                before += sum(seconds for check, seconds in known.items() if check in checks)
        return now / before if before > 0 else 1.0

    def _expected(self, side: int, experiment: str, checks: Sequence[str], slower: float) -> tuple[float | None, bool]:
        """What a job costs, and whether that is a guess: what it did in an earlier run; else by what it took on the
        other side; else by what its checks took in other experiments, of this run or of those before."""
        implementation = self._implementations[side]
        before = self._known.get(implementation, {})
        own = before.get(experiment, {})
        known = [own[check] * slower for check in checks if check in own]
        if len(known) == len(checks):
            return sum(known), False
        if not known and (across := self._across(side, experiment)) is not None:
            return across, True
        here = dict(list(self.measured.get(implementation, {}).items())[-RECENT:])
        total, found = sum(known), bool(known)
        for check in checks:
            if check in own:
                continue
            for experiments, factor in ((here, 1.0), (before, slower)):
                cost = self._by_size(
                    experiment, {n: costs[check] for n, costs in experiments.items() if check in costs}
                )
                if cost is not None:
                    total, found = total + factor * cost, True
                    break
        return (total if found else None), True

    def _across(self, side: int, experiment: str) -> float | None:
        """By what it took on the other side, and what others took on both; None where it has not ended there."""
        there = self._taken.get((1 - side, experiment))
        both = [name for at, name in self._taken if at == side and (1 - side, name) in self._taken][-RECENT:]
        if there is None or not both:
            return None
        mine, theirs = (sum(self._taken[at, name] for name in both) for at in (side, 1 - side))
        return there * mine / theirs

    def _by_size(self, experiment: str, others: Mapping[str, float]) -> float | None:
        """From what others took: as much for their sizes, where these are known, else as much."""
        if not others:
            return None
        sizes = [self._sizes[name] for name in others if name in self._sizes]
        if experiment in self._sizes and len(sizes) == len(others):
            return sum(others.values()) / sum(sizes) * self._sizes[experiment]
        return sum(others.values()) / len(others)


class StepsLeft:
    """What is left of steps that are taken one after the other, by what they took the last time.

    name: of all of them, by which that is remembered.
    """

    def __init__(self, name: str, steps: Sequence[str]):
        self._name = name
        self._left = dict.fromkeys(steps)
        self._known = load().get(name, {}).get("", {})
        self._taken: dict[str, float] = {}

    def took(self, step: str, seconds: float) -> None:
        """A step has been taken."""
        self._left.pop(step, None)
        self._taken[step] = seconds

    def seconds(self) -> float | None:
        """Until all are taken, about; None where nobody has taken those that are left."""
        known = [self._known[step] for step in self._left if step in self._known]
        if not known:
            return None if self._left else 0.0
        before = sum(self._known.get(step, 0.0) for step in self._taken)
        now = sum(seconds for step, seconds in self._taken.items() if step in self._known)
        return sum(known) * (now / before if before > 0 and now > 0 else 1.0)

    def keep(self) -> None:
        """Remember what they took."""
        if self._taken:
            keep({self._name: {"": {**self._known, **self._taken}}})


def about(seconds: float | None, guessed: bool = False) -> str:
    """In words, as round as it is sure; empty where nobody knows. guessed: see Left."""
    if seconds is None:
        return ""
    word = "perhaps" if guessed else "about"
    if seconds < 10:
        return "a few seconds left"
    if seconds < 90:
        return f"{word} {round(seconds, -1):.0f} s left"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{word} {minutes} min left"
    hours, minutes = divmod(round(minutes, -1), 60)
    return f"{word} {hours} h" + (f" {minutes} min" if minutes else "") + " left"
