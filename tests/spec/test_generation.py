"""How a symbol is chosen out of logits."""

import numpy as np
import pytest

from spec.generation import LOWEST_TEMPERATURE, choose, uniforms

LOGITS = np.log(np.array([[0.5, 0.2, 0.3]]))


@pytest.mark.parametrize(
    ("uniform", "temperature", "expected"),
    [
        (0.0, 1.0, 0),
        (0.49, 1.0, 0),
        (0.51, 1.0, 1),
        (0.69, 1.0, 1),
        (0.71, 1.0, 2),
        (1.0, 1.0, 2),
        # Probabilities of 25/38, 4/38 and 9/38.
        (0.65, 0.5, 0),
        (0.66, 0.5, 1),
        (0.77, 0.5, 2),
        (0.99, LOWEST_TEMPERATURE, 0),
        (0.34, 1e30, 1),
        (0.99, 0.0, 0),
    ],
)
def test_the_choice(uniform: float, temperature: float, expected: int) -> None:
    assert choose(LOGITS, temperature, np.array([uniform])).tolist() == [expected]


def test_the_lowest_of_ties() -> None:
    assert choose(np.array([[1.0, 2.0, 2.0]]), 0.0, np.array([0.9])).tolist() == [1]


def test_symbols_are_as_frequent_as_they_are_likely() -> None:
    drawn = choose(np.repeat(LOGITS, 20_000, 0), 1.0, uniforms(3, 20_000, 1)[:, 0])
    # Four standard errors of a share of one half.
    np.testing.assert_allclose(np.bincount(drawn) / 20_000, [0.5, 0.2, 0.3], atol=4 * 0.5 / np.sqrt(20_000))


def test_numbers_of_fewer_choices_are_the_first_ones() -> None:
    np.testing.assert_array_equal(uniforms(1, 9, 2)[:4], uniforms(1, 4, 2))
    assert (uniforms(1, 4, 2) != uniforms(2, 4, 2)).all()
