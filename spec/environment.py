"""What an implementation's framework is like in the process that imports it, before anybody sets anything.

An implementation may have a module `environment` with a function `look() -> Environment`; `python -m crosscheck doctor`
asks it. Nothing is read off a switch that can be measured instead: switches lie where a variable, a driver or a library
beneath overrules them.
"""

import msgspec
import numpy as np

SIZE = 64
"""Rows and columns of the matrices whose product shows how it is rounded: enough for kernels that take shortcuts."""

TELLING = 1 + 2.0**-12
"""All elements of them. float32 has it exactly; TF32 and float16 (10 bits after the point) and bfloat16 (7) have 1."""

LARGEST_PRODUCT_ERROR = SIZE * 2.0**-24
"""Of a product in float32, relative: a sum of SIZE products, each step rounded by half a unit of 2^-23. The shortcuts
are off by 2^-11, 128 times as much."""

SMALLEST_NORMAL = 2.0**-126
"""Of float32. Half of it is subnormal: zero where these are flushed."""


class DeviceFound(msgspec.Struct, frozen=True, kw_only=True):
    """A device that the framework sees. kind: what it says of it.

    product_error: of the float32 product of `telling` by itself, relative to the largest element of the exact one,
    computed as the framework does unless told otherwise. keeps_subnormals: whether half of SMALLEST_NORMAL is not zero.
    """

    name: str
    kind: str
    product_error: float
    keeps_subnormals: bool


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """versions: of the framework's packages, as they say themselves. floating: what it makes of a Python float.

    keeps_subnormals: whether its CPU devices do, where nobody has interfered.
    """

    versions: dict[str, str]
    devices: list[DeviceFound]
    floating: str
    keeps_subnormals: bool


def telling() -> np.ndarray:
    """The matrix, float32 (SIZE, SIZE)."""
    return np.full((SIZE, SIZE), TELLING, np.float32)


def product_error(product: np.ndarray) -> float:
    """How far a product of `telling` by itself is from the exact one, relative to its largest element."""
    exact = SIZE * TELLING**2
    return float(np.max(np.abs(product.astype(np.float64) - exact)) / exact)
