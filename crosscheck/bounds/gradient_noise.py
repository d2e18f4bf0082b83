"""What rounding in every gradient can make of a trajectory under Adam and RMSprop. See crosscheck.bounds.trajectories
for the derivation."""

from typing import NamedTuple

import numpy as np

from crosscheck.bounds import tolerances, trajectories
from crosscheck.comparison import Arrays
from crosscheck.subject import Subject
from spec.framework import Precision
from spec.training import SGD, MeanSquaredError, RMSprop, Training

SQUARES = ("exp_avg_sq", "square_avg")
LARGEST = "max_exp_avg_sq"


class Noise(NamedTuple):
    """training: the recipe. noise: n_t, (steps,), the largest error of any gradient up to each step."""

    training: Training
    noise: np.ndarray

    def slot(self, slot: str, first: Arrays, second: Arrays, name: str) -> np.ndarray:
        """How far it can move each element of a parameter's slot by each step, (steps, *shape); nowhere what never had
        a gradient."""
        square = f"slots/{name}.{self._square}"
        if slot == "momentum_buffer":
            moved = trajectories.rmsprop(self.training, first[square], self.noise)
        else:
            dm, dv = trajectories.moments(self.training, first[square], self.noise)
            moved = dv if slot in SQUARES else np.broadcast_to(dm, dv.shape)
            moved = np.maximum.accumulate(dv, axis=0) if slot == LARGEST else moved
        return self._where_had(moved, first, second, square)

    def parameter(self, first: Arrays, second: Arrays, name: str) -> np.ndarray:
        """How far it can move each element by each step, (steps, *shape); nowhere what never had a gradient."""
        training = self.training
        slots = {slot: f"slots/{name}.{slot}" for slot in training.optimizer.slots}
        shape = first[f"parameters/{name}"].shape
        if any(slot not in side or side[slot].shape != shape for side in (first, second) for slot in slots.values()):
            return np.zeros(shape)
        square = slots[self._square]
        if isinstance(training.optimizer, RMSprop):
            steps = trajectories.rmsprop(training, first[square], self.noise)
            moved = trajectories.scaled(training, steps, name)
        else:
            under = first[slots.get(LARGEST, square)]
            moved = trajectories.adam(training, first[slots["exp_avg"]], under, self.noise, name)
        return self._where_had(moved, first, second, square)

    @staticmethod
    def _where_had(moved: np.ndarray, first: Arrays, second: Arrays, square: str) -> np.ndarray:
        """Zero where neither side has ever had a gradient, of whose squares that slot is made."""
        one, two = first[square], second.get(square)
        return moved if two is None or two.shape != one.shape else np.where((one == 0) & (two == 0), 0.0, moved)

    @property
    def _square(self) -> str:
        return next(slot for slot in self.training.optimizer.slots if slot in SQUARES)


def of(subject: Subject, precision: Precision, seed: int, first: Arrays) -> Noise | None:
    """The noise of the first side's gradients; None where the optimizer keeps no averages to read them off, or where
    the recording lacks what says how large they are. seed: of the batches."""
    training, table = subject.training, subject.parameters()
    steps = training.epochs * training.steps_per_epoch
    expected = {"loss": (steps,)}
    if isinstance(training.optimizer, SGD):
        return None
    for parameter in table:
        names = [f"slots/{parameter.name}.{slot}" for slot in training.optimizer.slots]
        expected |= dict.fromkeys([*names, f"parameters/{parameter.name}"], (steps, *parameter.shape))
    if any(name not in first or first[name].shape != shape for name, shape in expected.items()):
        return None
    unit = float(np.finfo(precision).eps)
    errors = _errors(subject, precision, seed, first["loss"], unit)
    kept = training.optimizer.slots[0]
    found = [trajectories.gradients(training, first[f"slots/{p.name}.{kept}"], errors) for p in table]
    largest = np.max([array.reshape(steps, -1).max(axis=1, initial=0.0) for array in found], axis=0)
    return Noise(training, tolerances.ROUNDINGS * unit * largest)


def _errors(subject: Subject, precision: Precision, seed: int, losses: np.ndarray, unit: float) -> np.ndarray:
    """e_t, (steps,), of each step's loss: how far the probability of some target is at least from where its loss is
    lowest; of numbers how far some output is at least from its target, as a share of what both are rounded as.

    Without smoothing as trajectories.errors has it. With it, the distance from the lowest loss is a mean of relative
    entropies KL(q || p), q being the smoothed labels, none of which is below r = e / K times the least weight's share.
    Where all p are at least r / 2, KL <= sum (p - q)^2 / p <= K max |p - q|^2 2 / r; else some |p - q| is r / 2.

    Of squares all gradients come of the differences d = o - t. An output o is rounded as a number of its own size, or
    of the terms that it is added up from, which is ENTERED at least, while what it leaves is d. With D the largest |d|
    and T the largest |t|, or ENTERED, the share of an error is at most (T + D) / D units in the last place. So e is
    D / (T + D), which grows with D, and D is at least the root of the mean of d^2.
    """
    loss, classes = subject.training.loss, subject.classes
    at = range(len(losses) if subject.has_drawn_batches else 1)
    targets = [subject.batch(seed, step, precision).targets for step in at]
    least = np.broadcast_to([loss.least(each, classes) for each in targets], len(losses))
    if loss.reduction == "sum":
        divisors = np.broadcast_to([loss.divisor(each) or 1.0 for each in targets], len(losses))
    else:
        divisors = np.ones(len(losses))
    if isinstance(loss, MeanSquaredError):
        most = [tolerances.largest(each, np.array(tolerances.ENTERED)) for each in targets]
        off = np.sqrt(np.maximum(np.where(np.isfinite(losses), losses, 0.0), 0.0) / divisors)
        return np.maximum(off / (np.broadcast_to(most, len(losses)) + off), unit)
    if not loss.label_smoothing:
        return trajectories.errors(losses / divisors, unit)
    smallest = loss.label_smoothing / classes / loss.uneven
    above = np.maximum(np.where(np.isfinite(losses), losses, 0.0) - least, 0.0) / divisors / loss.uneven
    return np.maximum(np.minimum(smallest / 2, np.sqrt(above * smallest / (2 * classes))), unit)
