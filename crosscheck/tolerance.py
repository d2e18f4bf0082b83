"""Every bound that crosscheck judges by, once, with its reason.

Forward, loss and gradients: |first - second| <= allowed(...), from the envelope of nudged starts (crosscheck.envelope).

Elsewhere a bound is relative: |first - second| <= relative * max(largest element of the tensor on either side, a
floor). The floor keeps a tensor that is small by cancellation from being held to the rounding of its own size, since
its error is that of the larger numbers it was added up from.

"Seen" below is the largest difference between torch_impl and flax_impl over all shipped experiments and three seeds,
in the same units.
"""

from typing import NamedTuple

import numpy as np

from crosscheck.envelope import FACTOR
from spec.framework import Precision


class Bound(NamedTuple):
    """relative: to the tensor's largest element. floor: the smallest size it is measured at, see where it is used."""

    relative: float
    floor: float


class Growing(NamedTuple):
    """The bound of a trajectory, which starts at `relative` and grows with every step, up to `cap`.

    Training amplifies rounding: two honest runs part like nearby starts do. Over the shipped recipes the distance
    grows by up to GROWTH a step for long stretches (Transformers; recurrent networks hardly drift). Held to one bound
    throughout, either the first steps would be judged too loosely or the last ones too tightly.
    A step whose bound is above HORIZON is not compared: there, agreement would say nothing.
    """

    relative: float
    floor: float
    cap: float = np.inf

    def steps(self, count: int) -> np.ndarray:
        """The relative bound of each step; infinite beyond the horizon."""
        bounds = np.minimum(self.relative * GROWTH ** np.arange(count), self.cap)
        return np.where(bounds <= HORIZON, bounds, np.inf)


class LockStep(NamedTuple):
    """The bounds of a trajectory's parts."""

    loss: Growing
    slots: Growing
    parameters: Growing
    logits: Growing


class Steady(NamedTuple):
    """The bound of a trajectory without feedback, which grows by the same with every step.

    No step's error comes back through a gradient, so errors add up and are not amplified.
    roundings: how many a step may add. unit: the largest relative error of one, half a unit in the last place.
    """

    roundings: float
    unit: float

    def steps(self, count: int) -> np.ndarray:
        """The relative bound of each step."""
        return self.roundings * self.unit * np.arange(1, count + 1)


class Replay(NamedTuple):
    """The bounds of an optimizer on given gradients."""

    slots: Steady
    parameters: Steady


GROWTH = 1.1

HORIZON = 0.1

ROUNDINGS = 4.0
"""Units in the last place that two honest sides may differ by where the envelope is smaller: each rounds the result
itself, and the last sum that led to it. An envelope is zero where nudged numbers give the same bits again."""

ENTERED = 1.0
"""Size at which stages of the forward pass are measured at least: they are sums of terms of order 1, and one that is
small by cancellation has the rounding of what cancelled."""

SHARE = 1e-3
"""The same for gradients, as a share of the largest gradient of any parameter at that point: a tensor that is smaller
by a factor of 1000 and more comes from cancellation."""

FORWARD: dict[Precision, Bound] = {
    # Sums of a few dozen products of order 1, through up to 7 time steps or 2 layers: a few dozen roundings of 1e-16.
    "float64": Bound(1e-13, 1.0),
    # The same roundings of 6e-8; XLA's float32 tanh and exp are good to a few units in the last place.
    "float32": Bound(1e-5, 1.0),
}
"""What rounding may do to a logit where no envelope is measured, as in the outcome rung's final losses."""


def largest(*arrays: np.ndarray | None) -> float:
    """The largest finite size among all elements; 0 where there are none."""
    sizes = [np.abs(array[np.isfinite(array)]).max(initial=0.0) for array in arrays if array is not None]
    return float(max(sizes, default=0.0))


def allowed(precision: Precision, envelope: float, entered: float, terms: int = 1) -> float:
    """The difference that rounding explains: FACTOR envelopes, and at least ROUNDINGS units of what was added up.

    terms: how many numbers a single sum adds up; one after the other, each of its partial sums is rounded by half a
    unit, always the same way where all terms are the same.
    """
    return max(FACTOR * envelope, max(ROUNDINGS, terms / 2) * float(np.finfo(precision).eps) * entered)


LOCK_STEP: dict[Precision, LockStep] = {
    "float64": LockStep(
        # Seen 4e-16 in the first 10 steps, 2e-13 at the end (1e-9 in one of three seeds of the Transformer with
        # dropout, whose training has an unstable stretch). The cap is what issue "Every course model trains" asks for.
        loss=Growing(1e-12, 1.0, cap=1e-9),
        # Seen 4e-15 in the first 10 steps, 5e-12 at the end (6e-9 there).
        slots=Growing(1e-12, 1.0, cap=1e-8),
        # Adam's first step is g / (|g| + epsilon): where g is as small as epsilon = 1e-8, an error of 1e-17 in it makes
        # one of 1e-9 learning rates. Seen 3e-13 in the first step.
        parameters=Growing(1e-11, 1.0, cap=1e-8),
        # Seen 4e-15 in the first 10 steps, 3e-12 at the end (8e-10 there).
        logits=Growing(1e-12, 1.0, cap=1e-8),
    ),
    # Rounding is 5e8 times as large and grows alike, so that after 60 to 90 steps unstable trainings have parted:
    # that is the horizon, and the outcome rung judges what comes of float32 runs at their end. "Seen" in units of the
    # bound, over three seeds of all experiments; the largest are course-rnn's (learning rate 0.5) and Transformers'.
    # Both sides compute Adam's 1 - beta^t in double precision: in float32 it alone would be 7e-6 in the loss.
    "float32": LockStep(
        loss=Growing(2e-5, 1.0),  # Seen 0.19.
        slots=Growing(1e-4, 1.0),  # Seen 0.29.
        # As in float64: a gradient below 1e-8 is rounding alone, and Adam's first step makes much of it. Seen 0.33.
        parameters=Growing(1e-3, 1.0),
        logits=Growing(2.5e-4, 1.0),  # Seen 0.56.
    ),
}
"""Of a whole training. The floor of losses and logits is 1; that of slots and parameters a share of the largest of
their kind so far, since a step moves every parameter by errors of the whole gradient."""

REPLAY: dict[Precision, Replay] = {
    # slots: beta m, (1 - beta) g and their sum, and g^2, with the constants themselves rounded: 5 roundings a side.
    # Clipping adds those of the norm, a sum of a thousand squares in another order. Seen 3.4, under clipping.
    # parameters: 3 roundings of the parameter itself (decay, step), and in the step, which is about a learning rate,
    # those of the slots, two corrections, a root, epsilon, a quotient and the rate: 20 on both sides together, of
    # either sign and mostly less than a full unit, hence about 2. Seen 3.0.
    "float64": Replay(slots=Steady(16.0, 2.0**-53), parameters=Steady(8.0, 2.0**-53)),
    # The same count. 1 - beta^t computed in float32, as optax alone does, is off by 1e-5 and more of itself in the
    # first steps: 28 roundings a step under a learning rate of 0.05, 78 under 0.5. Corrections computed in double
    # precision and then rounded add one. Under a rate of 0.01 the fault is 5 to 17 roundings, since there the rounding
    # of the parameters is larger than that of the steps, and may pass.
    "float32": Replay(slots=Steady(16.0, 2.0**-24), parameters=Steady(8.0, 2.0**-24)),
}
"""Of an optimizer on given gradients. The floor of slots is the largest of the tensor so far, since what they forget
leaves its rounding behind; that of parameters is the learning rate, the size of a step. Nothing is left out: rows
without a gradient are given the same one on both sides. Headroom over the shipped experiments: 3.8, in course-rnn."""

OUTCOME_LEVEL = 1e-4
"""Chance of a false alarm of one outcome test. A full run makes about 100, so that the whole of it stays under 1 %."""

INITIAL_LAW_LEVEL = 1e-6
"""Chance that honest draws fail the initial-law rung for one experiment on one side. Its tests share it equally
(Bonferroni, which asks for no independence among them); a full run has 33 experiments with two sides each, and so less
than 1e-4 in total."""
