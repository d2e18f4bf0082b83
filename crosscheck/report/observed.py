"""What is shown beside what is judged: what is predicted, where attention looks, how ensembles end, what the equations
make of the same training."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from crosscheck.checks import convergence, trajectory
from crosscheck.comparison import Arrays
from crosscheck.recording.recording import key_of
from spec.experiment import Experiment
from spec.framework import Precision, Settings
from spec.tasks import logits_shape
from spec.training import initial_state

PRECISION: Precision = "float64"
"""Of predictions and attention weights."""

POINT = "own"
"""Where attention is looked at: the experiment's own batch, at a random start."""

ATTENTION = "attention.weights"

LARGEST_ATTENTION = 64
"""Queries and keys that are drawn, at most."""


WORK: Mapping[bool, int] = {False: 2 * 10**7, True: 5 * 10**7}
"""Multiplications that the equations' own training may take of an experiment, by whether something is wrong in it. Its
gradients take a forward pass for each parameter, so that this is a fifth and half of a second: all of hello-gru, some
steps of a Transformer."""

OVERHEAD = 10**5
"""What a step takes beside its multiplications, in units of these."""


class Predicted(NamedTuple):
    """What both sides predict on the evaluation batch after an epoch, which counts from 1."""

    epoch: int
    first: str
    second: str


class ByEquations(NamedTuple):
    """The losses of the first steps as the equations have them, in float64, from the same start; how far either side's
    are from them at most, infinite where one is no number; and whether these are all steps."""

    losses: tuple[float, ...]
    apart: tuple[float, float]
    whole: bool


class Observed(NamedTuple):
    """Of one experiment. predicted: after each epoch. attention: either side's weights, (queries, keys), of the first
    sequence of a batch; None where there are none. ensembles: by endpoint, either side's values, (members,). reference:
    None where nobody knows the equations, or where a step of theirs takes too long."""

    predicted: list[Predicted]
    attention: tuple[np.ndarray, np.ndarray] | None
    ensembles: dict[str, tuple[np.ndarray, np.ndarray]]
    reference: ByEquations | None = None


def observe(experiment: Experiment, first: Arrays, second: Arrays, seed: int = 0, failing: bool = False) -> Observed:
    """What two recordings of an experiment hold of that; nothing where they hold none, or another shape of it.

    first, second: all arrays of a recording, by their whole names. seed: of both. failing: whether something is wrong,
    so that the equations are asked for more steps.
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
        reference=_reference(experiment, first, second, seed, WORK[failing]),
    )


def _reference(experiment: Experiment, first: Arrays, second: Arrays, seed: int, work: int) -> ByEquations | None:
    """As many steps as that work allows."""
    pair = _both(first, second, key_of(PRECISION, trajectory.NAME, trajectory.RECIPE) + "loss")
    reference, training = experiment.reference, experiment.training
    steps = training.epochs * training.steps_per_epoch
    if pair is None or reference is None or not pair[0].shape == pair[1].shape == (steps,):
        return None
    rows, time = experiment.batch(seed, 0, PRECISION).inputs.shape[:2]
    affordable = min(steps, work // (rows * time * experiment.parameter_count**2 + OVERHEAD))
    settings, losses = Settings(PRECISION), []
    state = initial_state(training.optimizer, experiment.start(seed, PRECISION))
    every = {name: range(value.size) for name, value in state.parameters.items()}
    try:
        with np.errstate(all="ignore"):
            for _ in range(affordable):
                loss, gradients, _ = reference.gradients_at(experiment, state, seed, settings, every)
                losses.append(loss)
                state = reference.advance(experiment, state, gradients, seed, settings)
    except Exception:
        # A curve is beside a verdict and must not take its place.
        return None
    if not losses:
        return None
    away = [float(np.abs(side[:affordable] - np.array(losses)).max()) for side in pair]
    one, two = (far if np.isfinite(far) else np.inf for far in away)
    return ByEquations(tuple(losses), (one, two), affordable == steps)


def _predicted(experiment: Experiment, first: Arrays, second: Arrays) -> list[Predicted]:
    pair = _both(first, second, key_of(PRECISION, trajectory.NAME, trajectory.RECIPE) + "logits")
    batch = experiment.evaluation_batch(PRECISION)
    shape = (experiment.training.epochs, *logits_shape(batch.targets, experiment.classes))
    if pair is None or not pair[0].shape == pair[1].shape == shape:
        return []
    task = experiment.task
    said = [[task.describe(task.predictions(logits), batch) for logits in side] for side in pair]
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
