"""Something to look at, nothing to learn."""

import numpy as np

from spec.models.base import Length, Size
from spec.parameters import generator_for
from spec.tasks.base import Batch, Task


class Noise(Task, frozen=True, kw_only=True, tag_field="name"):
    """One fixed draw of standard normal features and random targets: something to look at, nothing to learn."""

    features: Size
    length: Length
    classes: Size
    batch_size: Size = 1

    @property
    def input_size(self) -> int:
        return self.features

    @property
    def indices(self) -> bool:
        return False

    def batch(self, seed: int, step: int, dtype: str) -> Batch:
        generator = generator_for(seed, "batch", step)
        inputs = generator.normal(size=(self.batch_size, self.length, self.features)).astype(dtype)
        return Batch(inputs, generator.integers(0, self.classes, (self.batch_size, self.length), np.int64))

    def evaluation_batch(self, dtype: str) -> Batch:
        return self.batch(0, 0, dtype)
