"""The report of a run: bench.json, bench.md, and the tables on the terminal."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from rich.console import Console

from crosscheck.benchmark.result import (
    SCHEMA_VERSION,
    BenchmarkRow,
    BenchmarkSummary,
    Checked,
    Contender,
    Spread,
    peak,
    share_of_peak,
)
from crosscheck.report import markup, rows
from crosscheck.report.data import encode
from crosscheck.report.markup import code, head, inline
from crosscheck.report.rows import say

HOW = (
    "Contenders took turns, a block of repetitions each, for as many rounds as stated; another one began each round. "
    "A ratio is the other's time over the subject's within a round, then the median over rounds, with the quartiles "
    "in brackets: above 1, the subject is faster. CPU seconds are of all threads. Compilation is the first "
    "repetition less a usual one. Memory is what a repetition takes beside its arguments: temporaries and results as "
    "the compiler planned them where there is one, else the process's peak above what it held before. Peak: the "
    "share of the fastest rate of the large product. The figures of an ensemble trained one by one are a few "
    "members', scaled up."
)


MISSED, NOT_REACHED = "MISSED", "bold magenta"
"""The word for a target that is not reached, and its style."""


class Line(NamedTuple):
    """One workload in the table of ratios, as text."""

    workload: str
    time: str
    ratios: dict[str, Spread]
    peak: str
    rate: str
    memory: str
    verdict: str
    missed: bool


def render_json(summary: BenchmarkSummary) -> bytes:
    """Everything, the raw rounds included."""
    most = peak(summary.rows)
    plain: dict[str, Any] = {"schema_version": SCHEMA_VERSION} | msgspec.to_builtins(summary)
    for row, target in zip(summary.rows, plain["rows"], strict=True):
        target["ratios"] = msgspec.to_builtins(row.ratios(summary.subject))
        for found, entry in zip(row.contenders, target["contenders"], strict=True):
            if found.measured:
                entry["wall"], entry["cpu"] = msgspec.to_builtins(found.wall), msgspec.to_builtins(found.cpu)
                entry["compile_seconds"] = found.compile_seconds
                entry["share_of_peak"] = share_of_peak(row, found, most)
                if row.workload.items is not None:
                    count, what = row.workload.items
                    entry[f"{what}_per_second"] = count / found.wall.median
    plain["peak_operations_per_second"] = most
    plain["exit_code"] = summary.exit_code
    return encode(plain, indent=1) + b"\n"


def render_markdown(summary: BenchmarkSummary) -> str:
    """bench.md: how it was measured, the ratios, the targets, and every contender's own figures."""
    return "\n".join(_markdown(summary)) + "\n"


def show(summary: BenchmarkSummary, console: Console) -> None:
    """Print the ratios, the targets that were missed, and what could not be measured."""
    say(console, f"{summary.subject}: its time, and how many times as fast it is as each of the others", "bold")
    say(console, f"median ± half the distance of the quartiles; {MISSED}: not all of its targets are reached")
    say(console, "")
    rows.show(console, [_row_of(line) for line in lines(summary)])
    say(console, "")
    for text in _facts(summary):
        say(console, text)
    missed = [target for target in summary.targets if not target.reached]
    for target in missed:
        say(console, f"missed: {sentence(target)}", NOT_REACHED)
    for workload, found in summary.lost:
        say(console, f"not measured: {workload}, {found.name}: {found.lost}", "bold red")
    say(console, conclusion(summary), NOT_REACHED if missed else "bold green")


def _row_of(line: Line) -> rows.Row:
    """A workload's row on a terminal."""
    ratios = [f"{narrow(ratio)} against {name}" for name, ratio in line.ratios.items()]
    more = (f"{line.peak} of peak" if line.peak else "", line.rate, line.memory, line.verdict if line.missed else "")
    said = [text for text in (line.time, *ratios, *more) if text]
    word, style = ("-", "dim") if not line.verdict else ("reached", "green")
    if line.missed:
        word, style = MISSED, NOT_REACHED
    return rows.Row(word, style, line.workload, "; ".join(said))


def conclusion(summary: BenchmarkSummary) -> str:
    """How many targets were reached."""
    reached = sum(target.reached for target in summary.targets)
    return (
        f"{reached} of {len(summary.targets)} targets reached, {len(summary.rows)} workloads, {summary.seconds:.0f} s"
    )


def lines(summary: BenchmarkSummary) -> list[Line]:
    """The table of ratios."""
    most = peak(summary.rows)
    return [_line(summary, row, most) for row in summary.rows]


def against(summary: BenchmarkSummary) -> list[str]:
    """Who the subject is held against, each once, in the order of their first appearance."""
    found = {ratio.against: None for row in summary.rows for ratio in row.ratios(summary.subject)}
    return list(found)


def sentence(target: Checked) -> str:
    """A target and what became of it."""
    spread = f" ({number(target.got.low)} to {number(target.got.high)})" if target.got.low != target.got.high else ""
    wanted = f"{target.sense} {number(target.wanted)}"
    return (
        f"{target.workload}: {target.subject}, {target.what}: expected {wanted}, "
        f"got {number(target.got.median)}{spread}"
    )


def _line(summary: BenchmarkSummary, row: BenchmarkRow, most: float | None) -> Line:
    own = row.contender(summary.subject)
    targets = [target for target in summary.targets if target.workload == row.workload.name]
    missed = [target for target in targets if not target.reached]
    verdict = f"missed {len(missed)} of {len(targets)}" if missed else "reached" if targets else ""
    ratios = {ratio.against: ratio.wall for ratio in row.ratios(summary.subject)}
    if own is None:
        return Line(row.workload.name, "-", ratios, "", "", "", verdict, bool(missed))
    return Line(
        row.workload.name,
        duration(own.wall.median),
        ratios,
        _percent(share_of_peak(row, own, most)),
        rate(row, own),
        memory(own.memory),
        verdict,
        bool(missed),
    )


def _markdown(summary: BenchmarkSummary) -> Iterator[str]:
    yield f"# {inline(summary.subject)} against the others\n"
    yield f"**{conclusion(summary)}**\n"
    yield from (f"- {inline(text)}" for text in _facts(summary))
    yield f"\n{HOW}\n"
    yield "![Ratios and growth](bench.png)\n"
    yield "## Ratios\n"
    others = against(summary)
    names = [inline(name) for name in (summary.subject, *(f"against {name}" for name in others))]
    yield head("workload", *names, "of peak", "rate", "target")
    for line in lines(summary):
        ratios = [bracketed(line.ratios[name]) if name in line.ratios else "" for name in others]
        yield markup.row(inline(line.workload), line.time, *ratios, line.peak, line.rate, line.verdict)
    if summary.targets:
        yield "\n## Targets\n"
        yield head("", "workload", "what", "expected", "got")
        for target in summary.targets:
            what = f"{target.subject}: {target.what}"
            wanted = f"{target.sense} {number(target.wanted)}"
            verdict = "reached" if target.reached else "**missed**"
            yield markup.row(verdict, inline(target.workload), inline(what), wanted, bracketed(target.got))
    yield "\n## Every contender\n"
    yield head(
        "workload", "contender", "time", "CPU seconds", "CPU ratio", "of peak", "rate", "memory", "process's peak",
        "compilation", "repetitions x rounds",
    )  # fmt: skip
    most = peak(summary.rows)
    for each in summary.rows:
        ratios = {ratio.against: bracketed(ratio.cpu) for ratio in each.ratios(summary.subject)}
        for found in each.contenders:
            own = _own(each, found, ratios.get(found.name, ""), most)
            yield markup.row(inline(each.workload.name), inline(found.name), *own)


def _own(row: BenchmarkRow, found: Contender, ratio: str, most: float | None) -> Sequence[str]:
    if not found.measured:
        return [code(f"not measured: {found.lost}"), *[""] * 8]
    wall = found.wall
    return [
        f"{duration(wall.median)} ({duration(wall.low)} to {duration(wall.high)})",
        duration(found.cpu.median),
        ratio,
        _percent(share_of_peak(row, found, most)),
        rate(row, found),
        memory(found.memory),
        memory(found.peak_bytes),
        duration(found.compile_seconds),
        f"{found.repetitions} x {len(found.rounds)}",
    ]


def _facts(summary: BenchmarkSummary) -> Iterator[str]:
    yield ", ".join(f"{name} {text}" for name, text in summary.machine.items())
    before, after = summary.load
    busy = " (busy: read the figures with care)" if before > int(summary.machine["cores"]) / 2 else ""
    load = f"load average {before:.1f} before, {after:.1f} after{busy}"
    yield f"device {summary.device}, {summary.threads} threads, {load}"
    for name, described in summary.describe.items():
        yield f"{name}: {', '.join(f'{key} {text}' for key, text in described.items())}; {summary.limits[name]}"
    waited = {}
    for row in summary.rows:
        for found in row.contenders:
            waited[found.implementation] = waited.get(found.implementation, 0.0) + found.waiting_cpu_seconds
    burnt = ", ".join(f"{name} {seconds:.2f}" for name, seconds in waited.items())
    yield f"CPU seconds burnt while others had their turns: {burnt}"
    if (most := peak(summary.rows)) is not None:
        yield f"peak: {most / 1e9:.1f} GFLOP/s, the fastest product of two matrices"


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= 0.9995 * scale:
            return f"{seconds / scale:.3g} {unit}" if seconds < 999.5 * scale else f"{seconds:.0f} s"
    return "0 s" if seconds == 0 else f"{seconds / 1e-9:.3g} ns"


def bracketed(spread: Spread) -> str:
    """The median and the quartiles."""
    if spread.low == spread.high:
        return number(spread.median)
    return f"{number(spread.median)} ({number(spread.low)}-{number(spread.high)})"


def narrow(spread: Spread) -> str:
    """The same in less space: half the distance of the quartiles."""
    return f"{number(spread.median)} ±{number((spread.high - spread.low) / 2)}"


def number(value: float) -> str:
    """Two decimals; none where it is large."""
    return f"{value:.2f}" if value < 99.5 else f"{value:.0f}"


def memory(count: int | None) -> str:
    """In MiB."""
    return "not measured" if count is None else f"{count / 2**20:.1f} MiB"


def rate(row: BenchmarkRow, found: Contender) -> str:
    """Items a second, where the workload counts any."""
    if row.workload.items is None:
        return ""
    count, what = row.workload.items
    return f"{count / found.wall.median:.0f} {what}/s"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.2g} %"
