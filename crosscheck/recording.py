"""What one side leaves behind of one experiment: arrays in safetensors, and beside them what they are, in JSON."""

import os
import tempfile
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from crosscheck.comparison import Arrays
from crosscheck.determinism import Unsteady
from spec import experiment as experiments
from spec import parameters, text
from spec.errors import UsageError
from spec.experiment import Experiment
from spec.framework import Precision

FORMAT = 6
"""To be raised with every change of what is asked of an implementation, or of how it is recorded."""

MANIFEST = "manifest.json"
"""The file of a directory of recordings that says whose they are."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one request.

    inputs: digest of all that was handed to the implementation, see crosscheck.witness. reason: why there are no
    arrays, and `traceback` where that was an exception. unsteady: answers that were others when asked for again.
    """

    rung: str
    precision: Precision
    case: str
    status: Literal["recorded", "unsupported", "failed"]
    seconds: float
    inputs: str = ""
    reason: str = ""
    traceback: str = ""
    unsteady: list[Unsteady] = []

    @property
    def key(self) -> str:
        """What the names of its arrays begin with."""
        return key_of(self.precision, self.rung, self.case)


def key_of(precision: Precision, rung: str, case: str) -> str:
    """What the names of the arrays of an answer begin with."""
    return f"{precision}/{rung}/{case}/"


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """One side's answers on one experiment.

    token: of the run that made it, so that no earlier run's file can be taken for this one's. experiment: as it was,
    so that recordings can be compared when the file has changed since. overhead: seconds of the process by kind that
    went into anything but computing, "starting" of the process's first recording, the others among `seconds`.
    leaves_out: what the implementation declares, see spec.options.
    """

    format: int
    token: str
    implementation: str
    experiment: dict[str, Any]
    experiment_hash: str
    seed: int
    device: str
    describe: dict[str, str]
    machine: dict[str, str]
    answers: list[Answer]
    seconds: float
    overhead: dict[str, float] = {}
    leaves_out: dict[str, str] = {}

    def resolved(self) -> Experiment:
        """The experiment that was recorded."""
        return experiments.convert(self.experiment, f"recording of {self.implementation}")


class Manifest(msgspec.Struct, kw_only=True):
    """The contents of a directory of recordings. experiments: name -> hash. lost: name -> why there is none."""

    format: int
    token: str
    implementation: str
    rungs: list[str]
    precisions: list[Precision]
    thorough: bool
    experiments: dict[str, str]
    lost: dict[str, str] = {}


class Stale(Exception):
    """A recording that is not of this run, not of this experiment, or not whole."""


def write(directory: Path, name: str, recording: Recording, arrays: Arrays) -> None:
    """Write both files of a recording, the one that completes it last."""
    parameters.save(directory / f"{name}.safetensors", arrays, {"token": recording.token})
    write_whole(directory / f"{name}.json", msgspec.json.format(msgspec.json.encode(recording)))


def read(directory: Path, name: str, token: str, experiment_hash: str) -> tuple[Recording, dict[str, np.ndarray]]:
    """Read a recording. Raises Stale unless it is that run's and that experiment's."""
    try:
        recording = msgspec.json.decode((directory / f"{name}.json").read_bytes(), type=Recording)
        arrays, metadata = parameters.load(directory / f"{name}.safetensors")
    except (OSError, UsageError, msgspec.DecodeError) as error:
        raise Stale(f"{directory / name}: expected a recording, got none that can be read: {error}") from None
    wrong = [
        f"expected {what} {expected}, got {got}"
        for what, expected, got in (
            ("format", FORMAT, recording.format),
            ("run", token, recording.token),
            ("run of the arrays", token, metadata.get("token")),
            ("experiment", experiment_hash, recording.experiment_hash),
        )
        if expected != got
    ]
    if wrong:
        raise Stale(f"{directory / name}: stale recording: {'; '.join(wrong)}")
    return _bounded(recording), {text.admit(key, text.NAME): array for key, array in arrays.items()}


def _bounded(recording: Recording) -> Recording:
    """The same with bounded texts: the file may come from anybody."""
    answers = [
        msgspec.structs.replace(
            answer,
            reason=text.admit(answer.reason),
            traceback=text.admit(answer.traceback, text.TRACEBACK, lines=True),
        )
        for answer in recording.answers
    ]
    told = {name: text.descriptions(getattr(recording, name)) for name in ("describe", "machine")}
    return msgspec.structs.replace(recording, answers=answers, device=text.admit(recording.device, text.NAME), **told)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write the directory's manifest; the last thing that a run does there."""
    write_whole(directory / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))


def read_manifest(directory: Path) -> Manifest:
    """Read the directory's manifest. Raises UsageError."""
    try:
        manifest = msgspec.json.decode((directory / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(f"{directory}: expected a directory of recordings (with {MANIFEST}), got {error}") from None
    manifest.implementation = text.admit(manifest.implementation, text.NAME)
    manifest.lost = {name: text.admit(reason) for name, reason in manifest.lost.items()}
    return manifest


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # mkstemp's files are for their owner alone.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
