"""The command line that every implementation's train.py shares."""

import argparse
import contextlib
import importlib
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec

from spec import crash, devices, files, limits, machine, parameters, requirements, signals
from spec.arguments import LARGEST_SEED, Parser, above_zero, at_least, path_argument, seed, temperature
from spec.command import ensemble, trained
from spec.command.ending import Interrupted, Unwritten
from spec.command.ensemble_directory import EnsembleDirectory
from spec.command.events import End, Epoch, Speed, WeightsFitted
from spec.command.implementation import describe, load_implementation
from spec.command.listing import list_experiments, show
from spec.command.progress import LINES, JSONLines, Lines, Reporter, Unread, silence
from spec.command.resumption import load_checkpoint, routine_of
from spec.command.routine import KEPT, Routine
from spec.command.run_directory import (
    RUNS,
    Checkpoint,
    RunDirectory,
    load_parameters,
    new_run_directory,
    read_experiment,
    write_experiment,
)
from spec.command.session import Figures, Request, begin, resume, train
from spec.command.verdict import verdict
from spec.command.walk import introduction, text_of, walk
from spec.errors import FrameworkMissing, OhlolError, Unsupported, UsageError, one_line
from spec.exit_codes import MISSED, REACHED, TRAIN, epilog
from spec.experiment import Experiment, load, override
from spec.framework import Device, Framework, Precision, Settings
from spec.lock import locked
from spec.options import had, leaves_out
from spec.parameters import Parameters
from spec.tasks import Table, Text
from spec.tasks.python import allow_imports
from spec.text import any_encoding, width
from spec.training import Walk, initial_state

DEFAULT_EXPERIMENT = "hello-rnn"
"""What is trained when nothing is named."""

DEFAULT_SEED = 0


RESULT_BYTES = 17
"""Of an ensemble's member, beside its losses: see spec.command.ensemble_directory.ARRAYS."""


class Plan(NamedTuple):
    """What the options amount to. weights: given ones to start from. resumed: the checkpoint to go on from.

    said: what was done to the given weights, a sentence each.
    """

    experiment: Experiment
    seed: int
    settings: Settings
    walking: bool
    weights: Parameters | None
    resumed: Checkpoint | None
    said: tuple[str, ...] = ()
    routine: Routine = Routine()


def main(implementation_name: str, arguments: list[str] | None = None) -> int:
    """Run the command with these arguments, or the process's own, and return its exit code.

    implementation_name: a module that satisfies spec.framework.Framework; imported only if there is something to
    compute. Errors of the user become one line on stderr. Wrong flags end the process, as argparse does it.
    """
    any_encoding()
    allow_imports()
    try:
        options = parser(implementation_name).parse_args(arguments)
    except SystemExit:
        flush()
        raise
    reporter = JSONLines(options.log_every) if options.json else Lines(options.log_every)
    reached = False
    try:
        code = run(implementation_name, options, reporter)
        flush()
    except Unread:
        if options.list or options.dry_run:
            return REACHED  # Who reads no further has seen what they wanted.
        code, text = signals.exit_code(), "interrupted: nobody reads the output any more"
    except Interrupted as error:
        code, text = error.exit_code, str(error)
    except Unwritten as error:
        code, text, reached = error.exit_code, f"error: {error}", error.reached
        with contextlib.suppress(Unread):
            reporter.note(error.text)
    except OhlolError as error:
        code, text = error.exit_code, f"error: {error}"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or signals.received():
            signals.wind_down()
            word = str(error) if isinstance(error, KeyboardInterrupt) else ""
            code, text = signals.exit_code(), f"interrupted before anything was trained: {word or 'Ctrl-C'}"
        else:
            # Python would leave with 1, which means here that a training missed its target.
            code, text = crash.EXIT_CODE, f"error: {crash.tell(error)}"
    else:
        return code
    text = one_line(text)
    with contextlib.suppress(Unread):
        reporter.end(End(reached=reached, exit_code=code, error=text.removeprefix("error: ")), text)
    return code


def flush() -> None:
    """Write what stdout still holds, while it can be dealt with that nobody reads it."""
    stream = sys.stdout
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        silence(stream)


def parser(implementation_name: str) -> argparse.ArgumentParser:
    """The flags, the same for every implementation."""
    made = Parser(
        prog=f"python -m {implementation_name}.train",
        description="Train a model on a task as an experiment states, and say whether it came out as expected.",
        epilog=epilog(TRAIN),
    )
    add = made.add_argument
    default = Settings()
    add("experiment", nargs="?", metavar="EXPERIMENT", help=f"shipped name or file (default: {DEFAULT_EXPERIMENT})")
    add("--seed", type=seed, metavar="N", help=f"of the start, the batches, the dropout (default: {DEFAULT_SEED})")
    add("--seeds", type=at_least(1), metavar="N", help="train an ensemble of N seeds, the first being --seed")
    add("--epochs", type=int, metavar="N", help="instead of the experiment's; with --resume, more than it had")
    add("--learning-rate", type=float, metavar="X", help="instead of the experiment's")
    add("--batch-size", type=int, metavar="N", help="instead of the experiment's")
    add(
        "--data",
        type=path_argument,
        metavar="PATH",
        help="data of your own, for an experiment on a text or a table",
    )
    add("--device", choices=get_args(Device), default=default.device, help="to compute on (default: %(default)s)")
    add("--devices", type=at_least(1), metavar="N", help="share each batch out among N of them, see docs/devices.md")
    add("--fixed-order", action="store_true", help="the same bits on 1, 2 and 4 devices, see docs/devices.md")
    add("--precision", choices=get_args(Precision), help=f"to compute in (default: {default.precision})")
    add(
        "--compile",
        action="store_true",
        help="spend seconds on compiling, or more of them, for faster epochs",
    )
    add("--out", type=path_argument, metavar="DIR", help=f"run directory (default: {RUNS}/EXPERIMENT/IMPLEMENTATION-N)")
    add("--resume", action="store_true", help="go on from the checkpoint in --out, as if never interrupted")
    add("--checkpoint-steps", type=at_least(1), metavar="N", help="save every N steps of an epoch, and at its end")
    add("--checkpoint-minutes", type=above_zero, metavar="X", help="save every X minutes instead of every few epochs")
    add("--keep", type=at_least(1), metavar="N", help=f"checkpoints to keep, beside the best (default: {KEPT})")
    add("--validate-epochs", type=at_least(1), metavar="N", help="validate after every N epochs, on all held-back data")
    add(
        "--patience",
        type=at_least(1),
        metavar="N",
        help="end after N evaluations in a row without a lower loss",
    )
    add(
        "--init-weights",
        type=path_argument,
        metavar="FILE",
        help="start from these: safetensors, .npz, .pt, .h5, .keras, .onnx and others, see docs/weights.md",
    )
    add(
        "--export-weights",
        type=path_argument,
        metavar="FILE",
        help="write the final parameters as canonical safetensors",
    )
    add("--log-every", type=at_least(1), metavar="N", help=f"epochs between lines (default: {LINES} lines; --json: 1)")
    add("--tensorboard", action="store_true", help="also write the figures into the run directory's tensorboard/")
    add("--json", action="store_true", help="one JSON object a line on stdout, and nothing else")
    add("--length", type=at_least(1), metavar="N", help=f"bytes to generate (default: {trained.LENGTH})")
    add(
        "--temperature",
        type=temperature,
        metavar="X",
        help=f"divides the logits; 0 takes the likeliest byte each time (default: {trained.TEMPERATURE:g})",
    )
    instead = made.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="list the shipped experiments")
    instead.add_argument("--dry-run", action="store_true", help="show the resolved experiment; compute nothing")
    instead.add_argument(
        "--evaluate",
        action="store_true",
        help="what the parameters of --out or --init-weights are worth; train nothing",
    )
    instead.add_argument(
        "--generate", metavar="TEXT", help="what they write on from a text; train nothing, see docs/long_runs.md"
    )
    instead.add_argument("--trace", action="store_true", help="show each time step's tensors; train nothing")
    return made


def run(implementation_name: str, options: argparse.Namespace, reporter: Reporter) -> int:
    """Do what the options ask for, and return the exit code. Raises OhlolError."""
    if options.list:
        list_experiments(options.json)
        return REACHED
    if options.resume and (options.out is None or options.init_weights):
        raise UsageError("--resume: expected --out with the directory to resume, and no --init-weights")
    if (options.devices or options.fixed_order) and (options.seeds or options.trace or trained.asked(options)):
        raise UsageError("--devices, --fixed-order: expected none where no single training is asked for")
    if trained.asked(options):
        return run_trained(implementation_name, options, reporter)
    for name in ("length", "temperature"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name}: expected none without --generate")
    with contextlib.ExitStack() as stack:
        if options.resume and not options.dry_run:
            hold(options.out, stack, reporter)
        if is_ensemble(options):
            return run_ensemble(implementation_name, options, reporter, stack)
        if options.resume and not options.dry_run:
            directory = RunDirectory(options.out, options.data)
            if warning := directory.recover():
                reporter.warn(warning)
            directory.complete()
        return run_one(implementation_name, options, reporter, stack)


def run_trained(implementation_name: str, options: argparse.Namespace, reporter: Reporter) -> int:
    """Evaluate parameters, or have them write, and return the exit code. Raises OhlolError."""
    trained.check(options)
    experiment = resolve(options)
    if isinstance(experiment.outcome, Walk):
        raise UsageError(f"{trained.asked(options)}: expected an experiment that trains, got {experiment.name}, a walk")
    writes = options.generate is not None
    if writes:
        trained.check_text(experiment)
    held = trained.find(options, experiment)
    check_memory(experiment, held.precision)
    framework = load_implementation(implementation_name)
    signals.check()
    if held.said:
        reporter.weights(WeightsFitted(said=held.said))
    settings = Settings(held.precision, options.device, compiled=options.compile)
    describe(framework, settings)
    side = framework.open(experiment, settings)
    if writes:
        event = trained.write_on(side, held, options, implementation_name)
        reporter.found(event, event.prompt + event.text)
        return REACHED
    event = trained.evaluate(side, held, implementation_name)
    reporter.found(event, trained.text_of(event))
    return REACHED if event.reached else MISSED


def hold(directory: Path, stack: contextlib.ExitStack, reporter: Reporter) -> None:
    """Lock a run directory until the command ends. Raises UsageError where another process has it."""
    if not os.path.isdir(directory):
        return  # What is read from it next says so.
    if not stack.enter_context(locked(directory)):
        reporter.warn(f"{directory}: its file system has no locks; see to it that no other process writes there")


def run_one(
    implementation_name: str, options: argparse.Namespace, reporter: Reporter, stack: contextlib.ExitStack
) -> int:
    """Train, walk through or show one run, and return the exit code. Raises OhlolError."""
    plan = prepare(options)
    if options.dry_run:
        show(plan.experiment, options.json)
        return REACHED
    framework = load_implementation(implementation_name)
    if not plan.walking:
        check_options(implementation_name, framework, plan.experiment)
    signals.check()
    if plan.said:
        reporter.weights(WeightsFitted(said=plan.said))
    versions = describe(framework, plan.settings)
    if not plan.walking and (unheeded := framework.open(plan.experiment, plan.settings).unheeded):
        reporter.warn(unheeded)
    request = Request(implementation_name, plan.experiment, plan.seed, plan.settings, versions, plan.routine)
    if plan.resumed:
        checkpoint = plan.resumed
    else:
        start = plan.weights or framework.open(plan.experiment, plan.settings).initialize(plan.seed)
        checkpoint = request.checkpoint(initial_state(plan.experiment.training.optimizer, start), 0)
    signals.check()
    if plan.walking:
        show_walk(framework, request, checkpoint.state.parameters, reporter, drawn=not (plan.weights or plan.resumed))
        end, text = End(reached=True, exit_code=REACHED), "\nNothing was trained."
    else:
        if options.tensorboard:
            tensorboard()
        if plan.resumed:
            directory = RunDirectory(options.out, options.data)
            resume(request, checkpoint, directory, reporter)
        else:
            directory = new_run_directory(options.out, plan.experiment.name, implementation_name)
            hold(directory.path, stack, reporter)
            directory.check_free()
            begin(request, checkpoint, directory, reporter)
        with contextlib.closing(board(options, directory, checkpoint)) as figures:
            checkpoint, last, end = train(framework, request, checkpoint, directory, reporter, figures)
        text = verdict(plan.experiment, last)
        if end.compilations:
            text += f"\n{end.compilations} functions were compiled."
    if options.export_weights:
        try:
            parameters.save(options.export_weights, checkpoint.state.parameters, checkpoint.origin.metadata())
        except UsageError as error:
            raise Unwritten(f"--export-weights {error}", end.reached, text) from None
    with contextlib.suppress(Unread):  # All is written, and the exit code says it too.
        reporter.end(end, text)
    return end.exit_code


class NoBoard:
    """Where nobody asked for a run's figures in another form."""

    def add(self, event: Epoch | Speed) -> None:
        """Nothing is done."""

    def close(self) -> None:
        """Nothing is to be done."""


def board(options: argparse.Namespace, directory: RunDirectory, checkpoint: Checkpoint) -> Figures:
    """Who takes a run's figures as they come."""
    if not options.tensorboard:
        return NoBoard()
    origin = checkpoint.origin
    return tensorboard().Board(directory.path, origin.steps, origin.resolved["training"]["steps_per_epoch"])


def tensorboard() -> Any:
    """The file that writes for TensorBoard. Raises FrameworkMissing where what it needs is not installed."""
    try:
        return importlib.import_module("spec.command.tensorboard")
    except ModuleNotFoundError as error:
        raise FrameworkMissing(f"--tensorboard: {error}; {requirements.hint('tensorboard')}") from None


def is_ensemble(options: argparse.Namespace) -> bool:
    """Whether many seeds are to be trained: as --seeds says, or the directory to resume."""
    if options.seeds is not None:
        return True
    return options.resume and options.out is not None and os.path.exists(EnsembleDirectory(options.out).plan_file)


def run_ensemble(
    implementation_name: str, options: argparse.Namespace, reporter: Reporter, stack: contextlib.ExitStack
) -> int:
    """Train the ensemble that the options ask for, and return the exit code. Raises OhlolError."""
    experiment = resolve(options)
    ensemble.check(options, experiment, LARGEST_SEED)
    check_memory(experiment, options.precision or Settings().precision, options.seeds or 1)
    if options.dry_run:
        show(experiment, options.json)
        return REACHED
    directory = EnsembleDirectory(options.out, options.data) if options.resume else None
    if directory:
        plan = ensemble.resumed_plan(directory, options, experiment, implementation_name)
        if options.data is not None:
            write_experiment(directory.experiment_file, experiment)
        check_memory(experiment, plan.precision, plan.seeds)
    else:
        settings = Settings(options.precision or Settings().precision, options.device)
        first = DEFAULT_SEED if options.seed is None else options.seed
        plan = ensemble.new_plan(experiment, first, options.seeds, settings, implementation_name)
        if options.out is not None:
            EnsembleDirectory(options.out).check_free()
    framework = load_implementation(implementation_name)
    signals.check()
    if options.compile and not framework.open(experiment, Settings(device=options.device)).compiles:
        raise UsageError(f"--compile: expected none with --seeds: {implementation_name} compiles single trainings only")
    check_options(implementation_name, framework, experiment)
    versions = describe(framework, Settings(plan.precision, options.device, compiled=options.compile))
    if directory is None:
        # An implementation that cannot do it says so before there is a directory.
        framework.open(experiment, Settings(plan.precision, options.device)).initialize(plan.first_seed)
        plan = msgspec.structs.replace(plan, versions=versions)
        directory = EnsembleDirectory(new_run_directory(options.out, experiment.name, implementation_name).path)
        hold(directory.path, stack, reporter)
        directory.check_free()
        directory.begin(experiment, plan)
    request = ensemble.EnsembleRequest(experiment, plan, options.device, options.compile)
    result = ensemble.run(framework, request, directory, reporter)
    with contextlib.suppress(Unread):  # All is written, and the exit code says it too.
        reporter.summary(result.summary)
        reporter.end(End(reached=result.exit_code == REACHED, exit_code=result.exit_code), result.text)
    return result.exit_code


def prepare(options: argparse.Namespace) -> Plan:
    """Resolve the options, and check all that can be checked before anything is computed. Raises OhlolError."""
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
    count = options.devices or 1
    settings = Settings(
        options.precision or precision,
        options.device,
        compiled=options.compile,
        devices=count,
        fixed_order=options.fixed_order,
    )
    if not walking:
        devices.check(experiment, settings)
    weights, said = None, ()
    if options.init_weights:
        weights, said = load_parameters(options.init_weights, experiment, settings.precision)
    if options.export_weights:
        check_export(options)
    check_memory(experiment, settings.precision)
    return Plan(experiment, seed, settings, walking, weights, resumed, said, routine_of(options, experiment, resumed))


def resolve(options: argparse.Namespace) -> Experiment:
    """The experiment that is named, that of the run to resume, or the default; with the options' own values."""
    if options.experiment and options.experiment.endswith(".json"):
        experiment = read_experiment(Path(options.experiment))
    elif options.experiment is not None or not (options.resume or (trained.asked(options) and options.out)):
        experiment = load(DEFAULT_EXPERIMENT if options.experiment is None else options.experiment)
    else:
        # Parameters may be looked at with other data; a run goes on with its own alone, wherever they stand.
        file = RunDirectory(options.out).experiment_file
        experiment = read_experiment(file, options.data, same=options.resume)
    return with_values(experiment, options)


def with_values(experiment: Experiment, options: argparse.Namespace) -> Experiment:
    """The experiment with the values that options name. Raises SpecError."""
    changes = {
        "training__epochs": options.epochs,
        "training__optimizer__learning_rate": options.learning_rate,
        "task__batch_size": options.batch_size,
    }
    if options.data is not None:
        if not isinstance(experiment.task, Text | Table):
            raise UsageError(
                f"--data: expected an experiment whose task is Text or Table, got {experiment.name}, "
                f"whose task is {type(experiment.task).__name__}"
            )
        changes |= {"task__path": os.path.abspath(options.data), "task__digest": ""}
    given = {path: value for path, value in changes.items() if value is not None}
    return override(experiment, **given) if given else experiment


def check_export(options: argparse.Namespace) -> None:
    """Raise UsageError where the weights cannot be written, or would replace what the run is made of."""
    path = options.export_weights
    files.check_writable(path, "--export-weights")
    directory = RunDirectory(options.out) if options.out is not None else None
    own = [] if directory is None else [*directory.files(), *EnsembleDirectory(directory.path).files()]
    for taken in [*own, *([Path(options.experiment)] if options.experiment else [])]:
        if os.path.realpath(path) == os.path.realpath(taken):
            raise UsageError(f"--export-weights {path}: expected a file of its own, got {taken}, which the run needs")


def check_memory(experiment: Experiment, precision: Precision, seeds: int = 1) -> None:
    """Raise UsageError for an experiment that cannot fit into this machine's memory, whoever computes it."""
    itemsize = int(precision.removeprefix("float")) // 8
    needed = limits.least_bytes(experiment, itemsize)
    steps = experiment.training.epochs * experiment.training.steps_per_epoch
    losses = seeds * (steps * itemsize + RESULT_BYTES) if seeds > 1 else 0
    available = machine.memory()
    if available is not None and needed + losses > available:
        of = f", {limits.in_words(losses)} of it for the losses of {seeds} seeds" if losses > needed else ""
        raise UsageError(
            f"{experiment.name}: expected an experiment that fits into {limits.in_words(available)} of memory, "
            f"got one that takes {limits.in_words(needed + losses)} at least{of} "
            f"({experiment.model.parameter_count} parameters)"
        )


def check_options(name: str, framework: Framework, experiment: Experiment) -> None:
    """Raise Unsupported, before there is a directory, for options that the implementation says it does not train."""
    declared = leaves_out(name, framework)
    for option in had(experiment, declared):
        raise Unsupported(f"{name} leaves out {option}: {declared[option]}")


def show_walk(framework: Framework, request: Request, start: Parameters, reporter: Reporter, drawn: bool) -> None:
    """One forward pass over the evaluation batch, shown step by step. drawn: whether `start` comes from the seed."""
    experiment, settings = request.experiment, request.settings
    batch = experiment.evaluation_batch(settings.precision)
    # Whatever the recipe says, none of its epochs will be trained.
    reporter.start(msgspec.structs.replace(request.start(0, None), epochs=0).sealed())
    reporter.note(introduction(experiment, batch, drawn))
    for step in walk(experiment, batch, framework.open(experiment, settings).forward(start, batch)):
        reporter.step(step, text_of(step, width()))
