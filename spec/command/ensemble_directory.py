"""What an ensemble leaves behind.

experiment.json           the resolved experiment, overrides included
ensemble.json             EnsemblePlan: which seeds, in which chunks, by whom
chunks/N.safetensors      the members of chunk N, until all are there
ensemble.safetensors      all members, in the order of the seeds, see ARRAYS
summary.json              see spec.command.ensemble_summary
ensemble.png              the losses' quantiles over the steps, and the times to solve
"""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from spec import files, parameters
from spec.arguments import LARGEST_SEED
from spec.command.run_directory import RunDirectory, read_experiment, write_experiment
from spec.errors import UsageError, shorten
from spec.experiment import Experiment
from spec.framework import Precision
from spec.limits import LARGEST_FILE

ARRAYS = ("losses", "evaluation_losses", "solved", "first_solved")
"""losses (seeds, steps); evaluation_losses float64 (seeds,) and solved uint8 (seeds,), after the last epoch;
first_solved int64 (seeds,), see spec.framework.Ensemble. Not its logits, which may be far larger than all this."""


class EnsemblePlan(msgspec.Struct, frozen=True, kw_only=True):
    """An ensemble, as it was asked for. chunk: members trained at once, so that resuming cuts alike."""

    experiment: str
    hash: str
    implementation: str
    versions: dict[str, str]
    first_seed: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_SEED)]
    seeds: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_SEED + 1)]
    chunk: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_SEED + 1)]
    precision: Precision

    def metadata(self) -> dict[str, str]:
        """As safetensors keeps it, which knows strings only."""
        values = msgspec.structs.asdict(self)
        return {k: v if isinstance(v, str) else msgspec.json.encode(v).decode() for k, v in values.items()}


class EnsembleDirectory:
    """The files of one ensemble. data: as of a RunDirectory."""

    def __init__(self, path: Path, data: Path | None = None):
        self.path = path
        self.data = data
        self.experiment_file = path / "experiment.json"
        self.plan_file = path / "ensemble.json"
        self.chunks = path / "chunks"
        self.arrays_file = path / "ensemble.safetensors"
        self.summary_file = path / "summary.json"
        self.plot_file = path / "ensemble.png"

    def files(self) -> list[Path]:
        """All that an ensemble writes, but for its chunks."""
        return [self.experiment_file, self.plan_file, self.arrays_file, self.summary_file, self.plot_file]

    def check_free(self) -> None:
        """Raise UsageError if there is something at this path already."""
        RunDirectory(self.path).check_free()

    def begin(self, experiment: Experiment, plan: EnsemblePlan) -> None:
        """Write a new ensemble's first files, the one that makes it an ensemble last."""
        write_experiment(self.experiment_file, experiment)
        files.write(self.plan_file, msgspec.json.format(msgspec.json.encode(plan), indent=2) + b"\n")

    def make_chunks(self) -> None:
        """Make the folder of the chunks. Raises UsageError."""
        try:
            self.chunks.mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(f"{self.chunks}: cannot be made: {error.strerror}") from None

    def experiment(self) -> Experiment:
        """The resolved experiment. Raises UsageError or SpecError."""
        return read_experiment(self.experiment_file, self.data)

    def plan(self) -> EnsemblePlan:
        """The plan. Raises UsageError when there is none."""
        try:
            return msgspec.json.decode(files.read(self.plan_file, LARGEST_FILE), type=EnsemblePlan)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UsageError(f"{self.plan_file}: expected an ensemble's, got something else: {error}") from None

    def chunk_file(self, number: int) -> Path:
        """Where chunk `number`, from 0, is kept."""
        return self.chunks / f"{number}.safetensors"

    def save_chunk(
        self, number: int, arrays: Mapping[str, np.ndarray], seeds: Sequence[int], method: str, plan: EnsemblePlan
    ) -> None:
        """Write the members of a chunk, with what they are of."""
        parameters.save(self.chunk_file(number), arrays, {**chunk_of(plan, seeds), "method": method})

    def load_chunk(
        self, number: int, seeds: Sequence[int], steps: int, plan: EnsemblePlan
    ) -> tuple[dict[str, np.ndarray], str]:
        """The arrays of a chunk and its method. Raises UsageError unless it is of that plan, those seeds and steps."""
        return self._load(self.chunk_file(number), chunk_of(plan, seeds), len(seeds), steps)

    def check_chunk(self, number: int, seeds: Sequence[int], plan: EnsemblePlan) -> None:
        """The same of what it says of itself, without reading it. Raises UsageError."""
        file = self.chunk_file(number)
        self._check(file, chunk_of(plan, seeds), parameters.load_metadata(file))

    def load_arrays(self, plan: EnsemblePlan, steps: int) -> tuple[dict[str, np.ndarray], str]:
        """The arrays of all members and their method. Raises UsageError unless they are that plan's."""
        return self._load(self.arrays_file, plan.metadata(), plan.seeds, steps)

    def _load(
        self, file: Path, described: dict[str, str], members: int, steps: int
    ) -> tuple[dict[str, np.ndarray], str]:
        arrays, metadata = parameters.load(file)
        self._check(file, described, metadata)
        shapes = {name: array.shape for name, array in arrays.items()}
        expected = {name: (members, steps) if name == "losses" else (members,) for name in ARRAYS}
        if shapes != expected:
            raise UsageError(f"{file}: expected arrays of shapes {expected}, got {shapes}")
        return arrays, metadata.get("method", "")

    def _check(self, file: Path, described: dict[str, str], metadata: dict[str, str]) -> None:
        for key, expected in described.items():
            if (got := metadata.get(key, "nothing")) != expected:
                what = f"{key}: expected {expected}, as {self.plan_file.name} has"
                raise UsageError(f"{file}: {what}, got {shorten(got)}: another ensemble's")

    def finished(self) -> bool:
        """Whether all members are in one file."""
        return self.arrays_file.exists()

    def drop_chunks(self) -> None:
        """Remove the chunks, once their members stand in one file; what cannot be removed stays."""
        with contextlib.suppress(OSError):
            for file in self.chunks.glob("*.safetensors"):
                file.unlink(missing_ok=True)
            self.chunks.rmdir()


def chunk_of(plan: EnsemblePlan, seeds: Sequence[int]) -> dict[str, str]:
    """What a chunk says of itself: which seeds it is of, and of what training."""
    span = f"{seeds[0]} to {seeds[-1]}"
    of = {"experiment": plan.experiment, "hash": plan.hash, "implementation": plan.implementation}
    return {**of, "precision": plan.precision, "seeds": span}
