"""A training on several devices at once: whose each sequence of a batch is, and what cannot be shared out.

Each device has all parameters and a share of every batch's sequences. A step is that of the whole batch all the same:

    gradient = sum over devices of the gradient of (its targets' losses) / (what "mean" divides the whole batch's by)

Shares have unequal numbers of targets, padding not counted, so that no mean of the shares' means is this. Gradients are
added up before they are clipped. Dropout masks are those of the whole batch, cut; an implementation's own masks are
drawn on each device.

With a fixed order a batch is taken in SHARDS shares, whatever the number of devices, each of which computes as many as
another, one by one. All gradients come to all devices, which add them up in the order of the shares.

Devices that take the same steps from the same weights have the same weights, to the last bit. Nothing in a step brings
weights together again once they are not: so the devices hold them against each other now and then, see `Standing`.
"""

import hashlib
import importlib
import itertools
import platform
import sys
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spec.errors import UsageError
from spec.experiment import Experiment
from spec.framework import Settings

SHARDS = 4
"""Shares of a batch where their order is fixed: what 1, 2 and 4 divide."""

COMPARED = 100
"""Steps from one comparison of the devices to the next. It reads all weights once, where a step reads them at least
three times and computes with them."""


class Standing(NamedTuple):
    """What all devices of a training have to have alike.

    program: what computes, by name: its modules, and the versions beneath. step: steps that are done. weights: a
    checksum of each tensor, by name.
    """

    program: dict[str, str]
    step: int
    weights: dict[str, int]


def compared(steps: int) -> list[bool]:
    """After which of so many steps in a row the devices are compared: every COMPARED-th, and the last. Counted from the
    first of them: devices at different steps would ask each other at different times."""
    return [done % COMPARED == 0 or done == steps for done in range(1, steps + 1)]


def checksums(parameters: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Of each tensor's bytes."""
    return {name: zlib.crc32(np.ascontiguousarray(values).data) for name, values in parameters.items()}


def program(package: str, *libraries: str) -> dict[str, str]:
    """What an implementation computes by in this process: the code of its modules and the spec's that are loaded,
    Python, and the versions of these libraries. Folders are not listed: a recording would depend on what is in them."""
    found: dict[str, str] = {}
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and name.partition(".")[0] in ("spec", package):
            found[name] = _digest(file)
    versions = {library: str(importlib.import_module(library).__version__) for library in libraries}
    return found | {"Python": platform.python_version()} | versions


@cache
def _digest(file: str) -> str:
    """By path, once: who loads one copy of an implementation after another has each in a place of its own."""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]


def parted(standings: Sequence[Standing], kind: str = "device") -> str:
    """Which device has something that the others do not have, and what, in words; empty where all have the same.

    Modules that not all have loaded are not compared: the first device's process does more than train. kind: what each
    of them is called.

    What most have is taken for right, and of two what the first one has.
    """
    count = len(standings)
    for name in standings[0].program:
        held = [standing.program[name] for standing in standings if name in standing.program]
        if len(held) == count and (found := _odd(held)):
            one, other = f"{kind} {found.device} of {count}", f"{kind} {found.other}"
            return f"{one} computes by {name} {found.got}, {other} by {found.expected}"
    if found := _odd([standing.step for standing in standings]):
        one, other = f"{kind} {found.device} of {count}", f"{kind} {found.other}"
        return f"{one} is at step {found.got}, {other} at step {found.expected}"
    for name in dict.fromkeys(name for standing in standings for name in standing.weights):
        if found := _odd([standing.weights.get(name) for standing in standings]):
            return other_weights(found.device, count, standings[0].step, name, kind)
    return ""


def other_weights(device: int, count: int, step: int, name: str, kind: str = "device") -> str:
    """Those words for weights of which that tensor is the first."""
    return f"{kind} {device} of {count} has other weights than the others after step {step}: {name} differs"


class _Odd(NamedTuple):
    """A device that got something else than is expected, which another one has."""

    device: int
    got: object
    other: int
    expected: object


def _odd(values: Sequence[object]) -> _Odd | None:
    """The first device that has not what most have."""
    ((expected, _),) = Counter(values).most_common(1)
    other = values.index(expected)
    return next((_Odd(n, got, other, expected) for n, got in enumerate(values) if got != expected), None)


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
    if (settings.devices > 1 or settings.fixed_order) and experiment.counts_in_whole_batches:
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
