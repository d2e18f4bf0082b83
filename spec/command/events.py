"""What a run reports, event by event: the lines of metrics.jsonl and of `--json`."""

from typing import Any

import msgspec

from spec.framework import Device, Precision


class Start(msgspec.Struct, frozen=True, kw_only=True, tag="start", tag_field="event"):
    """Something begins to compute; again for each resumption, which may be another implementation's.

    parameters: how many values are trained. epochs: of the whole recipe. epochs_done: before this start.
    directory: where the run leaves its files, if it leaves any.
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


class Epoch(msgspec.Struct, frozen=True, kw_only=True, tag="epoch", tag_field="event"):
    """One epoch, counted from 1.

    loss: mean of the training losses, each before its step. evaluation_loss, solved, predicted: after the epoch, in
    eval mode, on the task's evaluation batch.
    """

    epoch: int
    loss: float
    evaluation_loss: float
    solved: bool
    predicted: str


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


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end", tag_field="event", omit_defaults=True):
    """The run is over. reached: whether the experiment came out as it states. error: why it did not get that far."""

    reached: bool
    exit_code: int
    error: str | None = None


Event = Start | Epoch | Step | End


def encode(event: Event) -> bytes:
    """One line of JSON, without its end. NaN and infinities become null."""
    return msgspec.json.encode(event)
