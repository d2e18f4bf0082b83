"""A task of one's own, to begin from: is the number of ones so far even or odd? See docs/own_data.md."""

import numpy as np


class Parity:
    """task: the record of the experiment's file: task.batch_size, task.length, task.classes, task.size."""

    def __init__(self, task):
        self.task = task

    def draw(self, generator):
        """Inputs, targets and lengths of one batch, from nothing but the generator."""
        count, length = self.task.batch_size, self.task.length
        bits = generator.integers(0, 2, (count, length, self.task.size))
        lengths = generator.integers(1, length + 1, count)
        targets = bits.sum(axis=-1).cumsum(axis=1) % self.task.classes
        # Nothing is asked of padding.
        targets[np.arange(length) >= lengths[:, None]] = -100
        return bits.astype(float), targets, lengths
