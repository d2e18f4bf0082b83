"""What of two recordings is shown and not judged: what is predicted, where attention looks, how ensembles end."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from crosscheck.checks import convergence, trajectory
from crosscheck.comparison import Arrays
from crosscheck.recording.recording import key_of
from spec.experiment import Experiment
from spec.framework import Precision
from spec.tasks import predictions

PRECISION: Precision = "float64"
"""Of predictions and attention weights."""

POINT = "own"
"""Where attention is looked at: the experiment's own batch, at a random start."""

ATTENTION = "attention.weights"

LARGEST_ATTENTION = 64
"""Queries and keys that are drawn, at most."""


class Predicted(NamedTuple):
    """What both sides predict on the evaluation batch after an epoch, which counts from 1."""

    epoch: int
    first: str
    second: str


class Observed(NamedTuple):
    """Of one experiment. predicted: after each epoch. attention: either side's weights, (queries, keys), of the first
    sequence of a batch; None where there are none. ensembles: by endpoint, either side's values, (members,)."""

    predicted: list[Predicted]
    attention: tuple[np.ndarray, np.ndarray] | None
    ensembles: dict[str, tuple[np.ndarray, np.ndarray]]


def observe(experiment: Experiment, first: Arrays, second: Arrays) -> Observed:
    """What two recordings of an experiment hold of that; nothing where they hold none, or another shape of it.

    first, second: all arrays of a recording, by their whole names.
    """
    return Observed(
        predicted=_predicted(experiment, first, second),
        attention=_attention(first, second),
        ensembles={
            name: pair
            for name in convergence.FLOATS
            if (pair := _both(first, second, key_of("float32", convergence.NAME, "ensemble") + name)) is not None
            and pair[0].ndim == pair[1].ndim == 1
        },
    )


def _predicted(experiment: Experiment, first: Arrays, second: Arrays) -> list[Predicted]:
    pair = _both(first, second, key_of(PRECISION, trajectory.NAME, trajectory.RECIPE) + "logits")
    batch = experiment.evaluation_batch(PRECISION)
    shape = (experiment.training.epochs, *batch.targets.shape, experiment.classes)
    if pair is None or not pair[0].shape == pair[1].shape == shape:
        return []
    said = [[experiment.task.describe(predictions(logits), batch) for logits in side] for side in pair]
    return [Predicted(epoch, *words) for epoch, words in enumerate(zip(*said, strict=True), 1)]


def _attention(first: Arrays, second: Arrays) -> tuple[np.ndarray, np.ndarray] | None:
    pair = _both(first, second, key_of(PRECISION, "forward", POINT) + ATTENTION)
    if pair is None or pair[0].shape != pair[1].shape or pair[0].ndim < 3 or not pair[0].size:
        return None
    one, two = (weights.reshape(-1, *weights.shape[-2:])[0] for weights in pair)
    return (one, two) if max(one.shape) <= LARGEST_ATTENTION else None


def _both(first: Arrays, second: Arrays, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    one, two = first.get(name), second.get(name)
    return None if one is None or two is None else (one, two)


Observations = Mapping[str, Observed]
"""By experiment."""
