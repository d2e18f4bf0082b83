"""The statistics of the initialization check, on NumPy's own draws: their level, and what they can see."""

from collections.abc import Callable

import numpy as np
import pytest

from crosscheck.bounds import tolerances
from crosscheck.checks import initialization
from crosscheck.statistics import distributions
from spec import experiment as experiments
from spec.parameters import Normal, Uniform


def draw(generator: np.random.Generator, expected: distributions.Random, shape: tuple[int, ...]) -> np.ndarray:
    match expected:
        case Uniform(bound):
            return generator.uniform(-bound, bound, shape).astype(np.float32)
        case Normal(standard_deviation):
            return generator.normal(0.0, standard_deviation, shape).astype(np.float32)


TESTS = [distributions.mean, distributions.spread, distributions.extent, distributions.distribution]


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.__name__)
@pytest.mark.parametrize("expected", [Uniform(0.35), Normal(1.0)])
@pytest.mark.parametrize("size", [20, 500])
def test_no_test_fails_more_often_than_its_level(test: Callable, expected: distributions.Random, size: int):
    generator, level, runs = np.random.default_rng(0), 0.04, 500
    alarms = 0
    for values in draw(generator, expected, (runs, size)):
        finding = test(values, expected, level)
        alarms += finding.difference > finding.bound
    # Three standard errors of a count of 20.
    assert alarms <= runs * level + 3 * (runs * level) ** 0.5


@pytest.mark.parametrize("expected", [Uniform(0.35), Normal(1.0)])
def test_tests_of_many_samples_share_one_level(expected: distributions.Random):
    generator, level, runs = np.random.default_rng(4), 0.05, 400
    drawn = draw(generator, expected, (runs, 30, 12))
    each = [distributions.each(samples, expected, level, "row") for samples in drawn]
    units = drawn / distributions.deviation(expected)
    alike = [distributions.alike(samples, level, "row") for samples in units]
    for findings in (each, alike):
        assert sum(f.difference > f.bound for f in findings) <= runs * level + 3 * (runs * level) ** 0.5


def test_one_sample_among_many_is_named():
    values = draw(np.random.default_rng(5), Uniform(0.35), (200, 12))
    wide, twice = values.copy(), values.copy()
    wide[:, 7] *= 1.6
    twice[:, 9] = twice[:, 2]
    found = distributions.each(wide, Uniform(0.35), 1e-8, "row")
    assert found.difference > found.bound
    assert "of row 7," in found.note
    found = distributions.alike(twice / distributions.deviation(Uniform(0.35)), 1e-8, "row")
    assert found.difference > found.bound
    assert "row 2 with row 9" in found.note


def test_correlations_fail_no_more_often_than_their_level():
    generator, level, runs = np.random.default_rng(1), 0.05, 2000
    for expected in (Uniform(0.35), Normal(1.0)):
        unit = draw(generator, expected, (runs, 2, 50)) / distributions.deviation(expected)
        findings = [distributions.correlation(one, two, level) for one, two in unit]
        assert 0 < sum(f.difference > f.bound for f in findings) <= runs * level


@pytest.mark.parametrize("expected", [Uniform(0.35), Normal(1.0)])
@pytest.mark.parametrize("factor", [0.97, 1.03])
def test_a_standard_deviation_3_percent_off_is_seen(expected: distributions.Random, factor: float):
    """With a tensor of 1024 elements over 28 seeds; at the level that a Transformer's tests have."""
    values = draw(np.random.default_rng(2), expected, (28, 1024)) * np.float32(factor)
    table = experiments.load("hello-transformer").model.parameters()
    finding = distributions.spread(values, expected, tolerances.INITIAL_LAW_LEVEL / initialization.tests(table))
    assert finding.difference > finding.bound


def test_a_normal_law_is_told_from_a_uniform_one_of_equal_variance():
    generator, level = np.random.default_rng(3), 1e-8
    normal = draw(generator, Normal(1.0), (5000,))
    uniform = draw(generator, Uniform(3**0.5), (5000,))
    for values, expected in ((normal, Uniform(3**0.5)), (uniform, Normal(1.0))):
        assert distributions.distribution(values, expected, level).difference > 8
        assert (
            distributions.spread(values, expected, level).difference
            < distributions.spread(values, expected, level).bound
        )


def test_sample_sizes():
    assert distributions.sample_size(Uniform(1.0), 0.02) == 500
    assert distributions.sample_size(Normal(1.0), 0.02) == 1250
    assert initialization.seeds(experiments.load("hello-gru").model.parameters()) == 124
    assert initialization.seeds(experiments.load("hello-transformer").model.parameters()) == 28
    generator = np.random.default_rng(4)
    for expected in (Uniform(0.35), Normal(1.0)):
        values = draw(generator, expected, (2000, distributions.sample_size(expected, 0.02)))
        assert values.std(axis=1).std() / distributions.deviation(expected) == pytest.approx(0.02, rel=0.1)
