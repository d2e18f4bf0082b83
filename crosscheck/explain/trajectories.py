"""A training that parts: the reference takes steps by each variant, each from the state that the side itself recorded.

What agrees is held to the bounds by which `crosscheck.diagnosis.steps` says who departs: at the step at which the side
departs, and at those behind it. Where a run recorded no states, only its first loss follows from what is known.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np

from crosscheck.checks import shipped_path, trajectory
from crosscheck.comparison import Arrays, Comparison
from crosscheck.diagnosis import steps
from crosscheck.diagnosis.arbiter import Arbiter, Intercepted, ask, widened
from crosscheck.diagnosis.distance import measure, rounding
from crosscheck.diagnosis.finding import Departure
from crosscheck.diagnosis.steps import Given
from crosscheck.explain import catalogue
from crosscheck.explain.explanation import STOPPED, Budget, Explanation, Fit, OutOfTime, settled
from crosscheck.explain.variant import Case, Variant, applied
from crosscheck.probes import equations
from crosscheck.request import Request
from spec import reference
from spec.framework import Precision, Settings

BEHIND = 2
"""Steps behind the one at which a side departs that have to agree too."""

OPENING = (trajectory.TOGETHER, f"{trajectory.RESUMED}loss")
"""Runs of which no state was recorded."""

UNRECORDED = f"{shipped_path.START}/plain/loss"
"""Of a training that records nothing, in the check shipped-path."""

RECORDED = "recorded/"
"""Behind the name of a window, of a training that records its steps."""

FINAL, GIVEN_BACK = "final ", "given back"
"""Before the names of what a training gives back; the answer of a variant that is made of what it recorded last."""

PLAIN = Variant("nothing were changed")

Judge = Callable[[Variant], float]
"""How far the side is from what the reference computes by a variant, in units of rounding."""


def explain(
    subject: Any,
    failure: Comparison,
    departure: Departure,
    recorded: Mapping[str, Arrays],
    seed: int,
    budget: Budget,
) -> Explanation | None:
    """What a training's first difference looks like; None where no variant can be tried. departure: of one side."""
    arrays = recorded[departure.side]
    judge = _judge(subject, failure, departure, arrays, list(recorded.values()), seed)
    before = judge(PLAIN) if judge else 0.0
    if judge is None or before <= 1:
        return None
    case = Case(subject.variant(failure.case), failure.check, failure, arrays, {}, lambda *_: None, departure.stage)
    fits: list[Fit] = []
    tried: list[str] = []
    stopped = ""
    price = budget.spent
    try:
        for file, variant in catalogue.of_experiment(case):
            tried.append(variant.words)
            budget.check(price)
            # A variant that makes no sense here has no answer.
            with suppress(ArithmeticError, ValueError, KeyError, IndexError, TypeError, AttributeError):
                ratio = judge(variant)
                if ratio <= 1:
                    fits.append(Fit(file=file, words=variant.words, source=variant.source, ratio=ratio))
    except OutOfTime:
        fits, stopped = [], STOPPED
    if not tried:
        return None
    found = settled(fits, tried, stopped, departure.side, before, budget.spent)
    return msgspec.structs.replace(found, share=budget.share)


def _judge(
    subject: Any, failure: Comparison, departure: Departure, arrays: Arrays, sides: Sequence[Arrays], seed: int
) -> Judge | None:
    name = failure.recorded
    if name.startswith(FINAL):
        return lambda variant: _given_back(arrays, failure.precision, variant)
    if failure.check == shipped_path.NAME:
        return _of_window(subject, failure, departure, arrays, sides, seed)
    arbiter = Arbiter(reference, stop="train")
    with suppress(Intercepted):
        ask(trajectory, subject, failure, seed, arbiter)
    handed = steps.given(subject, arbiter.calls[-1])
    if name in OPENING:
        return lambda variant: _opening(subject, handed, failure, arrays, variant)
    # Clipping needs the norm of all gradients.
    of_all = subject.training.clipping is not None
    affordable = not of_all or equations.affordable(subject, subject.batch(seed, 0, "float64"))
    if failure.step is None or name not in arrays or not affordable:
        return None
    return _Steps(subject, handed, failure, departure, arrays, sides, of_all).ratio


def _of_window(
    subject: Any, failure: Comparison, departure: Departure, arrays: Arrays, sides: Sequence[Arrays], seed: int
) -> Judge | None:
    """A few steps of the check shipped-path, from a state that both sides were handed."""
    # Own masks are not known, and with them no loss.
    if subject.has_dropout and failure.case != shipped_path.HANDED:
        return None
    at, _, rest = failure.recorded.partition("/")
    request = Request(failure.precision, "cpu", seed)
    begun = next((window.state for window in shipped_path.windows(subject, request) if window.name == at), None)
    if begun is None:
        return None
    handed = Given(widened(begun), seed, [])
    if failure.recorded == UNRECORDED:
        return lambda variant: _opening(subject, handed, failure, arrays, variant)
    prefix = f"{at}/{RECORDED}"
    if not rest.startswith(RECORDED) or failure.step is None or subject.training.clipping is not None:
        return None
    mine, *others = (
        {n.removeprefix(prefix): a for n, a in side.items() if n.startswith(prefix)} for side in (arrays, *sides)
    )
    kept = {name: array for name, array in mine.items() if name == "loss" or name.startswith(trajectory.KINDS)}
    # No more steps than states were recorded of.
    kept["loss"] = kept["loss"][: min(map(len, kept.values()))]
    here = msgspec.structs.replace(failure, tensor=rest.removeprefix(RECORDED), array="")
    if here.recorded not in kept or failure.step >= len(kept["loss"]):
        return None
    return _Steps(subject, handed, here, departure, kept, others, False).ratio


class _Steps:
    """Steps, each from the side's own state before it."""

    def __init__(
        self,
        subject: Any,
        handed: Given,
        failure: Comparison,
        departure: Departure,
        arrays: Arrays,
        sides: Sequence[Arrays],
        of_all: bool,
    ):
        self._subject, self._handed, self._arrays = subject, handed, arrays
        self._precision: Precision = failure.precision
        assert failure.step is not None
        apart = subject.training.steps_per_epoch if failure.recorded == "logits" else 1
        begun = {failure.step, failure.step if departure.step is None else departure.step}
        looked = {step + apart * further for step in begun for further in range(BEHIND + 1)}
        self._looked = sorted(step for step in looked if step < len(arrays["loss"]))
        self._only = {
            step: None if of_all else steps.at_which_they_differ(subject, sides, step, failure) for step in self._looked
        }

    def ratio(self, variant: Variant) -> float:
        with applied(variant):
            # A loss is one forward pass.
            if any(self._of_loss(step) > 1 for step in self._looked):
                return np.inf
            largest = 0.0
            for step in self._looked:
                found = steps.at_step(
                    self._subject, self._handed, self._arrays, self._precision, step, self._only[step]
                )
                largest = max(largest, *(one.ratio for one in found.values()))
                if largest > 1:
                    break
        return largest

    def _of_loss(self, step: int) -> float:
        before = steps.state_after(self._handed, self._arrays, step - 1)
        return _of_loss(self._subject, self._handed, before, self._arrays["loss"][step], self._precision)


def _of_loss(subject: Any, handed: Given, before: Any, loss: np.ndarray, precision: Any) -> float:
    found, *_ = reference.gradients_at(subject, before, handed.seed, Settings("float64"), {})
    expected = np.array(found)
    return measure(loss, expected, rounding(expected, precision), precision).ratio


def _opening(subject: Any, handed: Given, failure: Comparison, arrays: Arrays, variant: Variant) -> float:
    """Of the first loss of a run that began from a known state."""
    before = handed.state
    if failure.recorded == f"{trajectory.RESUMED}loss":
        before = steps.state_after(handed, arrays, resumed_from(subject) - 1)
    with applied(variant):
        return _of_loss(subject, handed, before, arrays[failure.recorded][0], failure.precision)


def _given_back(arrays: Arrays, precision: Precision, variant: Variant) -> float:
    """The state that a training gives back, as it follows from what it recorded."""
    kept = {name: array for name, array in arrays.items() if name.startswith(trajectory.KINDS)}
    made = variant.answers.get(GIVEN_BACK)
    expected = made(kept) if made else {name: array[-1] for name, array in kept.items()}
    return max(
        measure(arrays["final/" + name.partition("/")[2]], value, rounding(value, precision), precision).ratio
        for name, value in expected.items()
    )


def resumed_from(subject: Any) -> int:
    """The step from which a training goes on that is resumed."""
    return subject.training.epochs // 2 * subject.training.steps_per_epoch
