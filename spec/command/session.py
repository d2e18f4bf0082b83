"""One training run, from its run directory's first file to its last.

It trains in chunks of epochs, so that progress shows, a checkpoint is at hand and Ctrl-C loses little.
"""

import contextlib
import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np

from spec import parameters, signals
from spec.command.ending import Interrupted, Unwritten, interruptible, leave_picture
from spec.command.events import End, Epoch, Start
from spec.command.plot import loss_plot
from spec.command.progress import Reporter
from spec.command.run_directory import Checkpoint, Origin, RunDirectory, chain
from spec.command.verdict import verdict
from spec.ensemble import learned_members
from spec.errors import NonFiniteLoss, UsageError, encodable
from spec.exit_codes import MISSED, REACHED
from spec.experiment import Experiment
from spec.framework import Framework, Settings, Trajectory
from spec.tasks import predictions
from spec.training import State

CHUNKS = 10
"""How many chunks a training is cut into, about."""

LONGEST_CHUNK = 100
"""Epochs in a chunk, at most; a longer training gets more chunks instead, or it would seem to hang."""

MOST_STEPS = 10**5
"""Optimizer steps in a chunk of more than one epoch, at most: all their batches are drawn, and kept, at once."""


class Request(NamedTuple):
    """What to compute, and how. versions: what `describe` said of the implementation."""

    implementation: str
    experiment: Experiment
    seed: int
    settings: Settings
    versions: dict[str, str]

    def start(self, epochs_done: int, directory: RunDirectory | None) -> Start:
        """The event that announces it."""
        return Start(
            experiment=self.experiment.name,
            hash=self.experiment.hash,
            implementation=self.implementation,
            versions=self.versions,
            device=self.settings.device,
            precision=self.settings.precision,
            seed=self.seed,
            parameters=self.experiment.model.parameter_count,
            epochs=self.experiment.training.epochs,
            epochs_done=epochs_done,
            directory=encodable(str(directory.path)) if directory else None,
            data=encodable(self.experiment.task.data_source),
        ).sealed()

    def checkpoint(self, state: State, epochs: int, metrics: str = "") -> Checkpoint:
        """The checkpoint of a training that has done that many epochs. metrics: see Origin."""
        origin = Origin(
            experiment=self.experiment.name,
            hash=self.experiment.hash,
            resolved=msgspec.to_builtins(self.experiment),
            seed=self.seed,
            precision=self.settings.precision,
            implementation=self.implementation,
            versions=self.versions,
            epochs=epochs,
            steps=state.step,
            metrics=metrics,
        )
        return Checkpoint(state, origin)


class Result(NamedTuple):
    """What a training came to. last: the record of its last epoch."""

    checkpoint: Checkpoint
    last: Epoch
    end: End


def begin(request: Request, checkpoint: Checkpoint, directory: RunDirectory, reporter: Reporter) -> None:
    """Announce a new run, and write the first files of its directory."""
    start = request.start(0, directory)
    directory.begin(request.experiment, start, checkpoint)
    reporter.start(start)


def resume(request: Request, checkpoint: Checkpoint, directory: RunDirectory, reporter: Reporter) -> None:
    """Announce the resumption of a run, and rewind its directory to the checkpoint."""
    done, epochs = checkpoint.origin.epochs, request.experiment.training.epochs
    start = request.start(done, directory)
    directory.rewind(done)
    reporter.start(start)
    if done == epochs:
        reporter.note(f"all {epochs} epochs are done already")
        return
    if checkpoint.origin.hash != request.experiment.hash:
        prolonged = request.checkpoint(checkpoint.state, done, checkpoint.origin.metrics)
        directory.prolong(prolonged, start, request.experiment)
        reporter.note(f"prolonged to {epochs} epochs")
    else:
        directory.append([start])
    before = checkpoint.origin.implementation
    reporter.note(f"resumed after epoch {done}" + (f" by {before}" if before != request.implementation else ""))


def train(
    framework: Framework, request: Request, checkpoint: Checkpoint, directory: RunDirectory, reporter: Reporter
) -> Result:
    """Train from the checkpoint to the recipe's last epoch.

    The directory's metrics and checkpoint grow chunk by chunk; its other files come at the end. Raises NonFiniteLoss,
    and Interrupted for a KeyboardInterrupt, with the directory as the last good chunk left it.
    """

    def saved() -> str:
        epochs = request.experiment.training.epochs
        return f"epoch {directory.load_checkpoint(request.experiment).origin.epochs} of {epochs} is"

    try:
        with interruptible(saved, request.implementation, directory.path, request.settings):
            final = train_chunks(framework, request, checkpoint, directory, reporter)
            compilations = framework.open(request.experiment, request.settings).counts.get("compilations", 0)
            return finish(request, final, directory, reporter, compilations)
    except Interrupted as error:
        with contextlib.suppress(UsageError):
            directory.append([End(reached=False, exit_code=error.exit_code, error=encodable(str(error)))])
        raise


def train_chunks(
    framework: Framework, request: Request, checkpoint: Checkpoint, directory: RunDirectory, reporter: Reporter
) -> Checkpoint:
    """Train chunk by chunk, saving each; give back the last checkpoint. Raises NonFiniteLoss."""
    experiment, settings = request.experiment, request.settings
    epochs, done = experiment.training.epochs, checkpoint.origin.epochs
    side = framework.open(experiment, settings)
    with reporter.training(epochs, done) as report:
        for length in chunk_lengths(epochs, done, experiment.training.steps_per_epoch):
            signals.check()
            trajectory = side.train(checkpoint.state, length, request.seed)
            records, failure = measure(experiment, trajectory, checkpoint, settings)
            directory.append(records)
            if failure is None:
                done += length
                checkpoint = request.checkpoint(trajectory.state, done, chain(checkpoint.origin.metrics, records))
                directory.save_checkpoint(checkpoint)
            # Only now: what a user has seen is saved.
            for record in records:
                report(record)
            if failure is not None:
                error = NonFiniteLoss(f"{failure}; {directory.checkpoint_file} stands at epoch {done}")
                with contextlib.suppress(UsageError):
                    directory.append([End(reached=False, exit_code=error.exit_code, error=encodable(str(error)))])
                raise error
    signals.check()
    return checkpoint


def chunk_lengths(epochs: int, done: int = 0, steps_per_epoch: int = 1) -> Iterator[int]:
    """Lengths of the chunks that remain; the same cuts wherever a training was interrupted.

    Who compiles does so once for each length, so chunks are equal where the number of epochs allows it, and the
    remainder, where it does not, is one more length. How often epochs are printed plays no part: a chunk
    reports all of its.
    """
    size = chunk_length(epochs, steps_per_epoch)
    while done < epochs:
        length = min(size - done % size, epochs - done)
        yield length
        done += length


def chunk_length(epochs: int, steps_per_epoch: int = 1) -> int:
    """A divisor that makes about CHUNKS chunks; where there is none, a length that leaves a remainder."""
    shortest = min(max(1, math.ceil(epochs / CHUNKS)), LONGEST_CHUNK, max(1, MOST_STEPS // steps_per_epoch))
    return next((size for size in range(shortest, 2 * shortest + 1) if epochs % size == 0), shortest)


def measure(
    experiment: Experiment, trajectory: Trajectory, before: Checkpoint, settings: Settings
) -> tuple[list[Epoch], str | None]:
    """The records of a chunk's epochs up to the first loss that is not finite, and which that is, if any."""
    task, training = experiment.task, experiment.training
    batch = experiment.evaluation_batch(settings.precision)
    losses = np.asarray(trajectory.losses, np.float64).reshape(-1, training.steps_per_epoch)
    records: list[Epoch] = []
    for index, (step_losses, logits) in enumerate(zip(losses, trajectory.logits, strict=True)):
        epoch = before.origin.epochs + index + 1
        wrong = np.flatnonzero(~np.isfinite(step_losses))
        if wrong.size:
            step = before.state.step + index * training.steps_per_epoch + int(wrong[0]) + 1
            return records, f"the loss is {step_losses[wrong[0]]} in epoch {epoch}, at step {step}"
        with np.errstate(all="ignore"):
            evaluation_loss = training.loss.value(logits, batch.targets)
        if not math.isfinite(evaluation_loss):
            return records, f"the evaluation loss is {evaluation_loss} after epoch {epoch}"
        record = Epoch(
            epoch=epoch,
            loss=float(step_losses.mean()),
            evaluation_loss=evaluation_loss,
            solved=bool(learned_members(experiment, logits[None], batch)[0]),
            predicted=task.describe(predictions(logits), batch),
            bits_per_byte=task.bits_per_byte(logits, batch),
        )
        records.append(record)
    return records, None


def finish(
    request: Request, checkpoint: Checkpoint, directory: RunDirectory, reporter: Reporter, compilations: int = 0
) -> Result:
    """Judge, and write the files that come at the end. Raises Unwritten where one could not be written."""
    events = directory.events()
    epochs = [event for event in events if isinstance(event, Epoch)]
    last = epochs[-1]
    reached = request.experiment.outcome.reached(last.solved, last.evaluation_loss)
    end = End(reached=reached, exit_code=REACHED if reached else MISSED, compilations=compilations)
    try:
        parameters.save(directory.parameters_file, checkpoint.state.parameters, checkpoint.origin.metadata())
        implementations = list(dict.fromkeys(event.implementation for event in events if isinstance(event, Start)))
        picture = partial(loss_plot, request.experiment, implementations, request.seed, epochs)
        leave_picture(directory.plot_file, picture, reporter)
        directory.append([end])
    except UsageError as error:
        raise Unwritten(str(error), reached, verdict(request.experiment, last)) from None
    return Result(checkpoint, last, end)
