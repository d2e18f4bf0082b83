"""bfloat16 mixed precision: products of rounded numbers, summed and kept in full precision.

A model with `mixed_precision = "bfloat16"` has the same equations, but for its matrix products: W x of every layer, the
scores q . k of attention and its context, sum over s of a_s v_s. Their operands are rounded to bfloat16, in the forward
pass and in its derivatives:

    b(x)  x rounded to float32 and then to bfloat16, each to the nearest, ties to even
    y = A B means y_ij = sum over k of b(A_ik) b(B_kj)
    and, dy being the gradient by y,  dA = b(dy) b(B)^T,  dB = b(A)^T b(dy)

b itself is differentiated as if it were x. Everything else is as without: sums and what they give (biases are added to
them), embedded rows, activations, states, softmax and norms, residual sums, the loss, gradients and their accumulation,
parameters and optimizer slots. These have the precision that is asked for: float32, or float64, in which the same
roundings are made of numbers that are known to more digits.

A bfloat16 has 8 significant bits, so a product of two has 16: exact in float32, whose sums are all that is rounded
after the operands. This is how the units for it multiply: operands of bfloat16, sums of float32. And it does not depend
on how products are grouped: a gradient by W that is one product over all steps, or the sum of a product for each, is
the same but for the rounding of sums. Were results rounded too, each grouping would be another result.

Source: for the operands and sums `jax.lax.DotAlgorithmPreset.BF16_BF16_F32`, and what TPUs make of float32 products by
default.
"""

from typing import Annotated, Literal

import numpy as np

from spec.typical import typical

MixedPrecision = Annotated[Literal["bfloat16"], typical(rare=("bfloat16",))]


def bfloat16(values: np.ndarray) -> np.ndarray:
    """b(x), in the dtype of x. Of complex numbers the real part is rounded, and the imaginary one goes through, as a
    derivative does."""
    if np.iscomplexobj(values):
        return bfloat16(np.real(values)) + 1j * np.imag(values)
    with np.errstate(over="ignore", under="ignore"):
        single = values.astype(np.float32)
    bits = single.view(np.uint32)
    # Half a unit of what is cut off, and less by the smallest unit where what stays is even: the tie goes to it.
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(single), rounded.view(np.float32), single).astype(values.dtype)
