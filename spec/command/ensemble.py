"""One ensemble of trainings, from its directory's first file to its last.

It trains in chunks of seeds, each of which becomes a file of its own: Ctrl-C loses the one that is being trained.
"""

import argparse
import time
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np

from spec import files, parameters, signals
from spec.command.ending import Unwritten, interruptible, leave_picture
from spec.command.ensemble_directory import ARRAYS, EnsembleDirectory, EnsemblePlan
from spec.command.ensemble_plot import ensemble_plot
from spec.command.ensemble_summary import judge, summarize, text_of
from spec.command.events import EnsembleStart, Members, Summary
from spec.command.progress import Reporter
from spec.command.routine import Routine
from spec.ensemble import chunk_size, cut, learned_members, one_by_one
from spec.errors import UsageError, encodable
from spec.exit_codes import REACHED
from spec.experiment import Experiment
from spec.framework import Device, Ensemble, Framework, Settings
from spec.training import Walk

ALONE = (*("init_weights", "export_weights", "trace", "log_every", "tensorboard"), *Routine.__struct_fields__)
"""Flags that mean something for one training only."""


MOST_CHUNKS = 10**6
"""Chunks of an ensemble: each becomes a file."""


class EnsembleRequest(NamedTuple):
    """What to compute, and on what. compiled: see spec.framework.Settings."""

    experiment: Experiment
    plan: EnsemblePlan
    device: Device
    compiled: bool = Settings().compiled

    @property
    def settings(self) -> Settings:
        """How to compute."""
        return Settings(precision=self.plan.precision, device=self.device, compiled=self.compiled)


class EnsembleResult(NamedTuple):
    """What an ensemble came to."""

    summary: Summary
    exit_code: int
    text: str


def check(options: argparse.Namespace, experiment: Experiment, largest_seed: int) -> None:
    """Raise UsageError for flags that make no sense with --seeds."""
    for flag in ALONE:
        if getattr(options, flag):
            raise UsageError(f"--{flag.replace('_', '-')}: expected none with --seeds, which trains many")
    if isinstance(experiment.outcome, Walk):
        raise UsageError(f"--seeds: expected an experiment that trains, got {experiment.name}, a walk")
    if options.seeds and (options.seed or 0) + options.seeds - 1 > largest_seed:
        raise UsageError(f"--seeds: expected seeds up to {largest_seed}, got {options.seeds} from {options.seed or 0}")


def new_plan(
    experiment: Experiment, first_seed: int, seeds: int, settings: Settings, implementation: str
) -> EnsemblePlan:
    """The plan of an ensemble, before anybody was asked for versions. Raises UsageError for too many seeds."""
    chunk = chunk_size(experiment, settings.precision)
    if seeds > MOST_CHUNKS * chunk:
        raise UsageError(f"--seeds: expected at most {MOST_CHUNKS * chunk}, {chunk} of which fit at once, got {seeds}")
    return EnsemblePlan(
        experiment=experiment.name,
        hash=experiment.hash,
        implementation=implementation,
        versions={},
        first_seed=first_seed,
        seeds=seeds,
        chunk=len(cut(seeds, chunk)[0]),
        precision=settings.precision,
    )


def resumed_plan(
    directory: EnsembleDirectory, options: argparse.Namespace, experiment: Experiment, name: str
) -> EnsemblePlan:
    """The plan to go on with. Raises UsageError where the options ask for another."""
    plan = directory.plan()
    if plan.seeds > MOST_CHUNKS * plan.chunk:
        raise UsageError(f"{directory.plan_file}: seeds: expected at most {MOST_CHUNKS * plan.chunk}, got {plan.seeds}")
    there = directory.experiment().training.epochs
    if options.epochs is not None and options.epochs != there:
        raise UsageError(
            f"--epochs: expected {there}, as in {directory.path}, got {options.epochs}: "
            "an ensemble keeps no state of its members, from which they could be trained further"
        )
    for flag, expected, got in (
        ("--seeds", plan.seeds, options.seeds),
        ("--seed", plan.first_seed, options.seed),
        ("--precision", plan.precision, options.precision),
        ("implementation", plan.implementation, name),
        ("--resume", f"{plan.experiment} (spec {plan.hash})", f"{experiment.name} (spec {experiment.hash})"),
    ):
        if got is not None and got != expected:
            raise UsageError(f"{flag}: expected {expected}, as in {directory.path}, got {got}")
    return plan


def run(
    framework: Framework, request: EnsembleRequest, directory: EnsembleDirectory, reporter: Reporter
) -> EnsembleResult:
    """Train the chunks that are not there yet, join all, and judge. Raises Interrupted for a KeyboardInterrupt."""
    plan, experiment = request.plan, request.experiment
    parts, steps = cut(plan.seeds, plan.chunk), steps_of(experiment)

    def saved() -> str:
        numbers = range(len(parts))
        done = sum(len(parts[number]) for number in numbers if directory.chunk_file(number).exists())
        return f"{plan.seeds if directory.finished() else done} of {plan.seeds} seeds are"

    with interruptible(saved, plan.implementation, directory.path, request.settings):
        done = [number for number in range(len(parts)) if directory.chunk_file(number).exists()]
        for number in done:
            directory.check_chunk(number, [plan.first_seed + member for member in parts[number]], plan)
        start = EnsembleStart(
            experiment=experiment.name,
            hash=experiment.hash,
            implementation=plan.implementation,
            versions=plan.versions,
            device=request.device,
            precision=plan.precision,
            first_seed=plan.first_seed,
            seeds=plan.seeds,
            seeds_done=plan.seeds if directory.finished() else sum(len(parts[number]) for number in done),
            chunk=plan.chunk,
            epochs=experiment.training.epochs,
            parameters=experiment.model.parameter_count,
            directory=encodable(str(directory.path)),
        )
        reporter.ensemble_start(start)
        per_second = None
        if directory.finished():
            arrays, method = directory.load_arrays(plan, steps)
        else:
            per_second = train_chunks(framework, request, directory, reporter, start)
            arrays, method = join_chunks(request, directory)
            parameters.save(directory.arrays_file, arrays, {**plan.metadata(), "method": method})
        return finish(request, directory, arrays, method, per_second, reporter)


def train_chunks(
    framework: Framework,
    request: EnsembleRequest,
    directory: EnsembleDirectory,
    reporter: Reporter,
    start: EnsembleStart,
) -> float:
    """Train every chunk that has no file yet, and write it; give back the trainings a second."""
    plan, experiment = request.plan, request.experiment
    done, trained = start.seeds_done, 0
    began = time.perf_counter()
    directory.make_chunks()
    with reporter.ensemble(start) as report:
        for number, part in enumerate(cut(plan.seeds, plan.chunk)):
            if directory.chunk_file(number).exists():
                continue
            seeds = [plan.first_seed + member for member in part]
            signals.check()
            found = train_members(framework, experiment, seeds, request.settings, plan.chunk)
            directory.save_chunk(number, arrays_of(experiment, found, request.settings), seeds, found.method, plan)
            done, trained = done + len(part), trained + len(part)
            elapsed = time.perf_counter() - began
            # Only now: what a user has seen is saved.
            report(Members(seeds_done=done, seeds=plan.seeds, method=found.method, per_second=trained / elapsed))
    signals.check()
    return trained / (time.perf_counter() - began)


def train_members(
    framework: Framework, experiment: Experiment, seeds: list[int], settings: Settings, chunk: int
) -> Ensemble:
    """The ensemble of these seeds, one member after the other where the implementation has no way of its own."""
    side = framework.open(experiment, settings)
    if side.train_ensemble is None:
        return one_by_one(side.initialize, side.train, experiment, seeds, settings.precision)
    return side.train_ensemble(seeds, chunk=chunk)


def arrays_of(experiment: Experiment, ensemble: Ensemble, settings: Settings) -> dict[str, np.ndarray]:
    """What is kept of a chunk, see `spec.command.ensemble_directory`."""
    batch = experiment.evaluation_batch(settings.precision)
    with np.errstate(all="ignore"):  # A member may have diverged.
        losses = experiment.training.loss.values(ensemble.logits, batch.targets)
        solved = learned_members(experiment, ensemble.logits, batch)
    arrays = (ensemble.losses, losses, solved.astype(np.uint8), ensemble.first_solved)
    return dict(zip(ARRAYS, arrays, strict=True))


def join_chunks(request: EnsembleRequest, directory: EnsembleDirectory) -> tuple[dict[str, np.ndarray], str]:
    """All members' arrays, in the order of the seeds, and the methods that made them. Raises UsageError."""
    steps = steps_of(request.experiment)
    joined: dict[str, np.ndarray] = {}
    methods: dict[str, None] = {}
    for number, part in enumerate(cut(request.plan.seeds, request.plan.chunk)):
        seeds = [request.plan.first_seed + member for member in part]
        arrays, method = directory.load_chunk(number, seeds, steps, request.plan)
        methods[method] = None
        for name, array in arrays.items():
            # Filled in place: at no time are there two copies of all of it.
            whole = joined.setdefault(name, np.empty((request.plan.seeds, *array.shape[1:]), array.dtype))
            whole[part.start : part.stop] = array
    return joined, ", ".join(methods)


def steps_of(experiment: Experiment) -> int:
    """Optimizer steps of each member."""
    return experiment.training.epochs * experiment.training.steps_per_epoch


def finish(
    request: EnsembleRequest,
    directory: EnsembleDirectory,
    arrays: Mapping[str, np.ndarray],
    method: str,
    per_second: float | None,
    reporter: Reporter,
) -> EnsembleResult:
    """Judge, and write the files that come at the end. Raises Unwritten where one could not be written."""
    plan, experiment = request.plan, request.experiment
    summary = summarize(
        experiment,
        arrays,
        implementation=plan.implementation,
        method=method,
        first_seed=plan.first_seed,
        per_second=per_second,
    )
    code, text = judge(experiment, summary), text_of(experiment, summary)
    try:
        if per_second is not None or not directory.summary_file.exists():
            files.write(directory.summary_file, msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
    except UsageError as error:
        raise Unwritten(str(error), code == REACHED, text) from None
    if per_second is not None or not directory.plot_file.exists():
        leave_picture(directory.plot_file, partial(ensemble_plot, experiment, summary, arrays), reporter)
    directory.drop_chunks()
    return EnsembleResult(summary, code, text)
