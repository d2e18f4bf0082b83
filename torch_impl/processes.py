"""The processes of a training on several devices: one for each, which take the same steps.

The first is the caller's. It starts the others, or finds them there where `torchrun` has, and hands each of them what
it is asked itself. They talk through gloo on CPUs and nccl on GPUs, and on the loopback interface unless the
environment says otherwise. See docs/devices.md.
"""

import atexit
import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed as dist

from spec import devices, processes, text
from spec.errors import DeviceLost, OhlolError, Unsupported, UsageError
from spec.experiment import Experiment
from spec.framework import MaskSource, Settings, Trajectory
from spec.training import State
from torch_impl.devices import ALONE, PACKAGE, Place, check, compare
from torch_impl.training import train

PATIENCE = timedelta(days=1)
"""How long devices wait for each other. One that ends is noticed at once, when its connections do; one that is slow is
waited for."""

LOOPBACK = {"linux": "lo", "darwin": "lo0"}
"""The interface that no other machine reaches, by platform."""

INTERFACE = "GLOO_SOCKET_IFNAME"
"""gloo's variable that says on which interface to listen."""

MEETING = "OHLOL_MEETING"
"""The variable that tells processes of ours where they find each other: a file, so that nothing listens for it."""


class Job(NamedTuple):
    """What the first process is asked, for the others. threads: those of torch's that it has, before it shares them
    out: a norm that another number of threads adds up rounds otherwise, and the devices' weights would part."""

    experiment: Experiment
    state: State
    epochs: int
    seed: int
    settings: Settings
    record: bool
    masks: MaskSource
    part: int | None
    threads: int


_folders: list[tempfile.TemporaryDirectory] = []
"""Where processes that this module has started find each other; empty where it has started none."""


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
    check(experiment, settings)
    job = Job(experiment, state, epochs, seed, settings, record, masks, part, torch.get_num_threads())
    if settings.devices == 1:
        return _take_part(job, ALONE)
    with _noticing(settings.devices):
        _begin(settings.devices)
        dist.broadcast_object_list([job], src=0, device=torch.device("cpu"))
        return _take_part(job, Place(0, settings.devices))


def serve() -> int:
    """The life of a process that is not the first: take part in whatever the first one is asked, until it ends."""
    place = launched()
    try:
        _join(place, os.environ.get(MEETING, "env://"))
        with suppress(DeviceLost):  # Here, too: and the first one says so and lets this one go.
            compare(place, 0, {})
        while (job := _received()) is not None:
            with suppress(OhlolError):  # The first process raises the same.
                _take_part(job, place)
        _leave()
    except Exception as error:
        print(f"device {place.number} of {place.devices}: {text.exception(error)}", file=sys.stderr)
        return 1
    return 0


def launched() -> Place:
    """Which process this is of those that were started together, by `torchrun` for one; else the only one."""
    if "MASTER_ADDR" not in os.environ and MEETING not in os.environ:
        return ALONE
    return Place(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


def _begin(count: int) -> None:
    """Have the other processes there, and be one of their group."""
    place = launched()
    if place.devices > 1:
        if place.devices != count:
            raise UsageError(f"--devices: expected {place.devices}, as many as torchrun has started, got {count}")
        if not dist.is_initialized():
            _join(place, "env://")
            atexit.register(_end)
            compare(place, 0, {})
        return
    others = processes.running(PACKAGE)
    if _folders and len(others) == count - 1 and dist.is_initialized():
        return
    if dist.is_initialized() and not others:
        raise Unsupported("--devices: expected a process that is in no group of torch.distributed, got one that is")
    # They may also be those of another copy of this module.
    _abandon()
    folder = tempfile.TemporaryDirectory()
    _folders.append(folder)
    meeting = f"file://{folder.name}/meeting"
    for number in range(1, count):
        there = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        processes.Process(serve, {name: str(value) for name, value in there.items()} | {MEETING: meeting})
    _join(Place(0, count), meeting)
    atexit.register(_end)
    compare(Place(0, count), 0, {})


def _join(place: Place, meeting: str) -> None:
    """Become one of the group. meeting: where it meets, a URL of torch.distributed's."""
    alone = os.environ.get("LOCAL_WORLD_SIZE", str(place.devices)) == str(place.devices)
    interface = LOOPBACK.get(sys.platform) if alone and INTERFACE not in os.environ else None
    if interface:
        os.environ[INTERFACE] = interface
    try:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, meeting, PATIENCE, world_size=place.devices, rank=place.number)
    finally:
        if interface:
            del os.environ[INTERFACE]


def _received() -> Job | None:
    """The next job; None where there is to be none."""
    jobs: list[Job | None] = [None]
    dist.broadcast_object_list(jobs, src=0, device=torch.device("cpu"))
    return jobs[0]


def _take_part(job: Job, place: Place) -> Trajectory:
    """Train on this device, with its share of the cores that torch would take.

    With one of them where the order is fixed: a product that threads share is added up in pieces of another size.
    """
    before, ordered = torch.get_num_threads(), job.settings.fixed_order
    torch.set_num_threads(1 if ordered else max(1, job.threads // place.devices))
    try:
        if place.devices > 1:
            compare(place, job.state.step, job.state.parameters)
        return train(*job[:-1], place=place, ordered=ordered)
    finally:
        torch.set_num_threads(before)


@contextmanager
def _noticing(count: int) -> Iterator[None]:
    """Raise DeviceLost where another process has ended, whatever became of that here."""
    try:
        yield
    except OhlolError:
        raise  # So do the others.
    except BaseException as error:
        others = processes.running(PACKAGE)
        names = [f"device {n} of {count} (process {other.process.pid})" for n, other in enumerate(others, 1)]
        said = processes.lost(others, names) if isinstance(error, RuntimeError) else ""
        if not said and isinstance(error, dist.DistError):
            said = f"a device of {count} is no more there: {text.exception(error)}"
        _abandon()
        if said:
            raise DeviceLost(said) from None
        raise


def _end() -> None:
    """Let the others go, and leave."""
    if dist.is_initialized():
        with suppress(RuntimeError):
            dist.broadcast_object_list([None], src=0, device=torch.device("cpu"))
        _leave()


def _leave() -> None:
    # Else a process may abort as it ends, where a replica outlives its group.
    gc.collect()
    dist.destroy_process_group()


def _abandon() -> None:
    """End the others, whatever they are at, and leave."""
    processes.stop(PACKAGE)
    if dist.is_initialized():
        with suppress(RuntimeError):
            _leave()
    while _folders:
        _folders.pop().cleanup()
