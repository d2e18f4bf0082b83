"""The states that a task's batches begin with, drawn from the model's shapes."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from spec.models import Model
from spec.parameters import generator_for
from spec.tasks.drawing import STEPS_DRAWN_TOGETHER, out_of_blocks

if TYPE_CHECKING:
    from spec.tasks import AnyTask


def draw_initial(
    task: "AnyTask", model: Model, seed: int, steps: Sequence[int], dtype: str
) -> dict[str, np.ndarray] | None:
    """The states that the training batches of these steps begin with: name -> floating (steps, *shape), names and
    shapes as `Model.initial_states` has them. None where they are zero."""
    if not task.initial_deviation:
        return None
    return {
        name: (
            task.initial_deviation
            * out_of_blocks(steps, lambda block, name=name, shape=shape: _draw_states(seed, name, block, shape))
        ).astype(dtype)
        for name, shape in model.initial_states(task.batch_size).items()
    }


def evaluation_initial(task: "AnyTask", model: Model, count: int, dtype: str) -> dict[str, np.ndarray] | None:
    """The states that an evaluation batch of so many sequences begins with; None where they are zero."""
    if not task.initial_deviation:
        return None
    return {
        name: (task.initial_deviation * generator_for(0, "evaluation", name).normal(size=shape)).astype(dtype)
        for name, shape in model.initial_states(count).items()
    }


@lru_cache(maxsize=4)
def _draw_states(seed: int, name: str, block: int, shape: tuple[int, ...]) -> np.ndarray:
    """A block's states of that name, standard normal, float64 (STEPS_DRAWN_TOGETHER, *shape)."""
    return generator_for(seed, "initial", name, block).normal(size=(STEPS_DRAWN_TOGETHER, *shape))
