"""Records patched copies and clean runs in as few processes as there are cores, and judges each as it is done."""

import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from crosscheck.checks import BY_DEFAULT, LADDER
from crosscheck.checks.wanted import Wanted
from crosscheck.faults import ensembles, given, plant
from crosscheck.faults.conclusion import conclude
from crosscheck.faults.fault import Fault
from crosscheck.faults.findings import SCHEMA_VERSION, CleanEnsembles, CleanRun, Findings, Trial
from crosscheck.judging.verdict import RecordedSide, Verdict, cell_text, judge
from crosscheck.recording import recording, temporary
from crosscheck.recording.recording import Stale
from crosscheck.recording.worker import Job
from crosscheck.recording.worker_pool import WorkerPool
from crosscheck.report.details import line
from crosscheck.request import DEFAULT_IMPLEMENTATIONS
from spec import cache
from spec.framework import Precision
from spec.machine import cores


class Campaign(NamedTuple):
    """What is to be done.

    faults: to plant. clean: how many clean runs, spread over `experiments`. seed: of the faults' recordings, and the
    first of the clean runs'. checks: of the ladder; those that run on request only for the faults that they should see.
    first: climb no higher than the check that should see the fault. sources: implementation -> its package's directory.
    timeout: seconds that one recording may take.
    """

    faults: Sequence[Fault]
    clean: int
    experiments: Sequence[str]
    seed: int
    checks: Sequence[str]
    first: bool
    sources: Mapping[str, Path]
    timeout: float


class Recorded(NamedTuple):
    """One side's recording, and what became of it."""

    job: Job
    seconds: float
    lost: str


class Needed(NamedTuple):
    """What a clean run has to record: for the planted faults on its experiment, for the clean control, or both."""

    checks: set[str]
    precisions: set[Precision]
    counted: bool

    def in_order(self) -> Wanted:
        """The same in the ladder's order."""
        checks = [check.NAME for check in LADDER if check.NAME in self.checks]
        return Wanted(checks, sorted(self.precisions))


CleanKey = tuple[str, int]
"""A clean run's experiment and seed."""


class Waiting(NamedTuple):
    """Something to judge as soon as there is a recording in each of these directories."""

    needs: frozenset[str]
    judge: Callable[[], None]


Told = Callable[[str, float, str], None]
"""Is told of each recording: what it is of, its seconds, and why there is none."""

Judged = Callable[[Trial], None]
"""Is told what became of a fault, as soon as it is known."""


def carry_out(campaign: Campaign, told: Told, judged: Judged = lambda trial: None) -> Findings:
    """Record and judge everything. Raises UsageError for a fault that cannot be planted, CouldNotRun where a side
    cannot run at all."""
    with temporary.directory("faults-") as place:
        return _Work(campaign, place, told, judged).findings()


def clean_runs(names: Sequence[str], count: int, seed: int) -> list[CleanKey]:
    """`count` pairs of an experiment and a seed, all seeds of an experiment next to each other."""
    shares = [count // len(names) + (i < count % len(names)) for i in range(len(names))]
    return [(name, seed + i) for name, share in zip(names, shares, strict=True) for i in range(share)]


def recordings(campaign: Campaign) -> int:
    """How many recordings a campaign makes."""
    return len(campaign.faults) + 2 * len(_needed(campaign)) + len(_clean_ensembles(campaign))


def _needed(campaign: Campaign) -> dict[CleanKey, Needed]:
    """The clean runs, in an order that keeps an experiment's together."""
    ladder = _ladder(campaign)
    control = clean_runs(campaign.experiments, campaign.clean, campaign.seed) if ladder else []
    everything: set[Precision] = {precision for check in LADDER for precision in check.PRECISIONS}
    found = {key: Needed(set(ladder), set(everything), True) for key in control}
    for fault in campaign.faults:
        if ensembles.seen(fault):
            continue
        needed = found.setdefault((fault.experiment, campaign.seed), Needed(set(), set(), False))
        needed.checks.update(_climb(campaign, fault))
        needed.precisions.add(fault.precision)
    return dict(sorted(found.items()))


def _clean_pairs(campaign: Campaign) -> list[tuple[ensembles.Key, ensembles.Key]]:
    return ensembles.pairs([fault for fault in campaign.faults if ensembles.seen(fault)], campaign.seed)


def _clean_ensembles(campaign: Campaign) -> list[ensembles.Key]:
    """Those of the pairs, an experiment's next to each other."""
    return sorted({key for pair in _clean_pairs(campaign) for key in pair})


def _ladder(campaign: Campaign) -> list[str]:
    """The checks that all but ensembles climb."""
    return [check.NAME for check in BY_DEFAULT if check.NAME in campaign.checks]


def _wanted_of(campaign: Campaign, fault: Fault) -> Wanted:
    """What a fault's recording has."""
    return ensembles.WANTED if ensembles.seen(fault) else Wanted(_climb(campaign, fault), [fault.precision])


def _climb(campaign: Campaign, fault: Fault) -> list[str]:
    names = _ladder(campaign)
    return names[: names.index(fault.check) + 1] if campaign.first else names


class _Work:
    """A campaign under way."""

    def __init__(self, campaign: Campaign, scratch: Path, told: Told, judged: Judged):
        self._campaign = campaign
        self._scratch = scratch
        self._told = told
        self._judged = judged
        self._token = secrets.token_hex(8)
        self._needed = _needed(campaign)
        # By the directory that the job writes into, which no two share.
        self._names: dict[str, str] = {}
        self._done: dict[str, Recorded] = {}
        self._clean: dict[CleanKey, CleanRun] = {}
        self._spoilt: dict[tuple[CleanKey, Precision], str] = {}
        self._trials: dict[str, Trial] = {}
        self._ensembles: list[CleanEnsembles] = []
        self._alike: dict[str, Verdict] = {}

    def findings(self) -> Findings:
        begin = time.perf_counter()
        # All clean runs first: what the planted faults are compared with, and one load of the unedited modules.
        jobs = [
            [self._clean_job(key, side) for key in self._needed]
            + [self._ensemble_job(key) for key in _clean_ensembles(self._campaign) if key.side == side]
            + [self._fault_job(fault) for fault in self._campaign.faults if fault.implementation == implementation]
            for side, implementation in enumerate(DEFAULT_IMPLEMENTATIONS)
        ]
        packages = [str(self._campaign.sources[implementation]) for implementation in DEFAULT_IMPLEMENTATIONS]
        # Most of a patched copy is not patched, and compiling is most of the work on small models: this halves the
        # time. The key is the whole program, so that a patched function is compiled anew; nobody needs it later.
        kept = cache.variables(self._scratch / "compiled")
        worker_pool = WorkerPool(packages, self._scratch, cores(), self._campaign.timeout, kept)
        waiting = self._waiting()
        for result in worker_pool.run(jobs):
            directory = result.job.directory
            self._done[directory] = Recorded(result.job, result.seconds, result.lost)
            self._told(self._names[directory], result.seconds, result.lost)
            ready = [each for each in waiting if each.needs <= self._done.keys()]
            waiting = [each for each in waiting if each not in ready]
            for each in ready:
                each.judge()
        return Findings(
            schema_version=SCHEMA_VERSION,
            checks=list(self._campaign.checks),
            seed=self._campaign.seed,
            seconds=time.perf_counter() - begin,
            trials=[self._trials[plant.label(fault)] for fault in self._campaign.faults],
            clean=[self._clean[key] for key in self._needed],
            ensembles=sorted(self._ensembles, key=lambda pair: (pair.experiment, pair.sides)),
        )

    def _waiting(self) -> list[Waiting]:
        """Everything to judge. What is compared without a fault comes first, and stands before the fault's own."""
        all_waiting = [Waiting(self._both(key), partial(self._judge_clean, key)) for key in self._needed]
        for pair in _clean_pairs(self._campaign):
            needs = frozenset(str(self._ensemble_directory(key)) for key in pair)
            all_waiting.append(Waiting(needs, partial(self._judge_ensembles, *pair)))
        for fault in self._campaign.faults:
            own = {str(self._fault_directory(fault))}
            if ensembles.seen(fault):
                others = {str(self._ensemble_directory(self._ensemble_key(fault, side))) for side in (0, 1)}
            else:
                others = self._both((fault.experiment, self._campaign.seed))
            all_waiting.append(Waiting(frozenset(own | others), partial(self._judge_fault, fault)))
        return all_waiting

    def _both(self, key: CleanKey) -> frozenset[str]:
        return frozenset(str(self._clean_directory(key, side)) for side in (0, 1))

    def _ensemble_key(self, fault: Fault, side: int) -> ensembles.Key:
        return ensembles.Key(fault.experiment, self._campaign.seed, side)

    def _ensemble_directory(self, key: ensembles.Key) -> Path:
        return self._scratch / "ensembles" / f"{key.experiment}-{key.seed}" / str(key.side)

    def _fault_directory(self, fault: Fault) -> Path:
        return self._scratch / "planted" / plant.label(fault)

    def _clean_directory(self, key: CleanKey, side: int) -> Path:
        return self._scratch / "clean" / f"{key[0]}-{key[1]}" / str(side)

    def _clean_job(self, key: CleanKey, side: int) -> Job:
        name = f"{DEFAULT_IMPLEMENTATIONS[side]}, clean, {key[0]}, seed {key[1]}"
        return self._job(self._clean_directory(key, side), name, *key, self._needed[key].in_order(), side)

    def _ensemble_job(self, key: ensembles.Key) -> Job:
        name = f"{DEFAULT_IMPLEMENTATIONS[key.side]}, clean ensemble, {key.experiment}, seed {key.seed}"
        directory = self._ensemble_directory(key)
        return self._job(directory, name, key.experiment, key.seed, ensembles.WANTED, key.side)

    def _fault_job(self, fault: Fault) -> Job:
        directory, name = self._fault_directory(fault), plant.label(fault)
        copy = plant.plant(fault, self._campaign.sources[fault.implementation], directory)
        side = DEFAULT_IMPLEMENTATIONS.index(fault.implementation)
        wanted = _wanted_of(self._campaign, fault)
        return self._job(directory, name, fault.experiment, self._campaign.seed, wanted, side, str(copy))

    def _job(
        self,
        directory: Path,
        name: str,
        experiment: str,
        seed: int,
        wanted: Wanted,
        side: int,
        implementation: str = "",
    ) -> Job:
        directory.mkdir(parents=True, exist_ok=True)
        self._names[str(directory)] = name
        return Job(
            directory=str(directory),
            token=self._token,
            experiment=given.load(experiment),
            checks=list(wanted.checks),
            precisions=list(wanted.precisions),
            device="cpu",
            seed=seed,
            # As when both are recorded in one run: bounds come from the first side's rounding.
            envelope=side == 0,
            implementation=implementation,
        )

    def _side(self, side: int, directory: Path, experiment: str) -> RecordedSide:
        """What a job left behind."""
        recorded, name = self._done[str(directory)], DEFAULT_IMPLEMENTATIONS[side]
        lost = recorded.lost
        if not lost:
            try:
                hashed = given.load(experiment).hash
                return RecordedSide(name, *recording.read(directory, _file(recorded.job), self._token, hashed))
            except Stale as error:
                lost = str(error)
        return RecordedSide(name, None, {}, lost)

    def _judge_clean(self, key: CleanKey) -> None:
        experiment, _ = key
        needed = self._needed[key]
        directories = [self._clean_directory(key, side) for side in (0, 1)]
        first, second = (self._side(side, directories[side], experiment) for side in (0, 1))
        verdict = judge(given.load(experiment), experiment, needed.in_order(), (first, second))
        crashed = [failure for failure in verdict.failures if failure.crashed]
        for failure in verdict.failures:
            self._spoilt.setdefault((key, failure.precision), line(failure))
        self._clean[key] = CleanRun(
            experiment=experiment,
            seed=key[1],
            counted=needed.counted,
            comparisons=len(verdict.comparisons),
            alarms=[line(failure) for failure in verdict.failures if not failure.crashed],
            lost=line(crashed[0]) if crashed else "",
        )
        if not any(key == (fault.experiment, self._campaign.seed) for fault in self._campaign.faults):
            shutil.rmtree(directories[0].parent)

    def _judge_ensembles(self, one: ensembles.Key, two: ensembles.Key) -> None:
        labels = [f"{DEFAULT_IMPLEMENTATIONS[key.side]}, seed {key.seed}" for key in (one, two)]
        first, second = (
            self._side(key.side, self._ensemble_directory(key), key.experiment)._replace(name=label)
            for key, label in zip((one, two), labels, strict=True)
        )
        verdict = judge(given.load(one.experiment), one.experiment, ensembles.WANTED, (first, second))
        crashed = [failure for failure in verdict.failures if failure.crashed]
        self._ensembles.append(
            CleanEnsembles(
                experiment=one.experiment,
                sides=(labels[0], labels[1]),
                word=cell_text(verdict.cells[0]),
                alarms=[line(failure) for failure in verdict.failures if not failure.crashed],
                lost=line(crashed[0]) if crashed else "",
            )
        )
        if one.side != two.side:
            self._alike[one.experiment] = verdict

    def _judge_fault(self, fault: Fault) -> None:
        directory, experiment = self._fault_directory(fault), given.load(fault.experiment)
        key = (fault.experiment, self._campaign.seed)
        planted = DEFAULT_IMPLEMENTATIONS.index(fault.implementation)
        by_ensembles = ensembles.seen(fault)
        clean = self._clean_directory(key, 1 - planted)
        if by_ensembles:
            clean = self._ensemble_directory(self._ensemble_key(fault, 1 - planted))
        found = {
            planted: self._side(planted, directory, fault.experiment),
            1 - planted: self._side(1 - planted, clean, fault.experiment),
        }
        sides = (found[0], found[1])
        verdict = judge(experiment, fault.experiment, _wanted_of(self._campaign, fault), sides)
        seconds = self._done[str(directory)].seconds
        # A difference that is there without the fault proves nothing about it.
        if by_ensembles:
            alike = self._alike[fault.experiment]
            verdict = ensembles.in_a_whole_run(experiment, verdict, alike)
            trial = conclude(fault, verdict, line(alike.failures[0]) if alike.failures else "", seconds)
            trial = msgspec.structs.replace(trial, power=ensembles.curve(experiment, sides, planted, alike))
        else:
            spoilt = self._spoilt.get((key, fault.precision), "") or self._clean[key].lost
            trial = conclude(fault, verdict, spoilt, seconds)
        self._trials[plant.label(fault)] = trial
        self._judged(trial)
        shutil.rmtree(directory)


def _file(job: Job) -> str:
    """The name under which a recording's files stand in their directory."""
    return job.experiment.name
