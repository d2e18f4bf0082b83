"""A run: experiments are drawn and asked about until time is up, and what fails is shrunk."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from crosscheck.checks.wanted import Wanted
from crosscheck.cli.run import labels
from crosscheck.comparison import Comparison
from crosscheck.explore.coverage import covered
from crosscheck.explore.drawing import Drawn, draw
from crosscheck.explore.findings import SCHEMA_VERSION, Explored, Failure, Looked, conclude, looked
from crosscheck.explore.pair import Pair, Question
from crosscheck.explore.progress import DrawingProgress
from crosscheck.explore.shrinking import FailingBefore, alike, shrink
from crosscheck.explore.team import Answered, Team
from crosscheck.judging.summary import SideSummary, Summary
from crosscheck.judging.verdict import Verdict
from crosscheck.recording import temporary
from spec import cache, signals
from spec import experiment as experiments
from spec.experiment import Experiment
from spec.machine import cores

SHRUNK = 5
"""Failures of different kinds that are shrunk, at most."""

SHRINKING = 120.0
"""Seconds that shrinking one failure takes at most, and all of them together beyond the time that was asked for."""

RESERVED = 0.25
"""Of the time that was asked for, what is kept for shrinking once something has failed."""


class Exploration(NamedTuple):
    """What is to be done. experiments, seconds: when to stop drawing, whichever comes first. directory: of the report.

    seed: of the draw, and of the recordings.
    """

    seed: int
    experiments: int | None
    seconds: float
    wanted: Wanted
    implementations: tuple[str, str]
    timeout: float
    directory: Path


class _Failing(NamedTuple):
    """An experiment that fails, and where first."""

    number: int
    drawn: Drawn
    verdict: Verdict
    first: Comparison


def explore(plan: Exploration, quiet: bool = False) -> Explored:
    """Explore. Ctrl-C ends it early, and what was found so far is told all the same.

    Raises CouldNotRun where a side cannot run at all.
    """
    with temporary.directory("explore-") as place, DrawingProgress(plan.seconds, plan.experiments, quiet) as progress:
        team = Team(plan.implementations, labels(plan.implementations), place, cores(), plan.timeout, plan.seed)
        work = _Work(plan, team, place, progress)
        try:
            work.draw()
            work.shrink()
        except KeyboardInterrupt:
            signals.wind_down()
            work.interrupted = True
        finally:
            team.close()
        return work.findings()


class _Work:
    """A run under way."""

    def __init__(self, plan: Exploration, team: Team, place: Path, progress: DrawingProgress):
        self._plan = plan
        self._team = team
        self._place = place
        self._progress = progress
        self._begin = time.monotonic()
        directory = cache.explored() if cache.wanted() else None
        self._kept = FailingBefore(directory)
        self._looked: list[Looked] = []
        self._experiments: list[Experiment] = []
        self._failing: list[_Failing] = []
        self._shrunk: list[tuple[Failure, Verdict]] = []
        self.interrupted = False

    def draw(self) -> None:
        """Ask about what earlier runs have left, and then about what is drawn."""
        wanted = self._plan.wanted
        kept = list(self._kept.drawn())
        again = ((-1 - position, drawn) for position, (_, drawn) in enumerate(kept))
        for found in self._team.run(again, wanted, self._plan.seconds):
            self._note(found)
            if found.verdict.status == "same":
                self._kept.forget(kept[-1 - found.number][0])
        for found in self._team.run(self._numbered(), wanted, self._left()):
            self._note(found)

    def shrink(self) -> None:
        """Shrink the simplest experiment of each kind of failure."""
        kinds: dict[tuple[str, bool, str], list[_Failing]] = {}
        for failing in sorted(self._failing, key=lambda each: (len(each.drawn.choices), each.number)):
            at_fault = failing.verdict.blame.at_fault if failing.verdict.blame else ""
            kinds.setdefault((failing.first.check, failing.first.crashed, at_fault), []).append(failing)
        end = time.monotonic() + max(self._left(), SHRINKING)
        for number, alike_failing in enumerate(list(kinds.values())[:SHRUNK]):
            share = max(end - time.monotonic(), 0.0) / (min(len(kinds), SHRUNK) - number)
            self._shrink(alike_failing, min(share, SHRINKING))

    def findings(self) -> Explored:
        """What there is by now."""
        exit_code, verdict = conclude(self._looked)
        if self.interrupted:
            exit_code, verdict = signals.exit_code(), f"interrupted; so far {verdict}"
        # What a signal kept from being shrunk.
        rest = [] if self._shrunk else [(_unshrunk(each), each.verdict) for each in self._failing[:SHRUNK]]
        failures = [(self._filed(failure), found) for failure, found in [*self._shrunk, *rest]]
        return Explored(
            schema_version=SCHEMA_VERSION,
            seed=self._plan.seed,
            seconds=time.monotonic() - self._begin,
            exit_code=exit_code,
            verdict=verdict,
            interrupted=self.interrupted,
            looked=sorted(self._looked, key=lambda one: one.number),
            failures=[failure for failure, _ in failures],
            coverage=covered(self._experiments),
            summary=self._summary([_named(found, failure) for failure, found in failures], exit_code, verdict),
        )

    def _numbered(self) -> Iterator[tuple[int, Drawn]]:
        for number in itertools.count() if self._plan.experiments is None else range(self._plan.experiments):
            if self._failing and self._left() < RESERVED * self._plan.seconds:
                return
            yield number, draw(self._plan.seed, number)

    def _left(self) -> float:
        """Seconds of the time that was asked for."""
        return max(self._plan.seconds - (time.monotonic() - self._begin), 0.0)

    def _note(self, found: Answered) -> None:
        self._looked.append(looked(max(found.number, -1), found.verdict, found.seconds))
        self._experiments.append(found.drawn.experiment)
        if found.verdict.failures:
            self._failing.append(_Failing(found.number, found.drawn, found.verdict, found.verdict.failures[0]))
        self._progress.judged(found.verdict, len(self._looked), len(self._failing))

    def _shrink(self, kind: list[_Failing], seconds: float) -> None:
        """The first of a kind; the others are only named."""
        first = kind[0]
        pair, wanted = self._team.pairs[0], _narrowed(self._plan.wanted, first.first)
        tried = 0

        def fails(experiment: Experiment) -> bool:
            nonlocal tried
            tried += 1
            verdict = pair.ask(self._question(experiment), wanted, together=True)
            self._progress.shrinking(first.drawn.experiment.name, tried)
            return alike(verdict, first.first)

        smallest = shrink(first.drawn, fails, seconds, self._place)
        self._kept.keep(smallest, first.drawn)
        verdict = first.verdict
        if smallest.experiment.hash != first.drawn.experiment.hash:
            verdict = self._whole(pair, smallest.experiment, first)
        failure = Failure(
            check=first.first.check,
            experiments=[each.drawn.experiment.name for each in kind],
            smallest=smallest.experiment.name,
            file="",
            toml=experiments.to_toml(smallest.experiment),
            tried=tried,
            sizes=(len(first.drawn.choices), len(smallest.choices)),
        )
        self._shrunk.append((failure, verdict))

    def _whole(self, pair: Pair, experiment: Experiment, first: _Failing) -> Verdict:
        """The verdict on the smallest experiment, in all that was asked for."""
        verdict = pair.ask(self._question(experiment), self._plan.wanted, together=True)
        # What fails in a narrower selection fails in the whole one; a crash by chance may not.
        return verdict if verdict.failures else first.verdict

    def _question(self, experiment: Experiment) -> Question:
        return Question(experiment, self._plan.seed)

    def _filed(self, failure: Failure) -> Failure:
        return msgspec.structs.replace(failure, file=str(self._plan.directory / f"{failure.smallest}.toml"))

    def _summary(self, verdicts: list[Verdict], exit_code: int, verdict: str) -> Summary:
        sides = []
        for side, label in enumerate(labels(self._plan.implementations)):
            told = next((pair.told[side] for pair in self._team.pairs if pair.told[side]), None)
            sides.append(
                SideSummary(
                    name=label,
                    implementation=self._plan.implementations[side],
                    describe=told.describe if told else {},
                    machine=told.machine if told else {},
                    seconds=sum(pair.seconds[side] for pair in self._team.pairs),
                )
            )
        return Summary(
            sides=sides,
            checks=list(self._plan.wanted.checks),
            precisions=list(self._plan.wanted.precisions),
            seed=self._plan.seed,
            device="cpu",
            seconds=time.monotonic() - self._begin,
            exit_code=exit_code,
            verdict=verdict,
            experiments=verdicts,
            asked=[verdict.argument for verdict in verdicts],
        )


def _narrowed(wanted: Wanted, failure: Comparison) -> Wanted:
    """What has to be asked to see that failure again: all of it where a side was lost, which may be anywhere."""
    if failure.crashed and not failure.case:
        return wanted
    return wanted._replace(checks=[failure.check], precisions=[failure.precision])


def _unshrunk(failing: _Failing) -> Failure:
    experiment, size = failing.drawn.experiment, len(failing.drawn.choices)
    return Failure(
        check=failing.first.check,
        experiments=[experiment.name],
        smallest=experiment.name,
        file="",
        toml=experiments.to_toml(experiment),
        tried=0,
        sizes=(size, size),
    )


def _named(verdict: Verdict, failure: Failure) -> Verdict:
    """The verdict under the name of the experiment's file."""
    return msgspec.structs.replace(verdict, argument=failure.file)
