"""How NumPy's arrays come in."""

import numpy as np
import torch
from torch import Tensor


def to_tensor(array: np.ndarray, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
    """A copy of the array, in C order, whatever its strides and its byte order; in its own dtype if none is given.

    Every array comes in by this function. torch keeps strides, and its fused optimizers then read memory as if there
    were none: a step from parameters in Fortran order is wrong, without a word. It raises for negative strides and for
    bytes in another order, and warns of arrays that may not be written to.
    """
    native = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    return torch.from_numpy(native).to(device, dtype)
