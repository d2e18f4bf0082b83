"""`python -m crosscheck bench`: its options, and what it leaves behind."""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TextIO, cast, get_args

from rich.console import Console

from crosscheck.benchmark import turns
from crosscheck.benchmark.picture import picture
from crosscheck.benchmark.report import duration, render_json, render_markdown, show
from crosscheck.benchmark.result import BenchmarkRow, BenchmarkSummary, check
from crosscheck.benchmark.targets import TARGETS, Faster, Growth
from crosscheck.cli import output
from crosscheck.cli.options import add_implementations, add_report, seconds
from crosscheck.cli.run import labels
from crosscheck.report.rows import say
from spec import text
from spec.arguments import Parser, at_least
from spec.benchmark import PEAK, QUICK, WORKLOADS, AnyWorkload
from spec.errors import UsageError
from spec.framework import Device
from spec.machine import cores

DESCRIPTION = """\
How fast are they? Both implementations and the stock layers of their frameworks do the same work in turns, so that a
disturbance of the machine hits all alike: layers, growing sizes, training steps, whole trainings, ensembles.
"""

EPILOG = """\
exit codes: 0 measured, 2 usage, 3 something could not be measured. A target that is missed changes no exit code: a
busy machine is no bug. The second implementation is the one that the others are held against.
"""

FILES = ("bench.json", "bench.md", "bench.png")

QUICK_ROUNDS = 5


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = Parser(prog="python -m crosscheck bench", description=DESCRIPTION, epilog=EPILOG)
    made.add_argument("--workloads", nargs="+", metavar="PATTERN", help="only those, such as 'gru-*' (default all)")
    made.add_argument("--list", action="store_true", help="list the workloads and what is to be reached")
    made.add_argument("--quick", action="store_true", help="the small ones alone, in few rounds")
    made.add_argument(
        "--rounds", type=at_least(1), metavar="N", help=f"at most, fewer where one takes long (default {turns.ROUNDS})"
    )
    made.add_argument("--threads", type=at_least(1), metavar="N", help="for either side (default: the number of cores)")
    made.add_argument("--device", choices=get_args(Device), default="cpu", help="where both compute (default cpu)")
    add_implementations(made, ", with a benchmark.py")
    made.add_argument(
        "--timeout", type=seconds, default=300.0, metavar="SECONDS", help="for one block of one contender (default 300)"
    )
    add_report(made, "bench.json")
    return made


def carry_out(
    options: argparse.Namespace,
    workloads: Sequence[AnyWorkload] = WORKLOADS,
    targets: Sequence[Faster | Growth] = TARGETS,
    enough: float = turns.ENOUGH,
) -> int:
    """Run the command; returns its exit code. enough: seconds that a workload's rounds should take together."""
    chosen = choose(workloads, options.workloads, options.quick)
    if options.list:
        return _list(chosen, targets)
    if options.threads and options.threads > cores():
        raise UsageError(f"--threads: expected at most {cores()}, the cores there are, got {options.threads}")
    plan = turns.BenchmarkPlan(
        workloads=chosen,
        device=options.device,
        threads=options.threads or cores(),
        rounds=options.rounds or (QUICK_ROUNDS if options.quick else turns.ROUNDS),
        timeout=options.timeout,
        enough=enough,
    )
    with output.reports(options.out, FILES):
        summary = _measure(plan, options, targets)
    rendered = render_json(summary)
    contents = (lambda: rendered, lambda: render_markdown(summary).encode(), lambda: picture(summary))
    files: dict[str, Callable[[], bytes]] = dict(zip(FILES, contents, strict=True))
    output.conclude(options, rendered.rstrip(b"\n"), lambda console: show(summary, console), files)
    return summary.exit_code


def choose(workloads: Sequence[AnyWorkload], patterns: Sequence[str] | None, quick: bool) -> list[AnyWorkload]:
    """The workloads of those names, in their order; first the peak, where a share of it can be stated.

    Raises UsageError for a pattern that fits none.
    """
    for pattern in patterns or ():
        if not any(fnmatchcase(workload.name, pattern) for workload in workloads):
            names = ", ".join(workload.name for workload in workloads)
            raise UsageError(f"--workloads: expected patterns of {names}, got {pattern!r}, which fits none")
    wanted = patterns or ["*"]
    chosen = [
        workload
        for workload in workloads
        if any(fnmatchcase(workload.name, pattern) for pattern in wanted)
        and (not quick or any(fnmatchcase(workload.name, pattern) for pattern in QUICK))
    ]
    if not chosen:
        raise UsageError(f"--quick: expected workloads among {', '.join(QUICK)}, got {', '.join(wanted)}")
    counted = any(workload.operations is not None for workload in chosen)
    return [PEAK, *chosen] if counted and PEAK in workloads and PEAK not in chosen else chosen


def _measure(
    plan: turns.BenchmarkPlan, options: argparse.Namespace, targets: Sequence[Faster | Growth]
) -> BenchmarkSummary:
    names = labels(options.implementations)
    progress = BenchmarkProgress(len(plan.workloads), options.json)
    begin, before = time.perf_counter(), _load()
    with turns.sides(options.implementations, names, plan) as both:
        own = both[1].introduced.implementation
        subject = turns.named(both).get((names[1], own), own)
        rows = turns.measure(both, plan, lambda row: progress.done(row, subject))
        return BenchmarkSummary(
            subject=subject,
            implementations=list(options.implementations),
            describe={side.label: side.introduced.describe for side in both},
            limits={side.label: side.introduced.limits for side in both},
            machine=machine(),
            device=plan.device,
            threads=plan.threads,
            load=(before, _load()),
            seconds=time.perf_counter() - begin,
            rows=rows,
            targets=check(rows, targets),
        )


class BenchmarkProgress:
    """A line on standard error for each workload that is done."""

    def __init__(self, workloads: int, quiet: bool):
        self._console = Console(file=cast(TextIO, output.Forgiving(sys.stderr)), quiet=quiet, highlight=False)
        self._workloads = workloads
        self._done = 0

    def done(self, row: BenchmarkRow, subject: str) -> None:
        self._done += 1
        own = row.contender(subject)
        ratios = [f"{ratio.wall.median:.3g} times as fast as {ratio.against}" for ratio in row.ratios(subject)]
        lost = [f"{found.name} not measured: {found.lost}" for found in row.contenders if found.lost]
        said = ", ".join([*([f"{duration(own.wall.median)}"] if own else []), *ratios, *lost])
        line = f"[{self._done}/{self._workloads}] {row.workload.name}: {said}"
        say(self._console, line)


def machine() -> dict[str, str]:
    """What it was measured on."""
    found = {"system": platform.platform(), "processor": platform.processor() or platform.machine()}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                found["processor"] = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return found | {"cores": str(cores()), "python": platform.python_version()}


def _load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _list(workloads: Sequence[AnyWorkload], targets: Sequence[Faster | Growth]) -> int:
    rows = []
    for workload in workloads:
        counted = f"{workload.operations / 1e9:.3g} GFLOP" if workload.operations else ""
        wanted = [
            f"at least {target.at_least:g} times as fast as {target.against}"
            for target in targets
            if isinstance(target, Faster) and fnmatchcase(workload.name, target.workloads)
        ] + [
            f"{target.quantity} of {target.subject} at most {target.at_most:g} times that of {target.first}, by size"
            for target in targets
            if isinstance(target, Growth) and workload.name == target.last
        ]
        rows.append((workload.name, f"{counted:>13}", "; ".join(wanted)))
    for lines in text.table(rows, text.width()):
        print("\n".join(lines))
    return 0
