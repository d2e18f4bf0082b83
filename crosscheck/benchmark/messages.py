"""What the parent says to a worker that measures, and what it answers; a line of JSON each."""

import msgspec

from spec.benchmark import AnyWorkload
from spec.framework import Device


class Introduce(msgspec.Struct, frozen=True, tag=True):
    """Say who you are, and who takes part in each of these workloads."""

    workloads: list[AnyWorkload]
    device: Device


class Prepare(msgspec.Struct, frozen=True, tag=True):
    """Make a contender ready and let it do the workload once. key: what it is called from now on."""

    key: str
    contender: str
    workload: AnyWorkload
    device: Device


class Run(msgspec.Struct, frozen=True, tag=True):
    """Do so many repetitions."""

    key: str
    repetitions: int


class Weigh(msgspec.Struct, frozen=True, tag=True):
    """Do one repetition and say how much memory it took."""

    key: str


class Release(msgspec.Struct, frozen=True, tag=True):
    """Forget everything that is prepared."""


Request = Introduce | Prepare | Run | Weigh | Release


class Introduced(msgspec.Struct, frozen=True, tag=True):
    """implementation: the module's name. contenders: of each workload. limits: what holds the number of threads."""

    implementation: str
    describe: dict[str, str]
    contenders: list[list[str]]
    limits: str


class Ready(msgspec.Struct, frozen=True, tag=True):
    """seconds: of the first repetition, compilation included. share: of the workload that a repetition does."""

    seconds: float
    share: float


class Ran(msgspec.Struct, frozen=True, tag=True):
    """wall, cpu: seconds of the whole block. waiting: CPU seconds burnt since the block before, while others ran."""

    wall: float
    cpu: float
    waiting: float


class Weighed(msgspec.Struct, frozen=True, tag=True):
    """Bytes: the process's peak above what it held before; temporaries and results, as a compiler planned them.

    None: not measured.
    """

    peak: int | None
    temporary: int | None
    results: int | None


class Released(msgspec.Struct, frozen=True, tag=True):
    """Done."""


class WorkloadBroken(msgspec.Struct, frozen=True, tag=True):
    """The request failed; the worker goes on."""

    message: str


class BenchmarkRefused(msgspec.Struct, frozen=True, tag=True):
    """This implementation cannot be measured at all; the worker ends."""

    message: str
    exit_code: int


Answer = Introduced | Ready | Ran | Weighed | Released | WorkloadBroken | BenchmarkRefused
