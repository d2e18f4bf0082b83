"""Where a training on several devices runs: in this process, if JAX has so many devices here, else in one beside it.

JAX counts a CPU as so many devices as it was told before it computed anything. The train command tells it in time; who
has computed already has a process started that has them. See docs/devices.md.
"""

from contextlib import suppress

import jax

from flax_impl.devices import count_of, devices_of
from flax_impl.training import train
from spec import devices, processes
from spec.experiment import Experiment
from spec.framework import MaskSource, Settings, Trajectory
from spec.training import State

PACKAGE = __name__.partition(".")[0]

COUNT = "JAX_NUM_CPU_DEVICES"
"""JAX's variable that says how many devices a CPU is."""

FEWEST = 4
"""Devices of a process of ours, at least: it also serves who asks for fewer."""

_counts: list[int] = []
"""Of the process that this module has started; empty where it has started none."""


def train_on_devices(
    experiment: Experiment,
    state: State,
    epochs: int,
    seed: int,
    settings: Settings,
    record: bool = False,
    masks: MaskSource = "own",
    part: int | None = None,
) -> Trajectory:
    """See spec.framework.Side: train_on_devices."""
    devices.check(experiment, settings)
    job = (experiment, state, epochs, seed, settings, record, masks, part)
    if settings.devices == 1 and not settings.fixed_order:
        return train(*job)
    count = count_of(settings)
    if settings.device != "cpu" or made_ready(count):
        devices_of(settings)
        return train(*job, devices=count)
    return _beside(count).ask(*job)


def serve() -> int:
    """The life of a process that has devices: train what it is asked."""
    return processes.answer(train_on_devices)


def made_ready(count: int) -> bool:
    """Whether the CPU is so many devices in this process, from now on if JAX has not computed anything."""
    with suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", count)
    return len(jax.local_devices(backend="cpu")) >= count


def _beside(count: int) -> processes.Process:
    """The process that has so many devices."""
    there = processes.running(PACKAGE)
    if there and _counts and _counts[0] >= count:
        return there[0]
    # It may also be that of another copy of this module.
    processes.stop(PACKAGE)
    _counts[:] = [max(count, FEWEST)]
    return processes.Process(serve, {COUNT: str(_counts[0])})
