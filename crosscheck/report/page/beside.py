"""Other reports that stand in the same directory: planted faults, explore's coverage, speeds."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from spec import files, text
from spec.errors import UsageError

LARGEST = 50_000_000
"""Bytes of such a report, at most."""

ROWS = 300
"""Rows of a table, at most."""


class Beside(NamedTuple):
    """place: its anchor. file: where it is from. head, rows: its table, whose rows may be none."""

    place: str
    title: str
    file: str
    verdict: str
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


class _Trial(msgspec.Struct):
    name: str
    implementation: str
    outcome: str
    experiment: str
    first_check: str = ""
    blamed: str = ""
    looks_like: str = ""


class _Faults(msgspec.Struct):
    trials: list[_Trial]


class _Coverage(msgspec.Struct):
    experiments: int
    values: dict[str, dict[str, int]]
    pairs: list[Any]


class _Explored(msgspec.Struct):
    verdict: str
    coverage: _Coverage


class _Workload(msgspec.Struct):
    name: str


class _Spread(msgspec.Struct):
    median: float


class _Ratio(msgspec.Struct):
    against: str
    wall: _Spread


class _Row(msgspec.Struct):
    workload: _Workload
    ratios: list[_Ratio]


class _Target(msgspec.Struct):
    reached: bool


class _Benchmark(msgspec.Struct):
    subject: str
    rows: list[_Row]
    targets: list[_Target]


def others(directory: Path) -> list[Beside]:
    """What there is, in few words and a table; of a file that cannot be read, that. Raises nothing for one."""
    found = []
    for name, (place, title, told) in KINDS.items():
        path = directory / name
        if not path.is_file():
            continue
        try:
            one = told(files.read(path, LARGEST))
        except (UsageError, msgspec.MsgspecError, RecursionError) as error:
            one = Beside("", "", "", f"it cannot be read: {text.exception(error)}")
        rows = tuple(tuple(text.admit(cell, text.NAME) for cell in row) for row in one.rows[:ROWS])
        found.append(one._replace(place=place, title=title, file=name, verdict=text.admit(one.verdict), rows=rows))
    return found


def _faults(content: bytes) -> Beside:
    trials = msgspec.json.decode(content, type=_Faults).trials
    counts = Counter(trial.outcome for trial in trials)
    words = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    rows = [
        (f"{one.implementation}/{one.name}", one.outcome, one.experiment, one.first_check, one.blamed, one.looks_like)
        for one in sorted(trials, key=lambda one: one.outcome == "caught")
    ]
    head = ("fault", "what became of it", "experiment", "seen by", "blamed", "looks like")
    return Beside("", "", "", f"{len(trials)} faults planted: {words or 'none'}.", head, tuple(rows))


def _explored(content: bytes) -> Beside:
    found = msgspec.json.decode(content, type=_Explored)
    covered = found.coverage
    drawn = {name: values for name, values in covered.values.items() if values}
    words = (
        f"{found.verdict}. {covered.experiments} experiments drawn; {len(drawn)} of {len(covered.values)} options took "
        f"{sum(map(len, drawn.values()))} values, and {len(covered.pairs)} pairs of settings met."
    )
    rows = [
        (name, str(len(values)), ", ".join(f"{value} ({count})" for value, count in list(values.items())[:12]))
        for name, values in covered.values.items()
    ]
    return Beside("", "", "", words, ("option", "values", "how often"), tuple(rows))


def _benchmark(content: bytes) -> Beside:
    found = msgspec.json.decode(content, type=_Benchmark)
    ratios = [{one.against: f"{one.wall.median:.2f}" for one in row.ratios} for row in found.rows]
    names = list(dict.fromkeys(name for row in ratios for name in row))
    words = (
        f"How many times as fast {found.subject} is as others: above 1, it is faster. "
        f"{sum(target.reached for target in found.targets)} of {len(found.targets)} targets reached."
    )
    rows = [
        (row.workload.name, *(one.get(name, "") for name in names)) for row, one in zip(found.rows, ratios, strict=True)
    ]
    return Beside("", "", "", words, ("workload", *names), tuple(rows))


KINDS: dict[str, tuple[str, str, Callable[[bytes], Beside]]] = {
    "faults.json": ("faults", "Planted faults", _faults),
    "explore.json": ("explore", "Random experiments", _explored),
    "bench.json": ("speeds", "Speeds", _benchmark),
}
"""By file: place, title, and what is told of it."""
