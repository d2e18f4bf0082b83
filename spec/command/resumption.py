"""What may be resumed as what."""

import argparse

import msgspec

from spec.command.routine import FIXED, Routine
from spec.command.run_directory import Checkpoint, RunDirectory, difference
from spec.errors import UsageError
from spec.experiment import Experiment, override


def load_checkpoint(experiment: Experiment, options: argparse.Namespace) -> Checkpoint:
    """The checkpoint to resume. Raises UsageError unless experiment, seed and precision are the ones it has.

    With --epochs, the experiment may have more of them, and differ in nothing else.
    """
    directory = RunDirectory(options.out, options.data)
    there = directory.experiment()
    if there.hash != experiment.hash:
        check_prolonged(there, experiment, options)
    checkpoint = directory.load_checkpoint(there)
    directory.check_metrics(checkpoint.origin)
    origin = checkpoint.origin
    for flag, expected, got in (
        ("--seed", origin.seed, options.seed),
        ("--precision", origin.precision, options.precision),
    ):
        if got is not None and got != expected:
            raise UsageError(f"{flag}: expected {expected}, as in {directory.path}, got {got}")
    return checkpoint


def routine_of(options: argparse.Namespace, experiment: Experiment, resumed: Checkpoint | None) -> Routine:
    """What the options ask for beside the experiment, in a resumption where they leave it open what its checkpoint has.

    Raises UsageError where they ask for other cuts or another end than it was begun with.
    """
    if options.validate_epochs is not None and not experiment.task.validates:
        raise UsageError(
            f"--validate-epochs: expected an experiment whose task keeps data for it, got {experiment.name}, whose "
            f"task is {type(experiment.task).__name__}: its evaluation after each epoch has all there is"
        )
    given = {name: value for name in Routine.__struct_fields__ if (value := getattr(options, name)) is not None}
    if resumed is None:
        return Routine(**given)
    there = resumed.origin.routine
    for name in FIXED:
        expected, got = getattr(there, name), given.get(name)
        if got is not None and got != expected:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag}: expected {expected or 'none'}, as in {options.out}, got {got}")
    return msgspec.structs.replace(there, **given)


def check_prolonged(there: Experiment, experiment: Experiment, options: argparse.Namespace) -> None:
    """Raise UsageError unless the experiment is the one that is there, for more epochs, as --epochs says."""
    epochs = experiment.training.epochs
    allowed = there if options.epochs is None else override(there, training__epochs=epochs)
    if allowed != experiment:
        differences = difference(msgspec.to_builtins(allowed), msgspec.to_builtins(experiment))
        raise UsageError(
            f"--resume: expected {there.name} (spec {there.hash}), as in {options.out}, "
            f"got {experiment.name} (spec {experiment.hash}): {differences}"
        )
    if epochs < there.training.epochs:
        raise UsageError(f"--epochs: expected at least {there.training.epochs}, as in {options.out}, got {epochs}")
    if there.training.schedule.uses_epochs:
        raise UsageError(
            f"--epochs: expected {there.training.epochs}, as in {options.out}, got {epochs}: the learning rates of the "
            f"schedule {type(there.training.schedule).__name__} depend on how many epochs there are in all, so those "
            "that are done would have been others"
        )
