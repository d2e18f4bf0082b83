"""Running statistics of a pair, such as BatchNorm's: what a call in train mode makes of them, and of which values.

What both sides kept before is the same, and what enters the norm is among the original's intermediates. A statistic is
explained only where one number, the share that is taken of the batch's, gives all of its channels to rounding.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from crosscheck.explain.decimals import written
from crosscheck.explain.explanation import STOPPED, Budget, Explanation, Fit, OutOfTime, settled

CHANNELS = 3
"""Of a statistic, at least: one number is solved for, and the others must agree with it."""


class MovedStatistic(NamedTuple):
    """A statistic before a call in train mode, and after it on both sides: (channels,) each."""

    before: np.ndarray
    ours: np.ndarray
    theirs: np.ndarray


class ShareTaken(NamedTuple):
    """share: that is taken of the batch's. kind: of the batch's statistic."""

    share: float
    kind: str


def explain(
    moved: Mapping[str, MovedStatistic], values: Sequence[np.ndarray], tolerance: float, budget: Budget
) -> dict[str, Explanation]:
    """What each statistic that differs looks like. values: the original's intermediates. Raises nothing."""
    found: dict[str, Explanation] = {}
    for path, one in moved.items():
        begin = budget.spent
        try:
            with np.errstate(all="ignore"):
                fits, tried, stopped = _of(one, moved, values, tolerance, budget)
        except OutOfTime:
            fits, tried, stopped = [], [], STOPPED
        except Exception:
            continue
        largest = max(float(np.abs(one.ours).max(initial=0.0)), 1e-300)
        before = float(np.abs(one.ours - one.theirs).max(initial=0.0)) / (tolerance * largest)
        if before > 1 and (tried or stopped):
            found[path] = settled(fits, tried, stopped, "", before, budget.spent - begin)
    return found


def mode(ours: float, theirs: float) -> Explanation:
    """What outputs in train mode look like that differ.

    ours, theirs: how far each side's are from those of its own eval mode, in units of rounding.
    """
    tried = ["train mode were eval mode"]
    if (ours <= 1) == (theirs <= 1):
        return Explanation(tried=tried)
    words = f"train mode computed as eval mode does in the {'original' if ours <= 1 else 'port'}"
    return Explanation(looks_like=f"as if {words}", variant="running", tried=tried, before=max(ours, theirs), after=1.0)


def _of(
    one: MovedStatistic,
    moved: Mapping[str, MovedStatistic],
    values: Sequence[np.ndarray],
    tolerance: float,
    budget: Budget,
) -> tuple[list[Fit], list[str], str]:
    if one.before.ndim != 1 or one.before.size < CHANNELS:
        return [], [], ""
    tried = ["running statistics stood still", *(f"they took a share of {kind}" for kind in KINDS)]
    said: dict[str, None] = {}
    for value in values:
        for axis, size in enumerate(value.shape):
            if size != one.before.size or value.ndim < 2:
                continue
            budget.check()
            batch = list(_statistics(value, axis, [other.before for other in moved.values()]))
            mine = [told for kind, s in batch if (told := _told(one.before, one.ours, s, kind, tolerance))]
            for here in mine[:1]:
                if np.array_equal(one.theirs, one.before):
                    said["running statistics stood still in the port"] = None
                    continue
                for kind, statistic in batch:
                    there = _told(one.before, one.theirs, statistic, kind, tolerance)
                    if there is not None and (there.kind == here.kind or abs(there.share - here.share) < 1e-9):
                        said[_words(here, there)] = None
    fits = [Fit(file="running", words=words, source="", ratio=0.0) for words in said]
    if len(fits) > 1:
        return [], tried, f"not told apart: {'; '.join(said)}"
    return fits, tried, ""


KINDS = {
    "mean": "the batch's mean",
    "biased": "the batch's variance, divided by n",
    "unbiased": "the batch's variance, divided by n - 1",
    "about": "the batch's squares about the running mean",
    "square": "the batch's squares",
    "zero": "the batch's squares (about the running mean, which is zero)",
}


def _statistics(value: np.ndarray, axis: int, kept: Sequence[np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """By kind, of each channel of that axis."""
    x = np.moveaxis(np.asarray(value, np.float64), axis, -1).reshape(-1, value.shape[axis])
    count = len(x)
    if count < 2:
        return
    yield "mean", x.mean(0)
    yield "biased", x.var(0)
    yield "unbiased", x.var(0, ddof=1)
    means = [mean for mean in kept if mean.shape == (value.shape[axis],)]
    yield "square" if all(mean.any() for mean in means) else "zero", (x**2).mean(0)
    for mean in means:
        if mean.any():
            yield "about", ((x - mean) ** 2).mean(0)


def _told(before: np.ndarray, after: np.ndarray, batch: np.ndarray, kind: str, tolerance: float) -> ShareTaken | None:
    """The share under which the statistic is taken over, where there is one."""
    way, step = batch - before, after - before
    if not (way**2).sum():
        return None
    share = float((way * step).sum() / (way**2).sum())
    short = written(share)
    if short is None or not 0 < short <= 1:
        return None
    size = max(float(np.abs(after).max()), float(np.abs(batch).max()))
    return ShareTaken(short, kind) if np.abs(step - short * way).max() <= tolerance * size else None


def _words(here: ShareTaken, there: ShareTaken) -> str:
    if here.kind != there.kind:
        return f"running statistics were of {KINDS[there.kind]} in the port ({KINDS[here.kind]} in the original)"
    turned = ", the momentum the other way round" if abs(here.share + there.share - 1) < 1e-9 else ""
    share = f"{there.share:g} of each batch's in the port ({here.share:g} in the original{turned})"
    return f"running statistics took {share}"
