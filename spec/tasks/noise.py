"""Something to look at, nothing to learn."""

from typing import Literal

import numpy as np

from spec.models.base import Length, Size
from spec.parameters import generator_for
from spec.tasks.base import Batch, Task


class Noise(Task, frozen=True, kw_only=True, tag_field="name"):
    """One fixed draw of standard normal features and random targets: something to look at, nothing to learn.

    targets: classes, or numbers, standard normal too, as many a step as `classes` says.
    """

    features: Size
    length: Length
    classes: Size
    batch_size: Size = 1
    targets: Literal["classes", "numbers"] = "classes"

    @property
    def input_size(self) -> int:
        return self.features

    @property
    def indices(self) -> bool:
        return False

    @property
    def numeric(self) -> bool:
        return self.targets == "numbers"

    def batch(self, seed: int, step: int, dtype: str) -> Batch:
        generator = generator_for(seed, "batch", step)
        inputs = generator.normal(size=(self.batch_size, self.length, self.features)).astype(dtype)
        shape = (self.batch_size, self.length)
        if self.numeric:
            return Batch(inputs, generator.normal(size=(*shape, self.classes)).astype(dtype))
        return Batch(inputs, generator.integers(0, self.classes, shape, np.int64))

    def evaluation_batch(self, dtype: str) -> Batch:
        return self.batch(0, 0, dtype)
