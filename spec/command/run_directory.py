"""What a run leaves behind, one directory a run.

experiment.json           the resolved experiment, overrides included; train it again by giving its path
metrics.jsonl             a line a start, a line an epoch, a line at the end (see spec.command.events)
checkpoint.safetensors    where the training stands: parameters, optimizer slots, and Origin as metadata
parameters.safetensors    the final parameters under their canonical names, and Origin as metadata
loss.png                  the loss over the epochs
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from spec import files, parameters
from spec.command.events import Epoch, Event, Start, encode
from spec.errors import ParameterMismatch, SpecError, UsageError
from spec.experiment import Experiment, convert
from spec.framework import Precision
from spec.parameters import Parameters
from spec.training import State, initial_state

RUNS = Path("runs")
"""Where run directories go when nobody says otherwise, relative to the working directory."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where arrays came from: the metadata of every safetensors file that a run writes.

    epochs, steps: trained so far; `steps` counts optimizer steps.
    """

    experiment: str
    hash: str
    seed: int
    precision: Precision
    implementation: str
    versions: dict[str, str]
    epochs: int
    steps: int

    def metadata(self) -> dict[str, str]:
        """As safetensors keeps it, which knows strings only; what is no string becomes JSON."""
        values = msgspec.structs.asdict(self)
        return {k: v if isinstance(v, str) else msgspec.json.encode(v).decode() for k, v in values.items()}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str], file: Path) -> "Origin":
        """The opposite of `metadata`. Raises UsageError when that is not what the file holds."""
        try:
            versions = msgspec.json.decode(metadata.get("versions", ""))
            return msgspec.convert({**metadata, "versions": versions}, cls, strict=False)
        except msgspec.MsgspecError as error:
            raise UsageError(f"{file}: expected a checkpoint's metadata, got something else: {error}") from None


class Checkpoint(NamedTuple):
    """Where a training stands, and what brought it there."""

    state: State
    origin: Origin


class RunDirectory:
    """The files of one run."""

    def __init__(self, path: Path):
        self.path = path
        self.experiment_file = path / "experiment.json"
        self.metrics_file = path / "metrics.jsonl"
        self.checkpoint_file = path / "checkpoint.safetensors"
        self.parameters_file = path / "parameters.safetensors"
        self.plot_file = path / "loss.png"

    def check_free(self) -> None:
        """Raise UsageError if there is something at this path already."""
        if self.path.is_dir() and not any(self.path.iterdir()):
            return
        if self.path.exists():
            what = "a directory that is not empty (--resume continues it)" if self.path.is_dir() else "a file"
            raise UsageError(f"--out {self.path}: expected a new or empty directory, got {what}")

    def begin(self, experiment: Experiment, start: Start, checkpoint: Checkpoint) -> None:
        """Write a new run's first files."""
        files.write(self.experiment_file, msgspec.json.format(msgspec.json.encode(experiment), indent=2) + b"\n")
        self.append([start])
        self.save_checkpoint(checkpoint)

    def experiment(self) -> Experiment:
        """The resolved experiment. Raises UsageError or SpecError."""
        return read_experiment(self.experiment_file)

    def append(self, events: Sequence[Event]) -> None:
        """Add lines to the metrics."""
        try:
            with self.metrics_file.open("ab") as file:
                file.write(b"".join(encode(event) + b"\n" for event in events))
        except OSError as error:
            raise UsageError(f"{self.metrics_file}: cannot be written: {error.strerror}") from None

    def events(self) -> list[Event]:
        """The metrics, up to a line that was cut short, if there is one. Raises UsageError without metrics."""
        decoder = msgspec.json.Decoder(Event)
        events = []
        for line in _read(self.metrics_file).splitlines():
            try:
                events.append(decoder.decode(line))
            except msgspec.MsgspecError:
                break
        return events

    def rewind(self, epochs: int) -> None:
        """Drop from the metrics all that came after that many epochs. Raises UsageError when there are fewer.

        Metrics are written before the checkpoint they belong to, so a run that was stopped between the two has lines
        to spare, the last of them perhaps cut short.
        """
        kept: list[Event] = []
        for event in self.events():
            started = isinstance(event, Start) and event.epochs_done < epochs
            if started or (isinstance(event, Epoch) and event.epoch <= epochs):
                kept.append(event)
        numbers = [event.epoch for event in kept if isinstance(event, Epoch)]
        if numbers != list(range(1, epochs + 1)):
            got = f"{len(numbers)} epochs" + (f", the last being {numbers[-1]}" if numbers else "")
            raise UsageError(f"{self.metrics_file}: expected the epochs 1 to {epochs} of the checkpoint, got {got}")
        files.write(self.metrics_file, b"".join(encode(event) + b"\n" for event in kept))

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint."""
        state, origin = checkpoint
        parameters.save(self.checkpoint_file, {**state.parameters, **state.slots}, origin.metadata())

    def load_checkpoint(self, experiment: Experiment) -> Checkpoint:
        """Read the checkpoint. Raises UsageError or ParameterMismatch when it is not one of this experiment."""
        arrays, metadata = parameters.load(self.checkpoint_file)
        origin = Origin.from_metadata(metadata, self.checkpoint_file)
        table = experiment.model.parameters()
        trained = {parameter.name: arrays.pop(parameter.name) for parameter in table if parameter.name in arrays}
        parameters.check(table, trained, str(self.checkpoint_file))
        expected = initial_state(experiment.training.optimizer, trained).slots
        if {n: a.shape for n, a in arrays.items()} != {n: a.shape for n, a in expected.items()}:
            raise ParameterMismatch(
                f"{self.checkpoint_file}: expected the optimizer slots {sorted(expected)}, got {sorted(arrays)}"
            )
        # In the order of the table, which the file has lost: sums over all gradients may depend on it.
        slots = {name: arrays[name] for name in expected}
        for name, array in (trained | slots).items():
            if array.dtype != origin.precision:
                raise ParameterMismatch(
                    f"{self.checkpoint_file}: {name}: expected {origin.precision}, got {array.dtype}"
                )
        return Checkpoint(State(trained, slots, origin.steps), origin)


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


def read_experiment(path: Path) -> Experiment:
    """The experiment in an experiment.json. Raises UsageError when it cannot be read, SpecError when it is wrong."""
    try:
        raw = msgspec.json.decode(_read(path))
    except msgspec.DecodeError as error:
        raise SpecError(str(path), "file", "valid JSON", str(error)) from None
    if not isinstance(raw, dict):
        raise SpecError(str(path), "file", "object", repr(raw))
    return convert(raw, str(path))


def load_parameters(path: Path, experiment: Experiment, precision: Precision) -> Parameters:
    """Read canonical parameters for the experiment's model, cast to the precision.

    Raises UsageError when there is no such file, ParameterMismatch when it does not fit the model's table.
    """
    arrays, _ = parameters.load(path)
    table = experiment.model.parameters()
    parameters.check(table, arrays, str(path))
    for name, array in arrays.items():
        if not np.issubdtype(array.dtype, np.floating):
            raise ParameterMismatch(f"{path}: {name}: expected a floating dtype, got {array.dtype}")
    return {parameter.name: arrays[parameter.name].astype(precision) for parameter in table}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
