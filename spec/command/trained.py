"""Parameters that have been trained, looked at without training them: what they are worth, and what they write."""

import argparse
import math
import time
from typing import NamedTuple

import msgspec
import numpy as np

from spec.command.events import Evaluated, Generated, Measured
from spec.command.run_directory import RunDirectory, load_parameters
from spec.errors import InvalidBatch, NonFiniteLoss, UsageError, encodable
from spec.experiment import Experiment
from spec.framework import Precision, Settings, Side
from spec.parameters import Parameters
from spec.tasks import Batch, exact_match, predictions, solved
from spec.tasks import asked as asked_targets
from spec.training import ExactMatch, LossAtMost, NearLowest

INSTEAD = ("evaluate", "generate")
"""Options that look at parameters and train nothing."""

LENGTH = 200
"""Bytes that are written where nobody says otherwise."""

TEMPERATURE = 1.0
"""By which logits are divided where nobody says otherwise: the probabilities as the model has them."""


class Trained(NamedTuple):
    """Parameters, and what they are of. source: the file that they are from; said: what was done to them."""

    experiment: Experiment
    parameters: Parameters
    precision: Precision
    source: str
    said: tuple[str, ...]


def asked(options: argparse.Namespace) -> str | None:
    """The option that asks for it, as it is written; None for a training or a walk."""
    return next((f"--{name}" for name in INSTEAD if getattr(options, name) not in (None, False)), None)


def check(options: argparse.Namespace) -> None:
    """Raise UsageError for options that make no sense where nothing is trained, or where parameters are missing."""
    flag = asked(options)
    if (options.out is None) == (options.init_weights is None):
        raise UsageError(
            f"{flag}: expected --out with a run directory, or --init-weights with trained weights, got "
            f"{'neither' if options.out is None else 'both'}"
        )
    for name in ("resume", "seeds", "export_weights", "epochs", "learning_rate"):
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')}: expected none with {flag}, which trains nothing")


def find(options: argparse.Namespace, experiment: Experiment) -> Trained:
    """The parameters that the options name. Raises UsageError or ParameterMismatch.

    Of a run directory the final ones, or those of its newest checkpoint where it has not come to its end.
    """
    precision = options.precision or Settings().precision
    path = options.init_weights
    if path is None:
        directory = RunDirectory(options.out)
        there = directory.parameters_file
        path = there if there.exists() else directory.checkpoint_file
        if options.precision is None and options.data is None:
            precision = directory.load_checkpoint(directory.experiment()).origin.precision
        elif options.precision is None:
            precision = directory.origin().precision
    held, said = load_parameters(path, experiment, precision)
    return Trained(experiment, held, precision, str(path), said)


def evaluate(side: Side, trained: Trained, implementation: str) -> Evaluated:
    """What the parameters are worth on all the data that the task has for it."""
    experiment = trained.experiment
    found = measure(side, experiment, trained.parameters, trained.precision)
    if not np.isfinite(found.measured.loss):
        raise NonFiniteLoss(f"{trained.source}: expected parameters with a finite loss, got {found.measured.loss}")
    return Evaluated(
        experiment=experiment.name,
        hash=experiment.hash,
        implementation=implementation,
        source=trained.source,
        measured=found.measured,
        solved=found.solved,
        predicted=found.predicted,
        reached=experiment.outcome.reached(found.solved, found.measured.loss),
    )


class Found(NamedTuple):
    """What is known of parameters after all batches. solved: whether they have learned what the experiment's outcome
    means by that. predicted: in words, empty where there are many batches."""

    measured: Measured
    solved: bool
    predicted: str


def measure(side: Side, experiment: Experiment, held: Parameters, precision: Precision) -> Found:
    """The loss and the share that is right, or how far off numbers are, over all that the task keeps for it."""
    task, loss = experiment.task, experiment.training.loss
    total, divisor, bits, squares, right, count, exact, sequences = 0.0, 0.0, 0.0, 0.0, 0, 0, 0, 0
    has_bits, all_solved, predicted = True, True, ""
    for batch in task.validation_batches(precision) if task.validates else [experiment.evaluation_batch(precision)]:
        logits = predict(side, held, batch)
        known = asked_targets(batch.targets)
        targets = int(known.sum())
        with np.errstate(all="ignore"):
            value = loss.value(logits, batch.targets)
        # A mean over all batches is divided once, by what it would be divided by if they were one.
        weight = loss.divisor(batch.targets) if loss.reduction == "mean" else 1.0
        total += value * weight
        divisor += weight
        count += targets
        if task.numeric:
            squares += float(((logits.astype(np.float64) - batch.targets)[known] ** 2).sum())
        else:
            right += int(((predictions(logits) == batch.targets) & known).sum())
            sequences += len(batch.targets)
            exact += round(float(exact_match(predictions(logits), batch)) * len(batch.targets))
        all_solved &= solved(logits, batch)
        predicted = "" if task.validates else task.describe(task.predictions(logits), batch)
        each = task.bits_per_byte(logits, batch)
        has_bits &= each is not None
        bits += (each or 0.0) * targets
    measured = Measured(
        loss=total / (divisor or 1.0) if loss.reduction == "mean" else total,
        accuracy=None if task.numeric else right / count,
        rmse=math.sqrt(squares / count) if task.numeric else None,
        targets=count,
        bits_per_byte=bits / count if has_bits else None,
    )
    match experiment.outcome:
        case NearLowest(within=within):
            lowest = task.lowest_loss
            assert lowest is not None
            near = abs(measured.loss / lowest - 1) <= within  # Not a number is not near.
            return Found(msgspec.structs.replace(measured, lowest_loss=lowest), near, predicted)
        case LossAtMost(loss_at_most=most):
            return Found(msgspec.structs.replace(measured, loss_at_most=most), measured.loss <= most, predicted)
        case ExactMatch(of_sequences=least):
            share = exact / sequences
            measured = msgspec.structs.replace(measured, exact_match=share, sequences=sequences)
            return Found(measured, share >= least, predicted)
    return Found(measured, all_solved, predicted)


def predict(side: Side, held: Parameters, batch: Batch) -> np.ndarray:
    """The logits that a training is judged by, or those of a forward pass where the implementation has no others."""
    return side.forward(held, batch)["logits"] if side.predict is None else side.predict(held, batch)


def text_of(event: Evaluated) -> str:
    """It in words."""
    found = event.measured
    bits = "" if found.bits_per_byte is None else f", {found.bits_per_byte:.5g} bits per byte"
    if found.accuracy is None:
        right = f"RMSE {found.rmse:.7g} over {found.targets} targets"
    else:
        right = f"{100 * found.accuracy:.4g} % of {found.targets} targets right"
    predicted = f"{event.predicted}\n" if event.predicted else ""
    return f"{event.source}\n{predicted}loss {found.loss:.7g}{bits}, {right}{outcome_of(event)}"


def outcome_of(event: Evaluated) -> str:
    """What the experiment's outcome is told by, in a line; empty where that is whether everything is right."""
    found, word = event.measured, "Reached" if event.reached else "Missed"
    if found.lowest_loss is not None:
        away = 100 * (found.loss / found.lowest_loss - 1)
        how = f"{abs(away):.3g} % {'below' if away < 0 else 'above'} the lowest loss that there is"
        return f"\n{word}: {how}, {found.lowest_loss:.7g}"
    if found.loss_at_most is not None:
        return f"\n{word}: the loss is {'at most' if event.reached else 'more than'} {found.loss_at_most:.7g}"
    if found.exact_match is not None:
        share = f"{100 * found.exact_match:.4g} % of {found.sequences} sequences"
        return f"\n{word}: {share} are right from the first symbol to the last"
    return ""


def write_on(side: Side, trained: Trained, options: argparse.Namespace, implementation: str) -> Generated:
    """What the model writes on from a text. Raises UsageError where its task is no text, or it cannot."""
    seed = options.seed or 0
    prompt = np.frombuffer(options.generate.encode("utf-8", "surrogateescape"), np.uint8).astype(np.int64)
    if not prompt.size:
        raise UsageError("--generate: expected a text of a character or more to begin with, got ''")
    length = LENGTH if options.length is None else options.length
    temperature = TEMPERATURE if options.temperature is None else options.temperature
    began = time.perf_counter()
    try:
        found = side.need("generate")(trained.parameters, prompt[None], length, temperature=temperature, seed=seed)
    except InvalidBatch as error:
        raise UsageError(f"--generate: {error}") from None
    seconds = time.perf_counter() - began
    return Generated(
        experiment=trained.experiment.name,
        hash=trained.experiment.hash,
        implementation=implementation,
        source=trained.source,
        prompt=encodable(options.generate),
        text=bytes(found.symbols[0].astype(np.uint8)).decode(errors="replace"),
        bytes=found.symbols[0].tolist(),
        temperature=temperature,
        seed=seed,
        per_second=length / seconds,
    )


def check_text(experiment: Experiment) -> None:
    """Raise UsageError unless the experiment's symbols are the bytes of a text."""
    task = experiment.task
    if type(task).__name__ != "Text":
        raise UsageError(
            f"--generate: expected an experiment whose task is Text, got {experiment.name}, whose task is "
            f"{type(task).__name__}"
        )
