"""Batches of anything that a model can take."""

import numpy as np

from spec.models import Embedding, Model
from spec.parameters import generator_for
from spec.tasks.base import IGNORED, Batch, not_asked, shift_right, valid_steps

RESETS = 0.3
"""The share of steps at which something new begins, where anything does."""


def random_batch(
    model: Model,
    lengths: list[int],
    seed: int,
    dtype: str,
    *,
    target_length: int | None = None,
    initial: bool = False,
    numbers: bool = False,
    resets: bool = False,
) -> Batch:
    """A batch of random inputs and targets that the model can take, one sequence for each length, padded to the
    longest. Padding holds zeros (or index 0), and its targets are IGNORED.

    Where there is room, the first and the last index of the vocabulary are among the valid inputs, the first and the
    last class among the targets, and one target that is no padding's is IGNORED. numbers: targets are standard normal,
    as many a step as the model has outputs, and NaN where they would be IGNORED.

    target_length: steps of the targets, where the model decodes; as many as the inputs' if None. initial: random
    states before the first step, where the model has any. resets: at every third step or so something new begins, at
    padding too. Raises ValueError for a target_length that nothing reads.
    """
    if target_length is not None and not model.decodes:
        raise ValueError(f"target_length: expected None for a model that does not decode, got {target_length}")
    generator = generator_for(seed, "random batch")
    count, time = len(lengths), max(lengths)
    valid = valid_steps(np.array(lengths), time)
    if isinstance(model.inputs, Embedding):
        last = model.inputs.num_embeddings - 1
        inputs = generator.integers(0, last + 1, (count, time), np.int64) * valid
        _scatter(inputs, valid, (0, last), generator)
    else:
        inputs = (generator.normal(size=(count, time, model.inputs.size)) * valid[..., None]).astype(dtype)
    # Targets of another length than their source are as long as they can be, but for a source of length 0.
    asked = valid if target_length is None else np.repeat(valid.any(axis=1, keepdims=True), target_length, axis=1)
    if numbers:
        asked = np.repeat(asked[..., None], model.classes, axis=-1)
        targets = generator.normal(size=asked.shape).astype(dtype)
    else:
        targets = generator.integers(0, model.classes, asked.shape, np.int64)
    if model.reads_once:
        targets, asked = targets[:, 0], np.ones_like(asked[:, 0])
    _scatter(targets, asked, (np.nan,) if numbers else (0, model.classes - 1, IGNORED), generator)
    decoder_inputs = shift_right(targets, model.classes) if model.decodes else None
    targets = np.where(asked, targets, not_asked(targets))
    states = {
        name: (0.5 * generator.normal(size=shape)).astype(dtype)
        for name, shape in (model.initial_states(count) if initial else {}).items()
    }
    ragged = len(set(lengths)) > 1
    begins = generator.random((count, time)) < RESETS if resets else None
    given = np.array(lengths, np.int64) if ragged else None
    return Batch(inputs, targets, given, decoder_inputs, states or None, begins)


def _scatter(values: np.ndarray, where: np.ndarray, marks: tuple[float, ...], generator: "np.random.Generator") -> None:
    """Write each mark to another random place among those, as far as there are enough."""
    places = generator.permutation(np.argwhere(where))
    for place, mark in zip(places, marks, strict=False):
        values[tuple(place)] = mark
