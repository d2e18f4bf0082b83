"""In which ways an array can stand in a shape: its axes in another order, neighbours merged or split."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

Shape = tuple[int, ...]
MOST_AXES = 5
"""Axes of an array whose orders are all tried; beyond it, as it is and turned round alone."""


def orders(count: int) -> Iterator[Shape]:
    if count > MOST_AXES:
        yield tuple(range(count))
        yield tuple(reversed(range(count)))
    else:
        yield from itertools.permutations(range(count))


def fits(source: Shape, target: Shape) -> list[Shape]:
    """Orders of the source's axes after which it becomes the target by merging or splitting neighbours alone."""
    if math.prod(source) != math.prod(target):
        return []
    found: dict[Shape, Shape] = {}
    for axes in orders(len(source)):
        if _merges([source[axis] for axis in axes], target):
            found.setdefault(_longer(axes, source), axes)
    return list(found.values())


def _longer(axes: Sequence[int], shape: Shape) -> Shape:
    """The order without axes of length 1, whose place is nothing."""
    return tuple(axis for axis in axes if shape[axis] != 1)


def _merges(source: Sequence[int], target: Sequence[int]) -> bool:
    """Whether the borders between one's axes are among those of the other's."""
    first, second = (_borders([size for size in shape if size != 1]) for shape in (source, target))
    return first <= second or second <= first


def _borders(shape: Sequence[int]) -> set[int]:
    return set(np.cumprod(shape[:-1]).tolist()) if len(shape) > 1 else set()


def usual(axes: list[Shape], shape: Shape, turned: bool) -> list[Shape]:
    """The likeliest order first. turned: whether one side has (out, in, ...) and the other (..., in, out)."""
    count = len(shape)
    straight = _longer(range(count), shape)
    likely = _longer((*range(2, count), 1, 0), shape) if turned and count > 1 else straight
    return sorted(axes, key=lambda one: (_longer(one, shape) != likely, _longer(one, shape) != straight, one))


def bounded(value: np.ndarray) -> np.ndarray:
    """Infinities, as where scores are masked, as twice the largest of the other numbers. NaNs stay."""
    infinite = np.isinf(value)
    if not infinite.any():
        return value
    largest = 2.0 * max(float(np.nanmax(np.abs(value[~infinite]), initial=0.0)), 1.0)
    return np.where(infinite, np.copysign(largest, value), value)


def aligned(value: np.ndarray, other: np.ndarray, tolerance: float) -> Shape | None:
    """The order of axes in which a value is the other, within a tolerance in units of the largest number; or None."""
    if value.size != other.size:
        return None
    value, other = bounded(value), bounded(other)
    allowed = tolerance * max(float(np.abs(other).max(initial=0.0)), 1e-300)
    for axes in orders(value.ndim):
        moved = value.transpose(axes)
        if moved.ndim == other.ndim and moved.shape != other.shape:
            continue
        if np.abs(moved.reshape(other.shape) - other).max(initial=0.0) <= allowed:
            return axes
    return None


def alike(value: np.ndarray, other: np.ndarray) -> list[tuple[float, Shape]]:
    """Orders of axes in which a value could be the other, each with the cosine between them, the largest first."""
    found = []
    value, other = (np.nan_to_num(bounded(one)) for one in (value, other))
    size = float(np.linalg.norm(value) * np.linalg.norm(other)) or 1.0
    for axes in orders(value.ndim):
        moved = value.transpose(axes)
        if moved.ndim == other.ndim and moved.shape != other.shape:
            continue
        found.append((float((moved.reshape(other.shape) * other).sum()) / size, axes))
    return sorted(found, key=lambda one: (-one[0], one[1]))
