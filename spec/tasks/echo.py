"""Which symbol came some steps before, in sequences of several lengths."""

from functools import lru_cache
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np

from spec.limits import LARGEST_LENGTH
from spec.models.base import Length, NonNegative, Size
from spec.parameters import generator_for
from spec.tasks.base import IGNORED, Batch, Task, map_arrays, shift_right
from spec.tasks.drawing import STEPS_DRAWN_TOGETHER, draw_lengths, draw_symbols, out_of_blocks
from spec.typical import typical

EVALUATED = 32
"""Sequences on which an `Echo` is judged."""


class Echo(Task, frozen=True, kw_only=True, tag_field="name"):
    """Say at each step which symbol came `delay` steps before, in sequences of several lengths.

    The first sequence of a batch has all `length` steps, the others anything from `shortest` on. Nothing is asked of
    the first `delay` steps, nor of padding, which holds symbols all the same. With `readout` "last step" it is asked
    after a sequence's last step alone, and nothing of a sequence that has no more than `delay`.

    reset_chance: that of any step but the first to begin a new episode: the model's state is set back to zero there
    (see spec.models.recurrent), and nothing is asked of an episode's first `delay` steps.

    encoding: what the model is given. initial_deviation: standard deviation of the states that a recurrent model
    begins with, which are drawn for each batch, so that it has to forget them; 0: it begins with zeros.
    Judged on a fixed draw of EVALUATED sequences of all lengths.
    """

    vocabulary: Annotated[Size, typical(2, 3, 1, 4, 6)]
    length: Annotated[Length, typical(*range(2, 8), 1)]
    shortest: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_LENGTH), typical(1, 0, 2)]
    delay: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_LENGTH), typical(1, 0, 2)]
    encoding: Annotated[Literal["one-hot", "index"], typical("one-hot")]
    batch_size: Size
    readout: Literal["every step", "last step"] = "every step"  # pyright: ignore[reportIncompatibleMethodOverride]
    initial_deviation: Annotated[NonNegative, typical(0.5, 1.0)] = 0.0  # pyright: ignore[reportIncompatibleMethodOverride]
    reset_chance: Annotated[float, msgspec.Meta(ge=0, lt=1), typical(0.3, 0.5)] = 0.0

    drawn_together: ClassVar[int] = STEPS_DRAWN_TOGETHER
    ragged: ClassVar[bool] = True
    spells: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.shortest > self.length:
            raise ValueError(f"shortest: expected at most length = {self.length}, got {self.shortest}")
        if self.delay >= self.length:
            raise ValueError(f"delay: expected less than length = {self.length}, got {self.delay}")

    @property
    def classes(self) -> int:
        return self.vocabulary

    @property
    def input_size(self) -> int:
        return self.vocabulary

    @property
    def indices(self) -> bool:
        return self.encoding == "index"

    @property
    def evaluated(self) -> int:
        return EVALUATED

    @property
    def resets(self) -> bool:
        return self.reset_chance > 0

    def batch(self, seed: int, step: int, dtype: str) -> Batch:
        return map_arrays(lambda array: array[0], self.batches(seed, range(step, step + 1), dtype))

    def batches(self, seed: int, steps: range, dtype: str) -> Batch:
        shape = (STEPS_DRAWN_TOGETHER, self.batch_size)
        lengths = out_of_blocks(steps, lambda block: draw_lengths(seed, block, self.shortest, self.length, shape))
        symbols = out_of_blocks(steps, lambda block: draw_symbols(seed, block, self.vocabulary, (*shape, self.length)))
        if not self.resets:
            return self._batch(symbols, lengths, dtype)
        chances = out_of_blocks(steps, lambda block: _draw_chances(seed, block, (*shape, self.length)))
        return self._batch(symbols, lengths, dtype, self._begins(chances))

    def evaluation_batch(self, dtype: str) -> Batch:
        generator = generator_for(0, "evaluation")
        symbols = generator.integers(0, self.vocabulary, (EVALUATED, self.length), np.int64)
        lengths = self.length - np.arange(EVALUATED) % (self.length - self.shortest + 1)
        begins = self._begins(generator.random(symbols.shape)) if self.resets else None
        return self._batch(symbols, lengths, dtype, begins)

    def _begins(self, chances: np.ndarray) -> np.ndarray:
        """Which steps begin an episode, of uniform numbers (..., time)."""
        return (chances < self.reset_chance) & (np.arange(self.length) > 0)

    def _batch(self, symbols: np.ndarray, lengths: np.ndarray, dtype: str, begins: np.ndarray | None = None) -> Batch:
        """Of symbols (..., batch, time), lengths (..., batch) and where an episode begins, (..., batch, time)."""
        steps = np.arange(self.length)
        # Since the last episode began.
        since = steps if begins is None else steps - np.maximum.accumulate(np.where(begins, steps, 0), axis=-1)
        asked = (since >= self.delay) & (steps < lengths[..., None])
        targets = np.where(asked, np.roll(symbols, self.delay, axis=-1), IGNORED)
        inputs = symbols if self.indices else (symbols[..., None] == np.arange(self.vocabulary)).astype(dtype)
        if self.readout == "every step":
            return Batch(inputs, targets, lengths, shift_right(targets, self.classes), resets=begins)
        # Of an empty sequence the first step, of which nothing is asked either.
        last = np.maximum(lengths - 1, 0)[..., None]
        return Batch(inputs, np.take_along_axis(targets, last, axis=-1)[..., 0], lengths, resets=begins)


@lru_cache(maxsize=2)
def _draw_chances(seed: int, block: int, shape: tuple[int, ...]) -> np.ndarray:
    """A block's uniform numbers, by which episodes begin."""
    return generator_for(seed, "episodes", block).random(shape)
