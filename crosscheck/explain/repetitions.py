"""What a side recorded of the same thing twice: masks by seed and site, runs recorded and not, members and their runs.

Nothing is asked again: a pattern is named where all that was recorded has it, and no other pattern is there.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from crosscheck.bounds import tolerances
from crosscheck.checks import dropout, members, shipped_path
from crosscheck.comparison import Arrays, Comparison
from crosscheck.explain.decimals import written
from crosscheck.explain.explanation import Budget, Explanation, Fit, OutOfTime, settled
from crosscheck.explain.laws import LIKELY
from crosscheck.statistics import bernoulli

CLOSE = 1e-3
"""Relative difference of a mask's values that are the same: they are told by differences of outputs."""

FEWEST = 64
"""Numbers of a mask that were seen, at least: fewer may have a pattern by chance."""

AXES = ("the batch", "time", "features")
"""Of a site's shape."""

Pattern = tuple[str, str, bool]
"""Words, its number in the catalogue of porting bugs, and whether it is there."""


def explain(subject: Any, failure: Comparison, side: str, arrays: Arrays, budget: Budget) -> Explanation | None:
    """Which pattern is in what a side recorded; None where nothing was looked for."""
    look = LOOKS.get(failure.check)
    if look is None:
        return None
    tried: list[str] = []
    found: dict[str, str] = {}
    try:
        for words, source, there in look(subject, failure, arrays):
            budget.check()
            tried.append(words)
            if there:
                found.setdefault(words, source)
    except OutOfTime:
        return Explanation(side=side, tried=tried, seconds=budget.spent)
    if not tried:
        return None
    fits = [Fit(file="repetitions", words=words, source=source, ratio=0.0) for words, source in found.items()]
    stopped = f"not told apart: {'; '.join(found)}" if len(fits) > 1 else ""
    # Of two patterns either may be the cause of the other.
    return settled(fits if len(fits) == 1 else [], list(dict.fromkeys(tried)), stopped, side, np.inf, budget.spent)


def _of_masks(subject: Any, failure: Comparison, arrays: Arrays) -> Iterator[Pattern]:
    """Of the sites that the failure is about, (seeds, batch, time, ...) each, 0 where dropped; NaN where not seen."""
    rates = {name: site.rate for name, site in subject.dropout_sites(1, 1).items()}
    masks = {name: array for name in rates if (array := arrays.get(f"masks/{name}")) is not None}
    named = {name: mask for name, mask in masks.items() if name in failure.tensor} or masks
    for name, mask in named.items():
        rate, seen = rates[name], mask[~np.isnan(mask)].astype(np.float64)
        if seen.size < FEWEST:
            continue
        kept = seen[seen > 0.25]
        dropped = seen.size - kept.size
        factor = float(np.median(kept)) if kept.size else 0.0
        whole = bool(kept.size) and bool((np.abs(kept - factor) <= CLOSE * factor).all())
        yield f"nothing were dropped at {name}", "PB59", whole and not dropped and _is(factor, 1.0)
        words = f"what is kept were not divided by 1 - rate at {name}"
        yield words, "", whole and _is(factor, 1.0) and _likely(dropped, seen.size, rate)
        turned = whole and _is(factor, 1 / rate) and _likely(dropped, seen.size, 1 - rate) and not _is(rate, 0.5)
        yield f"units were kept with the rate's probability at {name}, and dropped otherwise", "PB59", turned
        own = written(round(1 - 1 / factor, 3)) if factor > 1 else None
        other = own is not None and not _is(own, rate) and not turned and _likely(dropped, seen.size, own)
        yield f"the rate were {own or 0:g} at {name} ({rate:g} in the model)", "PB59", whole and other
    yield from _shared(named)
    yield from _between(named, masks)


def _is(one: float, other: float) -> bool:
    return abs(one - other) <= CLOSE * abs(other)


def _likely(dropped: int, size: int, rate: float) -> bool:
    found = bernoulli.dropped(np.arange(size) < dropped, rate, LIKELY)
    return found.difference <= found.bound


def _shared(masks: Mapping[str, np.ndarray]) -> Iterator[Pattern]:
    """What falls together: over seeds, the first axis, or along an axis of the site's own."""
    for axis in range(len(AXES) + 1):
        # Of attention, axes are others.
        bits = [_bits(mask) for mask in masks.values() if mask.ndim == len(AXES) + 1 and mask.shape[axis] > 1]
        if not bits:
            continue
        there = all(_same(np.take(one, [0], axis), one) and _varies(one) for one in bits)
        if axis == 0:
            yield "every seed had the same masks", "PB67", there
        else:
            yield f"one mask served all of {AXES[axis - 1]}", "PB59", there


def _bits(mask: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(mask), np.nan, mask > 0.25)


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Where both were seen, which has to be often enough."""
    seen = ~np.isnan(one) & ~np.isnan(other)
    return int(seen.sum()) >= FEWEST and bool(np.all((one == other) | ~seen))


def _varies(bits: np.ndarray) -> bool:
    seen = bits[~np.isnan(bits)]
    return bool(seen.size) and 0 < float(seen.mean()) < 1


def _between(named: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray]) -> Iterator[Pattern]:
    for one in named:
        for other in masks:
            if one < other and masks[one].shape == masks[other].shape:
                bits = _bits(masks[one]), _bits(masks[other])
                there = _varies(bits[0]) and _same(*bits)
                yield "several sites had the same masks", "PB67", there


def _of_unrecorded(subject: Any, failure: Comparison, arrays: Arrays) -> Iterator[Pattern]:
    """A training that recorded nothing beside one that did."""
    window, _, rest = failure.recorded.partition("/")
    if not rest.startswith("plain/"):
        return
    plain, recorded = (arrays.get(f"{window}/{kind}/loss") for kind in ("plain", "recorded"))
    if plain is not None and recorded is not None and len(plain) == len(recorded) > 2:
        close = _closeness(failure)
        differs = not close(plain, recorded)
        words = "unrecorded, each step reported the loss of the one before"
        yield words, "", differs and close(plain[1:], recorded[:-1])
        words = "unrecorded, each step reported the loss of the next"
        yield words, "", differs and close(plain[:-1], recorded[1:])
    slots = [
        name
        for name in arrays
        if name.startswith(f"{window}/plain/final/") and name.endswith(tuple(subject.training.optimizer.slots))
    ]
    if window == shipped_path.START and slots:
        # Slots begin at zero.
        still = all(not arrays[name].any() for name in slots)
        moved = any(arrays.get(name.replace("/plain/", "/recorded/"), np.zeros(1)).any() for name in slots)
        yield "unrecorded, training gave back the slots that it was given", "", still and moved


def _of_members(subject: Any, failure: Comparison, arrays: Arrays) -> Iterator[Pattern]:
    """Members beside runs of their seeds alone."""
    together = arrays.get("losses")
    alone = {m: arrays[f"{m}/losses"] for m in members.looked_at(failure.case) if f"{m}/losses" in arrays}
    if together is None or not alone:
        return
    close, count = _closeness(failure), len(together)
    orders: tuple[tuple[str, Callable[[int], int]], ...] = (
        ("members were given back in reverse", lambda member: count - 1 - member),
        ("each member were the next one", lambda member: (member - 1) % count),
        ("each member were the one before", lambda member: (member + 1) % count),
    )
    wrong = any(not close(together[member], run) for member, run in alone.items())
    for words, place in orders:
        yield words, "", wrong and all(close(together[place(member)], run) for member, run in alone.items())
    if failure.tensor.startswith("first_solved"):
        said = failure.values
        less = said is not None and isinstance(said[0], int) and isinstance(said[1], int) and said[0] - said[1] == -1
        yield "the time to solve were counted from 0", "", less


def _closeness(failure: Comparison) -> Callable[[np.ndarray, np.ndarray], bool]:
    share = tolerances.WIDEST[failure.precision]  # type: ignore[index]

    def close(one: np.ndarray, other: np.ndarray) -> bool:
        largest = max(float(np.abs(one).max(initial=0.0)), float(np.abs(other).max(initial=0.0)))
        return one.shape == other.shape and bool(np.abs(one - other).max(initial=0.0) <= share * largest)

    return close


LOOKS: dict[str, Callable[[Any, Comparison, Arrays], Iterator[Pattern]]] = {
    dropout.NAME: _of_masks,
    shipped_path.NAME: _of_unrecorded,
    members.NAME: _of_members,
}
