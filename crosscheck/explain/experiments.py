"""An experiment's first difference: the reference is asked again by each variant, and held against what departs.

Judged are the check's own comparisons, by the check's own bounds, with the variant's answers in the place of the honest
side's. So what agrees with a variant is as near to it as an honest side has to be to the equations.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from crosscheck.bounds import rounding_spread
from crosscheck.checks import LADDER
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.diagnosis.arbiter import Arbiter, ask
from crosscheck.diagnosis.finding import Blame
from crosscheck.explain import catalogue
from crosscheck.explain.explanation import Explanation, Fit, settled
from crosscheck.explain.variant import Case, Varied, Variant
from spec import reference

SHARE = 1 / 3
"""Of the run that found the difference, what an explanation may take at most."""

PLAIN = Variant("nothing were changed")

CHECKS = ("round-trip", "forward", "loss", "gradients", "optimizer")
"""Those whose recordings the reference can make by a variant in a small part of what they took."""

EVALUATED = ("forward", "gradients")
"""Those that evaluate the model at points."""

NARROW = ("gradients",)
"""Those in which the reference takes a forward pass for each number, and is asked at the failed point alone."""

DIGITS = {"float64": 4, "float32": 3}
"""Decimal digits at most of a constant that somebody wrote."""

STEPS = 16
"""Of the secant method, at most."""


def explain(
    subject: Any, failure: Comparison, blame: Blame, recorded: dict[str, Arrays], seed: int, seconds: float
) -> Explanation | None:
    """What the first difference looks like; None where no variant can be tried. Raises nothing.

    recorded: each side's arrays of the failed case, in the order of the sides. seconds: what the run took that found
    the difference.
    """
    if blame.at_fault not in recorded or subject.reference is not reference or failure.check not in CHECKS:
        return None
    begin = time.perf_counter()
    trial = Trial(subject, failure, blame.at_fault, recorded, seed, begin + SHARE * seconds)
    try:
        with np.errstate(all="ignore"):
            return trial.explanation(begin)
    except Exception:
        # An explanation is beside a verdict and must never take its place.
        return None


class OutOfTime(Exception):
    """What an explanation may take is used up."""


class Trial:
    """The variants' answers, held against what one side recorded."""

    def __init__(
        self, subject: Any, failure: Comparison, side: str, recorded: dict[str, Arrays], seed: int, until: float
    ):
        self._subject, self._failure, self._side, self._seed, self._until = subject, failure, side, seed, until
        self._check = next(check for check in LADDER if check.NAME == failure.check)
        self._first = side == next(iter(recorded))
        self._arrays = recorded[side]
        # Bounds are the first side's, whichever that is.
        spread = next(iter(recorded.values()))
        self._spread = {name: array for name, array in spread.items() if name.startswith(rounding_spread.PREFIX)}
        names = tuple(recorded)
        self._place = Place(subject.name, failure.check, failure.precision, failure.case, (names[0], names[1]), seed)

    def explanation(self, begin: float) -> Explanation | None:
        plain = self._asked(PLAIN)
        before = self._ratio(plain)
        if before <= 1:
            return None
        case = Case(
            self._subject.variant(self._failure.case), self._failure.check, self._failure, self._arrays, plain, self.solve
        )
        fits: list[Fit] = []
        tried: list[str] = []
        stopped = ""
        try:
            for file, variant in catalogue.of_experiment(case):
                tried.append(variant.words)
                ratio = self.ratio(variant)
                if ratio <= 1:
                    fits.append(Fit(file=file, words=variant.words, source=variant.source, ratio=ratio))
        except OutOfTime:
            stopped = "a third of the run's time is used up"
        if stopped and fits:
            # What was left untried might fit as well, and then nothing is told apart.
            fits = []
        return settled(fits, tried, stopped, self._side, before, time.perf_counter() - begin)

    def ratio(self, variant: Variant) -> float:
        """The largest distance of the side from the variant, in units of the bound; infinite where it has no answer."""
        if time.perf_counter() > self._until:
            raise OutOfTime
        try:
            return self._ratio(self._asked(variant))
        except Exception:
            return math.inf

    def solve(self, make: Callable[[float], Variant], start: float) -> float | None:
        """The constant under which the variant gives the side's number where the sides part most; None for none.

        By the secant method, from the equations' own constant, and then as few decimal digits as come to the same.
        """
        try:
            return _written(self._solved(make, start), self._failure.precision)
        except (ArithmeticError, ValueError, KeyError, IndexError, TypeError):
            return None

    def _solved(self, make: Callable[[float], Variant], start: float) -> float:
        wanted = self._number(self._arrays)

        def away(value: float) -> float:
            if time.perf_counter() > self._until:
                raise OutOfTime
            return self._number(self._asked(make(value))) - wanted

        one, two = start, start * 1.25 if start else 1e-3
        first, second = away(one), away(two)
        for _ in range(STEPS):
            if not second or one == two or abs(two - one) <= 1e-9 * abs(two):
                break
            one, two, first = two, two - second * (two - one) / (second - first), second
            second = away(two)
        return two

    def _number(self, arrays: Arrays) -> float:
        at = self._failure.index if self._failure.step is None else (self._failure.step, *self._failure.index)
        return float(arrays[self._failure.recorded][at])

    def _asked(self, variant: Variant) -> Arrays:
        """What the check records of the variant, in the side's precision."""
        found = ask(self._check, self._narrowed(), self._failure, self._seed, Arbiter(Varied(variant)))
        kind = self._failure.precision
        return {name: array.astype(kind) if array.dtype.kind == "f" else array for name, array in found.items()}

    def _ratio(self, varied: Arrays) -> float:
        mine = {name: self._arrays[name] for name in varied if name in self._arrays}
        one, two = (mine, varied) if self._first else (varied, mine)
        if self._failure.check == "round-trip":
            names = [name for name in varied if name.startswith("returned/")]
            compared = [self._place.identical(name, one.get(name), two.get(name)) for name in names]
        else:
            compared = self._check.compare(self._narrowed(), self._place, {**one, **self._spread}, two)
        # What a side is held against beside the other is no matter of the variant's.
        judged = [c for c in compared if not c.alone and c.kind != "extra"]
        return max((_distance(c) for c in judged), default=math.inf)

    def _narrowed(self) -> Any:
        """Where the model is evaluated, at the points that are looked at, and without asking for its equations."""
        if self._failure.check not in EVALUATED:
            return self._subject
        return _At(self._subject, self._failure.point if self._failure.check in NARROW else None)


class _At:
    """A subject that is looked at in one point alone, or in all; nobody is asked for its equations."""

    reference = None

    def __init__(self, subject: Any, point: str | None):
        self._subject, self._point = subject, point

    def __getattr__(self, name: str) -> Any:
        return getattr(self._subject, name)

    def points(self, *given: Any) -> list[Any]:
        """The subject's, or the one."""
        found = self._subject.points(*given)
        return found if self._point is None else [point for point in found if point.name == self._point] or found[:1]


def _distance(comparison: Comparison) -> float:
    if comparison.passed:
        return comparison.ratio or 0.0
    return math.inf if comparison.ratio is None else max(comparison.ratio, math.nextafter(1, 2))


def _written(value: float, precision: str) -> float | None:
    """The shortest decimal that the value is, as somebody would have written it."""
    if not math.isfinite(value):
        return None
    for digits in range(DIGITS[precision]):
        short = float(f"{value:.{digits}e}")
        if abs(short - value) <= 1e-4 * abs(value):
            return short
    return None
