"""One implementation that is measured, in a process of its own: takes requests, answers each with one line.

Started by crosscheck.benchmark.turns as `python -m crosscheck.benchmark.worker IMPLEMENTATION THREADS`.
"""

import ctypes
import gc
import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

import msgspec

from crosscheck.benchmark.messages import (
    Answer,
    BenchmarkRefused,
    Introduce,
    Introduced,
    Prepare,
    Ran,
    Ready,
    Release,
    Released,
    Request,
    Run,
    Weigh,
    Weighed,
    WorkloadBroken,
)
from crosscheck.recording import channel, implementation
from spec import text
from spec.benchmark import Benchmark, Prepared
from spec.errors import DeviceMissing, FrameworkMissing, OhlolError, UsageError
from spec.framework import Framework, Settings

CALM = 0.1
"""A process that uses less of a core than this has come to rest."""

LOOK = 0.002
"""Seconds between two looks at whether it has."""

PATIENCE = 0.1
"""Seconds after which a worker answers whether or not it has."""


def main(name: str, threads: int) -> int:
    """Serve requests until standard input ends."""
    # Before a framework starts its threads, of which XLA has one for each core that it may use.
    limits = _limit(threads)
    with channel.opened() as (requests, answers):
        try:
            server = Server(*_load(name), limits)
            for line in requests:
                answer = server.answer(msgspec.json.decode(line, type=Request))
                answers.write(msgspec.json.encode(answer) + b"\n")
                answers.flush()
        except OhlolError as error:
            refusal = BenchmarkRefused(text.admit(str(error)), error.exit_code)
            answers.write(msgspec.json.encode(refusal) + b"\n")
    return 0


def _load(name: str) -> tuple[str, Framework, Benchmark]:
    """The implementation and its benchmark. Raises UsageError, FrameworkMissing."""
    framework = implementation.load(name)
    module = f"{getattr(framework, '__name__', name)}.benchmark"
    try:
        benchmark = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise FrameworkMissing(implementation.not_installed(name, error)) from None
        benchmark = None
    lacking = [part for part in ("contenders", "prepare") if not callable(getattr(benchmark, part, None))]
    if lacking:
        raise UsageError(
            f"{name}: expected a file benchmark.py in it with the functions of spec.benchmark.Benchmark, "
            f"got none named {', '.join(lacking)}"
        )
    return module.partition(".")[0], framework, cast(Benchmark, benchmark)


def _limit(threads: int) -> str:
    """Keep the process to so many cores, where the system can; returns what holds the number of threads."""
    variables = f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
    if not hasattr(os, "sched_setaffinity"):
        return f"{variables}; XLA takes every core here, since this system cannot keep a process to some"
    cores = sorted(os.sched_getaffinity(0))[:threads]
    os.sched_setaffinity(0, cores)
    return f"{variables}; the process is kept to cores {', '.join(map(str, cores))}"


class Server:
    """What a worker knows: its implementation, and what it has prepared."""

    def __init__(self, name: str, framework: Framework, benchmark: Benchmark, limits: str):
        self._name = name
        self._framework = framework
        self._benchmark = benchmark
        self._limits = limits
        self._prepared: dict[str, Prepared] = {}
        self._rested = time.process_time()

    def answer(self, request: Request) -> Answer:
        """Do what is asked. Raises OhlolError for what ends everything."""
        waiting = time.process_time() - self._rested
        try:
            match request:
                case Introduce():
                    return self._introduce(request)
                case Prepare():
                    return self._prepare(request)
                case Run(key=key, repetitions=repetitions):
                    wall, cpu = _timed(self._prepared[key].run, repetitions)
                    return Ran(wall, cpu, waiting)
                case Weigh(key=key):
                    return _weigh(self._prepared[key])
                case Release():
                    self._prepared.clear()
                    gc.collect()
                    return Released()
        except (DeviceMissing, FrameworkMissing):
            raise
        # Also SystemExit: it is the contender that fails.
        except BaseException as error:
            traceback.print_exc()
            return WorkloadBroken(text.exception(error))
        finally:
            _rest()
            self._rested = time.process_time()

    def _introduce(self, request: Introduce) -> Introduced:
        # Versions may be of classes of their own, which JSON does not know.
        described = text.descriptions(self._framework.describe(Settings(device=request.device)))
        contenders = [list(self._benchmark.contenders(workload)) for workload in request.workloads]
        return Introduced(self._name, described, contenders, self._limits)

    def _prepare(self, request: Prepare) -> Ready:
        settings = Settings(precision=request.workload.precision, device=request.device)
        prepared = self._benchmark.prepare(request.contender, request.workload, settings)
        wall, _ = _timed(prepared.run, 1)
        self._prepared[request.key] = prepared
        return Ready(wall, prepared.share)


def _timed(run: Callable[[int], None], repetitions: int) -> tuple[float, float]:
    """Wall and CPU seconds of so many repetitions; CPU seconds are those of all threads."""
    gc.disable()
    try:
        cpu, wall = time.process_time(), time.perf_counter()
        run(repetitions)
        return time.perf_counter() - wall, time.process_time() - cpu
    finally:
        gc.enable()


def _rest() -> None:
    """Wait until this process's threads are asleep.

    OpenMP's go on spinning for some milliseconds after a parallel region, on the cores that are the next one's turn.
    """
    end = time.perf_counter() + PATIENCE
    while time.perf_counter() < end:
        cpu, wall = time.process_time(), time.perf_counter()
        time.sleep(LOOK)
        if time.process_time() - cpu < CALM * (time.perf_counter() - wall):
            return


def _weigh(prepared: Prepared) -> Weighed:
    """The peak of one repetition, by Linux's account of resident memory."""
    gc.collect()
    with suppress(AttributeError, OSError):
        # What was freed and is kept for later would hide what the repetition needs.
        ctypes.CDLL(None).malloc_trim(0)
    before = _reset_peak()
    prepared.run(1)
    after = _status("VmHWM") if before is not None else None
    peak = max(0, after - before) if before is not None and after is not None else None
    planned = prepared.planned()
    return Weighed(peak, planned and planned.temporary, planned and planned.results)


def _reset_peak() -> int | None:
    """Set the peak back to what is held now, and return that in bytes; None where the system has no such thing."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def _status(key: str) -> int | None:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
