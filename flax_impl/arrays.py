"""How NumPy's arrays come in."""

import numpy as np


def to_array(array: np.ndarray) -> np.ndarray:
    """The array in C order, whatever its strides and its byte order, for JAX, which takes it as it is.

    Every array comes in by this function. JAX takes any strides, and raises for bytes in another order. The array
    itself where there is nothing to do.
    """
    return np.require(array, array.dtype.newbyteorder("="), "C")
