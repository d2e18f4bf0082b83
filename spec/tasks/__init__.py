"""What is learned: batches as a pure function of (task, seed, step), so that every side sees the same bytes.

A file for each task; `AnyTask` lists them.
"""

from spec.tasks.base import (
    IGNORED,
    Batch,
    Task,
    map_arrays,
    predictions,
    repeat,
    rows,
    shift_right,
    solved,
    stack_batches,
    valid_steps,
)
from spec.tasks.checking import check, check_shapes
from spec.tasks.drawing import STEPS_DRAWN_TOGETHER
from spec.tasks.echo import EVALUATED, Echo
from spec.tasks.first_symbol import FirstSymbol
from spec.tasks.noise import Noise
from spec.tasks.random_batch import random_batch
from spec.tasks.spelling import Spelling
from spec.tasks.states import draw_initial, evaluation_initial
from spec.tasks.text import Text

AnyTask = Spelling | FirstSymbol | Noise | Echo | Text

__all__ = [
    "EVALUATED",
    "IGNORED",
    "STEPS_DRAWN_TOGETHER",
    "AnyTask",
    "Batch",
    "Echo",
    "FirstSymbol",
    "Noise",
    "Spelling",
    "Task",
    "Text",
    "check",
    "check_shapes",
    "draw_initial",
    "evaluation_initial",
    "map_arrays",
    "predictions",
    "random_batch",
    "repeat",
    "rows",
    "shift_right",
    "solved",
    "stack_batches",
    "valid_steps",
]
