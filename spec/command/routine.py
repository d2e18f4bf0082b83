"""How a training is cut into segments, when it is saved, and when it is given up: what people ask of a long run.

Segments are cut at the same steps wherever a training was stopped, whatever the clock says: who compiles may round
otherwise in a loop of another length, and a resumed run is to have the bits of one that was never stopped.
"""

import math
from collections.abc import Iterator
from typing import Annotated, NamedTuple

import msgspec

from spec.experiment import Experiment
from spec.limits import batch_elements
from spec.training import Training

CHUNKS = 10
"""How many chunks of epochs a training is cut into, about."""

LONGEST_CHUNK = 100
"""Epochs in a chunk, at most; a longer training gets more chunks instead, or it would seem to hang."""

MOST_STEPS = 10**5
"""Optimizer steps in a segment, at most: all their batches are drawn, and kept, at once."""

MOST_VALUES = 2**25
"""Values in the inputs of a segment's batches, at most, for the same reason: 128 to 256 MB."""

MOST_MULTIPLICATIONS = 2**35
"""Of a segment's forward passes, at most: about ten seconds of two cores, which is what an interruption loses."""

MINUTES = 10.0
"""Minutes between checkpoints within an epoch where nobody says otherwise."""

KEPT = 2
"""Checkpoints that are kept where nobody says otherwise: the newest, and one to fall back on."""


class Routine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was asked of a run beside its experiment, recorded in its checkpoints.

    checkpoint_steps: save every so many steps of an epoch, and at its end; from an epoch's length on, every so many
    whole epochs. checkpoint_minutes: save at the first cut after so many. keep: checkpoints to keep, the newest
    included. validate_epochs: epochs between validations, on all that the task keeps for them. patience: validations in
    a row without a lower loss after which the training ends; evaluations where nothing is validated.
    """

    checkpoint_steps: Annotated[int, msgspec.Meta(ge=1)] | None = None
    checkpoint_minutes: Annotated[float, msgspec.Meta(gt=0)] | None = None
    keep: Annotated[int, msgspec.Meta(ge=1)] = KEPT
    validate_epochs: Annotated[int, msgspec.Meta(ge=1)] | None = None
    patience: Annotated[int, msgspec.Meta(ge=1)] | None = None


FIXED = ("checkpoint_steps", "validate_epochs", "patience")
"""What of it decides where a training is cut or ends: a resumption has to leave it as it is."""


class Segment(NamedTuple):
    """A stretch of training in one call: whole epochs, or a part of one. part: its steps, None for whole epochs."""

    epochs: int
    part: int | None = None

    def steps(self, training: Training) -> int:
        """How many optimizer steps it takes."""
        return self.epochs * (self.part or training.steps_per_epoch)


def segments(experiment: Experiment, routine: Routine, step: int) -> Iterator[Segment]:
    """The segments that remain after that many steps.

    Who compiles does so once for each length, of which there are few: at most two of whole epochs (a third where
    validations or --checkpoint-steps cut chunks), or four of parts.
    """
    training = experiment.training
    each, total = training.steps_per_epoch, training.epochs * training.steps_per_epoch
    longest = longest_segment(experiment)
    every = watched(routine)
    saved = routine.checkpoint_steps
    cut = min(each, saved or each)
    whole = max(1, (saved or 0) // each)
    while step < total:
        epoch, within = divmod(step, each)
        if within == 0 and cut == each <= longest:
            ends = [chunk_end(training.epochs, epoch, each, longest)]
            ends += [next_multiple(epoch, whole)] if saved else []
            ends += [next_multiple(epoch, every)] if every else []
            segment = Segment(min(*ends, training.epochs) - epoch)
        else:
            # From one checkpoint to the next in equal parts, but for the last.
            part = math.ceil(cut / math.ceil(cut / longest))
            window = within - within % cut
            end = min(window + next_multiple(within - window, part), window + cut, each)
            segment = Segment(1, None if end - within == each else end - within)
        yield segment
        step += segment.steps(training)


def longest_segment(experiment: Experiment) -> int:
    """Optimizer steps of a segment, at most."""
    work = MOST_MULTIPLICATIONS // max(1, experiment.multiplications_per_step)
    return max(1, min(MOST_STEPS, MOST_VALUES // max(1, batch_elements(experiment.task)), work))


def watched(routine: Routine) -> int | None:
    """Epochs between those after which the parameters must be at hand, to be validated or kept; None for no such."""
    if routine.validate_epochs is not None:
        return routine.validate_epochs
    return None if routine.patience is None else 1


def validates(routine: Routine, training: Training, epoch: int) -> bool:
    """Whether that epoch, counted from 1, is followed by a validation."""
    every = routine.validate_epochs
    return every is not None and (epoch % every == 0 or epoch == training.epochs)


def next_multiple(number: int, of: int) -> int:
    """The first multiple beyond the number."""
    return (number // of + 1) * of


def chunk_end(epochs: int, epoch: int, steps_per_epoch: int, longest: int = MOST_STEPS) -> int:
    """The epoch at which the chunk ends that the next epoch is in."""
    return min(next_multiple(epoch, chunk_length(epochs, steps_per_epoch, longest)), epochs)


def chunk_lengths(epochs: int, done: int = 0, steps_per_epoch: int = 1) -> Iterator[int]:
    """Lengths of the chunks of whole epochs that remain; the same cuts wherever a training was interrupted.

    Chunks are equal where the number of epochs allows it, and the remainder, where it does not, is one more length. How
    often epochs are printed plays no part: a chunk reports all of its.
    """
    while done < epochs:
        end = chunk_end(epochs, done, steps_per_epoch)
        yield end - done
        done = end


def chunk_length(epochs: int, steps_per_epoch: int = 1, longest: int = MOST_STEPS) -> int:
    """A divisor that makes about CHUNKS chunks; where there is none, a length that leaves a remainder."""
    most = max(1, longest // steps_per_epoch)
    shortest = min(max(1, math.ceil(epochs / CHUNKS)), LONGEST_CHUNK, most)
    return next((size for size in range(shortest, 2 * shortest + 1) if epochs % size == 0), shortest)


def due(routine: Routine, training: Training, step: int, minutes: float) -> bool:
    """Whether a checkpoint is to be written after that many steps, the last one being so many minutes old."""
    each = training.steps_per_epoch
    epoch, within = divmod(step, each)
    if epoch == training.epochs:
        return True
    if routine.checkpoint_minutes is not None and minutes >= routine.checkpoint_minutes:
        return True
    if (saved := routine.checkpoint_steps) is not None:
        return within % saved == 0 if saved < each else within == 0 and epoch % (saved // each) == 0
    return routine.checkpoint_minutes is None and (within == 0 or minutes >= MINUTES)
