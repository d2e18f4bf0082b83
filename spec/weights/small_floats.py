"""Floating numbers that NumPy has no type for, widened to float32, which holds all of them exactly."""

from functools import cache
from typing import NamedTuple

import numpy as np


class Float8(NamedTuple):
    """A format of eight bits: one of sign, then exponent, then fraction. special: which codes are no numbers.

    special: "ieee" has infinities and NaN in the largest exponent; "fn" one NaN of each sign, all bits set; "fnuz" one
    NaN in place of -0.
    Source: Micikevicius et al., "FP8 Formats for Deep Learning" (2022); Noune et al. (2022) for "fnuz".
    """

    exponent: int
    fraction: int
    bias: int
    special: str


FLOAT8 = {
    "float8_e4m3fn": Float8(4, 3, 7, "fn"),
    "float8_e5m2": Float8(5, 2, 15, "ieee"),
    "float8_e4m3fnuz": Float8(4, 3, 8, "fnuz"),
    "float8_e5m2fnuz": Float8(5, 2, 16, "fnuz"),
}

SMALL = ("bfloat16", *FLOAT8)
"""What `widened` takes."""


def widened(raw: np.ndarray, name: str) -> np.ndarray:
    """Numbers of the type of that name, one of SMALL, as float32. raw: their bits, an array of any type of that size.

    Here and not from a library: what has these types comes with one framework, and weights are read without any.
    """
    if name == "bfloat16":
        return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return _values(name)[raw.view(np.uint8)]


@cache
def _values(name: str) -> np.ndarray:
    """What each of the 256 codes stands for."""
    format = FLOAT8[name]
    codes = np.arange(256)
    exponent = codes >> format.fraction & (1 << format.exponent) - 1
    fraction = (codes & (1 << format.fraction) - 1) / (1 << format.fraction)
    # Exponent zero: no leading one, and the exponent of the smallest that has one.
    magnitude = np.where(exponent > 0, 1 + fraction, fraction) * 2.0 ** (np.maximum(exponent, 1) - format.bias)
    values = np.where(codes & 128, -magnitude, magnitude)
    if format.special == "ieee":
        largest = exponent == (1 << format.exponent) - 1
        values[largest] = np.where(fraction[largest] == 0, np.copysign(np.inf, values[largest]), np.nan)
    else:
        values[[127, 255] if format.special == "fn" else [128]] = np.nan
    return values.astype(np.float32)
