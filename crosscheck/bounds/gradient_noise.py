"""What rounding in every gradient can make of a trajectory under Adam. See crosscheck.bounds.trajectories for the
derivation."""

from typing import NamedTuple

import numpy as np

from crosscheck.bounds import tolerances, trajectories
from crosscheck.comparison import Arrays
from crosscheck.subject import Subject
from spec.framework import Precision
from spec.tasks import IGNORED
from spec.training import SGD, Training

AVERAGE, SQUARE = "exp_avg", "exp_avg_sq"


class Noise(NamedTuple):
    """training: the recipe. noise: n_t, (steps,), the largest error of any gradient up to each step."""

    training: Training
    noise: np.ndarray

    def slot(self, slot: str, first: Arrays, name: str) -> np.ndarray:
        """How far it can move each element of a parameter's slot by each step, (steps, *shape)."""
        square = first[f"slots/{name}.{SQUARE}"]
        dm, dv = trajectories.moments(self.training, square, self.noise)
        return np.broadcast_to(dm, dv.shape) if slot == AVERAGE else dv

    def parameter(self, first: Arrays, second: Arrays, name: str) -> np.ndarray:
        """How far it can move each element by each step, (steps, *shape); nowhere what never had a gradient."""
        slots = [f"slots/{name}.{slot}" for slot in (AVERAGE, SQUARE)]
        shape = first[f"parameters/{name}"].shape
        if any(slot not in side or side[slot].shape != shape for side in (first, second) for slot in slots):
            return np.zeros(shape)
        idle = (first[slots[1]] == 0) & (second[slots[1]] == 0)
        return np.where(idle, 0.0, trajectories.adam(self.training, first[slots[0]], first[slots[1]], self.noise))


def of(subject: Subject, precision: Precision, seed: int, first: Arrays) -> Noise | None:
    """The noise of the first side's gradients; None where the optimizer keeps no averages to read them off, or where
    the recording lacks what says how large they are. seed: of the batches."""
    training, table = subject.training, subject.parameters()
    steps = training.epochs * training.steps_per_epoch
    expected = {"loss": (steps,)}
    if isinstance(training.optimizer, SGD):
        return None
    for parameter in table:
        expected |= {f"slots/{parameter.name}.{slot}": (steps, *parameter.shape) for slot in (AVERAGE, SQUARE)}
        expected |= {f"parameters/{parameter.name}": (steps, *parameter.shape)}
    if any(name not in first or first[name].shape != shape for name, shape in expected.items()):
        return None
    losses = first["loss"] / (1 if training.loss.reduction == "mean" else _asked(subject, precision, seed, steps))
    unit = float(np.finfo(precision).eps)
    errors = trajectories.errors(losses, unit)
    found = [trajectories.gradients(training, first[f"slots/{p.name}.{AVERAGE}"], errors) for p in table]
    largest = np.max([array.reshape(steps, -1).max(axis=1, initial=0.0) for array in found], axis=0)
    return Noise(training, tolerances.ROUNDINGS * unit * largest)


def _asked(subject: Subject, precision: Precision, seed: int, steps: int) -> np.ndarray:
    """How many targets each step's loss is the sum of, (steps,): fewer where sequences are shorter."""
    at = range(steps if subject.has_drawn_batches else 1)
    counts = [int((subject.batch(seed, step, precision).targets != IGNORED).sum()) for step in at]
    return np.broadcast_to(counts, steps)
