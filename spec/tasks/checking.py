"""Whether a model can take a batch."""

from collections.abc import Mapping

import numpy as np

from spec.errors import InvalidBatch
from spec.models import Embedding, Model
from spec.tasks.base import Batch, valid_steps


def check(model: Model, batch: Batch) -> None:
    """Raise InvalidBatch for inputs, lengths or states that the model cannot take; padding may hold anything."""
    inputs, lengths = batch.inputs, batch.lengths
    if lengths is not None and inputs.ndim > 1:
        count, time = inputs.shape[:2]
        if lengths.shape != (count,) or not np.issubdtype(lengths.dtype, np.integer):
            raise InvalidBatch(f"lengths: expected integer ({count},), got {lengths.dtype} {lengths.shape}")
        if np.any((lengths < 0) | (lengths > time)) or not np.any(lengths):
            raise InvalidBatch(f"lengths: expected 0 to {time}, and not 0 everywhere, got {lengths.tolist()}")
        inputs = inputs.copy()
        inputs[~valid_steps(lengths, time)] = 0
    model.inputs.check(inputs)
    if batch.resets is not None:
        _check_resets(model, batch.resets.shape, inputs.shape[:2], str(batch.resets.dtype))
    if batch.initial is None:
        return
    expected = model.initial_states(len(inputs))
    if batch.initial.keys() != expected.keys():
        raise InvalidBatch(f"initial: expected {sorted(expected)} or None, got {sorted(batch.initial)}")
    for name, shape in expected.items():
        state = batch.initial[name]
        if state.shape != shape or not np.issubdtype(state.dtype, np.floating):
            raise InvalidBatch(f"initial: {name}: expected floating {shape}, got {state.dtype} {state.shape}")


Shape = tuple[int, ...]


def _check_resets(model: Model, resets: Shape, steps: Shape, dtype: str) -> None:
    if not model.takes_resets:
        raise InvalidBatch(f"resets: expected None for a {type(model).__name__}, which looks across, got {resets}")
    if resets != steps or dtype != "bool":
        raise InvalidBatch(f"resets: expected bool {steps}, got {dtype} {resets}")


def check_shapes(
    model: Model,
    inputs: Shape,
    lengths: Shape | None,
    decoder_inputs: Shape | None,
    initial: Mapping[str, Shape] | None,
    resets: Shape | None,
    *,
    is_integer: bool,
) -> None:
    """Raise InvalidBatch for arrays of shapes that the model cannot take; for who must not look at values.

    is_integer: whether the inputs are; they are floating otherwise.
    """
    if isinstance(model.inputs, Embedding):
        expected, fits = "integer (batch, time)", is_integer and len(inputs) == 2
    else:
        size = model.inputs.size
        expected, fits = f"floating (batch, time, {size})", not is_integer and len(inputs) == 3 and inputs[-1] == size
    if not fits:
        raise InvalidBatch(f"inputs: expected {expected}, got {'integer' if is_integer else 'floating'} {inputs}")
    count, time = inputs[:2]
    if model.max_length is not None and time > model.max_length:
        raise InvalidBatch(f"inputs: expected at most {model.max_length} steps, got {time}")
    if lengths is not None and lengths != (count,):
        raise InvalidBatch(f"lengths: expected ({count},), got {lengths}")
    if model.decodes and (decoder_inputs is None or len(decoder_inputs) != 2 or decoder_inputs[0] != count):
        raise InvalidBatch(f"decoder_inputs: expected ({count}, target time), got {decoder_inputs}")
    if not model.decodes and decoder_inputs is not None:
        raise InvalidBatch(f"decoder_inputs: expected None for a model that does not decode, got {decoder_inputs}")
    if resets is not None:
        _check_resets(model, resets, (count, time), "bool")
    if initial is not None and dict(initial) != (states := model.initial_states(count)):
        raise InvalidBatch(f"initial: expected {states or None}, got {dict(initial)}")
