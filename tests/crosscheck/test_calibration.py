"""The verdict's error rates on trainings as they are, and that a procedure that breaks them does not pass for sound."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import binomtest

from crosscheck.checks import convergence
from crosscheck.comparison import Comparison, Place
from crosscheck.recording import implementation
from crosscheck.request import Request
from crosscheck.statistics import ensembles, equivalence
from spec.convergence import CONVERGENCE
from spec.experiment import load

NAME = "hello-rnn"
PLACE = Place(NAME, "convergence", "float32", "ensemble", ("one", "two"))
LEVEL = CONVERGENCE.level
MEMBERS = 250
REPETITIONS = 300
UNUSUAL = 1e-3
"""A p-value for a rate that cannot be the stated one."""

Members = Mapping[str, np.ndarray]


@pytest.fixture(scope="module")
def trained() -> Members:
    """What one implementation records of 2,000 clean trainings."""
    framework = implementation.load("flax_impl")
    return convergence.record(framework, load(NAME), "ensemble", Request("float32", "cpu", 0, seeds=2000))


def verdicts(trained: Members, shift: float) -> list[str]:
    """On many pairs of ensembles that share no member, one of them with its log loss-AUC shifted.

    The difference of the means of two samples without a common member varies as if both were drawn from all there is.
    """
    generator = np.random.default_rng(0)
    found = []
    for _ in range(REPETITIONS):
        drawn = generator.permutation(len(trained["loss_auc"]))[: 2 * MEMBERS]
        one, two = ({name: array[part] for name, array in trained.items()} for part in np.split(drawn, 2))
        two["loss_auc"] = two["loss_auc"] * np.float32(math.exp(shift))
        compared = convergence.compare(load(NAME), PLACE, one, two)
        same = all(comparison.passed for comparison in compared)
        found.append("different" if any(comparison.failed for comparison in compared) else "same" if same else "open")
    return found


@pytest.mark.long
@pytest.mark.needs("flax")
def test_trainings_of_one_implementation_are_the_same_as_often_as_the_power_says(trained: Members):
    found = verdicts(trained, 0.0)
    assert found.count("different") == 0
    # In units of the standard deviation, see equivalence.seeds_for_means.
    power = 2 * float(ndtr(CONVERGENCE.effect / math.sqrt(2 / MEMBERS) + float(ndtri(LEVEL)))) - 1
    # The margin is estimated too: from the smaller one of two deviations, each of which is off by 4.5 %.
    assert found.count("same") / REPETITIONS == pytest.approx(power, abs=0.05 + 3 * math.sqrt(power / REPETITIONS / 4))


@pytest.mark.needs("flax")
def test_trainings_that_differ_by_the_margin_are_called_the_same_as_seldom_as_stated(trained: Members):
    deviation = float(np.log(trained["loss_auc"].astype(np.float64)).std())
    found = verdicts(trained, CONVERGENCE.effect * deviation)
    assert binomtest(found.count("same"), REPETITIONS, LEVEL, alternative="greater").pvalue > UNUSUAL
    assert binomtest(found.count("different"), REPETITIONS, LEVEL, alternative="greater").pvalue > UNUSUAL
    # It is a matter of chance there, so that neither verdict is out of reach.
    assert found.count("same") > 0


def false_verdicts(spread: float, verdict: Callable[[Comparison], bool]) -> float:
    """The p-value, at the stated level, of as many runs of four experiments with a false verdict on any.

    All differ by just the margin. spread: the second side's deviation in units of the first's.
    """
    generator = np.random.default_rng(1)
    wrong = 0
    for _ in range(REPETITIONS):
        groups = []
        for _ in range(4):
            one, two = generator.normal(size=(2, MEMBERS))
            two = two * spread + CONVERGENCE.effect * min(1.0, spread)
            groups.append([ensembles.log_means(PLACE, "log loss-AUC", one, two)])
        wrong += any(verdict(comparison) for group in ensembles.settle(groups) for comparison in group)
    return float(binomtest(wrong, REPETITIONS, LEVEL, alternative="greater").pvalue)


def called_same(comparison: Comparison) -> bool:
    return comparison.passed


def called_different(comparison: Comparison) -> bool:
    return comparison.failed


def by_itself(chances: Sequence[float], level: float) -> list[bool]:
    return [chance <= level for chance in chances]


Test = Callable[[float], float]


def from_zero(difference: float, margin: float, above: Test, below: Test) -> equivalence.Equivalence:
    """Whether there is a difference, where the question is whether it is beyond the margin."""
    same = max(above(-margin), below(-margin))
    return equivalence.Equivalence(difference, margin, same, min(above(0.0), below(0.0)))


def not_found(difference: float, margin: float, above: Test, below: Test) -> equivalence.Equivalence:
    """The same wherever there is no significant difference from zero."""
    found = from_zero(difference, margin, above, below)
    return found._replace(same=0.0 if found.different > LEVEL / 8 else 1.0)


WRONG: dict[str, tuple[object, str, object, float, Callable[[Comparison], bool]]] = {
    "no correction for several experiments": (equivalence, "holm", by_itself, 1.0, called_same),
    "a margin by the larger deviation": (ensembles, "min", max, 2.0, called_same),
    "no difference found, so the same": (equivalence, "_judge", not_found, 1.0, called_same),
    "a difference from zero, not from the margin": (equivalence, "_judge", from_zero, 1.0, called_different),
}
"""What is put in whose place, the second side's deviation, and the verdict that is then false too often."""


@pytest.mark.parametrize("spread", [1.0, 2.0])
def test_experiments_at_the_margin_are_called_either_way_as_seldom_as_stated(spread: float):
    assert false_verdicts(spread, called_same) > UNUSUAL
    assert false_verdicts(spread, called_different) > UNUSUAL


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_procedure_breaks_the_stated_rates(what: str, monkeypatch: pytest.MonkeyPatch):
    place, name, wrong, spread, verdict = WRONG[what]
    # A module's own name stands before a builtin.
    monkeypatch.setattr(place, name, wrong, raising=name != "min")
    assert false_verdicts(spread, verdict) < UNUSUAL
