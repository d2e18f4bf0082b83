"""Which symbol came first."""

import itertools
from typing import Annotated, ClassVar

import numpy as np

from spec.models.base import Length, Size
from spec.tasks.base import Batch, Task, map_arrays
from spec.tasks.drawing import STEPS_DRAWN_TOGETHER, draw_symbols, out_of_blocks
from spec.typical import typical


class FirstSymbol(Task, frozen=True, kw_only=True, tag_field="name"):
    """Say after the last step which symbol came first: class = first symbol mod classes. Many to one.

    Training draws sequences uniformly; judged on every sequence there is, so that "solved" means it knows the rule.
    """

    vocabulary: Annotated[Size, typical(2, 3, 1, 4)]
    length: Annotated[Length, typical(*range(1, 6))]
    classes: Size
    batch_size: Size

    drawn_together: ClassVar[int] = STEPS_DRAWN_TOGETHER

    def __post_init__(self) -> None:
        # The exponent is bounded first: of a huge one, even the power would take forever.
        if self.vocabulary ** min(self.length, 64) > 10_000:
            raise ValueError(f"length: expected at most 10000 sequences in all, got {self.vocabulary}^{self.length}")
        if self.classes > self.vocabulary:
            raise ValueError(f"classes: expected at most the vocabulary's {self.vocabulary}, got {self.classes}")

    @property
    def input_size(self) -> int:
        return self.vocabulary

    @property
    def indices(self) -> bool:
        return True

    @property
    def readout(self) -> str:
        return "last step"

    def batch(self, seed: int, step: int, dtype: str) -> Batch:
        return map_arrays(lambda array: array[0], self.batches(seed, range(step, step + 1), dtype))

    def batches(self, seed: int, steps: range, dtype: str) -> Batch:
        del dtype  # Indices have none.
        shape = (STEPS_DRAWN_TOGETHER, self.batch_size, self.length)
        return self._batch(out_of_blocks(steps, lambda block: draw_symbols(seed, block, self.vocabulary, shape)))

    def evaluation_batch(self, dtype: str) -> Batch:
        del dtype
        return self._batch(np.array(list(itertools.product(range(self.vocabulary), repeat=self.length)), np.int64))

    def _batch(self, inputs: np.ndarray) -> Batch:
        return Batch(inputs, inputs[..., 0] % self.classes)
