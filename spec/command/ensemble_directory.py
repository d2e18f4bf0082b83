"""What an ensemble leaves behind.

experiment.json           the resolved experiment, overrides included
ensemble.json             Plan: which seeds, in which chunks, by whom
chunks/N.safetensors      the members of chunk N, until all are there
ensemble.safetensors      all members, in the order of the seeds, see ARRAYS
summary.json              see spec.command.ensemble_summary
ensemble.png              the losses' quantiles over the steps, and the times to solve
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from spec import files, parameters
from spec.command.run_directory import RunDirectory, read_experiment
from spec.errors import UsageError
from spec.experiment import Experiment
from spec.framework import Precision

ARRAYS = ("losses", "evaluation_losses", "solved", "first_solved")
"""losses (seeds, steps); evaluation_losses float64 (seeds,) and solved uint8 (seeds,), after the last epoch;
first_solved int64 (seeds,), see spec.framework.Ensemble. Not its logits, which may be far larger than all this."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """An ensemble, as it was asked for. chunk: members trained at once, so that resuming cuts alike."""

    experiment: str
    hash: str
    implementation: str
    versions: dict[str, str]
    first_seed: int
    seeds: int
    chunk: int
    precision: Precision


class EnsembleDirectory:
    """The files of one ensemble."""

    def __init__(self, path: Path):
        self.path = path
        self.experiment_file = path / "experiment.json"
        self.plan_file = path / "ensemble.json"
        self.chunks = path / "chunks"
        self.arrays_file = path / "ensemble.safetensors"
        self.summary_file = path / "summary.json"
        self.plot_file = path / "ensemble.png"

    def check_free(self) -> None:
        """Raise UsageError if there is something at this path already."""
        RunDirectory(self.path).check_free()

    def begin(self, experiment: Experiment, plan: Plan) -> None:
        """Write a new ensemble's first files."""
        files.write(self.experiment_file, msgspec.json.format(msgspec.json.encode(experiment), indent=2) + b"\n")
        self.make_chunks()
        files.write(self.plan_file, msgspec.json.format(msgspec.json.encode(plan), indent=2) + b"\n")

    def make_chunks(self) -> None:
        """Make the folder of the chunks. Raises UsageError."""
        try:
            self.chunks.mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(f"{self.chunks}: cannot be made: {error.strerror}") from None

    def experiment(self) -> Experiment:
        """The resolved experiment. Raises UsageError or SpecError."""
        return read_experiment(self.experiment_file)

    def plan(self) -> Plan:
        """The plan. Raises UsageError when there is none."""
        try:
            return msgspec.json.decode(self.plan_file.read_bytes(), type=Plan)
        except OSError as error:
            raise UsageError(f"{self.plan_file}: expected an ensemble's, got nothing: {error.strerror}") from None
        except msgspec.MsgspecError as error:
            raise UsageError(f"{self.plan_file}: expected an ensemble's, got something else: {error}") from None

    def chunk_file(self, number: int) -> Path:
        """Where chunk `number`, from 0, is kept."""
        return self.chunks / f"{number}.safetensors"

    def save_chunk(self, number: int, arrays: Mapping[str, np.ndarray], method: str) -> None:
        """Write the members of a chunk."""
        parameters.save(self.chunk_file(number), arrays, {"method": method})

    def load_chunk(self, number: int, members: int, steps: int) -> tuple[dict[str, np.ndarray], str]:
        """The arrays of a chunk and its method. Raises UsageError unless it has that many members and steps."""
        file = self.chunk_file(number)
        arrays, metadata = parameters.load(file)
        shapes = {name: array.shape for name, array in arrays.items()}
        expected = {name: (members, steps) if name == "losses" else (members,) for name in ARRAYS}
        if shapes != expected:
            raise UsageError(f"{file}: expected arrays of shapes {expected}, got {shapes}")
        return arrays, metadata.get("method", "")

    def finished(self) -> bool:
        """Whether all members are in one file."""
        return self.arrays_file.exists()

    def drop_chunks(self) -> None:
        """Remove the chunks, once their members stand in one file."""
        for file in self.chunks.glob("*.safetensors"):
            file.unlink(missing_ok=True)
        if self.chunks.exists() and not any(self.chunks.iterdir()):
            self.chunks.rmdir()
