"""What is learned: batches as a pure function of (task, seed, step), so that every side sees the same bytes.

A file for each task; `AnyTask` lists them.
"""

from spec.tasks.base import (
    IGNORED,
    Batch,
    Task,
    arrays_of,
    asked,
    exact_match,
    fingerprint,
    is_numeric,
    logits_shape,
    map_arrays,
    not_asked,
    predictions,
    repeat,
    root_mean_squared_error,
    rows,
    shift_right,
    solved,
    stack_batches,
    valid_steps,
)
from spec.tasks.checking import check, check_shapes
from spec.tasks.drawing import STEPS_DRAWN_TOGETHER
from spec.tasks.echo import Echo
from spec.tasks.first_symbol import FirstSymbol
from spec.tasks.noise import Noise
from spec.tasks.oscillation import Oscillation
from spec.tasks.python import Python
from spec.tasks.random_batch import random_batch
from spec.tasks.reverse import Reverse
from spec.tasks.spelling import Spelling
from spec.tasks.states import draw_initial, evaluation_initial
from spec.tasks.table import Table
from spec.tasks.text import Text
from spec.tasks.weather import Weather
from spec.tasks.words import Words

AnyTask = Spelling | FirstSymbol | Noise | Echo | Text | Weather | Oscillation | Reverse | Words | Table | Python

__all__ = [
    "IGNORED",
    "STEPS_DRAWN_TOGETHER",
    "AnyTask",
    "Batch",
    "Echo",
    "FirstSymbol",
    "Noise",
    "Oscillation",
    "Python",
    "Reverse",
    "Spelling",
    "Table",
    "Task",
    "Text",
    "Weather",
    "Words",
    "arrays_of",
    "asked",
    "check",
    "check_shapes",
    "draw_initial",
    "evaluation_initial",
    "exact_match",
    "fingerprint",
    "is_numeric",
    "logits_shape",
    "map_arrays",
    "not_asked",
    "predictions",
    "random_batch",
    "repeat",
    "root_mean_squared_error",
    "rows",
    "shift_right",
    "solved",
    "stack_batches",
    "valid_steps",
]
