"""By which law a layer draws an array: of those that libraries document, the one that its samples do not reject."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

REJECTED = 1e-4
"""Of a law that is right one array in ten thousand is called rejected."""

UNKNOWN = "none of the known laws"

CUT = 0.87962566103423978
"""Standard deviation of a normal law cut at two of its own, as JAX and Keras rescale by it."""


def fans(shape: Sequence[int], symbols: Mapping[int, str]) -> dict[str, float]:
    """Sizes that a kernel's law may go by, in terms of its axes: each, their mean, and of three axes what is joined."""
    axes = [(symbols.get(one, str(one)), float(one)) for one in shape if one > 1]
    if len(axes) < 2:
        return {}
    (first, a), *rest = axes
    joined, b = " x ".join(name for name, _ in rest), math.prod(size for _, size in rest)
    found = {first: a, joined: b, f"mean({first}, {joined})": (a + b) / 2}
    if len(axes) == 3:
        (middle, m), (last, z) = rest
        found |= {last: z, f"{first} x {middle}": a * m, f"mean({first} x {middle}, {last})": (a * m + z) / 2}
        found |= {f"{first} x mean({middle}, {last})": a * (m + z) / 2}
    return found


def candidates(shape: Sequence[int], hidden: int, symbols: Mapping[int, str]) -> Iterator[tuple[str, Any]]:
    sizes = {symbols[hidden]: float(hidden)} | fans(shape, symbols)
    for name, size in sizes.items():
        for factor in (1.0, 3.0):
            bound = math.sqrt(factor / size)
            yield f"uniform up to {_root(factor, name)}", stats.uniform(-bound, 2 * bound)
        for factor in (1.0, 2.0):
            deviation = math.sqrt(factor / size)
            yield f"normal of deviation {_root(factor, name)}", stats.norm(0, deviation)
            scale = deviation / CUT
            yield f"normal of deviation {_root(factor, name)}, cut at 2 / {CUT:.4f}", stats.truncnorm(-2, 2, 0, scale)
            yield f"normal of {_root(factor, name)}, cut at 2", stats.truncnorm(-2, 2, 0, deviation)
    yield "uniform up to 0.05", stats.uniform(-0.05, 0.1)


def _root(factor: float, name: str) -> str:
    return f"sqrt({factor:.0f} / {name})"


def orthogonal(one: np.ndarray, hidden: int) -> str:
    """Whether rows or columns are orthonormal: of the whole matrix, or of each of its blocks of the hidden size."""
    matrix = one.reshape(-1, one.shape[-1])
    rows, columns = matrix.shape
    if _orthonormal(matrix):
        return "orthogonal" if rows == columns else "orthogonal as a whole, not gate by gate"
    wide = matrix if columns >= rows else matrix.T
    if wide.shape[1] % hidden == 0 and all(_orthonormal(part) for part in np.split(wide, wide.shape[1] // hidden, 1)):
        return "orthogonal gate by gate"
    return ""


def _orthonormal(matrix: np.ndarray) -> bool:
    small = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    return bool(np.abs(small @ small.T - np.eye(len(small))).max() < 1e-4)


def named(draws: Sequence[np.ndarray], hidden: int, symbols: Mapping[int, str]) -> str:
    """The law's name. draws: one array a seed. symbols: what axes of a size are called."""
    values = np.concatenate([np.ravel(one) for one in draws]).astype(np.float64)
    if np.ptp(np.stack(draws), 0).max() == 0:
        return _constant(np.ravel(draws[0]), hidden)
    squeezed = [np.reshape(one, [n for n in one.shape if n > 1]) for one in draws]
    if squeezed[0].ndim >= 2 and (found := orthogonal(squeezed[0], hidden)):
        return found if all(orthogonal(one, hidden) == found for one in squeezed) else UNKNOWN
    fits = [
        (float(law.logpdf(values).sum()), -place, name)
        for place, (name, law) in enumerate(candidates(draws[0].shape, hidden, symbols))
        if np.abs(values).max() <= law.support()[1] * (1 + 1e-6) and stats.kstest(values, law.cdf).pvalue > REJECTED
    ]
    # Of a normal law and the same cut off, neither may be rejected; which is likelier is certain.
    return max(fits)[2] if fits else UNKNOWN


def _constant(values: np.ndarray, hidden: int) -> str:
    if len(values) % hidden or len(np.unique(values)) == 1:
        return f"{values[0]:g}" if len(np.unique(values)) == 1 else "constant"
    blocks = [np.unique(one) for one in np.split(values, len(values) // hidden)]
    if any(len(one) > 1 for one in blocks):
        return "constant"
    return "by block " + ", ".join(f"{one[0]:g}" for one in blocks)
