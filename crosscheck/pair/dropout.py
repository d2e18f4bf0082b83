"""What is random in train mode: where each side drops and how much, whether it is fresh, and that eval is free of it.

Masks are seen in the intermediates of a run in train mode: where a value is nothing but another one behind it, in part
zero and else multiplied by the same c > 1, something was dropped at a rate of 1 - 1 / c. No name and no library's layer
is asked for.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from crosscheck.comparison import Comparison
from crosscheck.mapping.pools import widened
from crosscheck.pair.given import SIDES
from crosscheck.pair.initial import LEVEL
from crosscheck.pair.result import Difference, SourcePlace
from crosscheck.pair.state import Found, NotChecked, State, from_comparisons
from crosscheck.statistics import bernoulli
from spec.pair import Intermediate

BEHIND = 3
"""Operations behind a value among which the one may be that it was dropped from: a division, a cast, a selection."""

EXACT = 1e-4
"""Relative difference of a kept value from c times the one behind it, in float32 of many factors."""

TOGETHER = 16
"""Numbers of a mask from which it is no chance that all of them fall alike along an axis."""

FEWEST = 8
"""Numbers that must have been seen of a mask."""


class Site(NamedTuple):
    """rate: that is meant, 1 - 1 / c. dropped, size: of what was drawn, so far as it was seen.

    whole: whether all of it was seen.
    """

    module: str
    source: str
    op: str
    rate: float
    dropped: int
    size: int
    whole: bool


def dropout(state: State) -> Found:
    """Sites and rates on both sides, seeds, and eval mode after train mode."""
    able = [{"train", "rng"} <= side.can for side in (state.first, state.second)]
    random = state.random_in_train()
    if not any(random):
        raise NotChecked("nothing in train mode is random", scope=True)
    if not all(able):
        missing = SIDES[able.index(False)]
        raise NotChecked(f"{missing} takes no `train` and `rng` (call_{missing} may)", scope=True)
    state.say("dropout")
    state.put(next(state.points(1)).values)
    inputs = state.pair.make_inputs(state.random(10))
    comparisons: list[Comparison] = []
    sites = []
    for number, side in enumerate((state.first, state.second)):
        comparisons += _seeds(state, number, inputs[number])
        ran = side.forward(inputs[number], precision="float32", record=True, train=True, seed=state.seed + 1)
        sites.append(list(sites_of(ran.intermediates)))
    differences = list(_of_sites(*sites))
    tests = max(sum(map(len, sites)), 1)
    place = state.place("dropout", "float32", "rates")
    for name, found in zip(SIDES, sites, strict=True):
        for number, site in enumerate(found):
            bits = np.arange(site.size) < site.dropped
            finding = bernoulli.dropped(bits, site.rate, LEVEL / tests)
            label = f"{site.module or site.source} of {name}, site {number}"
            values = finding.observed, finding.expected
            comparisons.append(
                place.limited(label, values, finding.difference, finding.bound, finding.size, finding.note)
            )
    state.put(next(state.points(0)).values)
    rates = ", ".join(f"{rate:.3g}" for rate in dict.fromkeys(round(site.rate, 3) for site in sites[0]))
    text = f"{len(sites[0])} and {len(sites[1])} sites" + (f", rates {rates}" if rates else "")
    if not any(sites):
        differences.append(
            Difference(
                name="dropout: sites",
                check="dropout",
                kind="partly",
                text="train mode is random on both sides, and no mask was recognised: rates were not compared",
            )
        )
    return Found(comparisons, [*from_comparisons(comparisons), *differences], text)


def _seeds(state: State, number: int, inputs: object) -> Iterator[Comparison]:
    """The same seed gives the same, another seed another; eval mode is free of it, also after train mode."""
    side, name = (state.first, state.second)[number], SIDES[number]
    place = state.place("dropout", "float32", "seeds")

    def run(train: bool, seed: int) -> dict[str, np.ndarray]:
        return side.forward(inputs, precision="float32", train=train, seed=seed).outputs  # pyright: ignore[reportArgumentType]

    quiet, one, again, other, quiet_after = (
        run(False, 1),
        run(True, 1),
        run(True, 1),
        run(True, 2),
        run(False, 2),
    )
    for output, array in quiet.items():
        yield place._replace(sides=(name, f"{name}, again")).identical(
            f"{output} of {name} in eval mode", array, quiet_after[output]
        )
        yield place._replace(sides=(name, f"{name}, again")).identical(
            f"{output} of {name}, the same seed", one[output], again[output]
        )
    fresh = any(not np.array_equal(one[output], other[output], equal_nan=True) for output in one)
    note = "whether another seed drops others"
    yield place.equal(f"fresh masks of {name}", fresh, True, note, (name, "expected"))


def sites_of(entries: tuple[Intermediate, ...]) -> Iterator[Site]:
    """Where something was dropped, in the order of computation."""
    by_number = {entry.number: entry for entry in entries}
    masks: set[int] = set()
    for entry in entries:
        value = widened(entry.value)
        if value.size < FEWEST or not 0 < np.count_nonzero(value == 0) < value.size:
            continue
        if masks.intersection(entry.operands):
            # What a mask is multiplied with, in its shape or a larger one, or what hands on what was dropped.
            masks.add(entry.number)
            continue
        scale = _as_mask(value)
        seen = np.ones(value.shape, bool)
        if scale is None:
            for behind in _behind(entry, by_number):
                other = widened(behind.value)
                if other.shape == value.shape and bool((other[value == 0] == 0).all()):
                    break  # The zeros are older than this operation: a rectifier's, say.
                scale, seen = _scale(value, other), other != 0
                if scale is not None:
                    break
        if scale is not None:
            masks.add(entry.number)
            dropped, size = _counted((value == 0) & seen, value != 0)
            yield Site(entry.module, entry.source, entry.op, 1 - 1 / scale, dropped, size, bool(seen.all()))


def _counted(dropped: np.ndarray, kept: np.ndarray) -> tuple[int, int]:
    """How many are dropped, and how many were seen, of those that were drawn: whole channels are one each."""
    for axis in range(dropped.ndim):
        each = tuple(np.asarray(one.any(axis=axis, keepdims=True)) for one in (dropped, kept))
        if dropped.shape[axis] > 1 and not (each[0] & each[1]).any():
            dropped, kept = each
    return int(dropped.sum()), int((dropped | kept).sum())


def _as_mask(value: np.ndarray) -> float | None:
    """c of a value that is 0 or c alone."""
    kept = value[value != 0]
    scale = float(kept.flat[0])
    return scale if scale > 1 + EXACT and bool((np.abs(kept - scale) <= EXACT * scale).all()) else None


def _scale(value: np.ndarray, other: np.ndarray) -> float | None:
    """c where the value is c times the other one, or zero."""
    if other.shape != value.shape:
        return None
    kept = value != 0
    if not np.isfinite(other).all() or (other[kept] == 0).any() or np.count_nonzero(other != 0) < FEWEST:
        return None
    if not ((value == 0) & (other != 0)).any():
        return None
    ratios = value[kept] / other[kept]
    scale = float(np.median(ratios))
    return scale if scale > 1 + EXACT and bool((np.abs(ratios - scale) <= EXACT * scale).all()) else None


def _behind(entry: Intermediate, by_number: dict[int, Intermediate]) -> Iterator[Intermediate]:
    """What enters a value, and what enters that: the nearest first."""
    front, seen = list(entry.operands), set(entry.operands)
    for _ in range(BEHIND):
        further: list[int] = []
        for number in front:
            if number in by_number:
                yield by_number[number]
                further += [one for one in by_number[number].operands if one not in seen]
                seen.update(by_number[number].operands)
        front = further


def _of_sites(ours: list[Site], theirs: list[Site]) -> Iterator[Difference]:
    """In the order of computation: one more, one less, or another rate."""
    if len(ours) != len(theirs):
        told = (
            ", ".join(f"{one.module or one.source} {one.rate:.3g}" for one in side) or "none" for side in (ours, theirs)
        )
        one, two = told
        yield Difference(
            name="dropout: sites",
            check="dropout",
            text=f"{SIDES[0]} drops at {len(ours)} places ({one}), {SIDES[1]} at {len(theirs)} ({two})",
            first=_place(ours[0]) if ours else None,
            second=_place(theirs[0]) if theirs else None,
        )
        return
    for one, two in zip(ours, theirs, strict=True):
        if abs(one.rate - two.rate) > 1e-3:
            where = one.module or one.source
            yield Difference(
                name=f"dropout: {where}",
                check="dropout",
                text=f"{where}: {SIDES[0]} drops {one.rate:.3g}, {SIDES[1]} {two.rate:.3g}",
                first=_place(one),
                second=_place(two),
                values=(one.rate, two.rate),
                size=abs(one.rate - two.rate),
            )
        elif one.whole and two.whole and min(one.size, two.size) >= TOGETHER and one.size != two.size:
            where = one.module or one.source
            yield Difference(
                name=f"dropout: {where}, shared",
                check="dropout",
                text=f"{where}: {SIDES[0]} draws {one.size} numbers, {SIDES[1]} {two.size}: some fall together",
                first=_place(one),
                second=_place(two),
            )


def _place(site: Site) -> SourcePlace:
    return SourcePlace(source=site.source, module=site.module, op=site.op)
