"""Tests of equivalence: their error rates are what they say, and want of evidence is never agreement."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_ind

from crosscheck.statistics import equivalence
from crosscheck.statistics.equivalence import holm, means, rates, seeds_for_means, seeds_for_rates

LEVEL = 0.05
REPETITIONS = 400
MARGIN = 0.5


def share(seed: int, shift: float, count: int, field: str) -> float:
    """How often a p-value is below the level, for samples whose means are `shift` apart."""
    generator = np.random.default_rng(seed)
    drawn = generator.normal(size=(REPETITIONS, 2, count))
    return float(np.mean([getattr(means(a, b + shift, MARGIN), field) <= LEVEL for a, b in drawn]))


def usual(chance: float) -> float:
    """How far a share of REPETITIONS may be from its chance: four standard errors."""
    return 4 * math.sqrt(chance * (1 - chance) / REPETITIONS)


def test_a_difference_as_large_as_the_margin_is_called_the_same_as_often_as_the_level_says():
    assert share(0, MARGIN, 100, "same") == pytest.approx(LEVEL, abs=usual(LEVEL))


def test_a_difference_as_large_as_the_margin_is_called_beyond_it_no_more_often_than_the_level_says():
    assert share(1, MARGIN, 100, "different") <= LEVEL / 2 + usual(LEVEL / 2)


def test_equal_samples_are_called_the_same_as_often_as_the_stated_power():
    count = seeds_for_means((1.0, 1.0), MARGIN, LEVEL, 0.9)
    assert share(2, 0.0, count, "same") == pytest.approx(0.9, abs=usual(0.9) + 0.01)


def test_few_values_are_no_evidence():
    generator = np.random.default_rng(3)
    found = means(generator.normal(size=4), generator.normal(size=4), 0.1)
    assert found.same > LEVEL
    assert found.different > LEVEL


def test_a_large_difference_is_found():
    generator = np.random.default_rng(4)
    found = means(generator.normal(size=200), generator.normal(size=200) + 1.5, MARGIN)
    assert found.different < 1e-6
    assert found.same > 0.99


@pytest.mark.parametrize(("shift", "same"), [(0.0, 0.0), (0.4, 0.0), (0.6, 1.0)])
def test_values_without_spread_are_what_they_are(shift: float, same: float):
    assert means(np.zeros(9), np.zeros(9) + shift, MARGIN).same == same


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.95])
def test_rates_that_differ_by_the_margin_are_called_the_same_as_often_as_the_level_says(rate: float):
    generator = np.random.default_rng(5)
    margin = 0.1 if rate < 0.5 else -0.1
    first = generator.binomial(400, rate, 150).tolist()
    second = generator.binomial(400, rate + margin, 150).tolist()
    called = sum(rates((a, 400), (b, 400), 0.1).same <= LEVEL for a, b in zip(first, second, strict=True))
    # Newcombe's interval is an approximation, and a cautious one near 0 and 1.
    assert binomtest(called, 150, 1.4 * LEVEL, alternative="greater").pvalue > 1e-3


def test_rates_of_none_and_all():
    assert rates((0, 1000), (0, 1000), 0.02).same < 1e-4
    assert rates((1000, 1000), (1000, 1000), 0.02).same < 1e-4
    assert rates((0, 1000), (1000, 1000), 0.02).different < 1e-12
    assert rates((5, 5), (5, 5), 0.02).same > LEVEL


def test_wilson_is_scipys():
    for level in (0.4, 0.05, 1e-4):
        expected = binomtest(7, 30).proportion_ci(1 - 2 * level, method="wilson")
        assert equivalence._wilson((7, 30), level) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("count", [0, 1, 7, 29, 30])
def test_the_exact_interval_is_scipys(count: int):
    expected = binomtest(count, 30).proportion_ci(0.95, method="exact")
    assert equivalence.exact_interval((count, 30), 0.05) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("shift", [-0.3, 0.0, 0.8])
def test_the_t_test_is_scipys(shift: float):
    generator = np.random.default_rng(7)
    first, second = generator.normal(size=40), 0.3 + 2 * generator.normal(size=25)
    expected = float(np.asarray(ttest_ind(second, first + shift, equal_var=False, alternative="greater")[1]))
    assert equivalence._mean_above(first, second, shift) == pytest.approx(expected, rel=1e-9)


def test_more_rates_are_asked_for_where_they_vary_more():
    asked = [seeds_for_rates(rate, 0.05, 0.01, 0.9) for rate in (0.0, 0.5, 1.0)]
    assert asked[0] == asked[2] < asked[1]
    assert rates((asked[0], asked[0]), (asked[0], asked[0]), 0.05).same <= 0.01


def test_holm_stops_at_the_first_that_stands():
    assert holm([0.01, 0.04, 0.03, 0.005], 0.05) == [True, False, False, True]
    assert holm([0.001, math.nan, 0.001], 0.05) == [True, False, True]
    assert holm([], 0.05) == []
    assert holm([0.05], 0.05) == [True]


def test_holm_keeps_the_chance_of_any_false_rejection():
    drawn = np.random.default_rng(6).uniform(size=(2000, 20))
    wrong = float(np.mean([any(holm(row.tolist(), LEVEL)) for row in drawn]))
    assert wrong == pytest.approx(LEVEL, abs=4 * math.sqrt(LEVEL / 2000))
