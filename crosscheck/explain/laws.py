"""From which law a tensor's initial values come, told by the values of many seeds and its shape.

Draws have no rounding to agree to: a law is named where their distribution is compatible with it and with no other
known one, as the test of Kolmogorov and Smirnov sees it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from crosscheck.explain.explanation import STOPPED, Budget, Explanation, Fit, OutOfTime, settled
from spec.parameters import Constant, Law, Normal, Uniform

LIKELY = 1e-3
"""p-value at least under which draws are compatible with a law."""

UNLIKELY = 1e-4
"""p-value at most of every other law: what lies between is not told apart."""

FEWEST = 1000
"""Values at least."""

MOST = 50_000
"""Values at most that are looked at."""

TRUNCATION = 0.87962566103423978
"""Standard deviation of a normal law cut at 2. Source: jax.nn.initializers.variance_scaling."""


FIXED = ("at ", "orthogonal")
"""How what is said begins of values that are no independent draws."""


UNLIMITED = Budget(math.inf)


class DrawnLaw(NamedTuple):
    """kind: "uniform", "normal", "truncated normal". size: bound or standard deviation. formula: of the size."""

    kind: str
    size: float
    formula: str

    def words(self) -> str:
        """As a report has it."""
        within = {"uniform": "uniform within", "normal": "normal of deviation"}
        size = f" = {self.size:.4g}" if "(" in self.formula else ""
        return f"{within.get(self.kind, 'truncated normal of deviation')} {self.formula}{size}"


def explain(
    values: np.ndarray, expected: str, blocks: int = 1, side: str = "", budget: Budget = UNLIMITED
) -> Explanation:
    """What a side's draws look like. values: (seeds, *shape). expected: the law that they should have, in words."""
    return _said(values, blocks, side, lambda found: f"values began {found} ({expected} in the table)", budget)


def of_port(ours: np.ndarray, theirs: np.ndarray, budget: Budget = UNLIMITED) -> Explanation:
    """What a port's draws look like beside the original's, (seeds, *shape) both, under no law that is stated.

    What is no law of draws, such as zero everywhere, is named whatever the original draws from.
    """
    try:
        original = told(ours, 1, budget)
    except OutOfTime:
        return Explanation(stopped=STOPPED)

    def words(found: str) -> str:
        if not original and not found.startswith(FIXED):
            return ""
        return f"values began {found} in the port ({original or 'drawn'} in the original)" if found != original else ""

    return _said(theirs, 1, "", words, budget)


def _said(values: np.ndarray, blocks: int, side: str, words: Callable[[str], str], budget: Budget) -> Explanation:
    begin = budget.spent
    tried = [law.words() for law in known(values.shape[1:], blocks)]
    tried += ["the same everywhere", "orthogonal", "a block moved by a whole number"]
    try:
        found = told(values, blocks, budget)
        said = words(found) if found else ""
    except OutOfTime:
        return Explanation(tried=tried, side=side, stopped=STOPPED)
    fits = [Fit(file="laws", words=said, source="PB23", ratio=0.0)] if said else []
    return settled(fits, tried, "", side, math.inf, budget.spent - begin)


def follows(values: np.ndarray, law: Law) -> bool:
    """Whether the draws' distribution is compatible with the law, so that nothing else is to be named."""
    flat = values.astype(np.float64).ravel()
    flat = flat[:: -(-flat.size // MOST)]
    match law:
        case Constant(value):
            return bool(np.all(flat == np.float32(value)))
        case Uniform(bound):
            return probability(flat, DrawnLaw("uniform", bound, "")) > UNLIKELY
        case Normal(deviation):
            return probability(flat, DrawnLaw("normal", deviation, "")) > UNLIKELY


def told(values: np.ndarray, blocks: int = 1, budget: Budget = UNLIMITED) -> str:
    """The law in words; empty where none is told from the others."""
    values = values.astype(np.float64)
    if (values == values.flat[0]).all():
        return f"at {values.flat[0]:g} everywhere"
    shape = values.shape[1:]
    if _orthogonal(values):
        return "orthogonal"
    if law := single(values, shape, blocks, budget):
        return law.words()
    if blocks > 1 and shape[0] % blocks == 0:
        return _moved(values, shape, blocks, budget)
    return ""


def single(values: np.ndarray, shape: Sequence[int], blocks: int, budget: Budget) -> DrawnLaw | None:
    """The one known law that the values are compatible with."""
    flat = values.ravel()
    flat = flat[:: -(-flat.size // MOST)]
    if flat.size < FEWEST:
        return None
    likely, open_still = [], 0
    for law in known(shape, blocks):
        budget.check()
        p = probability(flat, law)
        if p >= LIKELY:
            likely.append(law)
        elif p > UNLIKELY:
            open_still += 1
    return likely[0] if len(likely) == 1 and not open_still else None


def probability(values: np.ndarray, law: DrawnLaw) -> float:
    """Of values as far from the law, under it; of what is looked at the least likely, times how much that is.

    The test of Kolmogorov and Smirnov hardly sees the ends, where laws of one deviation differ most: a normal law that
    is cut at two deviations from one that is not. So the largest of n values is asked too, which is below m in F(m)^n
    of all samples, and the mean square, which is nearly normal: its variance is (kurtosis - 1) / n of its square.
    """
    from scipy import stats

    if law.kind == "uniform":
        made, end = stats.uniform(-law.size, 2 * law.size), law.size
    elif law.kind == "normal":
        made, end = stats.norm(0, law.size), math.inf
    else:
        made, end = stats.truncnorm(-2, 2, 0, law.size / TRUNCATION), 2 * law.size / TRUNCATION
    largest = float(np.abs(values).max())
    # A draw may be the end itself, rounded.
    if largest > end * (1 + 1e-6):
        return 0.0
    inside = 1 - 2 * float(made.sf(min(largest, end)))
    below = inside**values.size
    variance, excess = map(float, made.stats(moments="vk"))
    apart = (float((values**2).mean()) / variance - 1) / math.sqrt((excess + 2) / values.size)
    tests = (
        float(np.asarray(stats.kstest(values, made.cdf)[1])),
        2 * min(below, 1 - below),
        2 * float(stats.norm.sf(abs(apart))),
    )
    return min(1.0, len(tests) * min(tests))


def known(shape: Sequence[int], blocks: int = 1) -> list[DrawnLaw]:
    """The laws of libraries for that shape: each size once, by its first formula."""
    found: dict[tuple[str, float], DrawnLaw] = {}
    for law in _known(list(shape), blocks):
        found.setdefault((law.kind, round(law.size, 12)), law)
    return list(found.values())


def _known(shape: list[int], blocks: int) -> Iterator[DrawnLaw]:
    whole = math.prod(shape)
    fans = {shape[-1], shape[0], shape[0] // blocks, whole // shape[0], whole // shape[-1]}
    if len(shape) > 2:
        fans.add(whole // (shape[0] * shape[1]))
        fans.update((shape[0] * whole // (shape[0] * shape[1]), shape[1]))
    sizes = sorted(fan for fan in fans if fan > 1)
    for fan in sizes:
        yield DrawnLaw("uniform", 1 / math.sqrt(fan), f"1 / sqrt({fan})")
        yield DrawnLaw("normal", 1 / math.sqrt(fan), f"1 / sqrt({fan})")
        yield DrawnLaw("truncated normal", 1 / math.sqrt(fan), f"1 / sqrt({fan})")
        yield DrawnLaw("uniform", math.sqrt(3 / fan), f"sqrt(3 / {fan})")
        yield DrawnLaw("uniform", math.sqrt(6 / fan), f"sqrt(6 / {fan})")
        yield DrawnLaw("normal", math.sqrt(2 / fan), f"sqrt(2 / {fan})")
        yield DrawnLaw("truncated normal", math.sqrt(2 / fan), f"sqrt(2 / {fan})")
        yield DrawnLaw("normal", math.sqrt(1 / (3 * fan)), f"sqrt(1 / (3 {fan}))")
        yield DrawnLaw("uniform", 5 / 3 / math.sqrt(fan), f"5/3 / sqrt({fan})")
        yield DrawnLaw("uniform", 2 / math.sqrt(fan), f"2 / sqrt({fan})")
    if len(shape) > 1:
        pairs = {
            (shape[0], whole // shape[0]),
            (shape[0] // blocks, whole // shape[0]),
            (shape[-1], whole // shape[-1]),
        }
        for one, two in sorted(pairs):
            yield DrawnLaw("uniform", math.sqrt(6 / (one + two)), f"sqrt(6 / ({one} + {two}))")
            yield DrawnLaw("normal", math.sqrt(2 / (one + two)), f"sqrt(2 / ({one} + {two}))")
    for size in (0.05, 0.1, 1.0):
        yield DrawnLaw("uniform", size, f"{size:g}")
    for size in (1.0, 0.02, 0.01, 0.05, 0.1):
        yield DrawnLaw("normal", size, f"{size:g}")
        yield DrawnLaw("truncated normal", size, f"{size:g}")


def _orthogonal(values: np.ndarray) -> bool:
    """Whether each seed's matrix has orthonormal rows or columns."""
    if values.ndim != 3 or min(values.shape[1:]) < 2:
        return False
    matrix = values if values.shape[1] >= values.shape[2] else values.swapaxes(1, 2)
    products = matrix.swapaxes(1, 2) @ matrix
    return bool(np.allclose(products, np.eye(products.shape[-1]), atol=1e-4))


def _moved(values: np.ndarray, shape: Sequence[int], blocks: int, budget: Budget) -> str:
    """One block's law is that of the others, moved by a whole number."""
    parts = np.split(values, blocks, axis=1)
    moves = [round(float(part.mean())) for part in parts]
    changed = [number for number, move in enumerate(moves) if move]
    if len(changed) != 1:
        return ""
    calm = np.concatenate([part - move for part, move in zip(parts, moves, strict=True)], axis=1)
    law = single(calm, shape, blocks, budget)
    if law is None:
        return ""
    (number,) = changed
    return f"{law.words()}, and {moves[number]:+d} in block {number + 1} of {blocks}"
