"""Draws that are pure functions of (seed, step), many steps out of one generator."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from spec.parameters import generator_for

STEPS_DRAWN_TOGETHER = 100
"""Steps whose batches come out of one generator: to make one takes longer than to draw a hundred batches from it."""


def out_of_blocks(steps: Sequence[int], draw: Callable[[int], np.ndarray]) -> np.ndarray:
    """What is drawn for each of these steps, (steps, ...), of what `draw` gives for STEPS_DRAWN_TOGETHER at once.

    A copy of what is kept, which a caller may change.
    """
    blocks = range(min(steps) // STEPS_DRAWN_TOGETHER, max(steps) // STEPS_DRAWN_TOGETHER + 1)
    drawn = np.concatenate([draw(block) for block in blocks])
    return drawn[np.array(steps) - blocks[0] * STEPS_DRAWN_TOGETHER]


@lru_cache(maxsize=2)
def draw_symbols(seed: int, block: int, vocabulary: int, shape: tuple[int, ...]) -> np.ndarray:
    """A block's indices, int64. Kept, since a loop asks for one step after another; few, since they may be large."""
    return generator_for(seed, "batch", block).integers(0, vocabulary, shape, np.int64)


@lru_cache(maxsize=2)
def draw_lengths(seed: int, block: int, shortest: int, longest: int, shape: tuple[int, ...]) -> np.ndarray:
    """A block's lengths, int64, the first of each batch the longest."""
    drawn = generator_for(seed, "lengths", block).integers(shortest, longest + 1, shape, np.int64)
    drawn[..., 0] = longest
    return drawn
