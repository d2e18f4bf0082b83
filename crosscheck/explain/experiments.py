"""An experiment's first difference: the reference is asked again by each variant, and held against what departs.

Judged are the check's own comparisons, by the check's own bounds, with the variant's answers in the place of the honest
side's. So what agrees with a variant is as near to it as an honest side has to be to the equations.
"""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from crosscheck.bounds import rounding_spread
from crosscheck.checks import LADDER, gradients, initialization, shipped_path, trajectory
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.diagnosis.arbiter import Arbiter, Intercepted, ask, widened
from crosscheck.diagnosis.finding import Blame, Departure
from crosscheck.explain import catalogue, laws, repetitions, trajectories
from crosscheck.explain import known as tables
from crosscheck.explain.explanation import STOPPED, Budget, Explanation, Fit, OutOfTime, settled
from crosscheck.explain.variant import Case, Variant, Varied, applied
from crosscheck.probes import equations
from spec import reference
from spec.framework import Settings
from spec.parameters import Constant, Law, Normal, Parameters, Uniform, lowered

PLAIN = Variant("nothing were changed")

CHECKS = ("round-trip", "forward", "loss", "gradients", "optimizer")
"""Those whose recordings the reference can make by a variant in a small part of what they took."""

EVALUATED = ("forward", "gradients")
"""Those that evaluate the model at points."""

WIDE = ("forward",)
"""Those of which what fits is held against the check's other cases too."""

NARROW = ("gradients",)
"""Those in which the reference takes a forward pass for each number, and is asked at the failed point alone."""

EMBEDDING = "embedding.weight"
"""Whose direction spec.reference.slopes asks for wherever there is one."""

DIGITS = {"float64": 4, "float32": 3}
"""Decimal digits at most of a constant that somebody wrote."""

STEPS = 16
"""Of the secant method, at most."""


Recorded = dict[str, Arrays]
"""Each side's arrays of a case, in the order of the sides, by the side's name."""


def explain(
    subject: Any, failure: Comparison, blame: Blame, recorded: dict[str, Recorded], seed: int, seconds: float
) -> Explanation | None:
    """What the first difference looks like; None where no variant can be tried. Raises nothing.

    recorded: by case, of all that the failed check has in that precision. seconds: what the run took that found the
    difference.
    """
    # Nothing was recorded by a side that ended, and nothing is departed from by one that gave no answer.
    if failure.crashed or blame.at_fault not in recorded.get(failure.case, {}):
        return None
    if failure.check == initialization.NAME:
        return _of_draws(subject, failure, blame.at_fault, recorded[failure.case], seconds)
    known = (*CHECKS, *repetitions.LOOKS, trajectory.NAME)
    if subject.reference is not reference or failure.check not in known:
        return None
    budget = Budget(seconds)
    departure = next((one for one in blame.departures if one.side == blame.at_fault), None)
    try:
        with np.errstate(all="ignore"):
            if failure.check not in CHECKS:
                return _of_runs(subject, failure, departure, recorded[failure.case], seed, budget)
            trial = Inquiry(subject, failure, blame.at_fault, recorded[failure.case], seed, budget)
            stage = departure.stage if departure else failure.tensor
            others = {case: arrays for case, arrays in recorded.items() if case != failure.case and _whole(arrays)}
            found = trial.explanation(others if failure.check in WIDE else {}, stage)
    except Exception:
        # An explanation is beside a verdict and must never take its place.
        return None
    return found and msgspec.structs.replace(found, seconds=budget.spent, share=budget.share)


def _of_runs(
    subject: Any, failure: Comparison, departure: Departure | None, recorded: Recorded, seed: int, budget: Budget
) -> Explanation | None:
    """Of whole trainings, and of masks: patterns in what was recorded, and steps of the reference."""
    if departure is None:
        return None
    seen = repetitions.explain(subject, failure, departure.side, recorded[departure.side], budget)
    if failure.check == trajectory.NAME or (failure.check == shipped_path.NAME and not (seen and seen.looks_like)):
        stepped = trajectories.explain(subject, failure, departure, recorded, seed, budget)
        seen = stepped or seen
    return seen and msgspec.structs.replace(seen, seconds=budget.spent, share=budget.share)


def _of_draws(subject: Any, failure: Comparison, side: str, recorded: Recorded, seconds: float) -> Explanation | None:
    """From which law the tensor's values come that are not of the table's."""
    budget = Budget(seconds)
    name = failure.tensor.partition(",")[0]
    parameter = next((one for one in subject.parameters() if one.name == name), None)
    values = recorded[side].get(name)
    if parameter is None or values is None or values.shape[1:] != parameter.shape:
        return None
    values = lowered(parameter.law, values)
    if isinstance(parameter.law, Normal) and parameter.law.zero_row is not None:
        values = np.delete(values, parameter.law.zero_row, axis=1)
    try:
        if laws.follows(values, parameter.law):
            return None  # What is wrong with them is no law.
        found = laws.explain(values, law_words(parameter.law), parameter.blocks, side, budget)
    except Exception:
        # An explanation is beside a verdict and must never take its place.
        return None
    return msgspec.structs.replace(found, seconds=budget.spent, share=budget.share)


def law_words(law: Law) -> str:
    """A law of the table in words."""
    match law:
        case Uniform(bound):
            return f"uniform within {bound:.4g}"
        case Normal(deviation):
            return f"normal of deviation {deviation:.4g}"
        case Constant(value):
            return f"at {value:g} everywhere"


def _whole(recorded: Recorded) -> bool:
    return all(recorded.values())


class Inquiry:
    """The variants' answers, held against what one side recorded."""

    def __init__(
        self,
        subject: Any,
        failure: Comparison,
        side: str,
        recorded: Recorded,
        seed: int,
        budget: Budget,
        point: str | None = None,
    ):
        self._subject, self._failure, self._side, self._seed, self._budget = subject, failure, side, seed, budget
        self._check = next(check for check in LADDER if failure.check == check.NAME)
        self._first = side == next(iter(recorded))
        self._arrays = recorded[side]
        self._price = 0.0
        # Bounds are the first side's, whichever that is.
        spread = next(iter(recorded.values()))
        self._spread = {name: array for name, array in spread.items() if name.startswith(rounding_spread.PREFIX)}
        names = tuple(recorded)
        self._point = failure.point if failure.check in NARROW else point
        # Where the model is evaluated, at the points that are looked at, and without asking for its equations.
        evaluated = failure.check in EVALUATED
        self._looked: Any = _At(subject, self._point) if evaluated else subject
        self._place = Place(subject.name, failure.check, failure.precision, failure.case, (names[0], names[-1]), seed)

    def explanation(self, others: dict[str, Recorded], stage: str) -> Explanation | None:
        """See `explain`. others: the check's other cases, in which what fits must fit too. stage: that departs."""
        began = time.process_time()
        plain = self._asked(PLAIN)
        before = self._ratio(plain)
        if before <= 1:
            return None
        # What is begun has to end in time too.
        self._price = time.process_time() - began
        case = Case(
            self._subject.variant(self._failure.case),
            self._failure.check,
            self._failure,
            self._arrays,
            plain,
            self.solve,
            stage,
        )
        fits: list[Fit] = []
        tried: list[str] = []
        stopped = ""
        try:
            for file, variant in catalogue.of_experiment(case):
                tried.append(variant.words)
                ratio = self.ratio(variant)
                if ratio <= 1 and self._fits_elsewhere(variant, others):
                    beside = tables.beside(variant.differs[0], variant.differs[1:]) if variant.differs else ""
                    fits.append(Fit(file=file, words=variant.words, source=variant.source, ratio=ratio, known=beside))
        except OutOfTime:
            stopped = STOPPED
        if stopped:
            # What was left untried might fit as well, and then nothing is told apart.
            fits = []
        return settled(fits, tried, stopped, self._side, before, self._budget.spent)

    def _fits_elsewhere(self, variant: Variant, others: dict[str, Recorded]) -> bool:
        """In the check's other cases, so far as the side agrees with itself there."""
        for case, recorded in others.items():
            failure = msgspec.structs.replace(self._failure, case=case, point="")
            if (
                Inquiry(self._subject, failure, self._side, recorded, self._seed, self._budget).ratio(variant, False)
                > 1
            ):
                return False
        return True

    def ratio(self, variant: Variant, rough: bool = True) -> float:
        """The largest distance of the side from the variant, in units of the bound; infinite where it has no answer.

        rough: what decides most is looked at before all else."""
        self._budget.check()
        try:
            if rough and self._roughly(variant) > 1:
                return math.inf
            self._budget.check(self._price)
            return self._ratio(self._asked(variant))
        except OutOfTime:
            raise
        except Exception:
            # A variant that makes no sense here has no answer.
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
            self._budget.check()
            return self._number(self._soon(make(value))) - wanted

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

    def _roughly(self, variant: Variant) -> float:
        """The distance of what decides most, at a fraction of the whole's price: infinite, or 0 where that may be.

        The failed point of a forward pass, the failed number of a gradient or of a replay.
        """
        if self._failure.check == "forward":
            return self._at_point._ratio(self._at_point._asked(variant))
        bound = self._failure.bound
        if not bound or self._failure.check not in ("gradients", "optimizer"):
            return 0.0
        try:
            away = abs(self._number(self._soon(variant)) - self._number(self._arrays))
        except (KeyError, IndexError):
            return 0.0
        return away / bound

    def _soon(self, variant: Variant) -> Arrays:
        """What holds the failed number: all of the failed point, or as much as it takes."""
        if self._failure.check == "optimizer" and self._failure.step is not None:
            start, gradients = self._handed
            side = Varied(variant).open(self._subject, Settings("float64"))
            made = side.need("replay")(start, gradients[: self._failure.step + 1])
            parts = {"slots/": made.slots, "parameters/": made.parameters}
            return {part + name: array for part, arrays in parts.items() for name, array in arrays.items()}
        if self._failure.check == "gradients":
            return self._slope(variant)
        return self._at_point._asked(variant)

    @cached_property
    def _at_point(self) -> "Inquiry":
        recorded = {self._side: self._arrays} if self._first else {"": self._spread, self._side: self._arrays}
        return Inquiry(
            self._subject, self._failure, self._side, recorded, self._seed, self._budget, self._failure.point
        )

    def _slope(self, variant: Variant) -> Arrays:
        """The gradient by the failed number alone, which takes one forward pass."""
        (point, *_) = self._looked.points(self._failure.case, self._seed, self._failure.precision)
        name = self._failure.recorded.removeprefix(point.prefix)
        given, batch, dropout = widened(point.parameters), widened(point.batch), widened(point.dropout)
        found = np.full(given[name].shape, np.nan)
        directions = {other: np.zeros_like(value) for other, value in given.items() if other in (name, EMBEDDING)}
        directions[name][self._failure.index] = 1.0
        with applied(variant):
            change = variant.experiment
            experiment = point.subject if change is None else change(point.subject)
            slopes = reference.slopes(experiment, given, batch, Settings("float64"), directions, dropout)
        found[self._failure.index] = slopes[name]
        return {self._failure.recorded: found}

    @cached_property
    def _handed(self) -> tuple[Parameters, list[Parameters]]:
        """What both sides' optimizers were given."""
        arbiter = Arbiter(reference, stop="replay")
        with suppress(Intercepted):
            ask(self._check, self._subject, self._failure, self._seed, arbiter)
        start, gradients = arbiter.calls[-1].arguments
        return start, gradients

    @cached_property
    def _affordable(self) -> bool:
        """Whether the equations can be asked what the check asks, as the check itself decides."""
        if self._check is not gradients:
            return True
        points = self._looked.points(self._failure.case, self._seed, self._failure.precision)
        return all(equations.affordable(self._subject, point.batch) for point in points)

    def _asked(self, variant: Variant) -> Arrays:
        """What the check records of the variant, in the side's precision. Raises OutOfTime where that is more than the
        equations are asked for: a budget ends nothing in the midst of one question."""
        if not self._affordable:
            raise OutOfTime
        found = ask(self._check, self._looked, self._failure, self._seed, Arbiter(Varied(variant)))
        kind = self._failure.precision
        return {name: array.astype(kind) if array.dtype.kind == "f" else array for name, array in found.items()}

    def _ratio(self, varied: Arrays) -> float:
        names = [name for name in self._arrays if not name.startswith(rounding_spread.PREFIX)]
        mine = {name: self._arrays[name] for name in names if self._point is None or name in varied}
        mine, varied = _calmed(mine, varied)
        one, two = (mine, varied) if self._first else (varied, mine)
        if self._failure.check == "round-trip":
            names = [name for name in mine if name.startswith("returned/")]
            compared = [self._place.identical(name, one.get(name), two.get(name)) for name in names]
        else:
            compared = self._check.compare(self._looked, self._place, {**one, **self._spread}, two)
        # What a side is held against beside the other is no matter of the variant's.
        judged = [c for c in compared if not c.alone and (c.recorded in mine or c.recorded in varied)]
        found = [_distance(c) for c in judged if c.kind != "extra"]
        return max([*found, *self._of_rows(mine, varied)], default=math.inf)

    def _of_rows(self, mine: Arrays, varied: Arrays) -> list[float]:
        """Rows whose gradient has to be zero, which a check holds against that and not against the other side."""
        name, _, rows = self._failure.recorded.partition("[")
        if not rows or name not in mine or name not in varied or not self._failure.bound:
            return []
        return [float(np.abs(mine[name] - varied[name]).max()) / self._failure.bound]


class _At:
    """A subject that is looked at in one point alone, or in all; nobody is asked for its equations."""

    reference = None

    def __init__(self, subject: Any, point: str | None):
        self._subject, self._point = subject, point
        self._drawn: dict[tuple[Any, ...], list[Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._subject, name)

    def points(self, *given: Any) -> list[Any]:
        """The subject's, or the one."""
        if given not in self._drawn:
            self._drawn[given] = self._subject.points(*given)
        found = self._drawn[given]
        return found if self._point is None else [point for point in found if point.name == self._point] or found[:1]


def _calmed(one: Arrays, two: Arrays) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Both with zeros where neither has a finite number: there they agree, and nothing is to be compared."""
    mine, others = dict(one), dict(two)
    for name in one.keys() & two.keys():
        here, there = one[name], two[name]
        if here.shape == there.shape and here.dtype.kind == there.dtype.kind == "f":
            alike = ~np.isfinite(here) & ~np.isfinite(there)
            if alike.any():
                mine[name], others[name] = np.where(alike, 0, here), np.where(alike, 0, there)
    return mine, others


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
