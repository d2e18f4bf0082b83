"""What a run leaves behind, one directory a run.

experiment.json           the resolved experiment, overrides included; train it again by giving its path
metrics.jsonl             a line a start, a line an epoch, a line at the end (see spec.command.events)
checkpoint.safetensors    where the training stands: parameters, optimizer slots, carried states, and Origin as
                          metadata, with the experiment and a checksum of the metrics, against which a resumption holds
                          the other files
checkpoints/              those before it that are kept, by their step, to fall back on where the newest is damaged
best.safetensors          the checkpoint after the evaluation, or validation, with the lowest loss
parameters.safetensors    the final parameters under their canonical names, and Origin as metadata
loss.png                  the loss over the epochs
.lock                     there while a process works in the directory, see spec.lock

The checkpoint is what makes a directory a run: without one, nothing was trained there, and a new run may begin.
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from spec import files, lock, parameters
from spec.command.events import Epoch, Event, Speed, Start, digest, encode
from spec.command.routine import Routine
from spec.errors import ParameterMismatch, SpecError, UsageError, shorten
from spec.experiment import Experiment, convert, override
from spec.framework import Precision
from spec.limits import LARGEST_FILE
from spec.tasks import documents
from spec.training import State, initial_state

if TYPE_CHECKING:
    from spec.weights.fitting import Fitted

RUNS = Path("runs")
"""Where run directories go when nobody says otherwise, relative to the working directory."""


FORMAT = 3
"""Of a checkpoint. The first had neither a checksum nor the experiment in it, and could be of any run; the second could
not stand within an epoch, and did not know what was the best so far."""

CARRIED = "carried."
"""Before the names of the states that a training carries from batch to batch."""

WITH_DATA = ("Text", "Table")
"""Tasks whose data --data names."""

BEGUN = {"experiment.json", "metrics.jsonl", lock.NAME}
"""What a run writes before its first checkpoint."""


ENCODED = ("versions", "resolved", "routine", "progress")
"""Of an Origin's fields, those that are JSON in a file's metadata."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How a training fares, beside its state.

    losses: the sum of the losses of an epoch that is not at its end. best, best_step: the lowest loss that was judged,
    and after which step; None before the first. worse: losses judged since that were not lower.
    """

    losses: float = 0.0
    best: float | None = None
    best_step: int = 0
    worse: int = 0

    def judged(self, loss: float, step: int) -> "Progress":
        """What it is after that loss, the steps of an epoch being at their end."""
        if self.best is None or loss < self.best:
            return Progress(best=loss, best_step=step)
        return msgspec.structs.replace(self, losses=0.0, worse=self.worse + 1)


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where arrays came from: the metadata of every safetensors file that a run writes.

    experiment, hash: its name and hash; resolved: all of it. epochs, steps: trained so far; `steps` counts optimizer
    steps, those of an epoch that is not at its end included: the place in the data, which is a function of it and the
    seed. metrics: a checksum of those epochs' lines in the metrics, see `chain`. routine: see spec.command.routine.
    """

    format: int = FORMAT
    experiment: str
    hash: str
    resolved: dict[str, Any]
    seed: int
    precision: Precision
    implementation: str
    versions: dict[str, str]
    epochs: int
    steps: int
    metrics: str = ""
    routine: Routine = Routine()
    progress: Progress = Progress()

    def metadata(self) -> dict[str, str]:
        """As safetensors keeps it, which knows strings only; what is no string becomes JSON."""
        values = msgspec.structs.asdict(self)
        return {k: v if isinstance(v, str) else msgspec.json.encode(v).decode() for k, v in values.items()}

    @property
    def stopped_early(self) -> bool:
        """Whether patience is at its end."""
        return self.routine.patience is not None and self.progress.worse >= self.routine.patience

    @classmethod
    def from_metadata(cls, metadata: dict[str, str], file: Path) -> "Origin":
        """The opposite of `metadata`. Raises UsageError when that is not what the file holds."""
        if (found := metadata.get("format")) != str(FORMAT) and "steps" in metadata:
            raise UsageError(
                f"{file}: expected a checkpoint of format {FORMAT}, got format {found or 1}: of another version"
            )
        try:
            decoded = {key: msgspec.json.decode(metadata.get(key, "")) for key in ENCODED}
            return msgspec.convert({**metadata, **decoded}, cls, strict=False)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise UsageError(f"{file}: expected a checkpoint's metadata, got something else: {error}") from None


class Checkpoint(NamedTuple):
    """Where a training stands, and what brought it there."""

    state: State
    origin: Origin


class RunDirectory:
    """The files of one run. data: where the data of its experiment stand, if no longer where that says."""

    def __init__(self, path: Path, data: Path | None = None):
        self.path = path
        self.data = data
        self.experiment_file = path / "experiment.json"
        self.metrics_file = path / "metrics.jsonl"
        self.checkpoint_file = path / "checkpoint.safetensors"
        self.parameters_file = path / "parameters.safetensors"
        self.plot_file = path / "loss.png"
        self.best_file = path / "best.safetensors"
        self.kept = path / "checkpoints"

    def files(self) -> list[Path]:
        """All that a run writes."""
        return [
            *(self.experiment_file, self.metrics_file, self.checkpoint_file, self.parameters_file, self.plot_file),
            *(self.best_file, self.path / lock.NAME),
        ]

    def check_free(self) -> None:
        """Raise UsageError if there is something at this path already, other than a run that never began."""
        try:
            mode = self.path.lstat().st_mode
            if stat.S_ISLNK(mode):
                mode = self.path.stat().st_mode
            there = {path.name for path in self.path.iterdir()} if stat.S_ISDIR(mode) else set()
        except FileNotFoundError:
            if self.path.is_symlink():
                raise UsageError(f"--out {self.path}: expected a new or empty directory, got a broken link") from None
            return
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"--out {self.path}: expected a new or empty directory, got none: {reason}") from None
        if not stat.S_ISDIR(mode):
            what = files.kind(mode) if not stat.S_ISREG(mode) else "a file"
        elif {name for name in there if not name.endswith(files.PARTIAL)} <= BEGUN:
            return
        else:
            what = "a directory that is not empty (--resume continues it)"
        raise UsageError(f"--out {self.path}: expected a new or empty directory, got {what}")

    def begin(self, experiment: Experiment, start: Start, checkpoint: Checkpoint) -> None:
        """Write a new run's first files, the one that makes it a run last."""
        write_experiment(self.experiment_file, experiment)
        files.write(self.metrics_file, encode(start) + b"\n")
        self.save_checkpoint(checkpoint)

    def experiment(self) -> Experiment:
        """The resolved experiment. Raises UsageError or SpecError."""
        return read_experiment(self.experiment_file, self.data)

    def origin(self) -> Origin:
        """What the checkpoint says of itself, without its arrays being read. Raises UsageError."""
        return Origin.from_metadata(parameters.load_metadata(self.checkpoint_file), self.checkpoint_file)

    def append(self, events: Sequence[Event]) -> None:
        """Add lines to the metrics."""
        files.append(self.metrics_file, b"".join(encode(event) + b"\n" for event in events))

    def events(self) -> list[Event]:
        """The metrics, up to a line that was cut short, if there is one. Raises UsageError without metrics."""
        decoder = msgspec.json.Decoder(Event)
        events = []
        for line in files.read(self.metrics_file).splitlines():
            try:
                events.append(decoder.decode(line))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                break
        return events

    def rewind(self, epochs: int, steps: int | None = None) -> None:
        """Drop from the metrics all that came after that many epochs. Raises UsageError when there are fewer.

        steps: those of an epoch that is not at its end included; None where there are none.
        """
        files.write(self.metrics_file, b"".join(encode(event) + b"\n" for event in self.rewound(epochs, steps)))

    def rewound(self, epochs: int, steps: int | None = None) -> list[Event]:
        """The metrics without all that came after that many epochs. Raises UsageError when there are fewer.

        Metrics are written before the checkpoint they belong to, so a run that was stopped between the two has lines
        to spare, the last of them perhaps cut short. steps: see `rewind`.
        """
        kept: list[Event] = []
        for event in self.events():
            match event:
                case Start():
                    wanted = event.epochs_done < epochs or (steps is not None and event.steps_done < steps)
                case Epoch():
                    wanted = event.epoch <= epochs
                case Speed():
                    wanted = steps is not None and event.step <= steps
                case _:
                    wanted = False
            if wanted:
                kept.append(event)
        numbers = [event.epoch for event in kept if isinstance(event, Epoch)]
        # Counted first: a number of epochs that cannot be is no reason to make a list of them.
        if len(numbers) != epochs or numbers != list(range(1, epochs + 1)):
            got = f"{len(numbers)} epochs" + (f", the last being {numbers[-1]}" if numbers else "")
            raise UsageError(f"{self.metrics_file}: expected the epochs 1 to {epochs} of the checkpoint, got {got}")
        return kept

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint, and keep as many as its routine says. Raises UsageError, with the last one in place.

        At every moment there is one that is whole; the metrics that it counts on are on the disk before it is.
        """
        state, origin = checkpoint
        if os.path.exists(self.metrics_file):
            files.make_lasting(self.metrics_file)
        if origin.routine.keep > 1:
            self._keep_newest()
        carried = {CARRIED + name: array for name, array in state.carried.items()}
        parameters.save(self.checkpoint_file, {**state.parameters, **state.slots, **carried}, origin.metadata())
        if origin.progress.best_step == origin.steps and origin.progress.best is not None:
            files.link(self.checkpoint_file, self.best_file)
        self._drop_oldest(origin)

    def _keep_newest(self) -> None:
        """Let the checkpoint that is about to be replaced stay under its step."""
        try:
            newest = parameters.load_metadata(self.checkpoint_file).get("steps", "")
        except UsageError:
            return  # The first; or one that is not worth keeping.
        if not newest.isdecimal():
            return
        try:
            self.kept.mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(f"{self.kept}: cannot be made: {error.strerror}") from None
        files.link(self.checkpoint_file, self.kept_file(int(newest)))

    def kept_file(self, step: int) -> Path:
        """Where a checkpoint stays that is not the newest."""
        return self.kept / f"step-{step:010}.safetensors"

    def kept_files(self) -> list[Path]:
        """Those that are there, the newest first."""
        return sorted(self.kept.glob("step-*.safetensors"), reverse=True)

    def _drop_oldest(self, origin: Origin) -> None:
        """Remove what is more than is to be kept; what cannot be removed stays."""
        before = [file for file in self.kept_files() if file.name < self.kept_file(origin.steps).name]
        surplus = {*self.kept_files()} - {*before[: origin.routine.keep - 1]}
        for file in surplus:
            with contextlib.suppress(OSError):
                file.unlink()

    def recover(self) -> str | None:
        """Put the newest checkpoint that can be read in the place of one that cannot, and say so; None where it can.

        What cannot be read stays under another name. Raises UsageError where none can be read. One that can be read,
        and is of another run, is another matter: see `load_checkpoint`.
        """
        if not os.path.isdir(self.kept):
            return None
        files.drop_partial(self.kept)
        if not self.kept_files():
            return None
        experiment = self.experiment()
        try:
            parameters.load(self.checkpoint_file)
        except UsageError as error:
            wrong = error
        else:
            return None
        if not stat.S_ISREG(_mode(self.checkpoint_file)):
            raise wrong
        for file in self.kept_files():
            try:
                _, metadata = parameters.load(file, sealed=True)
            except UsageError:
                continue
            if metadata.get("hash") != experiment.hash:
                continue  # Of the run before it was prolonged.
            with contextlib.suppress(FileNotFoundError):
                os.replace(self.checkpoint_file, self.damaged_file)
            files.link(file, self.checkpoint_file)
            return f"{wrong}; going on from the checkpoint before it, of step {metadata.get('steps')}"
        raise wrong

    @property
    def damaged_file(self) -> Path:
        """Where a checkpoint goes that cannot be read."""
        return self.checkpoint_file.with_suffix(".damaged")

    def settle(self, origin: Origin) -> None:
        """Finish what a run may have been killed in after its newest checkpoint was written: the best one, as the
        newest knows it, where it is there, and the removal of what is more than is to be kept."""
        self._drop_oldest(origin)
        if origin.progress.best is None:
            return
        for file in (self.best_file, self.checkpoint_file, self.kept_file(origin.progress.best_step)):
            try:
                steps = parameters.load_metadata(file).get("steps")
            except UsageError:
                continue
            if steps == str(origin.progress.best_step):
                if file != self.best_file:
                    files.link(file, self.best_file)
                return

    def load_checkpoint(self, experiment: Experiment) -> Checkpoint:
        """Read the checkpoint. Raises UsageError or ParameterMismatch when it is not one of this experiment."""
        arrays, metadata = parameters.load(self.checkpoint_file)
        origin = Origin.from_metadata(metadata, self.checkpoint_file)
        self._check_origin(origin, experiment)
        table = experiment.model.parameters()
        trained = {parameter.name: arrays.pop(parameter.name) for parameter in table if parameter.name in arrays}
        parameters.check(table, trained, str(self.checkpoint_file))
        carried = {name: arrays.pop(CARRIED + name) for name in experiment.carried if CARRIED + name in arrays}
        shapes = experiment.carried if origin.steps else {}
        if (found := {name: array.shape for name, array in carried.items()}) != shapes:
            raise ParameterMismatch(
                f"{self.checkpoint_file}: expected the carried states {shapes}, after {origin.steps} steps, got {found}"
            )
        expected = initial_state(experiment.training.optimizer, trained).slots
        if {n: a.shape for n, a in arrays.items()} != {n: a.shape for n, a in expected.items()}:
            raise ParameterMismatch(
                f"{self.checkpoint_file}: expected the optimizer slots {sorted(expected)}, got {sorted(arrays)}"
            )
        # In the order of the table, which the file has lost: sums over all gradients may depend on it.
        slots = {name: arrays[name] for name in expected}
        for name, array in (trained | slots | carried).items():
            if array.dtype != origin.precision:
                raise ParameterMismatch(
                    f"{self.checkpoint_file}: {name}: expected {origin.precision}, got {array.dtype}"
                )
        return Checkpoint(State(trained, slots, origin.steps, carried), origin)

    def _check_origin(self, origin: Origin, experiment: Experiment) -> None:
        """Raise UsageError unless the checkpoint is of that experiment, and its counts can be."""
        # As JSON has it, in which the checkpoint does: lists, no tuples.
        there, training = placeless(msgspec.json.decode(msgspec.json.encode(experiment))), experiment.training
        if there != (resolved := placeless(origin.resolved)):
            raise UsageError(
                f"{self.experiment_file}: expected the experiment of {self.checkpoint_file.name}, got another: "
                f"{difference(resolved, there)}"
            )
        if not 0 <= origin.epochs <= training.epochs:
            raise UsageError(
                f"{self.checkpoint_file}: epochs: expected 0 to {training.epochs}, got {shorten(str(origin.epochs))}"
            )
        steps, each = origin.epochs * training.steps_per_epoch, training.steps_per_epoch
        if not steps <= origin.steps < steps + (each if origin.epochs < training.epochs else 1):
            within = f" or up to {each - 1} more" if each > 1 and origin.epochs < training.epochs else ""
            raise UsageError(
                f"{self.checkpoint_file}: steps: expected {steps}{within}, {each} for each of "
                f"{origin.epochs} epochs, got {shorten(str(origin.steps))}"
            )

    def check_metrics(self, origin: Origin) -> None:
        """Raise UsageError unless the metrics are those of the checkpoint's run."""
        events = self.rewound(origin.epochs, origin.steps)
        there = [event for event in self.events() if isinstance(event, Start)]
        for start in [event for event in events if isinstance(event, Start)] or there[:1]:
            for what, expected, got in (
                ("experiment", origin.experiment, start.experiment),
                ("seed", origin.seed, start.seed),
                ("precision", origin.precision, start.precision),
            ):
                if got != expected:
                    raise UsageError(
                        f"{self.metrics_file}: {what}: expected {expected}, as the checkpoint has, got {got}"
                    )
        # All of them: which count, and which are of epochs that are lost, is said by what may have changed.
        for start in there:
            if start.checksum != (expected := start.sealed().checksum):
                raise UsageError(
                    f"{self.metrics_file}: the start after epoch {start.epochs_done}: expected checksum {expected}, "
                    f"got {shorten(start.checksum) or 'none'}: changed, or of an earlier version"
                )
        found = chain("", (event for event in events if isinstance(event, Epoch)))
        if found != origin.metrics:
            raise UsageError(
                f"{self.metrics_file}: expected the epochs of the checkpoint's run (checksum {origin.metrics or 'none'}"
                f"), got others ({found or 'none'}): of another run, or changed"
            )

    def prolong(self, checkpoint: Checkpoint, start: Start, experiment: Experiment) -> None:
        """Make it the run of an experiment that has more epochs, from the checkpoint that was prepared for it."""
        self.append([start])
        self.save_checkpoint(checkpoint)
        write_experiment(self.experiment_file, experiment)

    def complete(self) -> None:
        """Finish what `prolong` was stopped in, if it was. Raises UsageError or SpecError."""
        if not os.path.lexists(self.checkpoint_file) and os.path.exists(self.experiment_file):
            raise UsageError(f"{self.path}: expected a run to resume, got one that never began: start it anew")
        there, origin = self.experiment(), self.origin()
        epochs = (origin.resolved.get("training") or {}).get("epochs")
        if origin.hash == there.hash or not isinstance(epochs, int) or epochs <= there.training.epochs:
            return
        prolonged = override(there, training__epochs=epochs)
        hashes = [event.hash for event in self.events() if isinstance(event, Start)]
        if prolonged.hash == origin.hash and there.hash in hashes and hashes[-1] == origin.hash:
            write_experiment(self.experiment_file, prolonged)


def _mode(path: Path) -> int:
    """What stands there; a regular file where there is nothing, which is none in the way."""
    try:
        return path.stat().st_mode
    except OSError:
        return stat.S_IFREG


def chain(checksum: str, epochs: Iterable[Epoch]) -> str:
    """The checksum of a run's epochs up to the last of these, from the one before the first; "" before any."""
    for epoch in epochs:
        checksum = digest(checksum.encode() + encode(epoch))
    return checksum


def placeless(values: dict[str, Any]) -> dict[str, Any]:
    """An experiment's values without where its data stand, which is no matter."""
    task = values.get("task")
    return {**values, "task": {**task, "path": ""}} if isinstance(task, dict) and "path" in task else values


def difference(there: Any, here: Any, path: str = "") -> str:
    """The first key on which two experiments differ, with both values."""
    if not (isinstance(there, dict) and isinstance(here, dict)):
        return f"{path}: expected {shorten(repr(there))}, got {shorten(repr(here))}"
    key = next(key for key in [*there, *here] if there.get(key) != here.get(key))
    return difference(there.get(key), here.get(key), f"{path}.{key}".lstrip("."))


def new_run_directory(out: Path | None, experiment: str, implementation: str) -> RunDirectory:
    """Make the directory `out`, or `runs/EXPERIMENT/IMPLEMENTATION-N` with the first N that is free.

    Raises UsageError if `out` is in use or cannot be made.
    """
    try:
        if out is not None:
            directory = RunDirectory(out)
            directory.check_free()
            out.mkdir(parents=True, exist_ok=True)
            return directory
        number = 1
        while True:
            path = RUNS / experiment / f"{implementation}-{number}"
            try:
                path.mkdir(parents=True)
                return RunDirectory(path)
            except FileExistsError:
                number += 1
    except OSError as error:
        raise UsageError(f"--out {out or RUNS}: cannot be made: {error.strerror}") from None


def read_experiment(path: Path, data: Path | None = None, same: bool = True) -> Experiment:
    """The experiment in an experiment.json. Raises UsageError when it cannot be read, SpecError when it is wrong.

    data: where its data stand now. same: they have to be the very bytes that they were, or UsageError is raised.
    """
    try:
        raw = msgspec.json.decode(files.read(path, LARGEST_FILE))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SpecError(str(path), "file", "valid JSON", str(error)) from None
    except RecursionError:
        raise SpecError(str(path), "file", "valid JSON", "values that are nested too deeply") from None
    if not isinstance(raw, dict):
        raise SpecError(str(path), "file", "object", repr(raw))
    return convert(raw if data is None else moved(raw, data, same, path), str(path))


def moved(raw: dict[str, Any], data: Path, same: bool, file: Path) -> dict[str, Any]:
    """An experiment's values with its data at another place; as they are where it has no such data. file: of values.

    same: raise UsageError unless the bytes there are those that it has the digest of.
    """
    task = raw.get("task")
    if not isinstance(task, dict) or not isinstance(task.get("path"), str) or task.get("name") not in WITH_DATA:
        return raw
    place, expected = os.path.abspath(data), shorten(str(task.get("digest")))
    if not same:
        return {**raw, "task": {**task, "path": place, "digest": ""}}
    try:
        found = documents.find(place).digest
    except ValueError as error:
        raise UsageError(f"--data {data}: {str(error).removeprefix('path: ')}") from None
    if found != expected:
        raise UsageError(f"--data {data}: expected the data of {file.parent}, SHA-256 {expected}, got others, {found}")
    return {**raw, "task": {**task, "path": place}}


def load_parameters(path: Path, experiment: Experiment, precision: Precision) -> "Fitted":
    """Read parameters for the experiment's model, whatever format they are in, cast to the precision.

    Raises UsageError when there is no such file or it holds no weights, FrameworkMissing where what reads it is not
    installed, ParameterMismatch when they do not fit the model, or where a value is not finite, or not in that
    precision.
    """
    # Here, since few runs start from given weights.
    from spec.weights.fitting import Fitted, fit
    from spec.weights.reading import read

    held = read(path)
    for field, got in held.requires.items():
        expected = getattr(experiment.model, field, got)
        if expected != got and not (isinstance(got, float) and np.float32(got) == np.float32(expected)):
            raise ParameterMismatch(f"{path}: expected weights of {field} = {expected}, got {got}")
    table = experiment.model.parameters()
    # Of a checkpoint of our own, such as the best one.
    slots = {f"{parameter.name}.{slot}" for parameter in table for slot in experiment.training.optimizer.slots}
    ours = slots <= held.arrays.keys()
    arrays = {n: a for n, a in held.arrays.items() if not (ours and (n in slots or n.startswith(CARRIED)))}
    fitted = fit(table, arrays, str(path))
    for name, array in fitted.parameters.items():
        if not np.issubdtype(array.dtype, np.floating):
            raise ParameterMismatch(f"{path}: {name}: expected a floating dtype, got {array.dtype}")
    loaded = {one.name: parameters.cast(fitted.parameters[one.name], precision, f"{path}: {one.name}") for one in table}
    return Fitted(loaded, (*held.said, *fitted.said))


def write_experiment(path: Path, experiment: Experiment) -> None:
    """Write an experiment.json."""
    files.write(path, msgspec.json.format(msgspec.json.encode(experiment), indent=2) + b"\n")
