"""What is random in train mode: where each side drops and how much, whether it is fresh, and that eval is free of it.

Masks are seen in the intermediates of a run in train mode: where a value is nothing but another one behind it, in part
zero and else multiplied by the same c > 1, something was dropped at a rate of 1 - 1 / c. No name and no library's layer
is asked for.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from crosscheck.comparison import Comparison
from crosscheck.explain.explanation import Explanation
from crosscheck.explain.laws import LIKELY
from crosscheck.mapping.pools import widened
from crosscheck.pair.given import SIDES
from crosscheck.pair.initial import LEVEL
from crosscheck.pair.result import Difference, SourcePlace
from crosscheck.pair.state import Found, NotChecked, State, from_comparisons
from crosscheck.statistics import bernoulli
from spec.pair import Forward, Inputs, Intermediate, PairSide, Values

BEHIND = 3
"""Operations behind a value among which the one may be that it was dropped from: a division, a cast, a selection."""

EXACT = 1e-4
"""Relative difference of a kept value from c times the one behind it, in float32 of many factors."""

MEAN_TOGETHER = 1.5
"""Numbers that fall together on average, from which it is an axis that does."""

FEWEST = 8
"""Numbers that must have been seen of a mask."""


MOST_RUNS = 8
"""Runs that are looked at, each with a seed of its own."""

ENOUGH = 20.0
"""Numbers that should have been dropped: e^-20 is the chance that none is, and the mask goes unseen."""


MOST_PLACES = 8
"""Sites whose places are compared, which takes up to 36 runs of a side."""

PLACED = 1e-3
"""Difference, in units of the largest number, of outputs that are the same but for some thousand roundings."""


class Site(NamedTuple):
    """number: of the intermediate. rate: that is meant, 1 - 1 / c. dropped: in all runs. size: of what one run draws,
    so far as it was seen. together: how many numbers fall together, on average. sure: whether that is no chance.

    whole: whether all of it was seen. mask: whether it is the mask itself, 0 or c, and not what was dropped. shape: of
    the value. shared: axes along which all fall together.
    """

    number: int
    module: str
    source: str
    op: str
    rate: float
    dropped: int
    size: int
    runs: int
    together: float
    sure: bool
    whole: bool
    mask: bool
    shape: tuple[int, ...] = ()
    shared: tuple[int, ...] = ()

    @property
    def where(self) -> str:
        """The module, or the line of one that has no name."""
        return self.module or self.source


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
    *_, point = state.points(1)
    state.put(point.values)
    inputs = state.pair.make_inputs(state.random(10))
    comparisons: list[Comparison] = []
    for number in (0, 1):
        comparisons += _seeds(state, number, inputs[number])
    sites = _sites(state, inputs)
    differences = list(_of_sites(*sites))
    if differences and len(sites[0]) != len(sites[1]):
        differences[0] = msgspec.structs.replace(differences[0], explanation=_without(state, inputs, sites, random))
    if not differences:
        differences += _elsewhere(state, inputs, sites)
    tests = max(sum(map(len, sites)), 1)
    place = state.place("dropout", "float32", "rates")
    for name, found in zip(SIDES, sites, strict=True):
        for number, site in enumerate(found):
            bits = np.arange(site.size * site.runs) < site.dropped
            finding = bernoulli.dropped(bits, site.rate, LEVEL / tests)
            label = f"{site.where} of {name}, site {number}"
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

    def run(train: bool, seed: int) -> Values:
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
    yield place.equal(f"fresh masks of {name}", str(fresh), str(True), note, (name, "expected"))


def _sites(state: State, inputs: tuple[Inputs, Inputs]) -> list[list[Site]]:
    """Of both sides, in as many runs as it takes that no mask is missed which drops nothing by chance."""
    runs: tuple[list[Sequence[Intermediate]], ...] = ([], [])
    found: list[list[Site]] = [[], []]
    for run in range(MOST_RUNS):
        for number, side in enumerate((state.first, state.second)):
            ran = side.forward(inputs[number], precision="float32", record=True, train=True, seed=state.seed + 1 + run)
            runs[number].append(ran.intermediates)
        if run:
            found = [list(sites_of(one)) for one in runs]
            few = min((site.size * site.runs * site.rate for side in found for site in side), default=0.0)
            if few >= ENOUGH and len(found[0]) == len(found[1]):
                break
    return found


def _elsewhere(state: State, inputs: tuple[Inputs, Inputs], sites: list[list[Site]]) -> Iterator[Difference]:
    """Sites at which one side drops what the other does not: told by the outputs where all of it is dropped.

    So what comes to the same is the same: before a rectifier or behind it, before a factor or behind it.
    """
    known = [_all_dropped(state, number, inputs[number], sites[number]) for number in (0, 1)]
    ours, theirs = known
    if ours is None or theirs is None:
        return
    left = list(zip(sites[1], theirs, strict=True))
    for site, outputs in zip(sites[0], ours, strict=True):
        match = next((one for one in left if _same_outputs(state, outputs, one[1])), None)
        if match is not None:
            left.remove(match)
            continue
        where = site.where
        at = min((one for one, _ in left), key=lambda one: abs(sites[1].index(one) - sites[0].index(site)))
        yield Difference(
            name=f"dropout: {where}, place",
            check="dropout",
            text=f"{where}: {SIDES[1]} drops another value here; with all of it dropped, outputs are not the same",
            first=_place(site),
            second=_place(at),
        )


def _all_dropped(state: State, number: int, inputs: Inputs, sites: list[Site]) -> list[dict[str, np.ndarray]] | None:
    """The outputs with all that one site drops at zero and nothing dropped elsewhere, for each site.

    None where what enters a site is not to be found.
    """
    side = (state.first, state.second)[number]

    def run(replaced: dict[int, np.ndarray]) -> Forward:
        return side.forward(
            inputs, precision="float32", record=True, train=True, seed=state.seed + 1, replaced=replaced
        )

    if len(sites) > MOST_PLACES:
        return None
    found = []
    for dropped in sites:
        replaced: dict[int, np.ndarray] = {}
        entries = None
        for site in sites:
            if entries is None or not site.mask:
                # What enters it depends on what was put in before.
                entries = {entry.number: entry for entry in run(replaced).intermediates}
            value = _kept_whole(site, entries)
            if value is None:
                return None
            replaced[site.number] = np.zeros_like(value) if site == dropped else value
        found.append(run(replaced).outputs)
    return found


def _kept_whole(site: Site, entries: Mapping[int, Intermediate]) -> np.ndarray | None:
    """What stands at a site where nothing is dropped, or None where that is not to be found."""
    entry = entries[site.number]
    if site.mask:
        return np.ones_like(entry.value)
    value = widened(entry.value)
    for other in _behind(entry, entries):
        if _scale(value, widened(other.value)) is not None:
            return other.value
    return None if (value == 0).any() else entry.value * (1 - site.rate)


def _same_outputs(state: State, ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> bool:
    for link in state.mapping.outputs:
        one, two = ours[link.first].transpose(link.axes).reshape(link.shape), theirs[link.second]
        if not np.abs(one - two).max(initial=0.0) <= PLACED * np.abs(one).max(initial=0.0):
            return False
    return True


class _Mask(NamedTuple):
    """In one run: zeros that are drawn, and what is kept. scale: of what is kept. whole, mask: as in Site."""

    entry: Intermediate
    scale: float
    dropped: np.ndarray
    kept: np.ndarray
    whole: bool
    mask: bool


def sites_of(runs: Sequence[Sequence[Intermediate]]) -> Iterator[Site]:
    """Where something was dropped, in the order of computation. runs: with other seeds, at least two."""
    masks: dict[int, list[_Mask]] = {}
    for number, entries in enumerate(runs):
        again = {entry.number: entry.value for entry in runs[number - 1]}
        for mask in _masks(entries, again):
            masks.setdefault(mask.entry.number, []).append(mask)
    for _, held in sorted(masks.items()):
        entry = held[0].entry
        both = np.stack([one.dropped for one in held]), np.stack([one.kept for one in held])
        dropped, size = _counted(*both)
        seen = int((both[0] | both[1]).sum())
        rate = 1 - 1 / held[0].scale
        whole, mask = (all(getattr(one, name) for one in held) for name in ("whole", "mask"))
        sure = seen == size or seen * rate >= ENOUGH
        places = entry.module, entry.source, entry.op
        counts = dropped, size // len(held), len(held), seen / size
        yield Site(entry.number, *places, rate, *counts, sure, whole, mask, entry.value.shape, _together(*both))


def _masks(entries: Sequence[Intermediate], again: Mapping[int, np.ndarray]) -> Iterator[_Mask]:
    """Of one run. again: the values of another, by number: zeros that are the same in both are a mask of another kind,
    of padding or of the future."""
    by_number = {entry.number: entry for entry in entries}
    masks: set[int] = set()
    for entry in entries:
        value = widened(entry.value)
        if value.size < FEWEST or not 0 < np.count_nonzero(value == 0) < value.size:
            continue
        other = again.get(entry.number)
        if other is not None and other.shape == value.shape and np.array_equal(other == 0, value == 0):
            continue
        if masks.intersection(entry.operands):
            # What a mask is multiplied with, in its shape or a larger one, or what hands on what was dropped.
            masks.add(entry.number)
            continue
        scale = _as_mask(value)
        mask = scale is not None
        seen = np.ones(value.shape, bool)
        if scale is None:
            for behind in _behind(entry, by_number):
                other = widened(behind.value)
                if other.size == value.size:
                    other = other.reshape(value.shape)  # flattened in between, which is no operation of its own
                if other.shape == value.shape and bool((other[value == 0] == 0).all()):
                    break  # The zeros are older than this operation: a rectifier's, say.
                scale, seen = _scale(value, other), other != 0
                if scale is not None:
                    break
        if scale is not None:
            masks.add(entry.number)
            yield _Mask(entry, scale, (value == 0) & seen, value != 0, bool(seen.all()), mask)


def _counted(dropped: np.ndarray, kept: np.ndarray) -> tuple[int, int]:
    """How many are dropped, and how many were seen, of those that were drawn in all runs (axis 0): whole channels are
    one each."""
    for axis in range(1, dropped.ndim):
        each = tuple(np.asarray(one.any(axis=axis, keepdims=True)) for one in (dropped, kept))
        if dropped.shape[axis] > 1 and not (each[0] & each[1]).any():
            dropped, kept = each
    return int(dropped.sum()), int((dropped | kept).sum())


def _together(dropped: np.ndarray, kept: np.ndarray) -> tuple[int, ...]:
    """Axes of a value, which has those of `_counted` but for the first, along which all fall together."""
    found = []
    for axis in range(1, dropped.ndim):
        each = tuple(np.asarray(one.any(axis=axis, keepdims=True)) for one in (dropped, kept))
        if dropped.shape[axis] > 1 and not (each[0] & each[1]).any():
            dropped, kept = each
            found.append(axis - 1)
    return tuple(found)


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


def _behind(entry: Intermediate, by_number: Mapping[int, Intermediate]) -> Iterator[Intermediate]:
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
        alone = _alone(ours, theirs)
        named = [", ".join(f"{one.where} {one.rate:.3g}" for one in side) for side in alone]
        only = sum(map(len, alone)) < len(ours) + len(theirs)
        told = [f"{'alone at ' if only else ''}{one}" if one else "none alone" if only else "none" for one in named]
        first, second = (next(iter(one or side), None) for one, side in zip(alone, (ours, theirs), strict=True))
        yield Difference(
            name="dropout: sites",
            check="dropout",
            text=f"{SIDES[0]} drops at {_places(len(ours))} ({told[0]}), {SIDES[1]} at {len(theirs)} ({told[1]})",
            first=_place(first) if first else None,
            second=_place(second) if second else None,
        )
        return
    for one, two in zip(ours, theirs, strict=True):
        where = one.where
        if abs(one.rate - two.rate) > 1e-3:
            yield Difference(
                name=f"dropout: {where}",
                check="dropout",
                text=f"{where}: {SIDES[0]} drops {one.rate:.3g}, {SIDES[1]} {two.rate:.3g}",
                first=_place(one),
                second=_place(two),
                values=(one.rate, two.rate),
                size=abs(one.rate - two.rate),
                explanation=_looks_like(one.rate, two.rate),
            )
        elif one.sure and two.sure and (falls := _fall_together(one, two)):
            counts = f"{SIDES[0]} draws {_drawn(one)} numbers, {SIDES[1]} {_drawn(two)}"
            yield Difference(
                name=f"dropout: {where}, shared",
                check="dropout",
                text=f"{where}: {counts}: on the {falls} some fall together",
                first=_place(one),
                second=_place(two),
                explanation=_shared(one, two),
            )


def _looks_like(one: float, two: float) -> Explanation:
    """Of two rates that were found exactly: those that are kept and those that are dropped exchanged, or another."""
    words = f"as if the rate were {two:.3g} in the port ({one:.3g} in the original)"
    if abs(1 - one - two) <= 1e-3 < abs(one - two):
        words = f"as if units were kept with probability {one:.3g} in the port, and dropped otherwise"
    return Explanation(looks_like=words, variant="rate", source="PB59")


def _shared(one: Site, two: Site) -> Explanation | None:
    """Along which axes a mask is the same on one side alone, where both were seen whole."""
    tried = ["one mask served several numbers"]
    if not (one.whole and two.whole) or bool(one.shared) == bool(two.shared):
        return Explanation(tried=tried)
    number, site = (1, two) if two.shared else (0, one)
    axes = " and ".join(f"{axis}" for axis in site.shared)
    words = f"one mask served all along ax{'es' if len(site.shared) > 1 else 'is'} {axes} of {site.shape}"
    words += f" in the {SIDES[number]}"
    return Explanation(looks_like=f"as if {words}", variant="rate", source="PB59", tried=tried)


def _without(
    state: State, inputs: tuple[Inputs, Inputs], sites: list[list[Site]], random: tuple[bool, bool]
) -> Explanation | None:
    """Why one side has no sites: nothing in it is random, or what is kept is as it was, which no factor tells."""
    lacking = [number for number, found in enumerate(sites) if not found]
    if len(lacking) != 1:
        return None
    (number,) = lacking
    side, given = (state.first, state.second)[number], inputs[number]
    tried = ["nothing were dropped", "what is kept were not divided by 1 - rate"]
    words = ""
    # What is not random may be dropped all the same, by one key for ever.
    if not random[number] and _trains_as_it_evaluates(side, given):
        words = tried[0]
    elif random[number] and _kept_as_it_was(side, given, state.seed, sites[1 - number]):
        words = tried[1]
    if not words:
        return Explanation(tried=tried)
    return Explanation(looks_like=f"as if {words} in the {SIDES[number]}", variant="rate", source="PB59", tried=tried)


def _trains_as_it_evaluates(side: PairSide, inputs: Inputs) -> bool:
    quiet, loud = (side.forward(inputs, precision="float32", train=train, seed=1).outputs for train in (False, True))
    return all(
        float(np.abs(loud[name] - value).max(initial=0.0)) <= EXACT * float(np.abs(value).max(initial=0.0))
        for name, value in quiet.items()
    )


def _kept_as_it_was(side: PairSide, inputs: Inputs, seed: int, sites: Sequence[Site]) -> bool:
    """Whether there are as many places where something is dropped, at the rates of the other side's sites."""
    one, two = (
        side.forward(inputs, precision="float32", record=True, train=True, seed=seed + 1 + run).intermediates
        for run in range(2)
    )
    counts = unscaled(one, two)
    if len(counts) != len(sites):
        return False
    found = [
        bernoulli.dropped(np.arange(size) < dropped, site.rate, LIKELY)
        for (dropped, size), site in zip(counts, sites, strict=True)
    ]
    return all(one.difference <= one.bound for one in found)


def unscaled(entries: Sequence[Intermediate], again: Sequence[Intermediate]) -> list[tuple[int, int]]:
    """Where something was dropped and what is kept left as it is: how many were dropped, and of how many.

    entries, again: of two runs with other seeds.
    """
    by_number = {entry.number: entry for entry in entries}
    others = {entry.number: entry.value for entry in again}
    found: list[tuple[int, int]] = []
    known: set[int] = set()
    for entry in entries:
        value, other = widened(entry.value), others.get(entry.number)
        if other is None or other.shape != value.shape or value.size < FEWEST:
            continue
        if known.intersection(entry.operands):
            known.add(entry.number)
            continue
        zero = value == 0
        if not 0 < np.count_nonzero(zero) < value.size or np.array_equal(zero, other == 0):
            continue
        for behind in _behind(entry, by_number):
            before = widened(behind.value)
            if before.shape != value.shape or (before[zero] == 0).all():
                continue
            if np.array_equal(np.where(zero, 0, before), value):
                known.add(entry.number)
                found.append((int((zero & (before != 0)).sum()), int((before != 0).sum())))
                break
    return found


def _places(count: int) -> str:
    return f"{count} place{'' if count == 1 else 's'}"


def _alone(ours: list[Site], theirs: list[Site]) -> tuple[list[Site], list[Site]]:
    """Sites of either side for which the other has none of that name, where half of them have; else all.

    Layers that some frameworks number and others do not are alike in their names.
    """

    def names(side: list[Site]) -> list[str]:
        return [".".join(word for word in one.module.split(".") if not word.isdecimal()) for one in side]

    counts = [Counter(names(side)) for side in (ours, theirs)]
    left = counts[0] - counts[1], counts[1] - counts[0]
    if 2 * sum((counts[0] & counts[1]).values()) < min(len(ours), len(theirs)) or not ours or not theirs:
        return ours, theirs
    found: tuple[list[Site], list[Site]] = [], []
    for side, held, more in zip((ours, theirs), found, left, strict=True):
        # Of equal names the last: which of them is one too many, names do not tell.
        for one, name in reversed(list(zip(side, names(side), strict=True))):
            if more[name]:
                more[name] -= 1
                held.insert(0, one)
    return found


def _fall_together(one: Site, two: Site) -> str:
    """The side that drops fewer numbers by themselves; or nothing. Of what was seen in part, there may be more."""
    for name, less, more in ((SIDES[0], one, two), (SIDES[1], two, one)):
        if less.whole and less.size < more.size:
            return name
        if not less.whole and less.together > MEAN_TOGETHER and more.size > MEAN_TOGETHER * less.size:
            return name
    return ""


def _drawn(one: Site) -> str:
    return f"{one.size}" if one.whole else f"{one.size} or more"


def _place(site: Site) -> SourcePlace:
    return SourcePlace(source=site.source, module=site.module, op=site.op)
