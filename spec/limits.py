"""How large the parts of an experiment may be, and what it takes at least: told before anything is built.

The limits let a model of 10^9 parameters through where the machine has the memory; they are there so that a slip of
the keyboard (num_layers = 10^12) is a line of text, not an hour of paging. docs/runs.md lists them.
"""

from typing import Any

LARGEST_SIZE = 10**9
"""A width, a vocabulary, a batch: frameworks count along an axis in 32 bits, with a sign."""

LARGEST_DEPTH = 1000
"""Layers. Each has a name and an object of its own on either side, and a piece of what a compiler is given."""

LARGEST_LENGTH = 10**6
"""Time steps of a sequence, and characters of a text: a recurrence goes through them one by one."""

LARGEST_EPOCHS = 10**7
"""Each leaves a line in the metrics, of about 150 bytes, all of which are read at the end."""

LARGEST_EPOCH = 10**6
"""Optimizer steps of an epoch, the least that is ever saved."""

LARGEST_STEPS = 2**31 - 1
"""Optimizer steps of a training: a step's number is what dropout's keys are made from, in 32 bits with a sign."""

LARGEST_RUNS = 10**6
"""Trainings that an experiment may ask of a comparison for its outcome."""

LARGEST_ARRAY = 10**10
"""Elements of any one array: parameters all together, a batch, an evaluation."""

LARGEST_TEXT = 10_000
"""Characters of a description or a reason."""

LARGEST_FILE = 10**6
"""Bytes of an experiment's file."""

DEEPEST = 8
"""Parts of a dotted key in TOML; an experiment needs three. Python's parser takes minutes for a key of 10^5."""

LONGEST_NAME = 100
"""Bytes of an experiment's name, which becomes part of paths; systems allow 255 for a file's name, endings included."""


def least_bytes(experiment: Any, itemsize: int) -> int:
    """What a training takes at the very least, in bytes, numbers having `itemsize` of them.

    Parameters, their gradients and the optimizer's slots once each, and one training batch. Frameworks take more.
    """
    arrays = 2 + len(experiment.training.optimizer.slots)
    return itemsize * (arrays * experiment.model.parameter_count + batch_elements(experiment.task))


def batch_elements(task: Any) -> int:
    """Elements of a training batch's inputs."""
    return task.batch_size * task.length * (1 if task.indices else task.input_size)


def in_words(number_of_bytes: int) -> str:
    """Bytes as people say them."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if number_of_bytes >= size:
            return f"{number_of_bytes / size:.3g} {unit}"
    return f"{number_of_bytes} bytes"
