"""What one side leaves behind of one experiment: a safetensors file of arrays, with what they are in its metadata."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from crosscheck.comparison import Arrays, Unsteady
from crosscheck.request import Options
from spec import experiment as experiments
from spec import files, parameters, text
from spec.errors import SpecError, UsageError
from spec.experiment import Experiment
from spec.framework import Precision

FORMAT = 13
"""To be raised with every change of what is asked of an implementation, or of how it is recorded."""

MANIFEST = "manifest.json"
"""The file of a directory of recordings that says whose they are."""

LARGEST_MANIFEST = 10**7
"""Bytes of it; one entry takes about fifty."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one request.

    inputs: digest of all that was handed to the implementation, see crosscheck.probes.witness. reason: why there are no
    arrays, and `traceback` where that was an exception. unsteady: answers that were others when asked for again.
    """

    check: str
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
        return key_of(self.precision, self.check, self.case)


def key_of(precision: Precision, check: str, case: str) -> str:
    """What the names of the arrays of an answer begin with."""
    return f"{precision}/{check}/{case}/"


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """One side's answers on one experiment.

    token: of the run that made it, so that no earlier run's file can be taken for this one's. experiment: as it was,
    so that recordings can be compared when the file has changed since. overhead: seconds of the process by kind that
    went into anything but computing, "starting" of the process's first recording, the others among `seconds`.
    compilations: how many functions were compiled for it.
    leaves_out, follows_spec: what the implementation declares, see spec.options. options: what it was to compute by.
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
    compilations: int = 0
    leaves_out: dict[str, str] = {}
    follows_spec: bool = True
    options: Options = Options()

    def resolved(self) -> Experiment:
        """The experiment that was recorded."""
        return experiments.convert(self.experiment, f"recording of {self.implementation}")


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The contents of a directory of recordings. experiments: name -> hash. lost: name -> why there is none.

    named: whether somebody named them, see spec.experiment.Named. checksum: of all else.
    """

    format: int
    token: str
    implementation: str
    checks: list[str]
    precisions: list[Precision]
    thorough: bool
    experiments: dict[str, str]
    lost: dict[str, str] = {}
    named: bool = False
    checksum: str = ""

    def sealed(self) -> "Manifest":
        """The same with its checksum."""
        content = msgspec.structs.replace(self, checksum="")
        digest = hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()
        return msgspec.structs.replace(self, checksum=digest)


class Stale(Exception):
    """A recording that is not of this run, not of this experiment, or not whole."""


def file(directory: Path, name: str) -> Path:
    """Where an experiment's recording is."""
    return directory / f"{name}.safetensors"


def write(path: Path, recording: Recording, arrays: Arrays, further: Mapping[str, str] | None = None) -> None:
    """Write a recording, with a checksum over every bit of it. further: metadata. Raises UsageError.

    Nobody waits for the disk: the checksum tells a file that a power failure has cut, and most are gone in a minute.
    """
    described = {"recording": msgspec.json.encode(recording).decode(), **(further or {})}
    parameters.save(path, arrays, described, lasting=False)


def load(path: Path) -> tuple[Recording, dict[str, np.ndarray], dict[str, str]]:
    """A recording, its arrays, and what further metadata it has.

    Raises Stale unless it is whole, as it was written, in this format, and of the experiment that it names.
    """
    try:
        arrays, metadata = parameters.load(path, sealed=True)
        recording = msgspec.json.decode(metadata.pop("recording"), type=Recording)
    except KeyError:
        raise Stale(f"{path}: expected a recording, got other arrays") from None
    except (UsageError, msgspec.MsgspecError) as error:
        raise Stale(f"{path}: expected a recording, got none that can be read: {error}") from None
    if recording.format != FORMAT:
        raise Stale(f"{path}: expected format {FORMAT}, got {recording.format}")
    try:
        own = recording.resolved().hash
    except SpecError as error:
        raise Stale(f"{path}: {error}") from None
    if own != recording.experiment_hash:
        raise Stale(f"{path}: expected an experiment with the hash {recording.experiment_hash}, got {own}")
    return recording, arrays, metadata


def read(directory: Path, name: str, token: str, experiment_hash: str) -> tuple[Recording, dict[str, np.ndarray]]:
    """Read a recording of a run. Raises Stale as `load` does, and unless it is that run's and that experiment's."""
    recording, arrays, _ = load(file(directory, name))
    wrong = [
        f"expected {what} {expected}, got {got}"
        for what, expected, got in (
            ("run", token, recording.token),
            ("experiment", experiment_hash, recording.experiment_hash),
            ("name", name, recording.experiment.get("name")),
        )
        if expected != got
    ]
    if wrong:
        raise Stale(f"{file(directory, name)}: stale recording: {'; '.join(wrong)}")
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
    files.write(directory / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest.sealed())))


def read_manifest(directory: Path) -> Manifest:
    """Read the directory's manifest. Raises UsageError."""
    path = directory / MANIFEST
    try:
        manifest = msgspec.json.decode(files.read(path, LARGEST_MANIFEST), type=Manifest)
    except (UsageError, msgspec.MsgspecError, RecursionError) as error:
        raise UsageError(f"{directory}: expected a directory of recordings (with {MANIFEST}), got {error}") from None
    if manifest.format != FORMAT:
        raise UsageError(f"{path}: expected format {FORMAT}, got {manifest.format}: record it anew")
    if manifest.sealed().checksum != manifest.checksum:
        raise UsageError(f"{path}: expected it as it was written, got another checksum: it was changed")
    if not manifest.experiments:
        raise UsageError(f"{path}: expected at least one experiment, got none")
    for name in manifest.experiments:
        try:
            experiments.check_name(name)
        except ValueError as error:
            raise UsageError(f"{path}: {error}") from None
    return manifest
