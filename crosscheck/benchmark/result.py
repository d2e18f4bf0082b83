"""What was measured, and what follows from it: medians, ratios, shares of the peak, targets."""

import math
import statistics
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

import msgspec

from crosscheck.benchmark.targets import Faster, Growth
from spec.benchmark import PEAK, AnyWorkload, Layer

SCHEMA_VERSION = 1


class Round(msgspec.Struct, frozen=True):
    """Seconds of the whole workload, by the clock and of all cores together, in that round."""

    number: int
    wall: float
    cpu: float


class Spread(msgspec.Struct, frozen=True):
    """A median, and the quartiles."""

    median: float
    low: float
    high: float


class Contender(msgspec.Struct, kw_only=True):
    """One contender at one workload. implementation: whose worker ran it. lost: why there is nothing more.

    repetitions: in a block. share: of the workload that one does; seconds are of the whole workload.
    first_seconds: of the first repetition, compilation included. waiting_cpu_seconds: burnt while others had
    their turns. peak_bytes, temporary_bytes, result_bytes: see crosscheck.benchmark.messages.Weighed.
    """

    name: str
    implementation: str
    lost: str = ""
    repetitions: int = 0
    share: float = 1.0
    first_seconds: float = 0.0
    rounds: list[Round] = []
    waiting_cpu_seconds: float = 0.0
    peak_bytes: int | None = None
    temporary_bytes: int | None = None
    result_bytes: int | None = None

    @property
    def memory(self) -> int | None:
        """Bytes of temporaries and results: as planned, or else the process's peak.

        The peak would be too little for a framework that keeps freed memory to itself, as XLA does.
        """
        if self.temporary_bytes is None or self.result_bytes is None:
            return self.peak_bytes
        return self.temporary_bytes + self.result_bytes

    @property
    def measured(self) -> bool:
        return bool(self.rounds) and not self.lost

    @property
    def wall(self) -> Spread:
        """Seconds by the clock; needs at least one round."""
        return spread([each.wall for each in self.rounds])

    @property
    def cpu(self) -> Spread:
        """CPU seconds; needs at least one round."""
        return spread([each.cpu for each in self.rounds])

    @property
    def compile_seconds(self) -> float:
        """What the first repetition took longer than the others."""
        return max(0.0, self.first_seconds - self.wall.median * self.share)


class Ratio(msgspec.Struct, frozen=True):
    """How many times as long another contender took as the subject; above 1, the subject is faster."""

    against: str
    wall: Spread
    cpu: Spread


class BenchmarkRow(msgspec.Struct):
    """One workload and all who took part."""

    workload: AnyWorkload
    contenders: list[Contender]

    def contender(self, name: str) -> Contender | None:
        """That one, where it was measured."""
        return next((found for found in self.contenders if found.name == name and found.measured), None)

    def ratios(self, subject: str) -> list[Ratio]:
        """The others against the subject, from the rounds that both have."""
        own = self.contender(subject)
        if own is None:
            return []
        others = [other for other in self.contenders if other.measured and other is not own]
        return [ratio(own, other) for other in others]


class Checked(msgspec.Struct, frozen=True):
    """A target and what became of it. wanted: at least for a ratio, at most for growth, as `sense` says."""

    workload: str
    subject: str
    what: str
    sense: str
    wanted: float
    got: Spread
    reached: bool


def spread(values: Sequence[float]) -> Spread:
    """The median and the quartiles of at least one value."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratio(subject: Contender, other: Contender) -> Ratio:
    """The other's time over the subject's, in each round that both have, then the median."""
    own = {each.number: each for each in subject.rounds}
    pairs = [(own[each.number], each) for each in other.rounds if each.number in own]
    return Ratio(
        other.name,
        spread([_over(theirs.wall, ours.wall) for ours, theirs in pairs]),
        spread([_over(theirs.cpu, ours.cpu) for ours, theirs in pairs]),
    )


def _over(first: float, second: float) -> float:
    """A quotient of times; a clock may have seen none of the second."""
    return first / second if second else math.inf


def peak(rows: Sequence[BenchmarkRow]) -> float | None:
    """Operations a second of the fastest contender at the large product; None where that was not measured."""
    rates = [
        row.workload.operations / found.wall.median
        for row in rows
        if row.workload.name == PEAK.name and row.workload.operations
        for found in row.contenders
        if found.measured
    ]
    return max(rates, default=None)


def share_of_peak(row: BenchmarkRow, found: Contender, most: float | None) -> float | None:
    """Of the peak, what the contender reaches at a workload whose operations are counted."""
    if most is None or row.workload.operations is None or not found.measured:
        return None
    return row.workload.operations / found.wall.median / most


def check(rows: Sequence[BenchmarkRow], targets: Sequence[Faster | Growth]) -> list[Checked]:
    """Every target that something was measured for."""
    found: list[Checked] = []
    for target in targets:
        found += _check_faster(rows, target) if isinstance(target, Faster) else _check_growth(rows, target)
    return found


def _check_faster(rows: Sequence[BenchmarkRow], target: Faster) -> list[Checked]:
    return [
        Checked(
            row.workload.name,
            target.subject,
            f"times as fast as {target.against}",
            "at least",
            target.at_least,
            each.wall,
            each.wall.median >= target.at_least,
        )
        for row in rows
        if fnmatchcase(row.workload.name, target.workloads)
        for each in row.ratios(target.subject)
        if each.against == target.against
    ]


def _check_growth(rows: Sequence[BenchmarkRow], target: Growth) -> list[Checked]:
    by_name = {row.workload.name: row for row in rows}
    if target.first not in by_name or target.last not in by_name:
        return []
    first, last = by_name[target.first], by_name[target.last]
    small, large = first.contender(target.subject), last.contender(target.subject)
    if small is None or large is None:
        return []
    assert isinstance(first.workload, Layer)
    assert isinstance(last.workload, Layer)
    size = last.workload.size / first.workload.size
    if target.quantity == "seconds":
        grown = ratio(small, large).wall
    else:
        of: Callable[[Contender], int | None] = {
            "memory": lambda found: found.memory,
            "temporary": lambda found: found.temporary_bytes,
        }[target.quantity]
        before, after = of(small), of(large)
        if not before or after is None:
            return []
        grown = spread([after / before])
    got = Spread(grown.median / size, grown.low / size, grown.high / size)
    named = {"seconds": "time", "memory": "memory", "temporary": "temporary memory"}[target.quantity]
    what = f"growth of {named} over that of {first.workload.series}, from {first.workload.size}"
    return [Checked(target.last, target.subject, what, "at most", target.at_most, got, got.median <= target.at_most)]


class BenchmarkSummary(msgspec.Struct, kw_only=True):
    """Everything about a run, for the reports. load: the average over a minute, before and after."""

    subject: str
    implementations: list[str]
    describe: dict[str, dict[str, str]]
    limits: dict[str, str]
    machine: dict[str, str]
    device: str
    threads: int
    load: tuple[float, float]
    seconds: float
    rows: list[BenchmarkRow]
    targets: list[Checked]

    @property
    def lost(self) -> list[tuple[str, Contender]]:
        """Contenders that could not be measured, with the workload's name."""
        return [(row.workload.name, found) for row in self.rows for found in row.contenders if found.lost]

    @property
    def exit_code(self) -> int:
        """0, or 3 where a contender could not be measured. A target that is missed is no failure."""
        return 3 if self.lost else 0
