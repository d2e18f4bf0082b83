"""How far a side is from the reference, and what the two distances say about who is wrong."""

import numpy as np
import pytest

from crosscheck.diagnosis.distance import decide, measure

FIRST, SECOND = "first", "second"


@pytest.mark.parametrize(
    ("one", "two", "departs"),
    [
        (0.1, 50.0, SECOND),
        (50.0, 0.1, FIRST),
        (30.0, 40.0, "both"),
        (np.inf, 0.5, FIRST),
        (2.0, 3.0, "both"),
        (2.0, 1e6, SECOND),
        (0.05, 0.98, SECOND),
        (0.5, 0.6, "undecided"),
        (0.0, 0.1, "undecided"),
    ],
)
def test_the_vote(one: float, two: float, departs: str):
    assert decide({FIRST: one, SECOND: two}) == departs


def test_distances():
    numbers = np.array([1.0, np.nan, 3.0])
    assert measure(np.array([1.0, np.nan, 3.5]), numbers, 0.25, "float64")[:2] == (2.0, (2,))
    assert measure(np.array([np.nan, np.nan, 3.0]), numbers, 0.25, "float64")[:2] == (np.inf, (0,))
    # What is computed from a NaN may be anything.
    assert measure(np.array([1.0, 7.0, 3.0]), numbers, 0.25, "float64").ratio == 0.0
    assert measure(numbers + 1, numbers, 0.0, "float64").ratio == np.inf
    assert measure(numbers, numbers, 0.0, "float64").ratio == 0.0
