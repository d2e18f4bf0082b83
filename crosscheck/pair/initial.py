"""How both sides start: draws of many seeds against each other, leaf by leaf, under neither side's stated law."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from crosscheck.explain import laws
from crosscheck.explain.explanation import Budget
from crosscheck.pair.given import SIDES
from crosscheck.pair.result import Difference
from crosscheck.pair.state import Found, State, from_comparisons
from spec.pair import Values

SEEDS, SEEDS_LARGE, SEEDS_SMALL = 24, 3, 48
"""Models that are made on each side, of a large one, and of a small one, whose leaves have few numbers to tell by."""

SMALL = 20_000
"""Numbers in the leaves of what is small."""

LEVEL = 1e-6
"""Chance that honest draws fail; its tests share it equally, as in tolerances.INITIAL_LAW_LEVEL."""

MOST = 50_000
"""Numbers of a leaf that are looked at, over all seeds."""

CONSTANT = "constant"
"""What is compared of numbers that no seed changes."""

FEWEST = 8
"""Numbers that a two-sample test needs to be able to fail at all, and more by far to see anything."""


def initialization(state: State) -> Found:
    """Two samples of every linked leaf. Without a seed on both sides it is one draw, and decides nothing."""
    seeded = state.seeded
    count = SEEDS_LARGE if state.large else SEEDS_SMALL if state.numbers <= SMALL else SEEDS
    count = count if seeded else 1
    ours, theirs = [], []
    for seed in range(count):
        state.say(f"initialization, seed {seed + 1} of {count}")
        ours.append(state.pushed(state.first.initialize(seed) if seeded else state.made))
        theirs.append(state.second.initialize(seed) if seeded else state.second_made)
    paths = [path for path, link in state.mapping.links.items() if link.parts and path in ours[0]]
    comparisons = []
    place = state.place("initialization", "float32", f"{count} seeds" if seeded else "one draw")
    level = LEVEL / max(2 * len(paths), 1)  # Two tests a leaf.
    for number, path in enumerate(paths):
        if state.large:
            state.say(f"initialization, leaf {number + 1} of {len(paths)}")
        one, two = (np.stack([draw[path] for draw in draws]).reshape(count, -1) for draws in (ours, theirs))
        for label, finding in _findings(one, two, level, seeded):
            values = finding.observed
            name = f"{path}, {label}" if label else path
            comparisons.append(
                place.limited(name, values, finding.difference, finding.bound, finding.size, finding.note)
            )
    if seeded:
        differences = [_in_words(one, count) for one in from_comparisons(comparisons)]
        if not state.large:
            budget = state.budget()
            differences = [_explained(one, (ours, theirs), budget) for one in differences]
        return Found(comparisons, differences, f"{count} seeds, two samples of each leaf")
    apart = [one.tensor for one in comparisons if not one.passed]
    said = f"one draw, which decides nothing ({SIDES[0]}(seed) and {SIDES[1]}(seed) would let it be judged)"
    said += f": {len(apart)} of {len(paths)} leaves look as if they start otherwise" if apart else ""
    return Found([], [], said)


def _explained(one: Difference, draws: tuple[Sequence[Values], Sequence[Values]], budget: Budget) -> Difference:
    """The difference with the laws that both sides' values come from. draws: of each side, one a seed."""
    name = one.name.removeprefix("initialization: ").removesuffix(f", {CONSTANT}")
    if name not in draws[0][0]:
        return one
    ours, theirs = (np.stack([draw[name] for draw in side]) for side in draws)
    return msgspec.structs.replace(one, explanation=laws.of_port(ours, theirs, budget))


def _in_words(one: Difference, seeds: int) -> Difference:
    """The sentence of a difference: its numbers are no distances of values."""
    ours, theirs = (float(value) for value in one.values or (0.0, 0.0))
    if not one.name.endswith(f", {CONSTANT}"):
        rare = one.size if one.size is not None and math.isfinite(one.size) else 300
        words = (
            f"standard deviations {ours:.3g} and {theirs:.3g} over {seeds} seeds; by chance in 1 of 10^{rare:.0f} runs"
        )
    elif one.bound != 0.0:
        words = f"the same for every seed, {ours:.6g} and {theirs:.6g}"
    elif min(ours, theirs) > 0.0 or max(ours, theirs) < 1.0:
        words = f"of its numbers, {ours:.0%} of {SIDES[0]} and {theirs:.0%} of {SIDES[1]} are the same for every seed"
    else:
        what = ("drawn", "the same for every seed") if ours < theirs else ("the same for every seed", "drawn")
        words = f"{SIDES[0]}: {what[0]}; {SIDES[1]}: {what[1]}"
    return msgspec.structs.replace(one, text=words, index=(), values=None, size=None, bound=None)


class TwoSamples(NamedTuple):
    """observed: of both sides. difference, bound: of a distance, or -log10 of p and of the level."""

    observed: tuple[float | str, float | str]
    difference: float
    bound: float
    size: int
    note: str


def _findings(one: np.ndarray, two: np.ndarray, level: float, seeded: bool) -> Iterator[tuple[str, TwoSamples]]:
    """Of values (seeds, elements): what is the same for every seed must be so on both sides, and equal; the rest is
    held against each other as two samples."""
    if seeded:
        still = (one == one[0]).all(axis=0), (two == two[0]).all(axis=0)
    else:
        still = (np.full(one.shape[1], (side == side.flat[0]).all()) for side in (one, two))
        still = tuple(still)
    both = still[0] & still[1]
    if (still[0] != still[1]).any():
        shares = tuple(float(side.mean()) for side in still)
        note = "share of the numbers that are the same for every seed"
        yield CONSTANT, TwoSamples((shares[0], shares[1]), abs(shares[0] - shares[1]) or 1.0, 0.0, one.shape[1], note)
        return
    if both.any():
        away = np.abs(one[0, both] - two[0, both])
        at = int(away.argmax())
        observed = float(one[0, both][at]), float(two[0, both][at])
        bound = 2.0**-22 * max(abs(observed[0]), abs(observed[1]))
        yield CONSTANT, TwoSamples(observed, float(away[at]), bound, int(both.sum()), "the same for every seed")
    drawn = [side[:, ~both].reshape(-1) for side in (one, two)]
    if min(side.size for side in drawn) < FEWEST:
        return
    yield "", far_apart(drawn[0], drawn[1], level)


def far_apart(one: np.ndarray, two: np.ndarray, level: float) -> TwoSamples:
    """Two samples of values, under no law that is stated, by Kolmogorov and Smirnov."""
    from scipy import stats

    thinned = [side[:: -(-side.size // MOST)] for side in (one, two)]
    # Sizes too: laws about zero that differ in scale alone are twice as far apart by them.
    results = [stats.ks_2samp(both[0], both[1]) for both in (thinned, [np.abs(side) for side in thinned])]
    distance, probability = min(
        ((float(np.asarray(one[0])), float(np.asarray(one[1]))) for one in results), key=lambda one: one[1]
    )
    unlikely = max(-math.log10(probability), 0.0) if probability > 0 else math.inf
    deviations = float(one.std(dtype=np.float64)), float(two.std(dtype=np.float64))
    note = f"standard deviations; Kolmogorov-Smirnov distance {distance:.3g} of {thinned[0].size} values a side"
    note += "; difference is -log10 of p"
    return TwoSamples(deviations, unlikely, -math.log10(level), thinned[0].size, note)
