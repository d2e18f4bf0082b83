"""Sequences that become others of another length: what tasks for an encoder and a decoder share."""

from typing import Any

import numpy as np

from spec.tasks.base import IGNORED, Batch, Task, exact_match, shift_right


class Transduction(Task, frozen=True, kw_only=True):
    """Base of tasks whose targets have lengths of their own, so that only a model that decodes can learn them.

    Symbols are 0, ..., n - 1. Of a target y_1 .. y_m a decoder has to say y_1 .. y_m and then the end, class n; nothing
    is asked after that. It is told first the start, number n + 1, as `spec.models.EncoderDecoder` has it, and then what
    it should have said.
    """

    def _pairs(
        self: Any, sources: np.ndarray, lengths: np.ndarray, targets: np.ndarray, sizes: np.ndarray, dtype: str
    ) -> Batch:
        """A batch of sources (..., time) and targets (..., target time), int64, of which each has so many symbols; all
        axes but the last are those of lengths and sizes."""
        end = self.classes - 1
        steps = np.arange(targets.shape[-1] + 1)
        padded = np.concatenate([targets, np.full_like(targets[..., :1], IGNORED)], axis=-1)
        asked = np.where(steps < sizes[..., None], padded, np.where(steps == sizes[..., None], end, IGNORED))
        inputs = sources if self.indices else (sources[..., None] == np.arange(self.input_size)).astype(dtype)
        return Batch(inputs, asked, lengths, decoder_inputs=shift_right(asked, self.classes))

    def describe(self, predictions: np.ndarray, batch: Batch) -> str:
        return f"Exact match: {exact_match(predictions, batch):.4f}"
