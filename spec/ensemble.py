"""Many seeds at once: how they are cut into chunks, and what any framework can do without training them together."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from spec.experiment import Experiment
from spec.framework import Ensemble, Precision, Settings, Trajectory
from spec.parameters import Parameters
from spec.tasks import IGNORED, Batch, exact_match, is_numeric, logits_shape, map_arrays, predictions
from spec.training import ExactMatch, LossAtMost, NearLowest, initial_state

NEVER = -1
"""The time to solve of a member that never does."""

MEMORY = 2**29
"""Bytes that the members trained at once may take together, by the estimate of `member_bytes`."""

LARGEST_CHUNK = 2048
"""Members trained at once, at most: beyond that nothing gets faster, and an interruption would lose more."""

LIVE = 8
"""Arrays of the size of a layer's output that a training step holds at once: what the backward pass needs, and its
own. An evaluation holds a quarter of that."""


def member_bytes(experiment: Experiment, precision: Precision) -> int:
    """About how many bytes one member takes while it trains, an estimate that is rather too high."""
    model, training, task = experiment.model, experiment.training, experiment.task
    steps = training.epochs * training.steps_per_epoch
    batch, evaluation = experiment.batch(0, 0, precision), experiment.evaluation_batch(precision)
    # Parameters, gradients, updates and slots.
    values = model.parameter_count * (3 + len(training.optimizer.slots))
    for arrays, live in ((batch, LIVE), (evaluation, LIVE / 4)):
        sequences, time = arrays.inputs.shape[:2]
        # A weight's first axis is its layer's outputs; an attention has a score for each pair of steps besides.
        outputs = sum(parameter.shape[0] for parameter in model.parameters()) + time
        values += math.ceil(live * sequences * time * outputs)
    values += steps + math.prod(logits_shape(evaluation.targets, model.classes))
    drawn = steps * batch_bytes(batch) if task.drawn else 0
    return values * np.dtype(precision).itemsize + drawn


def batch_bytes(batch: Batch) -> int:
    """Bytes of a batch's arrays."""
    sizes: list[int] = []
    map_arrays(lambda array: sizes.append(array.nbytes), batch)
    return sum(sizes)


def steps_drawn(subject: Any, precision: Precision, members: int = 1) -> int:
    """Steps whose batches may be held at once, at least 1: a recipe may go through more data than there is memory."""
    return max(1, MEMORY // (members * batch_bytes(subject.batch(0, 0, precision))))


def stretches(subject: Any, precision: Precision) -> Iterator[tuple[int, int | None]]:
    """The calls of `train` that make up the recipe, epochs and steps of a part of one (see `Side.train`), so that each
    call's batches can be held: one where all of them can, else as few of as few lengths as will do."""
    epochs, each = subject.training.epochs, subject.training.steps_per_epoch
    most = steps_drawn(subject, precision) if subject.has_drawn_batches else epochs * each
    if epochs * each <= most:
        yield epochs, None
    elif each <= most:
        yield from ((len(part), None) for part in cut(epochs, most // each))
    else:
        parts = [len(part) for part in cut(each, most)]
        yield from ((1, part) for _ in range(epochs) for part in parts)


def chunk_size(experiment: Experiment, precision: Precision) -> int:
    """How many members may be trained at once."""
    return max(1, min(MEMORY // member_bytes(experiment, precision), LARGEST_CHUNK))


def cut(count: int, size: int) -> list[range]:
    """`count` members (at least 1) in as few chunks of at most `size` as will do, none larger than another by more than
    one; the larger ones first."""
    number = math.ceil(count / size)
    least, more = divmod(count, number)
    ends = [least * part + min(part, more) for part in range(number + 1)]
    return [range(first, end) for first, end in itertools.pairwise(ends)]


def learned_members(subject: Any, logits: np.ndarray, batch: Batch) -> np.ndarray:
    """Whether each has learned what its experiment's outcome means by that: bool (members,) of logits
    (members, *logits' shape). Everything is right, where the outcome says nothing else."""
    match subject.outcome:
        case NearLowest(within=within):
            losses = subject.training.loss.values(logits, batch.targets)
            # Not a number is not near.
            return np.abs(losses / subject.task.lowest_loss - 1) <= within
        case LossAtMost(loss_at_most=most):
            return subject.training.loss.values(logits, batch.targets) <= most
        case ExactMatch(of_sequences=share):
            return exact_match(predictions(logits), batch) >= share
    return solved_members(logits, batch)


def solved_members(logits: np.ndarray, batch: Batch) -> np.ndarray:
    """Whether each is solved: bool (members,) of logits (members, *logits' shape). See `spec.tasks.solved`."""
    if is_numeric(batch.targets):
        return np.zeros(len(logits), bool)
    right = (predictions(logits) == batch.targets) | (batch.targets == IGNORED)
    return right.reshape(len(right), -1).all(axis=1)


def first_solved(logits: np.ndarray, batch: Batch) -> int:
    """The first epoch, counted from 1, whose logits (epochs, *logits' shape) are solved, or NEVER."""
    epochs = np.flatnonzero(solved_members(logits, batch))
    return int(epochs[0]) + 1 if epochs.size else NEVER


def join(parts: Sequence[Ensemble]) -> Ensemble:
    """The members of all parts, one after the other. Methods that differ are all named."""
    arrays = (np.concatenate(column) for column in zip(*(part[:3] for part in parts), strict=True))
    return Ensemble(*arrays, method=", ".join(dict.fromkeys(part.method for part in parts)))


def start_by_start(
    train: Callable[..., Trajectory],
    experiment: Experiment,
    starts: Sequence[Parameters],
    seed: int,
    settings: Settings,
) -> list[Trajectory]:
    """`Side.train_starts` as a plain loop of an implementation's `train`."""
    states = [initial_state(experiment.training.optimizer, start) for start in starts]
    epochs = experiment.training.epochs
    return [train(experiment, state, epochs, seed, settings, record=True, masks="spec") for state in states]


def one_by_one(
    initialize: Callable[[int], Parameters],
    train: Callable[..., Trajectory],
    subject: Any,
    seeds: Sequence[int],
    precision: Precision,
) -> Ensemble:
    """The ensemble as a plain loop of a side's `train`."""
    training, batch = subject.training, subject.evaluation_batch(precision)
    members = []
    for seed in seeds:
        state = initial_state(training.optimizer, initialize(seed))
        losses: list[np.ndarray] = []
        logits: list[np.ndarray] = []
        for epochs, part in stretches(subject, precision):
            run = train(state, epochs, seed) if part is None else train(state, epochs, seed, part=part)
            state = run.state
            losses.append(run.losses)
            # Of parts, those at an epoch's end.
            logits += [run.logits] if state.step % training.steps_per_epoch == 0 else []
        every = np.concatenate(logits)
        solved_at = np.array([first_solved(every, batch)])
        members.append(Ensemble(np.concatenate(losses)[None], every[-1:], solved_at, "loop"))
    return join(members)
