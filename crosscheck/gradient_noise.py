"""What rounding in every gradient can make of a trajectory under Adam. See crosscheck.allowance for the derivation."""

from typing import NamedTuple

import numpy as np

from crosscheck import allowance, tolerance
from crosscheck.comparison import Arrays
from spec.experiment import Experiment
from spec.framework import Precision
from spec.tasks import IGNORED
from spec.training import SGD, Training

AVERAGE, SQUARE = "exp_avg", "exp_avg_sq"


class Noise(NamedTuple):
    """training: the recipe. noise: n_t, (steps,). errors: e_t, (steps,). unit: eps.

    gradients: parameter's name -> how far a logit moves with each of its elements, (steps, *shape): the largest
    gradient up to each step, in units of the error of the probabilities, and for a single target.
    """

    training: Training
    noise: np.ndarray
    errors: np.ndarray
    unit: float
    gradients: dict[str, np.ndarray]

    def slot(self, slot: str, first: Arrays, name: str) -> np.ndarray:
        """How far it can move each element of a parameter's slot by each step, (steps, *shape)."""
        square = first[f"slots/{name}.{SQUARE}"]
        dm, dv = allowance.moments(self.training, square, self.noise)
        return np.broadcast_to(dm, dv.shape) if slot == AVERAGE else dv

    def parameter(self, first: Arrays, second: Arrays, name: str) -> np.ndarray:
        """How far it can move each element by each step, (steps, *shape); nowhere what never had a gradient."""
        slots = [f"slots/{name}.{slot}" for slot in (AVERAGE, SQUARE)]
        shape = first[f"parameters/{name}"].shape
        if any(slot not in side or side[slot].shape != shape for side in (first, second) for slot in slots):
            return np.zeros(shape)
        idle = (first[slots[1]] == 0) & (second[slots[1]] == 0)
        return np.where(idle, 0.0, allowance.adam(self.training, first[slots[0]], first[slots[1]], self.noise))

    def logits(self, first: Arrays, second: Arrays) -> np.ndarray:
        """How far the parameters are apart after each step, in what a logit changes by with them, (steps,).

        Infinite from the step on at which rounding is more than HORIZON of the gradients: no later gradient says how
        far a logit moves.
        """
        moved = np.where(np.logical_or.accumulate(self.unit / self.errors > tolerance.HORIZON), np.inf, 0.0)
        for name, gradients in self.gradients.items():
            one, two = (side.get(f"parameters/{name}") for side in (first, second))
            if one is not None and two is not None and one.shape == two.shape == gradients.shape:
                apart = np.nan_to_num(np.abs(one.astype(np.float64) - two), nan=0.0, posinf=0.0)
                moved += (gradients * apart).reshape(len(moved), -1).sum(axis=1)
        return moved


def of(experiment: Experiment, precision: Precision, first: Arrays) -> Noise | None:
    """The noise of the first side's gradients; None where the optimizer keeps no averages to read them off, or where
    the recording lacks what says how large they are."""
    training, table = experiment.training, experiment.model.parameters()
    steps = training.epochs * training.steps_per_epoch
    expected = {"loss": (steps,)}
    if isinstance(training.optimizer, SGD):
        return None
    for parameter in table:
        expected |= {f"slots/{parameter.name}.{slot}": (steps, *parameter.shape) for slot in (AVERAGE, SQUARE)}
        expected |= {f"parameters/{parameter.name}": (steps, *parameter.shape)}
    if any(name not in first or first[name].shape != shape for name, shape in expected.items()):
        return None
    targets = int((experiment.task.batch(0, 0, precision).targets != IGNORED).sum())
    mean = training.loss.reduction == "mean"
    unit = float(np.finfo(precision).eps)
    errors = allowance.errors(first["loss"] if mean else first["loss"] / targets, unit)
    found = {p.name: allowance.gradients(training, first[f"slots/{p.name}.{AVERAGE}"], errors) for p in table}
    largest = np.max([array.reshape(steps, -1).max(axis=1, initial=0.0) for array in found.values()], axis=0)
    each = targets if mean else 1
    gradients = {name: array * each for name, array in found.items()}
    return Noise(training, tolerance.ROUNDINGS * unit * largest, errors, unit, gradients)
