"""Independent runs on either side, from its own initialization, against what the experiment says will come of it."""

import itertools
import math

import numpy as np

from crosscheck.bounds import tolerances
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.request import Request
from crosscheck.subject import Subject
from spec.convergence import stated_rate
from spec.ensemble import learned_members, one_by_one
from spec.framework import Framework, Precision
from spec.parameters import generator_for
from spec.tasks import logits_shape
from spec.training import AnyOutcome, CannotLearn, Learns, LearnsSometimes, NotStated

NAME: str = "outcome"
QUESTION: str = "do independent runs from each side's own random numbers learn as often as the experiment says?"
PRECISIONS: tuple[Precision, ...] = ("float32",)
SAME_INPUTS: bool = False


def inapplicable(subject: Subject) -> str:
    if not subject.training.epochs:
        return "nothing is trained"
    return "the experiment states no outcome" if isinstance(subject.outcome, NotStated) else ""


def cases(subject: Subject, precision: Precision, thorough: bool) -> tuple[str, ...]:
    del subject, precision, thorough
    return ("seeds",)


def record(framework: Framework, subject: Subject, case: str, request: Request) -> Arrays:
    del case
    seeds = generator_for(request.seed, "outcome").integers(0, 2**31, subject.seeds).tolist()
    side = framework.open(subject, request.settings)
    if side.train_ensemble is not None:
        runs = side.train_ensemble(seeds)
    else:
        runs = one_by_one(side.initialize, side.train, subject, seeds, request.precision)
    return {"losses": runs.losses, "logits": runs.logits}


def compare(subject: Subject, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
    batch, outcome = subject.evaluation_batch(place.precision), subject.outcome
    shapes = {
        "losses": (subject.seeds, subject.training.epochs * subject.training.steps_per_epoch),
        "logits": (subject.seeds, *logits_shape(batch.targets, subject.classes)),
    }
    found = place.only(list(shapes), first, second)
    for side, arrays in zip(place.sides, (first, second), strict=True):
        for name, shape in shapes.items():
            array = arrays.get(name)
            # Against itself: present, of the right shape and dtype, finite.
            found.append(place.within(side).close(name, array, array, bound=1.0, shape=shape))
    if not all(comparison.passed for comparison in found):
        return found
    counts = []
    for side, arrays in zip(place.sides, (first, second), strict=True):
        count = int(learned_members(subject, arrays["logits"], batch).sum())
        counts.append(count)
        found.append(_judge(subject, place.against(side, "expected"), count, arrays["logits"]))
        if isinstance(outcome, CannotLearn):
            found.append(_above_floor(subject, outcome, place.against(side, "floor"), arrays["logits"]))
    # Against each other only where that can fail; what they are held against is what the experiment says.
    runs = subject.seeds
    return [*found, _agree(subject, place, *counts)] if _fails(_fisher(runs, 0, runs)) else found


def _judge(subject: Subject, place: Place, count: int, logits: np.ndarray) -> Comparison:
    """How many runs solved it, against the stated rate."""
    runs = len(logits)
    match subject.outcome:
        case Learns(solved_rate_at_least=rate):
            words = f"at least {rate:g}"
        case LearnsSometimes(solved_rate=rate):
            words = f"about {rate:g}"
        case _:
            return place.equal("solved", f"{count} of {runs}", f"0 of {runs}")
    if not can_fail(subject.outcome, runs):
        enough = next(n for n in itertools.count(runs) if can_fail(subject.outcome, n))
        note = f"expected at least {enough} seeds in the experiment, got {runs}: no count of them could fail the test"
        return place.too_few("solved", note)
    return _test(place, f"{count} of {runs}", words, _chance(subject.outcome, count, runs), runs)


def can_fail(outcome: AnyOutcome, runs: int) -> bool:
    """Whether any count of so many runs would be told from what the experiment says."""
    if not isinstance(outcome, (Learns, LearnsSometimes)):
        return True
    return any(_fails(_chance(outcome, count, runs)) for count in (0, runs))


def _chance(outcome: AnyOutcome, count: int, runs: int) -> float:
    """The exact test's p."""
    # Not at the top: workers never judge, and SciPy takes longer to import than their work on a small model.
    from scipy.stats import binomtest

    if isinstance(outcome, Learns):
        return float(binomtest(count, runs, outcome.solved_rate_at_least, alternative="less").pvalue)
    return float(binomtest(count, runs, stated_rate(outcome)).pvalue)


def _fails(probability: float) -> bool:
    return _unlikely(probability) > -math.log10(tolerances.OUTCOME_LEVEL)


def _unlikely(probability: float) -> float:
    # max: -log10 of 1 is -0.
    return max(-math.log10(probability), 0.0) if probability else math.inf


def _test(place: Place, got: str, expected: str, probability: float, runs: int) -> Comparison:
    note = f"p = {probability:.2g}; difference and bound are -log10 of p and of the level"
    level = -math.log10(tolerances.OUTCOME_LEVEL)
    return place.limited("solved", (got, expected), _unlikely(probability), level, runs, note)


def _above_floor(subject: Subject, outcome: CannotLearn, place: Place, logits: np.ndarray) -> Comparison:
    """No run's final loss below the floor.

    Equal inputs give equal logits but for rounding. An error d in each logit moves a cross-entropy by 2 d at most, a
    mean of squares by what the gradient by all outputs is at most, to first order; and the error of a float32 logit is
    a few units in the last place of the largest.
    """
    loss, targets = subject.training.loss, subject.evaluation_batch(place.precision).targets
    lowest = float(loss.values(logits, targets).min())
    moved = loss.slope(targets, lowest) if loss.numeric else 2.0
    rounding = moved * tolerances.FORWARD[place.precision].relative * max(1.0, float(np.abs(logits).max()))
    note = f"lowest final loss of {len(logits)} runs; it may fall below the floor by float32 rounding alone"
    values = (lowest, outcome.loss_at_least)
    return place.limited("final loss", values, max(outcome.loss_at_least - lowest, 0.0), rounding, len(logits), note)


def _agree(subject: Subject, place: Place, first: int, second: int) -> Comparison:
    """Both sides' counts against each other."""
    runs = subject.seeds
    values = (f"{first} of {runs}", f"{second} of {runs}")
    return _test(place, *values, _fisher(runs, first, second), 2 * runs)


def _fisher(runs: int, first: int, second: int) -> float:
    """The p of Fisher's exact test."""
    from scipy.stats import fisher_exact

    return float(np.asarray(fisher_exact([[first, runs - first], [second, runs - second]]))[1])
