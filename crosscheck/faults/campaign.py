"""Records patched copies and clean runs in as few processes as there are cores, and judges each as it is done."""

import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import msgspec

from crosscheck import recording, run
from crosscheck.blame.finding import Departure
from crosscheck.crew import Crew
from crosscheck.faults import plant
from crosscheck.faults.fault import Fault
from crosscheck.faults.findings import SCHEMA_VERSION, CleanRun, Findings, Outcome, Trial
from crosscheck.recording import Stale
from crosscheck.report.details import line
from crosscheck.rungs import LADDER
from crosscheck.summary import DEFAULT_IMPLEMENTATIONS
from crosscheck.verdict import Selection, Side, Verdict, judge
from crosscheck.worker import Job
from spec import experiment as experiments
from spec.errors import UsageError
from spec.framework import Precision

FIRED = ("different", "crashed")
"""What a cell says when its rung has seen something."""


UNDECIDED = "undecided"
"""What a blame says that falls on neither side."""


class Campaign(NamedTuple):
    """What is to be done.

    faults: to plant. clean: how many clean runs, spread over `experiments`. seed: of the faults' recordings, and the
    first of the clean runs'. rungs: of the ladder. first: climb no higher than the rung that should see the fault.
    sources: implementation -> its package's directory. timeout: seconds that one recording may take.
    """

    faults: Sequence[Fault]
    clean: int
    experiments: Sequence[str]
    seed: int
    rungs: Sequence[str]
    first: bool
    sources: Mapping[str, Path]
    timeout: float


class Recorded(NamedTuple):
    """One side's recording, and what became of it."""

    job: Job
    seconds: float
    lost: str


class Wanted(NamedTuple):
    """What a clean run has to record: for the planted faults on its experiment, for the clean control, or both."""

    rungs: set[str]
    precisions: set[Precision]
    counted: bool

    def selection(self) -> Selection:
        """The same in the ladder's order."""
        rungs = [rung.NAME for rung in LADDER if rung.NAME in self.rungs]
        return Selection(rungs, sorted(self.precisions))


CleanKey = tuple[str, int]
"""A clean run's experiment and seed."""

Told = Callable[[str, float, str], None]
"""Is told of each recording: what it is of, its seconds, and why there is none."""


def carry_out(campaign: Campaign, told: Told) -> Findings:
    """Record and judge everything. Raises UsageError for a fault that cannot be planted, CouldNotRun where a side
    cannot run at all."""
    with tempfile.TemporaryDirectory(prefix="crosscheck-faults-") as scratch:
        return _Work(campaign, Path(scratch), told).findings()


def clean_runs(names: Sequence[str], count: int, seed: int) -> list[CleanKey]:
    """`count` pairs of an experiment and a seed, all seeds of an experiment next to each other."""
    shares = [count // len(names) + (i < count % len(names)) for i in range(len(names))]
    return [(name, seed + i) for name, share in zip(names, shares, strict=True) for i in range(share)]


def recordings(campaign: Campaign) -> int:
    """How many recordings a campaign makes."""
    return len(campaign.faults) + 2 * len(_wanted(campaign))


def _wanted(campaign: Campaign) -> dict[CleanKey, Wanted]:
    """The clean runs, in an order that keeps an experiment's together."""
    control = clean_runs(campaign.experiments, campaign.clean, campaign.seed)
    everything: set[Precision] = {precision for rung in LADDER for precision in rung.PRECISIONS}
    wanted = {key: Wanted(set(campaign.rungs), set(everything), True) for key in control}
    for fault in campaign.faults:
        needed = wanted.setdefault((fault.experiment, campaign.seed), Wanted(set(), set(), False))
        needed.rungs.update(_climb(campaign, fault))
        needed.precisions.add(fault.precision)
    return dict(sorted(wanted.items()))


def _climb(campaign: Campaign, fault: Fault) -> list[str]:
    """The rungs that a fault's recording has."""
    names = [rung.NAME for rung in LADDER if rung.NAME in campaign.rungs]
    return names[: names.index(fault.rung) + 1] if campaign.first else names


class _Work:
    """A campaign under way."""

    def __init__(self, campaign: Campaign, scratch: Path, told: Told):
        self._campaign = campaign
        self._scratch = scratch
        self._told = told
        self._token = secrets.token_hex(8)
        self._wanted = _wanted(campaign)
        # By the directory that the job writes into, which no two share.
        self._faults: dict[str, Fault] = {}
        self._keys: dict[str, CleanKey] = {}
        self._done: dict[str, Recorded] = {}
        self._clean: dict[CleanKey, CleanRun] = {}
        self._spoilt: dict[tuple[CleanKey, Precision], str] = {}
        self._trials: dict[str, Trial] = {}
        self._waiting: dict[CleanKey, list[str]] = {}

    def findings(self) -> Findings:
        begin = time.perf_counter()
        # All clean runs first: what the planted faults are compared with, and one load of the unedited modules.
        jobs = [
            [self._clean_job(key, side) for key in self._wanted]
            + [self._fault_job(fault) for fault in self._campaign.faults if fault.implementation == implementation]
            for side, implementation in enumerate(DEFAULT_IMPLEMENTATIONS)
        ]
        packages = [str(self._campaign.sources[implementation]) for implementation in DEFAULT_IMPLEMENTATIONS]
        crew = Crew(packages, self._scratch, run.cores(), self._campaign.timeout, _compilations(self._scratch))
        for result in crew.run(jobs):
            directory = result.job.directory
            self._done[directory] = Recorded(result.job, result.seconds, result.lost)
            self._told(self._name(directory), result.seconds, result.lost)
            if directory in self._faults:
                key = (self._faults[directory].experiment, self._campaign.seed)
                self._waiting.setdefault(key, []).append(directory)
            else:
                key = self._keys[directory]
                if all(str(self._clean_directory(key, side)) in self._done for side in (0, 1)):
                    self._judge_clean(key)
            if key in self._clean:
                for waiting in self._waiting.pop(key, []):
                    self._judge_fault(waiting)
        return Findings(
            schema_version=SCHEMA_VERSION,
            rungs=list(self._campaign.rungs),
            seed=self._campaign.seed,
            seconds=time.perf_counter() - begin,
            trials=[self._trials[plant.label(fault)] for fault in self._campaign.faults],
            clean=[self._clean[key] for key in self._wanted],
        )

    def _name(self, directory: str) -> str:
        if directory in self._faults:
            return plant.label(self._faults[directory])
        experiment, seed = self._keys[directory]
        return f"{DEFAULT_IMPLEMENTATIONS[int(Path(directory).name)]}, clean, {experiment}, seed {seed}"

    def _clean_directory(self, key: CleanKey, side: int) -> Path:
        return self._scratch / "clean" / f"{key[0]}-{key[1]}" / str(side)

    def _clean_job(self, key: CleanKey, side: int) -> Job:
        directory = self._clean_directory(key, side)
        self._keys[str(directory)] = key
        return self._job(directory, key[0], key[1], self._wanted[key].selection(), side)

    def _fault_job(self, fault: Fault) -> Job:
        directory = self._scratch / "planted" / plant.label(fault)
        self._faults[str(directory)] = fault
        copy = plant.plant(fault, self._campaign.sources[fault.implementation], directory)
        wanted = Selection(_climb(self._campaign, fault), [fault.precision])
        side = DEFAULT_IMPLEMENTATIONS.index(fault.implementation)
        return self._job(directory, fault.experiment, self._campaign.seed, wanted, side, str(copy))

    def _job(
        self, directory: Path, experiment: str, seed: int, wanted: Selection, side: int, implementation: str = ""
    ) -> Job:
        directory.mkdir(parents=True, exist_ok=True)
        return Job(
            directory=str(directory),
            token=self._token,
            experiment=msgspec.to_builtins(experiments.load(experiment)),
            rungs=list(wanted.rungs),
            precisions=list(wanted.precisions),
            device="cpu",
            seed=seed,
            # As when both are recorded in one run: bounds come from the first side's rounding.
            envelope=side == 0,
            implementation=implementation,
        )

    def _side(self, side: int, directory: str, experiment: str) -> Side:
        """What a job left behind."""
        recorded, name = self._done[directory], DEFAULT_IMPLEMENTATIONS[side]
        lost = recorded.lost
        if not lost:
            try:
                hashed = experiments.load(experiment).hash
                return Side(name, *recording.read(Path(directory), _file(recorded.job), self._token, hashed))
            except Stale as error:
                lost = str(error)
        return Side(name, None, {}, lost)

    def _judge_clean(self, key: CleanKey) -> None:
        experiment, _ = key
        wanted = self._wanted[key]
        directories = [str(self._clean_directory(key, side)) for side in (0, 1)]
        first, second = (self._side(side, directories[side], experiment) for side in (0, 1))
        verdict = judge(experiments.load(experiment), experiment, wanted.selection(), (first, second))
        crashed = [failure for failure in verdict.failures if failure.crashed]
        for failure in verdict.failures:
            self._spoilt.setdefault((key, failure.precision), line(failure))
        self._clean[key] = CleanRun(
            experiment=experiment,
            seed=key[1],
            counted=wanted.counted,
            comparisons=len(verdict.comparisons),
            alarms=[line(failure) for failure in verdict.failures if not failure.crashed],
            lost=line(crashed[0]) if crashed else "",
        )
        if not any(key == (fault.experiment, self._campaign.seed) for fault in self._campaign.faults):
            shutil.rmtree(Path(directories[0]).parent)

    def _judge_fault(self, directory: str) -> None:
        fault, recorded = self._faults[directory], self._done[directory]
        key = (fault.experiment, self._campaign.seed)
        planted = DEFAULT_IMPLEMENTATIONS.index(fault.implementation)
        clean = str(self._clean_directory(key, 1 - planted))
        sides = {
            planted: self._side(planted, directory, fault.experiment),
            1 - planted: self._side(1 - planted, clean, fault.experiment),
        }
        wanted = Selection(_climb(self._campaign, fault), [fault.precision])
        verdict = judge(experiments.load(fault.experiment), fault.experiment, wanted, (sides[0], sides[1]))
        # A difference that is there without the fault proves nothing about it.
        spoilt = self._spoilt.get((key, fault.precision), "") or self._clean[key].lost
        trial = conclude(fault, verdict, spoilt, recorded.seconds)
        self._trials[plant.label(fault)] = trial
        shutil.rmtree(directory)


def _compilations(scratch: Path) -> dict[str, str]:
    """Variables that let JAX take what it has compiled before from files; any other framework ignores them.

    The key is the whole program, so that a patched function is compiled anew. But most of a patched copy is not
    patched, and compiling is most of the work on small models: this halves the time.
    """
    return {
        "JAX_COMPILATION_CACHE_DIR": str(scratch / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def _file(job: Job) -> str:
    """The name under which a recording's files stand in their directory."""
    return job.experiment["name"]


def conclude(fault: Fault, verdict: Verdict, spoilt: str, seconds: float) -> Trial:
    """What a verdict says about a planted fault. spoilt: what is wrong there without it."""
    fired = [cell.rung for cell in verdict.cells if cell.status in FIRED]
    failure = verdict.failures[0] if verdict.failures else None
    tensor = failure.tensor if failure else ""
    departure = _departure(verdict, fault.implementation)
    blamed = verdict.blame.departs if verdict.blame else ""
    # Brackets are a tensor's as well as a pattern's.
    named = tensor == fault.tensor or fnmatchcase(tensor, fault.tensor)
    outcome: Outcome = "caught"
    if spoilt:
        outcome = "could not run"
    elif not fired:
        outcome = "survived"
    elif blamed not in ("", UNDECIDED, fault.implementation):
        outcome = "wrong side blamed"
    elif fired[0] != fault.rung or not named:
        outcome = "caught elsewhere"
    return Trial(
        name=fault.name,
        implementation=fault.implementation,
        what=fault.what,
        entries=fault.entries,
        experiment=fault.experiment,
        precision=fault.precision,
        expected_rung=fault.rung,
        expected_tensor=fault.tensor,
        outcome=outcome,
        rungs={cell.rung: cell.status for cell in verdict.cells},
        first_rung=fired[0] if fired else "",
        tensor=tensor,
        case=failure.case if failure else "",
        note=spoilt or (line(failure) if failure else ""),
        blamed=blamed,
        blamed_stage=departure.stage if departure else "",
        blamed_tensors=[departure.tensor, *departure.wrong] if departure else [],
        seconds=seconds,
    )


def _departure(verdict: Verdict, implementation: str) -> Departure | None:
    """Where that implementation departs from the equations; None where that is not known."""
    found = verdict.blame.departures if verdict.blame else []
    return next((departure for departure in found if departure.side == implementation), None)


def check(faults: Sequence[Fault]) -> None:
    """Raise UsageError where the table asks for what there is not."""
    shipped = set(experiments.shipped())
    rungs = {rung.NAME: rung for rung in LADDER}
    seen: set[str] = set()
    for fault in faults:
        name = plant.label(fault)
        if name in seen:
            raise UsageError(f"{name}: expected each fault once, got it twice")
        seen.add(name)
        if fault.experiment not in shipped:
            raise UsageError(f"{name}: experiment: expected a shipped name, got {fault.experiment!r}")
        rung = rungs.get(fault.rung)
        if rung is None or fault.precision not in rung.PRECISIONS:
            raise UsageError(f"{name}: rung: expected one that runs in {fault.precision}, got {fault.rung!r}")
        if reason := rung.inapplicable(experiments.load(fault.experiment)):
            raise UsageError(f"{name}: expected {fault.rung} to run on {fault.experiment}, got: {reason}")
