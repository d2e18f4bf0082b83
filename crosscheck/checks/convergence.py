"""Ensembles of independent runs on either side: do they converge alike, and as the experiment says?

Equivalence is shown or it is not: see crosscheck.statistics.ensembles for the tests and spec.convergence for the
margins.
"""

from collections.abc import Sequence

import numpy as np

from crosscheck.bounds import tolerances
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.request import Request
from crosscheck.statistics import ensembles
from crosscheck.subject import Subject
from spec.convergence import CONVERGENCE
from spec.ensemble import NEVER, learned_members
from spec.framework import Framework, Precision
from spec.parameters import generator_for
from spec.training import AnyOutcome, CannotLearn, NotStated

NAME: str = "convergence"
QUESTION: str = "do ensembles of runs from each side's own random numbers converge alike, and as the experiment says?"
PRECISIONS: tuple[Precision, ...] = ("float32",)
SAME_INPUTS: bool = False

LARGEST_SHARE_OF_REPEATS = 0.1
"""Of the members, so many may have the loss-AUC of another one. Chance gives a few of a thousand, since float32 has
only so many numbers; seeds that repeat give half and more."""

FLOATS = ("loss_auc", "final_loss", "largest_logit")
"""Of each member: the mean of its losses over all steps; the loss on the evaluation batch after the last epoch; the
largest logit's size there."""

COUNTS = ("solved", "first_solved")
"""Of each member: 1 where it is solved after the last epoch, else 0; the time to solve, see spec.framework.Ensemble."""


def inapplicable(subject: Subject) -> str:
    return "" if subject.training.epochs else "nothing is trained"


def cases(subject: Subject, precision: Precision, thorough: bool) -> tuple[str, ...]:
    del subject, precision, thorough
    return ("ensemble",)


def record(framework: Framework, subject: Subject, case: str, request: Request) -> Arrays:
    del case
    train_ensemble = framework.open(subject, request.settings).need("train_ensemble")
    # No two alike.
    seeds = generator_for(request.seed, "convergence").choice(2**31, request.seeds, replace=False).tolist()
    found = train_ensemble(seeds)
    batch, loss = subject.evaluation_batch(request.precision), subject.training.loss
    final = loss.values(found.logits, batch.targets)
    return {
        "loss_auc": found.losses.astype(np.float64).mean(axis=1).astype(request.precision),
        "final_loss": final.astype(request.precision),
        "largest_logit": np.abs(found.logits).reshape(len(found.logits), -1).max(axis=1).astype(request.precision),
        "solved": learned_members(subject, found.logits, batch).astype(np.int64),
        "first_solved": found.first_solved.astype(np.int64),
    }


def compare(subject: Subject, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
    # As if it were the only experiment.
    return settle([undecided(subject, place, first, second)])[0]


def undecided(subject: Subject, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
    """The comparisons with their p-values, which `settle` decides."""
    found = place.only([*FLOATS, *COUNTS], first, second)
    for side, arrays in zip(place.sides, (first, second), strict=True):
        found += _whole(subject.outcome, place.within(side), arrays)
    if not all(comparison.passed for comparison in found):
        return found
    margin = CONVERGENCE.rate_margin(subject.outcome)
    # The margin of a rate follows from the rate that is stated.
    stated = not isinstance(subject.outcome, NotStated)
    endpoints: list[Comparison] = []
    for side, arrays in zip(place.sides, (first, second), strict=True):
        alone = place.against(side, "expected")
        found.append(_repeats(alone, arrays["loss_auc"]))
        if stated:
            endpoints.append(ensembles.learned(alone, subject.outcome, _solved(arrays["solved"])))
        if isinstance(subject.outcome, CannotLearn):
            found.append(_above_floor(subject.outcome, place.against(side, "floor"), arrays))
    one, two = (np.log(arrays["loss_auc"].astype(np.float64)) for arrays in (first, second))
    rates = _solved(first["solved"]), _solved(second["solved"])
    endpoints.append(ensembles.log_means(place, "log loss-AUC", one, two))
    if stated:
        solved = ensembles.rates(place, "solved rate", *rates, margin)
        endpoints.append(ensembles.noted(solved, _times(place, first["first_solved"], second["first_solved"])))
    if isinstance(subject.outcome, CannotLearn):
        ended, also = (np.log(arrays["final_loss"].astype(np.float64)) for arrays in (first, second))
        endpoints.append(ensembles.log_means(place, "log final loss", ended, also, CONVERGENCE.floor_margin))
    for side, arrays, values in zip(place.sides, (first, second), (one, two), strict=True):
        halves = place.within(side, "first half", "second half")
        half = len(values) // 2
        endpoints.append(ensembles.log_means(halves, "log loss-AUC", values[:half], values[half:], control=True))
        if stated:
            counts = _solved(arrays["solved"][:half]), _solved(arrays["solved"][half:])
            endpoints.append(ensembles.rates(halves, "solved rate", *counts, margin, control=True))
    return [*found, *endpoints]


def settle(groups: Sequence[Sequence[Comparison]]) -> list[list[Comparison]]:
    """Decide each experiment's comparisons of this check once all of them are there."""
    return ensembles.settle(groups)


def _whole(outcome: AnyOutcome, place: Place, arrays: Arrays) -> list[Comparison]:
    """Everything is there, of as many members as the first array has, finite, and of the right dtype."""
    members = len(arrays["loss_auc"]) if np.ndim(arrays.get("loss_auc", 0)) else 0
    if members < 4:
        return [place.failed("loss_auc", f"expected at least 4 members, two in each half, got {members}")]
    found = []
    for name in FLOATS:
        array = arrays.get(name)
        found.append(place.close(name, array, array, bound=1.0, shape=(members,)))
    for name in COUNTS:
        array = arrays.get(name)
        got = "nothing" if array is None else f"{array.dtype} {array.shape}"
        found.append(place.equal(name, got, f"int64 {(members,)}"))
    if all(comparison.passed for comparison in found):
        # Whose logarithms are compared; a model that has learned everything may well end at a loss of 0.
        for name in FLOATS[: 2 if isinstance(outcome, CannotLearn) else 1]:
            lowest = float(arrays[name].min())
            found.append(place.equal(name, "above 0" if lowest > 0 else f"{lowest:g}", "above 0"))
    return found


def _solved(solved: np.ndarray) -> tuple[int, int]:
    return int(solved.sum()), len(solved)


def _repeats(place: Place, aucs: np.ndarray) -> Comparison:
    """Members are runs of their own."""
    members, distinct = len(aucs), len(np.unique(aucs))
    share = 1 - distinct / members
    values = (f"{distinct} of {members}", f"at least {1 - LARGEST_SHARE_OF_REPEATS:.0%}")
    note = "members with a loss-AUC of their own; the difference is the share of the others"
    return place.limited("distinct members", values, share, LARGEST_SHARE_OF_REPEATS, members, note)


def _above_floor(outcome: CannotLearn, place: Place, arrays: Arrays) -> Comparison:
    """No member's final loss below the floor but for rounding, see crosscheck.checks.outcome."""
    lowest, members = float(arrays["final_loss"].min()), len(arrays["final_loss"])
    size = max(1.0, float(arrays["largest_logit"].max()))
    rounding = 2 * tolerances.FORWARD[place.precision].relative * size
    note = f"lowest final loss of {members} runs; it may fall below the floor by float32 rounding alone"
    values = (lowest, outcome.loss_at_least)
    return place.limited("final loss", values, max(outcome.loss_at_least - lowest, 0.0), rounding, members, note)


def _times(place: Place, first: np.ndarray, second: np.ndarray) -> str:
    """The time to solve on either side, which informs and does not judge."""
    words = []
    for side, epochs in zip(place.sides, (first, second), strict=True):
        known = epochs[epochs != NEVER]
        if known.size:
            middle, late = np.quantile(known, (0.5, 0.95), method="higher")
            words.append(f"{side} {middle} and {late}")
    return f"epochs to solve, median and 95 %: {'; '.join(words)}" if words else ""
