"""Sequences from their end to their beginning."""

from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np

from spec.limits import LARGEST_LENGTH
from spec.models.base import Length, Size
from spec.parameters import generator_for
from spec.tasks.base import Batch, map_arrays
from spec.tasks.drawing import STEPS_DRAWN_TOGETHER, draw_lengths, draw_symbols, out_of_blocks
from spec.tasks.pairs import Transduction
from spec.typical import typical

EVALUATED = 256
"""Sequences on which a `Reverse` is judged."""


class Reverse(Transduction, frozen=True, kw_only=True, tag_field="name"):
    """Say a sequence of symbols backwards, and then that it ends. For a model that decodes, see `Transduction`.

        sources x_1 .. x_n, n from `shortest` to `length`;   targets x_n .. x_1, end

    The first sequence of a batch has all `length` symbols; padding holds symbols too. encoding: what the model is
    given. Judged on a fixed draw of EVALUATED sequences of all lengths, by how many of them are right from the first
    symbol to the end.
    """

    vocabulary: Annotated[Size, typical(2, 3, 1, 4, 6)]
    length: Annotated[Length, typical(*range(2, 8), 1)]
    shortest: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_LENGTH), typical(1, 2)]
    encoding: Annotated[Literal["one-hot", "index"], typical("one-hot")]
    batch_size: Size

    drawn_together: ClassVar[int] = STEPS_DRAWN_TOGETHER
    ragged: ClassVar[bool] = True
    spells: ClassVar[bool] = True
    transduces: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.shortest > self.length:
            raise ValueError(f"shortest: expected at most length = {self.length}, got {self.shortest}")

    @property
    def classes(self) -> int:
        return self.vocabulary + 1

    @property
    def input_size(self) -> int:
        return self.vocabulary

    @property
    def indices(self) -> bool:
        return self.encoding == "index"

    @property
    def target_length(self) -> int:
        return self.length + 1

    @property
    def evaluated(self) -> int:
        return EVALUATED

    def batch(self, seed: int, step: int, dtype: str) -> Batch:
        return map_arrays(lambda array: array[0], self.batches(seed, range(step, step + 1), dtype))

    def batches(self, seed: int, steps: range, dtype: str) -> Batch:
        shape = (STEPS_DRAWN_TOGETHER, self.batch_size)
        lengths = out_of_blocks(steps, lambda block: draw_lengths(seed, block, self.shortest, self.length, shape))
        symbols = out_of_blocks(steps, lambda block: draw_symbols(seed, block, self.vocabulary, (*shape, self.length)))
        return self._batch(symbols, lengths, dtype)

    def evaluation_batch(self, dtype: str) -> Batch:
        symbols = generator_for(0, "evaluation").integers(0, self.vocabulary, (EVALUATED, self.length), np.int64)
        lengths = self.length - np.arange(EVALUATED) % (self.length - self.shortest + 1)
        return self._batch(symbols, lengths, dtype)

    def _batch(self, symbols: np.ndarray, lengths: np.ndarray, dtype: str) -> Batch:
        """Of symbols (..., batch, time) and lengths (..., batch)."""
        # What a step past the end would say is never asked for.
        backwards = np.take_along_axis(symbols, np.maximum(lengths[..., None] - 1 - np.arange(self.length), 0), axis=-1)
        return self._pairs(symbols, lengths, backwards, lengths, dtype)
