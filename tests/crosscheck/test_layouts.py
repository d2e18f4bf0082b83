"""The rung that hands over the same numbers in other layouts."""

from collections.abc import Callable

import numpy as np
import pytest

from crosscheck.rungs import layouts

ARRAYS = [
    np.arange(24.0).reshape(2, 3, 4),
    np.arange(6.0).reshape(2, 3),
    np.arange(5),
    np.array(2.0),
    np.ones((1, 1)),
]


@pytest.mark.parametrize("layout", [layouts.plain, layouts.fortran, layouts.strided, layouts.transposed])
def test_layouts_hold_the_same_numbers(layout: Callable[[np.ndarray], np.ndarray]) -> None:
    for array in ARRAYS:
        np.testing.assert_array_equal(layout(array), array)
        assert layout(array).dtype == array.dtype


def test_layouts_are_what_they_say() -> None:
    array = ARRAYS[0]
    assert layouts.fortran(array).flags.f_contiguous
    assert not layouts.strided(array).flags.forc
    assert not layouts.transposed(array).flags.forc
    # In memory the axes of a batch lie the other way round, those of gradients and slots do not.
    assert np.array_equal(np.array(layouts.strided(array), order="K").ravel("K"), array.ravel())
    assert not np.array_equal(layouts.transposed(array).ravel("K"), array.ravel())
