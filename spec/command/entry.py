"""The command line that every implementation's train.py shares."""

import argparse
import importlib
import os
import signal
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

import msgspec

from spec import cache, parameters
from spec.arguments import LARGEST_SEED, at_least, seed
from spec.command import ensemble
from spec.command.ensemble_directory import EnsembleDirectory
from spec.command.events import End
from spec.command.listing import list_experiments, show
from spec.command.progress import LINES, JSONLines, Lines, Reporter
from spec.command.run_directory import (
    RUNS,
    Checkpoint,
    RunDirectory,
    load_parameters,
    new_run_directory,
    read_experiment,
)
from spec.command.session import Interrupted, Request, begin, resume, train
from spec.command.verdict import verdict
from spec.command.walk import introduction, text_of, walk
from spec.errors import FrameworkMissing, OhlolError, Unsupported, UsageError
from spec.exit_codes import COULD_NOT_RUN, REACHED, TRAIN, epilog
from spec.experiment import Experiment, load, override
from spec.framework import CONTRACT, Device, Framework, Precision, Settings
from spec.options import had, leaves_out
from spec.parameters import Parameters
from spec.training import Walk, initial_state

DEFAULT_EXPERIMENT = "hello-rnn"
"""What is trained when nothing is named."""

DEFAULT_SEED = 0

EXTRAS = {"torch_impl": "torch", "flax_impl": "flax"}
"""The extra of the distribution `ohlol` that installs what an implementation needs."""


class Plan(NamedTuple):
    """What the options amount to. weights: given ones to start from. resumed: the checkpoint to go on from."""

    experiment: Experiment
    seed: int
    settings: Settings
    walking: bool
    weights: Parameters | None
    resumed: Checkpoint | None


def main(implementation_name: str, arguments: list[str] | None = None) -> int:
    """Run the command with these arguments, or the process's own, and return its exit code.

    implementation_name: a module that satisfies spec.framework.Framework; imported only if there is something to
    compute. Errors of the user become one line on stderr. Wrong flags end the process, as argparse does it.
    """
    options = parser(implementation_name).parse_args(arguments)
    reporter = JSONLines(options.log_every) if options.json else Lines(options.log_every)
    try:
        with termination_as_interrupt():
            return run(implementation_name, options, reporter)
    except Interrupted as error:
        code, text = error.exit_code, str(error)
    except KeyboardInterrupt as error:
        code, text = Interrupted.exit_code, f"interrupted before anything was trained: {str(error) or 'Ctrl-C'}"
    except OhlolError as error:
        code, text = error.exit_code, f"error: {' '.join(str(error).split())}"
    except SystemExit as error:
        # A framework that ends the program while it is imported or computes; with 0 that would look like a success.
        code = COULD_NOT_RUN
        text = f"error: {implementation_name}: expected an answer, got SystemExit({error.code!r}): it ended the program"
    except Exception:
        # Python would leave with 1, which means here that a training missed its target.
        code, text = COULD_NOT_RUN, traceback.format_exc().rstrip()
    reporter.end(End(reached=False, exit_code=code, error=text.removeprefix("error: ")), text)
    return code


def parser(implementation_name: str) -> argparse.ArgumentParser:
    """The flags, the same for every implementation."""
    made = argparse.ArgumentParser(
        prog=f"python -m {implementation_name}.train",
        description="Train a model on a task as an experiment states, and say whether it came out as expected.",
        epilog=epilog(TRAIN),
        allow_abbrev=False,
    )
    add = made.add_argument
    default = Settings()
    add("experiment", nargs="?", metavar="EXPERIMENT", help=f"shipped name or file (default: {DEFAULT_EXPERIMENT})")
    add("--seed", type=seed, metavar="N", help=f"of the start, the batches, the dropout (default: {DEFAULT_SEED})")
    add("--seeds", type=at_least(1), metavar="N", help="train an ensemble of N seeds, the first being --seed")
    add("--epochs", type=int, metavar="N", help="instead of the experiment's")
    add("--learning-rate", type=float, metavar="X", help="instead of the experiment's")
    add("--batch-size", type=int, metavar="N", help="instead of the experiment's")
    add("--device", choices=get_args(Device), default=default.device, help="to compute on (default: %(default)s)")
    add("--precision", choices=get_args(Precision), help=f"to compute in (default: {default.precision})")
    add(
        "--compile",
        action="store_true",
        help="compile first (torch.compile; not with --seeds), or with full effort (JAX)",
    )
    add("--out", type=Path, metavar="DIR", help=f"run directory (default: {RUNS}/EXPERIMENT/IMPLEMENTATION-N)")
    add("--resume", action="store_true", help="go on from the checkpoint in --out, as if never interrupted")
    add("--init-weights", type=Path, metavar="FILE", help="start from these canonical safetensors")
    add("--export-weights", type=Path, metavar="FILE", help="write the final parameters as canonical safetensors")
    add("--log-every", type=at_least(1), metavar="N", help=f"epochs between lines (default: {LINES} lines; --json: 1)")
    add("--json", action="store_true", help="one JSON object a line on stdout, and nothing else")
    instead = made.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="list the shipped experiments")
    instead.add_argument("--dry-run", action="store_true", help="show the resolved experiment; compute nothing")
    instead.add_argument("--trace", action="store_true", help="show each time step's tensors; train nothing")
    return made


def run(implementation_name: str, options: argparse.Namespace, reporter: Reporter) -> int:
    """Do what the options ask for, and return the exit code. Raises OhlolError."""
    if options.list:
        list_experiments(options.json)
        return REACHED
    if is_ensemble(options):
        return run_ensemble(implementation_name, options, reporter)
    plan = prepare(options)
    if options.dry_run:
        show(plan.experiment, options.json)
        return REACHED
    framework = load_implementation(implementation_name)
    if not plan.walking:
        check_options(implementation_name, framework, plan.experiment)
    versions = describe(framework, plan.settings)
    request = Request(implementation_name, plan.experiment, plan.seed, plan.settings, versions)
    if plan.resumed:
        checkpoint = plan.resumed
    else:
        start = plan.weights or framework.initialize(plan.experiment, plan.seed, plan.settings)
        checkpoint = request.checkpoint(initial_state(plan.experiment.training.optimizer, start), 0)
    if plan.walking:
        show_walk(framework, request, checkpoint.state.parameters, reporter)
        end, text = End(reached=True, exit_code=REACHED), "\nNothing was trained."
    else:
        if plan.resumed:
            directory = RunDirectory(options.out)
            resume(request, checkpoint, directory, reporter)
        else:
            directory = new_run_directory(options.out, plan.experiment.name, implementation_name)
            begin(request, checkpoint, directory, reporter)
        checkpoint, last, end = train(framework, request, checkpoint, directory, reporter)
        text = verdict(plan.experiment, last)
    if options.export_weights:
        parameters.save(options.export_weights, checkpoint.state.parameters, checkpoint.origin.metadata())
    reporter.end(end, text)
    return end.exit_code


def is_ensemble(options: argparse.Namespace) -> bool:
    """Whether many seeds are to be trained: as --seeds says, or the directory to resume."""
    if options.seeds is not None:
        return True
    return options.resume and options.out is not None and EnsembleDirectory(options.out).plan_file.exists()


def run_ensemble(implementation_name: str, options: argparse.Namespace, reporter: Reporter) -> int:
    """Train the ensemble that the options ask for, and return the exit code. Raises OhlolError."""
    if options.resume and options.out is None:
        raise UsageError("--resume: expected --out with the directory to resume")
    experiment = resolve(options)
    ensemble.check(options, experiment, LARGEST_SEED)
    if options.dry_run:
        show(experiment, options.json)
        return REACHED
    directory = EnsembleDirectory(options.out) if options.resume else None
    if directory:
        plan = ensemble.resumed_plan(directory, options, experiment, implementation_name)
    else:
        settings = Settings(options.precision or Settings().precision, options.device)
        first = DEFAULT_SEED if options.seed is None else options.seed
        plan = ensemble.new_plan(experiment, first, options.seeds, settings, implementation_name)
        if options.out is not None:
            EnsembleDirectory(options.out).check_free()
    framework = load_implementation(implementation_name)
    if options.compile and "compiling" not in getattr(framework, "overhead", dict)():
        raise UsageError(f"--compile: expected none with --seeds: {implementation_name} compiles single trainings only")
    check_options(implementation_name, framework, experiment)
    versions = describe(framework, Settings(plan.precision, options.device, compiled=options.compile))
    if directory is None:
        # An implementation that cannot do it says so before there is a directory.
        framework.initialize(experiment, plan.first_seed, Settings(plan.precision, options.device))
        plan = msgspec.structs.replace(plan, versions=versions)
        directory = EnsembleDirectory(new_run_directory(options.out, experiment.name, implementation_name).path)
        directory.begin(experiment, plan)
    request = ensemble.Request(experiment, plan, options.device, options.compile)
    result = ensemble.run(framework, request, directory, reporter)
    reporter.summary(result.summary)
    reporter.end(End(reached=result.exit_code == REACHED, exit_code=result.exit_code), result.text)
    return result.exit_code


def describe(framework: Framework, settings: Settings) -> dict[str, str]:
    """What computes. Plain strings: torch's version is of a type of its own, which JSON does not take."""
    return {name: str(version) for name, version in framework.describe(settings).items()}


def prepare(options: argparse.Namespace) -> Plan:
    """Resolve the options, and check all that can be checked before anything is computed. Raises OhlolError."""
    if options.resume and (options.out is None or options.init_weights):
        raise UsageError("--resume: expected --out with the directory to resume, and no --init-weights")
    experiment = resolve(options)
    walking = options.trace or isinstance(experiment.outcome, Walk)
    if walking and options.out is not None:
        raise UsageError("--out: expected none where nothing is trained (--trace, or an experiment that is a walk)")
    resumed = None
    if options.resume:
        resumed = load_checkpoint(experiment, options)
    elif options.out is not None:
        RunDirectory(options.out).check_free()
    seed, precision = DEFAULT_SEED, Settings().precision
    if resumed:
        seed, precision = resumed.origin.seed, resumed.origin.precision
    seed = seed if options.seed is None else options.seed
    settings = Settings(options.precision or precision, options.device, compiled=options.compile)
    weights = None
    if options.init_weights:
        weights = load_parameters(options.init_weights, experiment, settings.precision)
    if options.export_weights:
        check_writable(options.export_weights)
    return Plan(experiment, seed, settings, walking, weights, resumed)


def resolve(options: argparse.Namespace) -> Experiment:
    """The experiment that is named, that of the run to resume, or the default; with the options' own values."""
    if options.experiment and options.experiment.endswith(".json"):
        experiment = read_experiment(Path(options.experiment))
    elif options.experiment or not options.resume:
        experiment = load(options.experiment or DEFAULT_EXPERIMENT)
    else:
        experiment = RunDirectory(options.out).experiment()
    changes = {
        "training__epochs": options.epochs,
        "training__optimizer__learning_rate": options.learning_rate,
        "task__batch_size": options.batch_size,
    }
    given = {path: value for path, value in changes.items() if value is not None}
    return override(experiment, **given) if given else experiment


def load_checkpoint(experiment: Experiment, options: argparse.Namespace) -> Checkpoint:
    """The checkpoint to resume. Raises UsageError unless experiment, seed and precision are the ones it has."""
    directory = RunDirectory(options.out)
    there = directory.experiment()
    if there.hash != experiment.hash:
        differences = difference(msgspec.to_builtins(there), msgspec.to_builtins(experiment))
        raise UsageError(
            f"--resume: expected {there.name} (spec {there.hash}), as in {directory.path}, "
            f"got {experiment.name} (spec {experiment.hash}): {differences}"
        )
    checkpoint = directory.load_checkpoint(experiment)
    origin = checkpoint.origin
    for flag, expected, got in (
        ("--seed", origin.seed, options.seed),
        ("--precision", origin.precision, options.precision),
    ):
        if got is not None and got != expected:
            raise UsageError(f"{flag}: expected {expected}, as in {directory.path}, got {got}")
    return checkpoint


def difference(there: Any, here: Any, path: str = "") -> str:
    """The first key on which two experiments differ, with both values."""
    if not (isinstance(there, dict) and isinstance(here, dict)):
        return f"{path}: expected {there!r}, got {here!r}"
    key = next(key for key in [*there, *here] if there.get(key) != here.get(key))
    return difference(there.get(key), here.get(key), f"{path}.{key}".lstrip("."))


def check_writable(path: Path) -> None:
    """Raise UsageError now, not after hours of training, if the file cannot be written."""
    if path.is_dir():
        raise UsageError(f"--export-weights {path}: expected a file, got a directory")
    try:
        # The only test that is right about permissions, read-only disks and the like.
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UsageError(f"--export-weights {path}: {path.parent} cannot be written to: {error.strerror}") from None


def load_implementation(name: str) -> Framework:
    """Import an implementation. Raises FrameworkMissing, naming what to install, where its framework is missing."""
    os.environ.update(cache.variables())
    try:
        module = importlib.import_module(name)
        for function in CONTRACT:
            getattr(module, function, None)  # An implementation may import its framework only when it is first asked.
    except ImportError as error:
        if (error.name or "").partition(".")[0] in (name, "spec"):
            raise  # Not a missing framework: a fault of ours.
        hint = f'; to install it: pip install "ohlol[{EXTRAS[name]}]"' if name in EXTRAS else ""
        raise FrameworkMissing(f"{name}: {error}{hint}") from None
    return cast(Framework, module)


def check_options(name: str, framework: Framework, experiment: Experiment) -> None:
    """Raise Unsupported, before there is a directory, for options that the implementation says it does not train."""
    declared = leaves_out(name, framework)
    for option in had(experiment, declared):
        raise Unsupported(f"{name} leaves out {option}: {declared[option]}")


def show_walk(framework: Framework, request: Request, start: Parameters, reporter: Reporter) -> None:
    """One forward pass over the evaluation batch, shown step by step."""
    experiment, settings = request.experiment, request.settings
    batch = experiment.task.evaluation_batch(settings.precision)
    reporter.start(request.start(0, None))
    reporter.note(introduction(experiment, batch))
    for step in walk(experiment, batch, framework.forward(experiment, start, batch, settings)):
        reporter.step(step, text_of(step))


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, as Ctrl-C does, so that both leave a checkpoint."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread may say what a signal does.
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
