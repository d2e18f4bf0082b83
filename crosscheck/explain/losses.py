"""Losses of a pair: each side's number is explained by itself, by a formula of the outputs and what was handed over.

A stranger's loss is known by its numbers alone. So a formula is taken for a side's only where it gives that side's loss
to rounding at several points; said is in what the two formulas differ, where that is one thing.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from crosscheck.explain.decimals import written
from crosscheck.explain.explanation import STOPPED, Budget, Explanation, Fit, OutOfTime, settled
from spec import text

POINTS = 2
"""At which a formula has to give the loss, at least."""


class LossSeen(NamedTuple):
    """At one point. outputs, inputs: the original's, by name. ours, theirs: both sides' loss."""

    outputs: Mapping[str, np.ndarray]
    inputs: Mapping[str, np.ndarray]
    ours: float
    theirs: float


class LossFormula(NamedTuple):
    """A loss. kind: "cross-entropy" or of two arrays of one shape. smoothing: of labels; over the wrong classes alone
    where others is set. ignored: a class whose targets do not count. twice: whether a softmax comes before."""

    kind: str
    reduction: str
    smoothing: float = 0.0
    others: bool = False
    ignored: int | None = None
    twice: bool = False


REDUCTIONS = {
    "mean": "their mean",
    "sum": "their sum",
    "rows": "their sum over the number of rows",
    "all": "their sum over all targets, ignored or not",
}

SOURCES = {"reduction": "PB82", "ignored": "PB83", "twice": "PB85", "others": "PB86"}

SMOOTHING = (0.0, 0.1, 0.05, 0.2)

IGNORED = (None, 0, -1, -100)

REGRESSIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "the square of the difference": lambda x, y: (x - y) ** 2,
    "half the square of the difference": lambda x, y: (x - y) ** 2 / 2,
    "the absolute difference": lambda x, y: np.abs(x - y),
    "Huber's loss": lambda x, y: np.where(np.abs(x - y) < 1, (x - y) ** 2 / 2, np.abs(x - y) - 0.5),
    "binary cross-entropy of logits": lambda x, y: np.logaddexp(0, x) - x * y,
}


def explain(seen: Sequence[LossSeen], tolerance: float, budget: Budget) -> Explanation | None:
    """In what two losses differ; None where nothing was tried. tolerance: of equal values, relative. Raises nothing."""
    begin = budget.spent
    tried: list[str] = []
    found: dict[str, str] = {}
    stopped = ""
    known = False
    apart = max((abs(one.ours - one.theirs) / (tolerance * abs(one.ours)) for one in seen if one.ours), default=0.0)
    if len(seen) < POINTS or apart <= 1:
        return None
    try:
        with np.errstate(all="ignore"):
            for make in _arguments(seen[0]):
                budget.check()
                formulas = list(_formulas(make(seen[0], None)))
                made = [[make(one, formula) for one in seen] for formula in formulas]
                mine = [f for f, values in zip(formulas, made, strict=True) if _same(values, seen, 0, tolerance)]
                if not mine:
                    continue
                known = True
                tried += [_words(formula) for formula in formulas]
                others = [f for f, values in zip(formulas, made, strict=True) if _same(values, seen, 1, tolerance)]
                for what, words in _nearest(mine, others):
                    found.setdefault(words, SOURCES.get(what, ""))
    except OutOfTime:
        found, stopped = {}, STOPPED
    except Exception:
        return None
    tried.append("the loss were multiplied by a number")
    if not known and not stopped:
        ratios = [one.theirs / one.ours if one.ours else np.nan for one in seen]
        ratio = written(float(np.median(ratios)))
        if ratio and all(abs(one - ratio) <= tolerance * abs(ratio) for one in ratios):
            found[f"the loss were {ratio:g} times the original's in the port"] = ""
    fits = [Fit(file="losses", words=words, source=source, ratio=0.0) for words, source in found.items()]
    if len(fits) > 1:
        both = "; ".join(found)
        return Explanation(tried=tried, stopped=f"not told apart: {both}", before=apart, seconds=budget.spent - begin)
    return settled(fits, list(dict.fromkeys(tried)), stopped, "", apart, budget.spent - begin)


Make = Callable[[LossSeen, LossFormula | None], float | tuple[str, int, bool]]


def _arguments(first: LossSeen) -> Iterator[Make]:
    """Outputs and inputs that may be logits and targets, or two things to be alike."""
    for (name, output), (given, target) in itertools.product(first.outputs.items(), first.inputs.items()):
        if target.dtype.kind in "iu":
            for axis in {output.ndim - 1, 1} if output.ndim > 1 else ():
                shape = output.shape[:axis] + output.shape[axis + 1 :]
                if shape == target.shape and target.size and int(target.max()) < output.shape[axis]:
                    yield _classes(name, given, axis)
        elif target.shape == output.shape:
            yield _alike(name, given)


def _classes(name: str, given: str, axis: int) -> Make:
    def make(seen: LossSeen, formula: LossFormula | None) -> float | tuple[str, int, bool]:
        logits = np.moveaxis(np.asarray(seen.outputs[name], np.float64), axis, -1)
        targets = seen.inputs[given].astype(np.int64)
        if formula is None:
            return "classes", logits.shape[-1], bool((targets < 0).any())
        return cross_entropy(formula, logits, targets)

    return make


def _alike(name: str, given: str) -> Make:
    def make(seen: LossSeen, formula: LossFormula | None) -> float | tuple[str, int, bool]:
        if formula is None:
            return "regression", 0, False
        values = REGRESSIONS[formula.kind](
            np.asarray(seen.outputs[name], np.float64), np.asarray(seen.inputs[given], np.float64)
        )
        return _reduced(formula.reduction, values, np.ones(values.shape, bool))

    return make


def cross_entropy(formula: LossFormula, logits: np.ndarray, targets: np.ndarray) -> float:
    """logits: (..., classes). targets: (...)."""
    if formula.twice:
        logits = _softmax(logits)
    logs = logits - logits.max(-1, keepdims=True)
    logs = logs - np.log(np.exp(logs).sum(-1, keepdims=True))
    counted = targets != formula.ignored if formula.ignored is not None else np.ones(targets.shape, bool)
    right = np.take_along_axis(logs, np.maximum(targets, 0)[..., None], -1)[..., 0]
    rest = logs.sum(-1) - right
    classes, s = logits.shape[-1], formula.smoothing
    share = s / (classes - 1) if formula.others else s / classes
    each = -((1 - s + (0.0 if formula.others else share)) * right + share * rest)
    return _reduced(formula.reduction, each, counted)


def _softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _reduced(reduction: str, each: np.ndarray, counted: np.ndarray) -> float:
    total = float(each[counted].sum())
    counts = {"mean": int(counted.sum()), "sum": 1, "rows": len(each), "all": each.size}
    return total / counts[reduction]


def _formulas(kind: float | tuple[str, int, bool]) -> Iterator[LossFormula]:
    """The plainest first."""
    assert isinstance(kind, tuple)
    what, classes, negative = kind
    if what == "regression":
        for name, reduction in itertools.product(REGRESSIONS, REDUCTIONS):
            yield LossFormula(name, reduction)
        return
    for ignored, smoothing, reduction in itertools.product(IGNORED, SMOOTHING, REDUCTIONS):
        if negative and (ignored is None or ignored >= 0):
            continue
        for others, twice in itertools.product((False, True) if smoothing and classes > 2 else (False,), (False, True)):
            yield LossFormula("cross-entropy", reduction, smoothing, others, ignored, twice)


def _same(values: Sequence[object], seen: Sequence[LossSeen], side: int, tolerance: float) -> bool:
    wanted = [one.theirs if side else one.ours for one in seen]
    return all(
        isinstance(value, float) and abs(value - number) <= tolerance * abs(number)
        for value, number in zip(values, wanted, strict=True)
    )


def _nearest(mine: Sequence[LossFormula], others: Sequence[LossFormula]) -> Iterator[tuple[str, str]]:
    """In what the formulas differ, where it is as little as can be; formulas that come to the same here say the same
    in other words, and the plainest is taken."""
    pairs = [(len(_differences(one, two)), one, two) for one in mine for two in others]
    fewest = min((count for count, *_ in pairs), default=0)
    if fewest != 1:
        return
    said: dict[str, str] = {}
    for count, one, two in pairs:
        if count == fewest:
            ((what, words),) = _differences(one, two)
            said.setdefault(what, words)
    yield from said.items()


def _differences(one: LossFormula, two: LossFormula) -> list[tuple[str, str]]:
    found = []
    if one.kind != two.kind:
        found.append(("kind", f"the loss were {two.kind} in the port ({one.kind} in the original)"))
    if one.reduction != two.reduction:
        here, there = REDUCTIONS[one.reduction], REDUCTIONS[two.reduction]
        found.append(("reduction", f"the losses were reduced by {there} in the port ({here} in the original)"))
    if one.smoothing != two.smoothing:
        words = f"by {two.smoothing:g} in the port (by {one.smoothing:g} in the original)"
        found.append(("smoothing", f"labels were smoothed {words}"))
    elif one.others != two.others:
        over = ("all classes", "the wrong classes alone")
        found.append(
            ("others", f"labels were smoothed over {over[two.others]} in the port ({over[one.others]} in the original)")
        )
    if one.ignored != two.ignored:
        here, there = ("none" if f.ignored is None else f"{f.ignored}" for f in (one, two))
        found.append(("ignored", f"the class ignored were {there} in the port ({here} in the original)"))
    if one.twice != two.twice:
        where = "port" if two.twice else "original"
        found.append(("twice", f"softmax were applied before the loss too in the {where}"))
    return found


def _words(formula: LossFormula) -> str:
    smoothed = f", smoothed by {formula.smoothing:g}" if formula.smoothing else ""
    ignored = f", {formula.ignored} ignored" if formula.ignored is not None else ""
    twice = " of a softmax" if formula.twice else ""
    return f"the loss were {formula.kind}{twice}{smoothed}{ignored}, reduced by {REDUCTIONS[formula.reduction]}"


MULTIPLIED = "gradients were multiplied by a number"
"""What is tried of gradients first."""


def of_gradients(
    ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], tolerance: float, budget: Budget
) -> Explanation | None:
    """What gradients of the same loss look like that differ, by leaf, of all leaves that do; None for nothing tried.

    Only what is one number times the original's is named: none, its opposite, or a multiple; or a row that has none on
    one side, where all else agrees.
    """
    begin = budget.spent
    factors: list[float] = []
    before = 0.0
    for path, one in ours.items():
        two, largest = theirs[path], float(np.abs(one).max(initial=0.0))
        if not largest or one.size < POINTS:
            return None
        before = max(before, float(np.abs(one - two).max()) / (tolerance * largest))
        factor = float((one * two).sum() / (one * one).sum())
        if not np.abs(two - factor * one).max() <= tolerance * largest:
            return _of_a_row(ours, theirs, tolerance, before, budget.spent - begin)
        factors.append(factor)
    if not factors or before <= 1:
        return None
    factor = written(factors[0]) if factors[0] else 0.0
    tried = [MULTIPLIED]
    if factor is None or any(abs(one - factor) > tolerance * max(abs(factor), 1.0) for one in factors):
        return Explanation(tried=tried, before=before)
    words = f"gradients were {factor:g} times the original's in the port"
    if not factor:
        named = ", ".join(text.admit(path, text.NAME) for path in list(ours)[:3]) + (
            f" and {len(ours) - 3} more" if len(ours) > 3 else ""
        )
        words = f"no gradient came to {named} in the port"
    fit = Fit(file="losses", words=words, source="", ratio=0.0)
    return settled([fit], tried, "", "", before, budget.spent - begin)


def _of_a_row(
    ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], tolerance: float, before: float, seconds: float
) -> Explanation:
    """Whether gradients agree but for one row, the same in all of them, which is zero on one side alone."""
    tried = [MULTIPLIED, "a row got no gradient"]
    found = {_silent_row(one, theirs[path], tolerance) for path, one in ours.items()}
    only = found.pop()
    if found or only is None:
        return Explanation(tried=tried, before=before)
    row, side = only
    names = ", ".join(dict.fromkeys(text.admit(path.rpartition(", ")[0] or path, text.NAME) for path in ours))
    words = f"row {row} of {names} got no gradient in the {side} alone, which is what padding_idx={row} does"
    return settled([Fit(file="losses", words=words, source="", ratio=0.0)], tried, "", "", before, seconds)


def _silent_row(one: np.ndarray, two: np.ndarray, tolerance: float) -> tuple[int, str] | None:
    """The only row on which two gradients differ, and the only side on which it is zero; else None."""
    if one.ndim < 2:
        return None
    apart = np.flatnonzero(np.abs(one - two).reshape(len(one), -1).max(axis=1) > tolerance * np.abs(one).max())
    silent = [name for name, side in (("original", one), ("port", two)) if not side[apart].any()]
    return (int(apart[0]), silent[0]) if len(apart) == len(silent) == 1 else None
