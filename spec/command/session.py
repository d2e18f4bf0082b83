"""One training run, from its run directory's first file to its last.

It trains in segments, see spec.command.routine, so that progress shows, a checkpoint is at hand and Ctrl-C loses
little.
"""

import contextlib
import math
import time
from functools import partial
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from spec import parameters, signals
from spec.command import trained
from spec.command.ending import Interrupted, Unwritten, interruptible, leave_picture
from spec.command.events import End, Epoch, Speed, Start
from spec.command.plot import loss_plot
from spec.command.progress import Reporter
from spec.command.routine import Routine, due, segments, validates
from spec.command.run_directory import Checkpoint, Origin, Progress, RunDirectory, chain, write_experiment
from spec.command.verdict import verdict
from spec.ensemble import learned_members
from spec.errors import DeviceLost, NonFiniteLoss, UsageError, encodable
from spec.exit_codes import MISSED, REACHED
from spec.experiment import Experiment
from spec.framework import Framework, Settings, Side, Trajectory
from spec.training import State

SECONDS = 10.0
"""Between looks at how fast a training goes."""


class Request(NamedTuple):
    """What to compute, and how. versions: what `describe` said of the implementation."""

    implementation: str
    experiment: Experiment
    seed: int
    settings: Settings
    versions: dict[str, str]
    routine: Routine = Routine()

    def start(self, epochs_done: int, directory: RunDirectory | None, steps_done: int | None = None) -> Start:
        """The event that announces it. steps_done: those of an epoch that is not at its end included."""
        steps = epochs_done * self.experiment.training.steps_per_epoch if steps_done is None else steps_done
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
            steps_done=steps,
            directory=encodable(str(directory.path)) if directory else None,
            data=encodable(self.experiment.task.data_source),
        ).sealed()

    def checkpoint(self, state: State, epochs: int, metrics: str = "", progress: Progress | None = None) -> Checkpoint:
        """The checkpoint of a training that has done that many epochs. metrics: see Origin."""
        origin = Origin(
            experiment=self.experiment.name,
            hash=self.experiment.hash,
            # As it will be read again: JSON has lists, and no tuples.
            resolved=msgspec.json.decode(msgspec.json.encode(self.experiment)),
            seed=self.seed,
            precision=self.settings.precision,
            implementation=self.implementation,
            versions=self.versions,
            epochs=epochs,
            steps=state.step,
            metrics=metrics,
            routine=self.routine,
            progress=progress or Progress(),
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
    origin = checkpoint.origin
    done, epochs = origin.epochs, request.experiment.training.epochs
    start = request.start(done, directory, origin.steps)
    directory.rewind(done, origin.steps)
    directory.settle(origin)
    reporter.start(start)
    if origin.stopped_early:
        reporter.note(f"stopped after epoch {done} already: {impatience(origin)}")
        return
    if done == epochs:
        reporter.note(f"all {epochs} epochs are done already")
        return
    if origin.hash != request.experiment.hash:
        prolonged = request.checkpoint(checkpoint.state, done, origin.metrics, origin.progress)
        directory.prolong(prolonged, start, request.experiment)
        reporter.note(f"prolonged to {epochs} epochs")
    else:
        directory.append([start])
        if directory.data is not None:
            # The places that earlier checkpoints name are no matter.
            write_experiment(directory.experiment_file, request.experiment)
    before = origin.implementation
    reporter.note(
        f"resumed after {standing(checkpoint)}" + (f" by {before}" if before != request.implementation else "")
    )


def impatience(origin: Origin) -> str:
    """Why patience is at its end."""
    best = f"{origin.progress.best:.7g} after step {origin.progress.best_step}"
    return f"no lower loss in {origin.progress.worse} evaluations than {best} (best.safetensors)"


class Figures(Protocol):
    """Who takes a run's figures beside its metrics."""

    def add(self, event: Epoch | Speed) -> None:
        """An event, once it is written."""
        ...

    def close(self) -> None:
        """No more will come."""
        ...


def train(
    framework: Framework,
    request: Request,
    checkpoint: Checkpoint,
    directory: RunDirectory,
    reporter: Reporter,
    board: Figures,
) -> Result:
    """Train from the checkpoint to the recipe's last epoch, or until patience is at its end.

    The directory's metrics and checkpoints grow segment by segment; its other files come at the end. Raises
    NonFiniteLoss, and Interrupted for a KeyboardInterrupt, with the directory as the last good segment left it.
    """
    saver = Saver(directory, request)

    def saved() -> str:
        lost = saver.rescue()
        origin = directory.load_checkpoint(request.experiment).origin
        training = request.experiment.training
        where = f"epoch {origin.epochs} of {training.epochs} is"
        if origin.steps != origin.epochs * training.steps_per_epoch:
            where = f"step {origin.steps} of {training.epochs * training.steps_per_epoch} is"
        return f"{lost}{where}"

    try:
        with interruptible(saved, request.implementation, directory.path, request.settings):
            final = train_segments(framework, request, checkpoint, directory, reporter, board, saver)
            compilations = framework.open(request.experiment, request.settings).counts.get("compilations", 0)
            return finish(request, final, directory, reporter, compilations)
    except (Interrupted, DeviceLost) as error:
        with contextlib.suppress(UsageError):
            directory.append([End(reached=False, exit_code=error.exit_code, error=encodable(str(error)))])
        raise


class Saver:
    """Writes checkpoints when they are due, and knows of one that is not written yet."""

    def __init__(self, directory: RunDirectory, request: Request):
        self.directory, self.request = directory, request
        self.unsaved: Checkpoint | None = None
        self.saved_at = time.monotonic()

    def offer(self, checkpoint: Checkpoint) -> None:
        """Write it if that is due, or if it is the best so far."""
        self.unsaved = checkpoint
        origin = checkpoint.origin
        best = origin.progress.best_step == origin.steps and origin.progress.best is not None
        minutes = (time.monotonic() - self.saved_at) / 60
        training = self.request.experiment.training
        if best or origin.stopped_early or due(self.request.routine, training, origin.steps, minutes):
            self.save()

    def save(self) -> None:
        """Write what is not written yet. Raises UsageError."""
        if self.unsaved is not None:
            self.directory.save_checkpoint(self.unsaved)
            self.unsaved, self.saved_at = None, time.monotonic()

    def rescue(self) -> str:
        """The same where the run is about to end; what went wrong, for the words that say what is saved."""
        try:
            self.save()
        except UsageError as error:
            return f"the newest checkpoint is lost ({error}); "
        return ""


def train_segments(
    framework: Framework,
    request: Request,
    checkpoint: Checkpoint,
    directory: RunDirectory,
    reporter: Reporter,
    board: Figures,
    saver: Saver,
) -> Checkpoint:
    """Train segment by segment, saving when it is due; give back the last checkpoint. Raises NonFiniteLoss."""
    experiment, training = request.experiment, request.experiment.training
    side = framework.open(experiment, request.settings)
    alone = request.settings.devices == 1 and not request.settings.fixed_order
    run = side.train if alone else side.need("train_on_devices")
    clock, already = Clock(experiment, checkpoint.origin.steps), checkpoint.origin.stopped_early
    with reporter.training(training.epochs, checkpoint.origin.epochs) as report:
        for segment in segments(experiment, request.routine, checkpoint.origin.steps):
            if checkpoint.origin.stopped_early:
                break
            signals.check()
            parts = {} if segment.part is None else {"part": segment.part}
            trajectory = run(checkpoint.state, segment.epochs, request.seed, **parts)
            records, progress, failure = measure(experiment, trajectory, checkpoint, request.settings)
            if failure is None and records:
                progress, failure = judge(side, request, records, trajectory.state, progress)
            events: list[Epoch | Speed] = list(records)
            speed = clock.look(trajectory.state.step, trajectory.losses)
            if speed is not None and failure is None:
                events.append(speed)
            directory.append(events)
            if failure is None:
                origin = checkpoint.origin
                checkpoint = request.checkpoint(
                    trajectory.state, origin.epochs + len(records), chain(origin.metrics, records), progress
                )
                saver.offer(checkpoint)
            # Only now: what a user has seen is written.
            for event in events:
                report(event)
                board.add(event)
            if failure is not None:
                saver.save()
                error = NonFiniteLoss(f"{failure}; {directory.checkpoint_file} stands at {standing(checkpoint)}")
                with contextlib.suppress(UsageError):
                    directory.append([End(reached=False, exit_code=error.exit_code, error=encodable(str(error)))])
                raise error
    signals.check()
    if checkpoint.origin.stopped_early and not already:
        reporter.note(f"stopped after epoch {checkpoint.origin.epochs}: {impatience(checkpoint.origin)}")
    return checkpoint


def standing(checkpoint: Checkpoint) -> str:
    """Where a checkpoint stands, in words."""
    origin = checkpoint.origin
    each = origin.resolved["training"]["steps_per_epoch"]
    return f"epoch {origin.epochs}" if origin.steps == origin.epochs * each else f"step {origin.steps}"


class Clock:
    """How fast a training goes, looked at every few seconds."""

    def __init__(self, experiment: Experiment, step: int):
        self.tokens = experiment.task.batch_size * experiment.task.length
        self.steps = experiment.training.epochs * experiment.training.steps_per_epoch
        self.step, self.at = step, time.monotonic()

    def look(self, step: int, losses: np.ndarray) -> Speed | None:
        """How fast it went since the last time, if that is long enough ago."""
        now = time.monotonic()
        steps, seconds = step - self.step, now - self.at
        if seconds < SECONDS or not steps:
            return None
        self.step, self.at = step, now
        return Speed(
            step=step,
            steps=self.steps,
            loss=float(losses[-1]),
            tokens_per_second=steps * self.tokens / seconds,
            seconds_left=(self.steps - step) * seconds / steps,
        )


def measure(
    experiment: Experiment, trajectory: Trajectory, before: Checkpoint, settings: Settings
) -> tuple[list[Epoch], Progress, str | None]:
    """The records of the epochs that a segment has ended, up to the first loss that is not finite; how the training
    fares after it; and which loss that is, if any."""
    task, training = experiment.task, experiment.training
    batch = experiment.evaluation_batch(settings.precision)
    each, progress = training.steps_per_epoch, before.origin.progress
    within = before.origin.steps % each
    losses = np.asarray(trajectory.losses, np.float64).reshape(len(trajectory.logits), -1)
    records: list[Epoch] = []
    for index, (step_losses, logits) in enumerate(zip(losses, trajectory.logits, strict=True)):
        epoch = before.origin.epochs + index + 1
        wrong = np.flatnonzero(~np.isfinite(step_losses))
        if wrong.size:
            step = before.state.step + index * len(step_losses) + int(wrong[0]) + 1
            return records, progress, f"the loss is {step_losses[wrong[0]]} in epoch {epoch}, at step {step}"
        if len(step_losses) < each:
            total = progress.losses + float(step_losses.sum())
            if within + len(step_losses) < each:
                return records, msgspec.structs.replace(progress, losses=total), None
            mean = total / each
        else:
            mean = float(step_losses.mean())
        with np.errstate(all="ignore"):
            evaluation_loss = training.loss.value(logits, batch.targets)
        if not math.isfinite(evaluation_loss):
            return records, progress, f"the evaluation loss is {evaluation_loss} after epoch {epoch}"
        record = Epoch(
            epoch=epoch,
            loss=mean,
            evaluation_loss=evaluation_loss,
            solved=bool(learned_members(experiment, logits[None], batch)[0]),
            predicted=task.describe(task.predictions(logits), batch),
            bits_per_byte=task.bits_per_byte(logits, batch),
        )
        records.append(record)
    return records, msgspec.structs.replace(progress, losses=0.0), None


def judge(
    side: Side, request: Request, records: list[Epoch], state: State, progress: Progress
) -> tuple[Progress, str | None]:
    """How the training fares after its newest epoch, whose record gets its validation, if there is one; and what is not
    finite about that. Of several epochs in one call only the last has left its parameters."""
    routine, last = request.routine, records[-1]
    if routine.validate_epochs is None:
        return progress.judged(last.evaluation_loss, state.step), None
    if not validates(routine, request.experiment.training, last.epoch):
        return progress, None
    found = trained.measure(side, request.experiment, state.parameters, request.settings.precision).measured
    if not math.isfinite(found.loss):
        return progress, f"the validation loss is {found.loss} after epoch {last.epoch}"
    records[-1] = msgspec.structs.replace(last, validation=found)
    return progress.judged(found.loss, state.step), None


def finish(
    request: Request, checkpoint: Checkpoint, directory: RunDirectory, reporter: Reporter, compilations: int = 0
) -> Result:
    """Judge, and write the files that come at the end. Raises Unwritten where one could not be written."""
    events = directory.events()
    epochs = [event for event in events if isinstance(event, Epoch)]
    last = epochs[-1]
    reached = request.experiment.outcome.reached(last.solved, last.evaluation_loss)
    early = last.epoch if checkpoint.origin.stopped_early else None
    code = REACHED if reached else MISSED
    end = End(reached=reached, exit_code=code, compilations=compilations, stopped_after=early)
    try:
        parameters.save(directory.parameters_file, checkpoint.state.parameters, checkpoint.origin.metadata())
        implementations = list(dict.fromkeys(event.implementation for event in events if isinstance(event, Start)))
        picture = partial(loss_plot, request.experiment, implementations, request.seed, epochs)
        leave_picture(directory.plot_file, picture, reporter)
        directory.append([end])
    except UsageError as error:
        raise Unwritten(str(error), reached, verdict(request.experiment, last)) from None
    return Result(checkpoint, last, end)
