"""Where a training on several devices runs: in this process, if JAX has so many devices here, else in one beside it; or
in several that were started together, of which this is one.

JAX counts a CPU as so many devices as it was told before it computed anything. The train command tells it in time; who
has computed already has a process started that has them. Of several processes each has devices of its own, all compute
one program on the devices of all, and the first hands the others what it is asked itself. They talk through gloo on
CPUs. See docs/devices.md.
"""

import atexit
import ipaddress
import os
import pickle
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from flax_impl.devices import PACKAGE, compare, count_of, devices_of, padded
from flax_impl.training import train
from spec import devices, processes, text
from spec.errors import DeviceLost, OhlolError, Unsupported, UsageError
from spec.experiment import Experiment
from spec.framework import MaskSource, Settings, Trajectory
from spec.training import State

COUNT = "JAX_NUM_CPU_DEVICES"
"""JAX's variable that says how many devices a CPU is."""

FEWEST = 4
"""Devices of a process of ours, at least: it also serves who asks for fewer."""

ADDRESS, PROCESSES, NUMBER = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
"""The variables of a process that is one of several: where the first one listens for the others (JAX's own), how many
there are, and which it is."""

BIND = "JAX_COORDINATOR_BIND_ADDRESS"
"""JAX's variable that says on which address the first one listens. By JAX's default that is every one it has."""

HEARTBEAT = 10
"""Seconds without a word after which JAX takes a process for dead. What it computes with others ends at once."""


class Place(NamedTuple):
    """Which of so many processes this one is."""

    number: int = 0
    processes: int = 1


class Job(NamedTuple):
    """What the first process is asked, for the others."""

    experiment: Experiment
    state: State
    epochs: int
    seed: int
    settings: Settings
    record: bool
    masks: MaskSource
    part: int | None


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
    job = Job(experiment, state, epochs, seed, settings, record, masks, part)
    if settings.devices == 1 and not settings.fixed_order:
        return train(*job)
    count = count_of(settings)
    if launched().processes > 1:
        with _noticing():
            begin(settings)
            return _take_part(_shared(job))
    if settings.device != "cpu" or made_ready(count):
        devices_of(settings)
        return train(*job, devices=count)
    return _beside(count).ask(*job)


def serve() -> int:
    """The life of a process that is not the first: train what it is asked."""
    place = launched()
    if place.processes == 1:
        return processes.answer(train_on_devices)
    try:
        with suppress(DeviceLost):  # Here, too: and the first one says so and lets this one go.
            _join(place)
        while (job := _shared(None)) is not None:
            with suppress(OhlolError):  # The first process raises the same.
                _take_part(job)
        # Before the first one ends: who loses it while connected is aborted.
        jax.distributed.shutdown()
    except Exception as error:
        print(f"process {place.number} of {place.processes}: {text.exception(error)}", file=sys.stderr)
        return 1
    return 0


def launched() -> Place:
    """Which process this is of those that were started together; else the only one. Raises UsageError."""
    if PROCESSES not in os.environ:
        return Place()
    found = {name: os.environ.get(name, "") for name in (NUMBER, PROCESSES)}
    if ADDRESS not in os.environ or not all(value.isdecimal() for value in found.values()):
        said = ", ".join(f"{name}={os.environ.get(name, '')}" for name in (ADDRESS, PROCESSES, NUMBER))
        raise UsageError(f"expected {ADDRESS}=HOST:PORT and whole numbers for {PROCESSES} and {NUMBER}, got {said}")
    place = Place(*map(int, found.values()))
    if place.number >= place.processes:
        raise UsageError(f"{NUMBER}: expected less than {PROCESSES}={place.processes}, got {place.number}")
    return place


def begin(settings: Settings) -> None:
    """Have the devices that the settings ask for, before JAX has looked for any: those of all processes that were
    started together, or as many as the CPU is told to be. Raises UsageError, and DeviceLost."""
    place, count = launched(), count_of(settings)
    if place.processes == 1:
        if count > 1 and settings.device == "cpu":
            made_ready(count)
        return
    if not jax.distributed.is_initialized():
        atexit.register(_end)
        _join(place)
    there = len(jax.devices(settings.device))
    if there != count or settings.devices == 1:
        raise UsageError(
            f"--devices: expected {there}, as many as the {place.processes} processes have, got {settings.devices}"
        )


def made_ready(count: int) -> bool:
    """Whether the CPU is so many devices in this process, from now on if JAX has not computed anything."""
    with suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", count)
    return len(jax.local_devices(backend="cpu")) >= count


def _join(place: Place) -> None:
    """Become one of the processes that compute together. Raises DeviceLost where they are not alike."""
    address = os.environ[ADDRESS]
    if _is_loopback(address) and BIND not in os.environ:
        _listen_on(address.rpartition(":")[0])
    # Else JAX ends this process, too, where another one has ended, without a word of ours.
    jax.config.update("jax_enable_recoverability", True)
    with _no_output():
        try:
            jax.distributed.initialize(
                address,
                place.processes,
                place.number,
                cluster_detection_method="deactivate",
                coordinator_bind_address=os.environ.get(BIND, address),
                heartbeat_timeout_seconds=HEARTBEAT,
            )
        except RuntimeError as error:
            raise DeviceLost(f"{ADDRESS}: expected {place.processes} processes, got {text.exception(error)}") from None
        compare(0, {})


def _is_loopback(address: str) -> bool:
    """Whether no other machine reaches it."""
    host = address.rpartition(":")[0].strip("[]")
    with suppress(OSError):
        host = socket.gethostbyname(host)
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _listen_on(host: str) -> None:
    """Have gloo listen there, and not on the address of this machine's name, which others may reach; JAX has no option
    for it. Raises Unsupported where that cannot be had."""
    try:
        from jax._src.lib import _jax  # pyright: ignore[reportPrivateImportUsage]

        _jax.make_gloo_tcp_collectives = partial(_jax.make_gloo_tcp_collectives, hostname=host)
    except (ImportError, AttributeError):
        if not _is_loopback(f"{socket.gethostname()}:"):
            raise Unsupported(
                f"{ADDRESS}: expected a JAX whose gloo can be kept to {host}, got {jax.__version__}; {BIND} says that "
                "others may connect"
            ) from None


@contextmanager
def _no_output() -> Iterator[None]:
    """While what libraries write on stdout goes to stderr: gloo says there that it is connected."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _shared(job: Job | None) -> Any:
    """What the first process has, on all of them."""
    content = pickle.dumps(job) if launched().number == 0 else b""
    size = int(multihost_utils.broadcast_one_to_all(np.uint32(len(content))))
    return pickle.loads(multihost_utils.broadcast_one_to_all(padded(content, size))[:size].tobytes())


def _take_part(job: Job) -> Trajectory:
    """Train on this process's devices together with those of the others."""
    compare(job.state.step, job.state.parameters)
    return train(*job, devices=count_of(job.settings))


@contextmanager
def _noticing() -> Iterator[None]:
    """Raise DeviceLost where another process has ended."""
    try:
        yield
    except OhlolError:
        raise  # So do the others.
    except (RuntimeError, ValueError) as error:
        if "gloo" not in str(error).lower() and "UNAVAILABLE" not in str(error):
            raise
        _lost.append(True)
        place = launched()
        which = f"process {1 - place.number}" if place.processes == 2 else "a process"
        raise DeviceLost(f"{which} of {place.processes} is no more there: {text.exception(error)}") from None


_lost: list[bool] = []
"""Whether another process has ended before it was let go."""


def _end() -> None:
    """Let the others go, and wait until they have gone: they cannot take part in a second sum."""
    if not _lost and jax.distributed.is_initialized():
        with suppress(RuntimeError, ValueError):
            _shared(None)
            _shared(None)


def _beside(count: int) -> processes.Process:
    """The process that has so many devices."""
    there = processes.running(PACKAGE)
    if there and _counts and _counts[0] >= count:
        return there[0]
    # It may also be that of another copy of this module.
    processes.stop(PACKAGE)
    _counts[:] = [max(count, FEWEST)]
    return processes.Process(serve, {COUNT: str(_counts[0])})
