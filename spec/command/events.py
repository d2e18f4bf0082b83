"""What a run reports, event by event: the lines of metrics.jsonl and of `--json`."""

import hashlib
from typing import Any

import msgspec

from spec.framework import Device, Precision


class Start(msgspec.Struct, frozen=True, kw_only=True, tag="start", tag_field="event"):
    """Something begins to compute; again for each resumption, which may be another implementation's.

    parameters: how many values are trained. epochs: of the whole recipe; 0 for a walk, whatever the recipe says.
    epochs_done, steps_done: before this start; optimizer steps, where it is one of a training.
    data: what the batches are drawn from, where that is somebody's. directory: where the run leaves its files, if it
    leaves any. checksum: of all other fields, see `sealed`: it stands here and not in a checkpoint, which has the same
    bits however often a run was started.
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
    steps_done: int = 0
    checksum: str = ""

    def sealed(self) -> "Start":
        """The same with its checksum."""
        return msgspec.structs.replace(self, checksum=digest(encode(msgspec.structs.replace(self, checksum=""))))


class WeightsFitted(msgspec.Struct, frozen=True, kw_only=True, tag="weights", tag_field="event"):
    """Before the start, what was done to the weights that were given, a sentence each; nothing where nothing was."""

    said: tuple[str, ...]


class Measured(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model is worth on all of some data, in eval mode.

    loss: of the recipe, in float64. accuracy: the share of what is asked for that is predicted right, where that is
    classes. rmse: the root of the mean squared error, where it is numbers. targets: how much is asked for.
    bits_per_byte: where each target is a byte of a text. lowest_loss, loss_at_most: the lowest that there is, or one to
    be reached, where the experiment's outcome is told by it. exact_match, sequences: the share of so many sequences of
    which everything is predicted right, where the outcome is told by that.
    """

    loss: float
    accuracy: float | None = None
    rmse: float | None = None
    targets: int
    bits_per_byte: float | None = None
    lowest_loss: float | None = None
    loss_at_most: float | None = None
    exact_match: float | None = None
    sequences: int | None = None


class Epoch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="epoch", tag_field="event"):
    """One epoch, counted from 1.

    loss: mean of the training losses, each before its step. evaluation_loss, solved, predicted: after the epoch, in
    eval mode, on the task's evaluation batch. solved: whether everything is right, or what else the experiment's
    outcome means by learning. bits_per_byte: there too, where the targets are bytes of a text. validation: on all that
    the task keeps for it, where that was looked at.
    """

    epoch: int
    loss: float
    evaluation_loss: float
    solved: bool
    predicted: str
    bits_per_byte: float | None = None
    validation: Measured | None = None


class Speed(msgspec.Struct, frozen=True, kw_only=True, tag="speed", tag_field="event"):
    """How fast it goes, every ten seconds or so: nothing of it is the same twice, and nothing depends on it.

    step: optimizer steps done, of `steps` in all. loss: of the last one. tokens_per_second: time steps of training
    sequences, padding included, since the last such event. seconds_left: at that pace.
    """

    step: int
    steps: int
    loss: float
    tokens_per_second: float
    seconds_left: float


class Evaluated(msgspec.Struct, frozen=True, kw_only=True, tag="evaluated", tag_field="event"):
    """What parameters are worth, on all the data that the task has for it. source: the file that they are from.

    solved, predicted: as of an epoch; the latter empty where there are many batches. reached: whether the experiment
    came out as it states.
    """

    experiment: str
    hash: str
    implementation: str
    source: str
    measured: Measured
    solved: bool
    predicted: str
    reached: bool


class Generated(msgspec.Struct, frozen=True, kw_only=True, tag="generated", tag_field="event"):
    """What a model writes on from a text, see spec.generation. source: the file that its parameters are from.

    bytes: as they were chosen; text: what they say in UTF-8, with a sign for those that say nothing. per_second: bytes,
    with all that has to be compiled and loaded.
    """

    experiment: str
    hash: str
    implementation: str
    source: str
    prompt: str
    text: str
    bytes: list[int]
    temperature: float
    seed: int
    per_second: float


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

    stopped_after: the epoch after which patience was at its end, where it was.
    compilations: functions that were compiled for it since its last start, where somebody compiles.
    """

    reached: bool
    exit_code: int
    compilations: int = 0
    error: str | None = None
    stopped_after: int | None = None


Event = Start | WeightsFitted | Epoch | Speed | Evaluated | Generated | Step | EnsembleStart | Members | Summary | End


def encode(event: Event) -> bytes:
    """One line of JSON, without its end. NaN and infinities become null."""
    return msgspec.json.encode(event)


def digest(content: bytes) -> str:
    """A checksum, of 20 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:20]
