"""What a run reports, event by event: the lines of metrics.jsonl and of `--json`."""

import hashlib
from typing import Any

import msgspec

from spec.framework import Device, Precision


class Start(msgspec.Struct, frozen=True, kw_only=True, tag="start", tag_field="event"):
    """Something begins to compute; again for each resumption, which may be another implementation's.

    parameters: how many values are trained. epochs: of the whole recipe; 0 for a walk, whatever the recipe says.
    epochs_done: before this start.
    data: what the batches are drawn from, where that is somebody's. directory: where the run leaves its files, if it
    leaves any. checksum: of all other fields, see `sealed`: it stands
    here and not in a checkpoint, which has the same bits however often a run was started.
    """

    experiment: str
    hash: str
    implementation: str
    versions: dict[str, str]
    device: Device
    precision: Precision
    seed: int
    parameters: int
    epochs: int
    epochs_done: int
    directory: str | None
    data: str = ""
    checksum: str = ""

    def sealed(self) -> "Start":
        """The same with its checksum."""
        return msgspec.structs.replace(self, checksum=digest(encode(msgspec.structs.replace(self, checksum=""))))


class WeightsFitted(msgspec.Struct, frozen=True, kw_only=True, tag="weights", tag_field="event"):
    """Before the start, what was done to the weights that were given, a sentence each; nothing where nothing was."""

    said: tuple[str, ...]


class Epoch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="epoch", tag_field="event"):
    """One epoch, counted from 1.

    loss: mean of the training losses, each before its step. evaluation_loss, solved, predicted: after the epoch, in
    eval mode, on the task's evaluation batch. solved: whether everything is right, or what else the experiment's
    outcome means by learning. bits_per_byte: there too, where the targets are bytes of a text.
    """

    epoch: int
    loss: float
    evaluation_loss: float
    solved: bool
    predicted: str
    bits_per_byte: float | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True, tag="step", tag_field="event"):
    """One time step of a walk, counted from 1: every tensor by its name, in the order of computation.

    part: "encoder" or "decoder" where the model has both, otherwise empty. reads, should_say, says: symbols of the
    first sequence, where there are any. tensors: nested lists, the batch being the first axis.
    """

    part: str
    step: int
    steps: int
    reads: str | None
    should_say: str | None
    says: str | None
    tensors: dict[str, Any]


class EnsembleStart(msgspec.Struct, frozen=True, kw_only=True, tag="ensemble", tag_field="event"):
    """An ensemble begins, or goes on.

    first_seed, seeds: the first, and how many from there on. seeds_done: before this start. chunk: trained at once.
    """

    experiment: str
    hash: str
    implementation: str
    versions: dict[str, str]
    device: Device
    precision: Precision
    first_seed: int
    seeds: int
    seeds_done: int
    chunk: int
    epochs: int
    parameters: int
    directory: str


class Members(msgspec.Struct, frozen=True, kw_only=True, tag="members", tag_field="event"):
    """A chunk of an ensemble is trained and saved. per_second: trainings a second since the start, so far."""

    seeds_done: int
    seeds: int
    method: str
    per_second: float


class Summary(msgspec.Struct, frozen=True, kw_only=True, tag="summary", tag_field="event"):
    """The numbers of an ensemble.

    solved: members whose last evaluation is solved. interval: Wilson's, 95 %, for the rate. ever_solved: members with
    a time to solve. median_epochs, late_epochs: the median and the 95 % quantile of the time to solve over all
    members, None where that quantile falls on members that never do. losses, evaluation_losses: quantiles of the last
    step's training loss, and of the loss of the last evaluation. lowest: the lowest of the latter. diverged: members
    with a loss that is not finite; in quantiles they count as infinitely high, which JSON writes as null.
    per_second: trainings a second, without the chunks of earlier starts.
    """

    experiment: str
    implementation: str
    method: str
    seeds: int
    first_seed: int
    solved: int
    rate: float
    interval: tuple[float, float]
    ever_solved: int
    median_epochs: int | None
    late_epochs: int | None
    losses: tuple[float, float, float]
    evaluation_losses: tuple[float, float, float]
    lowest: float
    diverged: int
    per_second: float | None


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end", tag_field="event", omit_defaults=True):
    """The run is over. reached: whether the experiment came out as it states. error: why it did not get that far.

    compilations: functions that were compiled for it since its last start, where somebody compiles.
    """

    reached: bool
    exit_code: int
    compilations: int = 0
    error: str | None = None


Event = Start | WeightsFitted | Epoch | Step | EnsembleStart | Members | Summary | End


def encode(event: Event) -> bytes:
    """One line of JSON, without its end. NaN and infinities become null."""
    return msgspec.json.encode(event)


def digest(content: bytes) -> str:
    """A checksum, of 20 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:20]
