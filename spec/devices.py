"""A training on several devices at once: whose each sequence of a batch is, and what cannot be shared out.

Each device has all parameters and a share of every batch's sequences. A step is that of the whole batch all the same:

    gradient = sum over devices of the gradient of (its targets' losses) / (what "mean" divides the whole batch's by)

Shares have unequal numbers of targets, padding not counted, so that no mean of the shares' means is this. Gradients are
added up before they are clipped. Dropout masks are those of the whole batch, cut; an implementation's own masks are
drawn on each device.

With a fixed order a batch is taken in SHARDS shares, whatever the number of devices, each of which computes as many as
another, one by one. All gradients come to all devices, which add them up in the order of the shares.
"""

import itertools

from spec.errors import UsageError
from spec.experiment import Experiment
from spec.framework import Settings
from spec.models import Embedding

SHARDS = 4
"""Shares of a batch where their order is fixed: what 1, 2 and 4 divide."""


def shares(size: int, count: int) -> list[slice]:
    """So many sequences in so many shares, in order and as equal as can be: the first ones have one more."""
    least, more = divmod(size, count)
    ends = [share * least + min(share, more) for share in range(count + 1)]
    return [slice(*each) for each in itertools.pairwise(ends)]


def check(experiment: Experiment, settings: Settings) -> None:
    """Raise UsageError where the experiment's batches are not to be shared out among the settings' devices."""
    size, parts = experiment.task.batch_size, experiment.training.accumulate
    if settings.fixed_order:
        check_order(experiment, settings)
    if size < settings.devices * parts:
        of = f" for each of {parts} parts" if parts > 1 else ""
        raise UsageError(
            f"--devices: expected at most one for each of the batch's {size} sequences{of}, got {settings.devices}"
        )
    inputs = experiment.model.inputs
    if (settings.devices > 1 or settings.fixed_order) and isinstance(inputs, Embedding) and inputs.scale_grad_by_freq:
        raise UsageError(
            f"--devices: expected 1 beside scale_grad_by_freq, which counts in whole batches, got {settings.devices}"
        )


def check_order(experiment: Experiment, settings: Settings) -> None:
    """Raise UsageError where the experiment's batches are not to be taken in SHARDS shares by so many devices."""
    size, parts = experiment.task.batch_size, experiment.training.accumulate
    if SHARDS % settings.devices:
        raise UsageError(f"--devices: expected 1, 2 or {SHARDS} with --fixed-order, got {settings.devices}")
    if settings.device != "cpu":
        raise UsageError(f"--fixed-order: expected --device cpu, whose sums have one order, got {settings.device}")
    if size < SHARDS * parts:
        of = f" in each of {parts} parts" if parts > 1 else ""
        raise UsageError(f"--fixed-order: expected a batch of at least {SHARDS} sequences{of}, got one of {size}")
    if experiment.carried:
        raise UsageError(f"--fixed-order: expected an experiment that carries no states, got {experiment.name}")
