"""Record, compare, or both: what the command line asks for, without the command line."""

import secrets
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from crosscheck.checks import LADDER
from crosscheck.checks.wanted import Wanted
from crosscheck.cli import output
from crosscheck.cli.progress import Progress
from crosscheck.cli.remaining import size
from crosscheck.comparison import Comparison, Place
from crosscheck.judging.summary import SideSummary, Summary, conclude, narrows
from crosscheck.judging.verdict import Cell, RecordedSide, Sides, Verdict, judge, settle
from crosscheck.recording import recording, temporary
from crosscheck.recording.implementation import origin
from crosscheck.recording.recording import Manifest, Recording, Stale
from crosscheck.recording.reuse import Shelf
from crosscheck.recording.worker import Job
from crosscheck.recording.worker_pool import Result, WorkerPool
from crosscheck.report.observed import Observed, observe
from crosscheck.request import Options
from spec import files, text
from spec.convergence import CONVERGENCE
from spec.errors import UsageError
from spec.experiment import Experiment, Named
from spec.framework import Device, Precision
from spec.lock import NAME as LOCK
from spec.lock import locked
from spec.machine import cores


class Plan(NamedTuple):
    """What is to be looked at. experiments: what names one on a command line -> the experiment.

    timeout: seconds that an experiment may take on one side. seeds: members of an ensemble. options: those of both
    sides. keep: whether this run's recordings are kept, and an earlier run's used in their place;
    fresh: the former alone. asked: the experiments that were named; none for all that there are.
    """

    experiments: dict[str, Experiment]
    wanted: Wanted
    seed: int
    device: Device
    timeout: float
    seeds: int = CONVERGENCE.seeds
    options: Options = Options()
    keep: bool = False
    fresh: bool = False
    asked: tuple[str, ...] = ()


def run(
    plan: Plan,
    implementations: tuple[str, str],
    progress: Progress,
    observed: dict[str, Observed] | None = None,
) -> Summary:
    """Record both implementations side by side and judge each experiment as soon as both are done with it.

    observed: is given what recordings hold beside what is judged, where that is to be shown.
    """
    begin = time.perf_counter()
    shown = labels(implementations)
    verdicts: dict[str, Verdict] = {}
    all_sides: list[Sides] = []
    done: dict[tuple[int, str], Result] = {}
    comparing = 0.0
    # What an accelerator computes depends on more than can be told from here.
    shelf = Shelf(plan.fresh) if plan.keep and plan.device == "cpu" else None
    with temporary.directory() as place:
        directories = (place / "first", place / "second")
        token = secrets.token_hex(8)
        for directory in directories:
            directory.mkdir()
        # The first side is what the other is compared with, so bounds come from its rounding.
        jobs = [
            _jobs(plan, implementation, directory, token, envelope=i == 0)
            for i, (implementation, directory) in enumerate(zip(implementations, directories, strict=True))
        ]
        waiting, known = _share(shelf, implementations, jobs)
        gone: list[Result] = []
        progress.plan(implementations, _checks_of(plan, waiting), _sizes_of(plan))
        for result in _results(plan, implementations, place, waiting, known, gone, progress):
            name = result.experiment
            done[result.side, name] = result
            progress.recorded(shown[result.side], name, result.seconds, result.lost, bool(result.kept))
            if (1 - result.side, name) not in done:
                continue
            argument, experiment = next((a, e) for a, e in plan.experiments.items() if e.name == name)
            started = time.perf_counter()
            results = [done.pop((i, name)) for i in (0, 1)]
            first, second = (_made(label, experiment, made) for label, made in zip(shown, results, strict=True))
            if any(made.kept and side.lost for made, side in zip(results, (first, second), strict=True)):
                for made, side in zip(results, (first, second), strict=True):
                    if made.kept and side.lost:
                        gone.append(made)
                    else:
                        done[made.side, name] = made
                continue
            verdicts[name] = judge(experiment, argument, plan.wanted, (first, second))
            if observed is not None:
                failing = bool(verdicts[name].failures)
                observed[name] = observe(experiment, first.arrays, second.arrays, plan.seed, failing)
            for implementation, side, made in zip(implementations, (first, second), results, strict=True):
                if side.recording and not made.kept:
                    starting = side.recording.overhead.get("starting", 0.0)
                    progress.measured(made.side, name, _seconds_of(side.recording), starting)
                if shelf and side.recording and not made.kept:
                    shelf.keep(implementation, made.job, side.recording, side.arrays, made.sources)
                    progress.unfit(side.name, made.unfit)
            all_sides.append((first._replace(arrays={}), second._replace(arrays={})))
            comparing += time.perf_counter() - started
            progress.judged(verdicts[name])
    chosen = list(plan.experiments.values())
    ordered = settle(chosen, [verdicts[experiment.name] for experiment in chosen], shown)
    exit_code, verdict = conclude(ordered, narrows(plan.wanted, verdicts))
    return Summary(
        sides=_side_summaries(implementations, shown, all_sides),
        checks=list(plan.wanted.checks),
        precisions=list(plan.wanted.precisions),
        seed=plan.seed,
        seeds=plan.seeds,
        options=plan.options,
        device=plan.device,
        seconds=time.perf_counter() - begin,
        comparing=comparing,
        exit_code=exit_code,
        verdict=verdict + _alike(implementations),
        experiments=ordered,
        asked=list(plan.asked),
        thorough=plan.wanted.thorough,
    )


def record(plan: Plan, implementation: str, directory: Path, progress: Progress) -> Manifest:
    """Let one implementation record the experiments into a new or empty directory."""
    output.check(directory, [recording.MANIFEST])
    made = not directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with locked(directory):
            _make_room(directory)
            return _record(plan, implementation, directory, progress)
    finally:
        if made:
            # Where nothing came of it, nothing is left of it.
            with suppress(OSError):
                directory.rmdir()


def _make_room(directory: Path) -> None:
    """Raise UsageError where there is anything but what a run that was killed has left, which is removed."""
    found = [path for path in directory.iterdir() if path.name != LOCK]
    # Else an older run's recordings would be left among the new ones.
    if not all(map(_is_left_over, found)):
        raise UsageError(f"--out: expected a new or an empty directory, got {directory}")
    for path in found:
        path.unlink()


def _is_left_over(path: Path) -> bool:
    """Whether it is a recording of a run that did not come to its manifest."""
    try:
        recording.load(path)
    except Stale:
        return False
    return not (path.parent / recording.MANIFEST).exists()


def _record(plan: Plan, implementation: str, directory: Path, progress: Progress) -> Manifest:
    """The same, where the directory is there and nobody else uses it. What it writes is gone where it does not end."""
    token = secrets.token_hex(8)
    lost: dict[str, str] = {}
    jobs = [_jobs(plan, implementation, directory.resolve(), token, envelope=True)]
    try:
        with temporary.directory() as logs:
            progress.plan([implementation], _checks_of(plan, jobs), _sizes_of(plan))
            for result in _worker_pool(plan, [implementation], logs, progress).run(jobs):
                progress.recorded(implementation, result.experiment, result.seconds, result.lost)
                if result.lost:
                    lost[result.experiment] = result.lost
    except BaseException:
        temporary.undisturbed(lambda: [recording.file(directory, job.experiment.name).unlink(True) for job in jobs[0]])
        raise
    hashes = {experiment.name: experiment.hash for experiment in plan.experiments.values()}
    # The manifest says that they are there, so they are to be on the disk before it is.
    for name in hashes.keys() - lost.keys():
        files.make_lasting(recording.file(directory, name))
    manifest = Manifest(
        format=recording.FORMAT,
        token=token,
        implementation=implementation,
        checks=list(plan.wanted.checks),
        precisions=list(plan.wanted.precisions),
        thorough=plan.wanted.thorough,
        experiments=hashes,
        lost=lost,
        named=any(isinstance(experiment, Named) for experiment in plan.experiments.values()),
    )
    recording.write_manifest(directory, manifest)
    return manifest


def compare(
    directories: tuple[Path, Path],
    names: Sequence[str],
    checks: Sequence[str] | None,
    precisions: Sequence[Precision] | None,
    case: str,
    progress: Progress,
    observed: dict[str, Observed] | None = None,
) -> Summary:
    """Judge two directories of recordings, which may come from other machines or from other days.

    checks, precisions: None for all that either side has recorded. case: only that one; empty for all. observed: see
    `run`.
    """
    begin = time.perf_counter()
    manifests = [recording.read_manifest(directory) for directory in directories]
    _check_two(directories, manifests)
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise UsageError(f"--experiments: expected each once, got {repeated[0]} {names.count(repeated[0])} times")
    implementations = (manifests[0].implementation, manifests[1].implementation)
    shown = labels(implementations)
    known = sorted({name for manifest in manifests for name in manifest.experiments})
    if unknown := sorted(set(names) - set(known)):
        raise UsageError(f"--experiments: expected some of {', '.join(known)}, got {', '.join(unknown)}")
    recorded = {check for manifest in manifests for check in manifest.checks}
    # In the order of the verdicts' cells.
    checks = checks or [check.NAME for check in LADDER if check.NAME in recorded]
    precisions = precisions or sorted({p for manifest in manifests for p in manifest.precisions})
    wanted = Wanted(checks, precisions, any(manifest.thorough for manifest in manifests), case)
    verdicts: list[Verdict] = []
    lost: dict[str, Verdict] = {}
    compared: list[Experiment] = []
    all_sides: list[Sides] = []
    for name in names or known:
        hashes = [manifest.experiments.get(name, "") for manifest in manifests]
        first, second = (
            _side(shown[i], directories[i], name, manifests[i].token, hashes[i], manifests[i].lost.get(name, ""))
            for i in (0, 1)
        )
        if first.recording and second.recording and hashes[0] != hashes[1]:
            second = second._replace(lost=f"recorded another version of {name} ({hashes[1]}, not {hashes[0]})")
        made = first.recording or second.recording
        if made is None:
            # Nobody can say what the experiment was; the others are judged all the same.
            lost[name] = _lost(name, wanted, (first, second))
            progress.judged(lost[name])
            continue
        experiment = Named.of(made.resolved()) if all(manifest.named for manifest in manifests) else made.resolved()
        compared.append(experiment)
        verdicts.append(judge(experiment, name, wanted, (first, second)))
        if observed is not None:
            failing = bool(verdicts[-1].failures)
            observed[name] = observe(experiment, first.arrays, second.arrays, made.seed, failing)
        all_sides.append((first._replace(arrays={}), second._replace(arrays={})))
        progress.judged(verdicts[-1])
    wanted.check_case(compared)
    judged = {verdict.experiment: verdict for verdict in settle(compared, verdicts, shown)} | lost
    verdicts = [judged[name] for name in names or known]
    exit_code, verdict = conclude(verdicts, narrows(wanted, [verdict.experiment for verdict in verdicts]))
    recordings = [side.recording for pair in all_sides for side in pair if side.recording]
    return Summary(
        sides=_side_summaries(implementations, shown, all_sides),
        checks=list(checks),
        precisions=list(precisions),
        seed=recordings[0].seed if recordings else 0,
        device=" and ".join(sorted({recording.device for recording in recordings})),
        seconds=time.perf_counter() - begin,
        options=Options(
            compiled=any(recording.options.compiled for recording in recordings),
            choices={choice: value for recording in recordings for choice, value in recording.options.choices.items()},
        ),
        exit_code=exit_code,
        verdict=verdict + _alike(implementations),
        experiments=verdicts,
        asked=list(names),
        directories=[str(directory) for directory in directories],
        thorough=wanted.thorough,
    )


def _lost(name: str, wanted: Wanted, sides: Sides) -> Verdict:
    """On an experiment of which there is no recording on either side."""
    cells: list[Cell] = []
    comparisons: list[Comparison] = []
    for check in LADDER:
        chosen: list[Precision] = [precision for precision in check.PRECISIONS if precision in wanted.precisions]
        if check.NAME in wanted.checks and chosen:
            place = Place(name, check.NAME, chosen[0], "", (sides[0].name, sides[1].name))
            found = [place.crashed(side.name, side.lost) for side in sides]
            comparisons += found
            cells.append(Cell(check=check.NAME, status="crashed", reason=found[0].note, comparisons=len(found)))
    return Verdict(experiment=name, hash="", argument=name, cells=cells, comparisons=comparisons)


def labels(implementations: Sequence[str]) -> tuple[str, str]:
    """The two names, told apart where they are the same."""
    first, second = (text.admit(name, text.NAME) for name in implementations)
    return (first, second) if first != second else (f"{first} (first)", f"{second} (second)")


def _alike(implementations: Sequence[str]) -> str:
    """For the end of the verdict, where a module was compared with itself, by its name or by a path."""
    first, second = implementations
    origins = [origin(name) for name in implementations]
    alike = first == second or (origins[0] is not None and origins[0] == origins[1])
    return f"; both sides are {first}" if alike else ""


def _check_two(directories: Sequence[Path], manifests: Sequence[Manifest]) -> None:
    """Raise UsageError where both are recordings of one run: whatever it is, it agrees with itself."""
    first, second = directories
    if first.resolve() == second.resolve():
        raise UsageError(f"compare: expected two directories, got one twice: {first} and {second}")
    if manifests[0].token == manifests[1].token:
        raise UsageError(f"compare: expected recordings of two runs, got copies of one's: {first} and {second}")


def _jobs(plan: Plan, implementation: str, directory: Path, token: str, envelope: bool) -> list[Job]:
    return [
        Job(
            directory=str(directory),
            token=token,
            experiment=experiment,
            named=isinstance(experiment, Named),
            checks=list(plan.wanted.checks),
            precisions=list(plan.wanted.precisions),
            device=plan.device,
            seed=plan.seed,
            envelope=envelope,
            thorough=plan.wanted.thorough,
            case=plan.wanted.case,
            seeds=plan.seeds,
            options=plan.options.of(implementation),
        )
        for experiment in plan.experiments.values()
    ]


def _worker_pool(plan: Plan, implementations: Sequence[str], logs: Path, progress: Progress) -> WorkerPool:
    # An accelerator is not shared well by two processes of the same framework.
    size = cores() if plan.device == "cpu" else len(implementations)
    return WorkerPool(implementations, logs, size, plan.timeout, begun=progress.begun)


def _sizes_of(plan: Plan) -> dict[str, float]:
    """By experiment, by which those are guessed that have not been run yet."""
    return {
        each.name: size(len(each.stages()), each.parameter_count, len(each.batch(plan.seed, 0, "float32").inputs))
        for each in plan.experiments.values()
    }


def _checks_of(plan: Plan, jobs: Sequence[Sequence[Job]]) -> dict[tuple[int, str], tuple[str, ...]]:
    """By side and experiment, the checks that have to be recorded, each with its precision."""
    asked = [
        (check, _costing(check.NAME, precision))
        for check in LADDER
        if check.NAME in plan.wanted.checks
        for precision in check.PRECISIONS
        if precision in plan.wanted.precisions
    ]
    return {
        (side, job.experiment.name): tuple(name for check, name in asked if not check.inapplicable(job.experiment))
        for side, of_it in enumerate(jobs)
        for job in of_it
    }


def _seconds_of(made: Recording) -> dict[str, float]:
    """What each check took."""
    taken: dict[str, float] = {}
    for answer in made.answers:
        check = _costing(answer.check, answer.precision)
        taken[check] = taken.get(check, 0.0) + answer.seconds
    return taken


def _costing(check: str, precision: str) -> str:
    return f"{check} {precision}"


def _share(
    shelf: Shelf | None, implementations: Sequence[str], jobs: Sequence[Sequence[Job]]
) -> tuple[list[list[Job]], list[Result]]:
    """Each side's jobs that have to be done, and what earlier runs have recorded of the others."""
    waiting: list[list[Job]] = []
    known: list[Result] = []
    for i, (implementation, side) in enumerate(zip(implementations, jobs, strict=True)):
        found = [(job, shelf.find(implementation, job) if shelf else None) for job in side]
        waiting.append([job for job, kept in found if kept is None])
        known += [Result(i, job, 0.0, kept=kept) for job, kept in found if kept]
    return waiting, known


def _results(
    plan: Plan,
    implementations: tuple[str, str],
    place: Path,
    waiting: Sequence[Sequence[Job]],
    known: Sequence[Result],
    gone: list[Result],
    progress: Progress,
) -> Iterator[Result]:
    """What becomes of each job: those that have to be done, and those that are known.

    gone: to be filled meanwhile with what was known and cannot be read any more, since somebody has cleaned the cache;
    it is done last.
    """
    yield from _worker_pool(plan, implementations, place, progress).run(waiting, known)
    while gone:
        again = [[result.job for result in gone if result.side == side] for side in range(len(implementations))]
        gone.clear()
        yield from _worker_pool(plan, implementations, place, progress).run(again)


def _made(label: str, experiment: Experiment, result: Result) -> RecordedSide:
    """What became of a job, read from where it is."""
    if not result.kept:
        job = result.job
        return _side(label, Path(job.directory), result.experiment, job.token, experiment.hash, result.lost)
    try:
        found, arrays, _ = recording.load(result.kept.path)
    except Stale as error:
        return RecordedSide(label, None, {}, str(error))
    return RecordedSide(label, found, arrays, reused=True)


def _side(label: str, directory: Path, name: str, token: str, experiment_hash: str, lost: str) -> RecordedSide:
    """What that directory holds of the experiment."""
    if not lost:
        try:
            return RecordedSide(label, *recording.read(directory, name, token, experiment_hash))
        except Stale as error:
            lost = str(error)
    return RecordedSide(label, None, {}, lost)


def _side_summaries(
    implementations: Sequence[str], shown: Sequence[str], all_sides: Sequence[Sides]
) -> list[SideSummary]:
    summaries = []
    for i, (implementation, label) in enumerate(zip(implementations, shown, strict=True)):
        recordings = [side.recording for side in (pair[i] for pair in all_sides) if side.recording]
        made = [side.recording for side in (pair[i] for pair in all_sides) if side.recording and not side.reused]
        summaries.append(
            SideSummary(
                name=label,
                implementation=implementation,
                describe=recordings[0].describe if recordings else {},
                machine=recordings[0].machine if recordings else {},
                seconds=sum(recording.seconds for recording in made),
                overhead=dict(sum((Counter(recording.overhead) for recording in made), Counter())),
                compilations=sum(recording.compilations for recording in made),
                reused=len(recordings) - len(made),
            )
        )
    return summaries
