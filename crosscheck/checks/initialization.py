"""What each side's own `initialize` draws, for many seeds, against the laws in the spec's table.

A side is held against the law and never against the other side. Seeds are consecutive, since people count them up from
zero: neighbours must be independent.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from crosscheck.bounds import tolerances
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.request import Request
from crosscheck.statistics import distributions
from crosscheck.statistics.distributions import Finding
from crosscheck.subject import Subject
from spec.framework import Framework, Precision
from spec.parameters import Constant, Normal, Parameter, generator_for, lowered

NAME: str = "initialization"
QUESTION: str = "does each side draw its initial parameters from the spec's laws, independently?"
PRECISIONS: tuple[Precision, ...] = ("float32", "float64")
SAME_INPUTS: bool = True

STANDARD_ERROR = 0.02
"""Relative standard error of a tensor's standard deviation: 500 values for a uniform law, 1250 for a normal one."""

DRAWS = 800
"""Tensors drawn for one experiment and side at most: flax_impl takes up to 0.5 ms for each, hence 0.4 s in all. A bias
of 4 needs 125 seeds; a Transformer's 28 tensors get 28, which leaves such a bias at an error of 4 %."""

FEWER: dict[Precision, int] = {"float32": 1, "float64": 8}
"""So many times fewer in float64. What draws is mostly the same code, and where it is not, a law is another one."""

FAR = "far"
"""Before the names of what far seeds gave."""

LEAST = 4
"""Seeds at least, however large the model."""

RESOLUTION = 23
"""Bits of a float32 value at least, as frameworks draw it: 2 seeds have the same n values with a chance of 2^(-23n)."""

AGAIN = "again/"
"""Before the names of what the first seed gave when it was asked for once more, after all others."""


def inapplicable(subject: Subject) -> str:
    del subject
    return ""


def cases(subject: Subject, precision: Precision, thorough: bool) -> tuple[str, ...]:
    del subject, precision, thorough
    return ("seeds",)


def record(framework: Framework, subject: Subject, case: str, request: Request) -> Arrays:
    del case
    count = seeds(subject.parameters(), request.precision)
    start = int(generator_for(request.seed, NAME).integers(0, 2**31 - count))
    side = framework.open(subject, request.settings)
    drawn = [side.initialize(start + i) for i in range(count)]
    again = side.initialize(start)
    names = dict.fromkeys(name for parameters in drawn for name in parameters)
    stacked = {name: np.stack([parameters[name] for parameters in drawn if name in parameters]) for name in names}
    far = [side.initialize(seed) for seed in far_seeds(request.seed)]
    apart = {f"{FAR}/{name}": np.stack([each[name] for each in far if name in each]) for name in names}
    return {**stacked, **apart, **{AGAIN + name: array for name, array in again.items()}}


def far_seeds(seed: int) -> list[int]:
    """Seeds that are the same in their last 8, 16 or 31 bits."""
    near = seed % 2**8
    return list(dict.fromkeys([near, *(near + 2**bits for bits in (8, 16, 31)), 2**31 - 1, 2**32 - 1]))


def compare(subject: Subject, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
    table = subject.parameters()
    found: list[Comparison] = []
    for side, arrays in zip(place.sides, (first, second), strict=True):
        found += _judge(table, place.against(side, "law"), arrays)
    return found + place.only([prefix + p.name for prefix in ("", AGAIN, f"{FAR}/") for p in table], first, second)


def seeds(table: Sequence[Parameter], precision: Precision = "float32") -> int:
    """How many seeds to ask for: an even number, so that neighbours form pairs."""
    needed = [
        math.ceil(distributions.sample_size(parameter.law, STANDARD_ERROR) / max(_drawn_size(parameter), 1))
        for parameter in table
        if not isinstance(parameter.law, Constant)
    ]
    count = max(min(max(needed, default=LEAST), DRAWS // len(table)) // FEWER[precision], LEAST)
    return count - count % 2


def tests(table: Sequence[Parameter]) -> int:
    """How many tests that chance could fail are made of one side."""
    total = 0
    random = [parameter for parameter in table if not isinstance(parameter.law, Constant)]
    for earlier, parameter in enumerate(random):
        count = parameter.blocks
        parts = _parts(parameter)
        # Eight of the whole tensor, its elements, rows and columns, rows and columns with each other, two of each
        # block, one of each two parts, three of each earlier tensor.
        total += 13 + (2 * count if count > 1 else 0) + parts * (parts - 1) // 2 + 3 * earlier
    return total


def _judge(table: Sequence[Parameter], place: Place, arrays: Arrays) -> Iterator[Comparison]:
    """One side, tensor by tensor."""
    side, count = place.sides[0], seeds(table, place.precision)
    level = tolerances.INITIAL_LAW_LEVEL / max(tests(table), 1)
    earlier: list[tuple[str, np.ndarray]] = []
    for parameter in table:
        name, array = parameter.name, arrays.get(parameter.name)
        # Against itself: present, of the right shape and dtype, finite.
        guard = place.within(side).close(name, array, array, bound=1.0, shape=(count, *parameter.shape))
        yield guard
        if array is None or not guard.passed:
            continue
        twice = place.within(side, "first seed", "again")
        yield twice.identical(f"{name}, same seed", array[0], arrays.get(AGAIN + name))
        if isinstance(parameter.law, Constant):
            yield _constant(place, f"{name}, constant", array, parameter.law.value)
            continue
        if isinstance(parameter.law, Normal) and parameter.law.zero_row is not None:
            yield _constant(place, f"{name}, row {parameter.law.zero_row}", array[:, parameter.law.zero_row], 0.0)
            array = np.delete(array, parameter.law.zero_row, axis=1)
            if not array.size:
                continue
        array = lowered(parameter.law, array)
        values = array.reshape(count, -1)
        yield from _distinct(place, f"{name}, seeds", values, values.shape[1], level)
        yield from _moments(place, parameter, values, level)
        unit = values / distributions.deviation(parameter.law)
        yield from _independent(place, parameter, unit, earlier, level)
        earlier.append((name, unit))
        yield from _elements(place, parameter, array, level)
        yield _resolved(place, name, values, level)
        yield from _far_apart(place, parameter, arrays.get(f"{FAR}/{name}"), level)


def _constant(place: Place, tensor: str, array: np.ndarray, value: float) -> Comparison:
    """Every element is the value."""
    away = np.abs(array - array.dtype.type(value))
    worst = float(array.ravel()[int(away.argmax())])
    return place.limited(tensor, (worst, value), float(away.max()), 0.0, array.size, "the same everywhere")


def _distinct(
    place: Place, name: str, values: np.ndarray, size: int, level: float, note: str = ""
) -> Iterator[Comparison]:
    """No two seeds gave the same tensor; where one is so small that it may happen, nothing is said.

    values: (seeds, ...), of which `size` numbers a seed are drawn.
    """
    count = len(values)
    if count**2 / 2 * 2.0 ** (-RESOLUTION * size) < level:
        different = len(np.unique(values.reshape(count, -1), axis=0))
        yield place.equal(name, different, count, f"different tensors, of so many seeds{note}")


def _resolved(place: Place, name: str, values: np.ndarray, level: float) -> Comparison:
    """Numbers of elements and seeds come again no more often than those with RESOLUTION bits do: who draws in a
    narrower dtype has few of them, and the law's moments all the same.

    Two are equal with a chance of 2^-RESOLUTION; twice that leaves room for a normal law, whose numbers are denser in
    the middle. So the pairs that are equal are at most Poisson of that mean.
    """
    # Not at the top: workers never judge, and SciPy takes longer to import than their work on a small model.
    from scipy import stats

    again = values.size - len(np.unique(values))
    limit = float(stats.poisson.isf(level, values.size * (values.size - 1) / 2 * 2.0 ** (1 - RESOLUTION)))
    note = "numbers that were drawn before, of all elements and seeds"
    return place.limited(f"{name}, come again", (again, 0), float(again), max(limit, 1.0), values.size, note)


def _far_apart(place: Place, parameter: Parameter, drawn: np.ndarray | None, level: float) -> Iterator[Comparison]:
    """Seeds that share their last bits give other tensors."""
    count = len(far_seeds(place.seed))
    name = f"{parameter.name}, far seeds"
    guard = place.close(name, drawn, drawn, bound=1.0, shape=(count, *parameter.shape))
    if drawn is None or guard.failed:
        yield guard
    else:
        yield from _distinct(place, name, drawn, _drawn_size(parameter), level, " far apart")


def _elements(place: Place, parameter: Parameter, array: np.ndarray, level: float) -> Iterator[Comparison]:
    """Each element over the seeds, each row and each column, and rows and columns with each other.

    array: (seeds, *shape), without a row that is zero. A tensor is as wide as its law, and still has an element that is
    always the same, a row that is wider, or columns by twos.
    """
    expected, name = parameter.law, parameter.name
    assert not isinstance(expected, Constant)
    count = len(array)
    flat = array.reshape(count, -1)
    yield _limited(place, f"{name}, each element", distributions.each(flat, expected, level, "element"))
    # Half of the seeds give an element the same value with a chance that is beyond all levels.
    common = max(int(np.unique(column, return_counts=True)[1].max()) for column in flat.T)
    note = "seeds that give an element the same value; up to a half of them may"
    yield place.limited(f"{name}, varying", (common, 1), float(common), max(count / 2, 2.0), flat.size, note)
    if array.ndim != 3 or min(array.shape[1:]) < 2:
        return
    unit = array / distributions.deviation(expected)
    for what, axis in (("row", 1), ("column", 2)):
        lines = np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])
        yield _limited(place, f"{name}, each {what}", distributions.each(lines, expected, level, what))
        own = np.moveaxis(unit, axis, -1).reshape(-1, array.shape[axis])
        yield _limited(place, f"{name}, {what}s alike", distributions.alike(own, level, what))
    ranks = np.linalg.matrix_rank(array.astype(np.float64), tol=None)
    full = min(array.shape[1:])
    lacking = int((ranks < full).sum())
    note = f"seeds whose matrix has not the rank {full}; up to a half of them may, by rounding"
    yield place.limited(f"{name}, rank", (lacking, 0), float(lacking), count / 2, count, note)


def _moments(place: Place, parameter: Parameter, values: np.ndarray, level: float) -> Iterator[Comparison]:
    """The distribution of the whole tensor over all seeds; mean and standard deviation of each block."""
    name, expected, count = parameter.name, parameter.law, parameter.blocks
    assert not isinstance(expected, Constant)
    yield _limited(place, f"{name}, range", distributions.within(values, expected, level))
    yield _limited(place, f"{name}, largest", distributions.extent(values, expected, level))
    yield _limited(place, f"{name}, mean", distributions.mean(values, expected, level))
    yield _limited(place, f"{name}, standard deviation", distributions.spread(values, expected, level))
    yield _limited(place, f"{name}, distribution", distributions.distribution(values, expected, level))
    if count > 1:
        for number, block in enumerate(np.split(values, count, axis=1), 1):
            of = f"{name}, block {number} of {count}"
            yield _limited(place, f"{of}, mean", distributions.mean(block, expected, level))
            yield _limited(place, f"{of}, standard deviation", distributions.spread(block, expected, level))


def _independent(
    place: Place,
    parameter: Parameter,
    unit: np.ndarray,
    earlier: Sequence[tuple[str, np.ndarray]],
    level: float,
) -> Iterator[Comparison]:
    """Neither seeds, nor a tensor's parts, nor two tensors repeat each other."""
    name = parameter.name
    neighbours = distributions.correlation(unit[0::2], unit[1::2], level, " of each second seed with the next")
    yield _limited(place, f"{name}, between seeds", neighbours)
    parts = _parts(parameter)
    if parts > 1:
        width = unit.shape[1] // parts
        cut = [(number, unit[:, (number - 1) * width : number * width]) for number in range(1, parts + 1)]
        within = [
            distributions.correlation(one, two, level, f" of part {i} with part {j} of {parts}")
            for (i, one), (j, two) in combinations(cut, 2)
        ]
        yield _limited(place, f"{name}, within", _worst(within))
    if earlier:
        between = [finding for other, values in earlier for finding in _pair(unit, other, values, level)]
        yield _limited(place, f"{name}, between tensors", _worst(between))


def _pair(unit: np.ndarray, other: str, values: np.ndarray, level: float) -> Iterator[Finding]:
    """Two tensors at the same seed, and at neighbouring seeds: of unequal shapes, as far as the shorter one goes.

    A key that is reused gives the larger tensor's beginning again. A key of seed + index gives one at the next seed.
    """
    size = min(unit.shape[1], values.shape[1])
    one, two = unit[:, :size], values[:, :size]
    yield distributions.correlation(one, two, level, f" with {other}")
    yield distributions.correlation(one[1:], two[:-1], level, f" with {other} of the seed before")
    yield distributions.correlation(one[:-1], two[1:], level, f" with {other} of the next seed")


def _worst(findings: Sequence[Finding]) -> Finding:
    return max(findings, key=lambda finding: finding.difference / finding.bound)


def _limited(place: Place, tensor: str, finding: Finding) -> Comparison:
    values = (finding.observed, finding.expected)
    return place.limited(tensor, values, finding.difference, finding.bound, finding.size, finding.note)


def _drawn_size(parameter: Parameter) -> int:
    """How many elements are random."""
    rows = isinstance(parameter.law, Normal) and parameter.law.zero_row is not None
    return parameter.size - parameter.size // parameter.shape[0] if rows else parameter.size


def _parts(parameter: Parameter) -> int:
    """Into how many parts a tensor is cut to hold them against each other: its blocks, or two halves."""
    return parameter.blocks if parameter.blocks > 1 else min(2, _drawn_size(parameter))
