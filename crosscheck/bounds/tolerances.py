"""Every bound that crosscheck judges by, once, with its reason.

Forward, loss, gradients and trajectory have bounds that are derived from perturbed starts
(crosscheck.bounds.rounding_spread), for each experiment and tensor: see `allowed` below, and for a trajectory's steps
crosscheck.bounds.trajectories. So float32 has no number of its own there: FACTOR times what a rounding was measured to
do. Only what those derivations take from outside stands here.

Elsewhere a bound is relative: |first - second| <= relative * max(largest element of the tensor on either side, a
floor). The floor keeps a tensor that is small by cancellation from being held to the rounding of its own size, since
its error is that of the larger numbers it was added up from.

"Seen" below is the largest difference between torch_impl and flax_impl over all shipped experiments and three seeds,
in the same units.
"""

from typing import NamedTuple

import numpy as np

from crosscheck.bounds.rounding_spread import FACTOR
from spec.framework import Precision


class Bound(NamedTuple):
    """relative: to the tensor's largest element. floor: the smallest size it is measured at, see where it is used."""

    relative: float
    floor: float


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


HORIZON = 0.1
"""Share of a tensor's size. A bound that is larger than that says nothing, so from there on nothing is compared."""

FEWEST_STEPS = 5
"""So many steps of a trajectory must have a bound (all, where there are fewer): else trajectory has shown nothing."""

STEP_ROUNDINGS = 4.0
"""Units in the last place of a tensor's largest element below which no envelope is taken to lie. Five repetitions may
give the same bits by luck, as they often do in the first steps, where a difference is one or two roundings of one
side. Without this floor the largest difference seen, in envelopes, is infinite; with 4 units it is 4.1 in float64 and
7.9 in float32, where FACTOR = 10 is allowed."""

DECAY_ROUNDINGS = 1.5
"""Units in the last place of a parameter's largest element by which a step of decay may part two sides, whatever the
gradient: the factor 1 - rate * decay may be rounded or not (half a unit of 1, the same way at every step, which adds
up), and each side rounds its product or its difference (half a unit each). Perturbed starts do not show it, since all
share the factor. Three ways to write it, 200 steps of float32: 0.52 a step at most."""

REPEATED_STEPS = 300
"""So many perturbed steps are run at least, in all. course-rnn has 15 steps and a learning rate of 0.5, where one
rounding that comes early decides; 5 runs of it were too few in one of 30 seeds."""

OPENING_ROUNDINGS = 4096.0
"""Units in the last place that the bound of the loss may have in the first FEWEST_STEPS steps. Rounding has had no time
to grow there: the floor alone is 40. A first side whose runs part faster than this computes in a lower precision than
it says, or with a chance in it that no seed fixes, and its envelope is no measure of rounding."""

LOSS_CAP: dict[Precision, float] = {"float64": 1e-9, "float32": np.inf}
"""What a float64 loss may differ by at most, relative to its size or to 1, where the envelope itself is smaller."""

WIDEST: dict[Precision, float] = {"float64": 2.0**-26, "float32": HORIZON}
"""Share of what was added up that an envelope may allow in a single evaluation: half of the digits of float64, and all
that says anything of float32, whose offset inputs take most of its digits. Where chance that no seed fixes moves the
first side's runs apart, such as dropout in eval mode, they measure that and not rounding; the bound must not grow with
it until nothing is different any more."""

ROUNDINGS = 4.0
"""Units in the last place that two honest sides may differ by where the envelope is smaller: each rounds the result
itself, and the last sum that led to it. An envelope is zero where perturbed numbers give the same bits again."""

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
"""What rounding may do to a logit where no envelope is measured, as in the outcome check's final losses."""


def largest(*arrays: np.ndarray | None) -> float:
    """The largest finite size among all elements; 0 where there are none."""
    sizes = [np.abs(array[np.isfinite(array)]).max(initial=0.0) for array in arrays if array is not None]
    return float(max(sizes, default=0.0))


def allowed(precision: Precision, envelope: float, entered: float, terms: int = 1) -> float:
    """The difference that rounding explains: FACTOR envelopes, and at least ROUNDINGS units of what was added up.

    entered: the size of that. No envelope allows more than WIDEST of it.

    terms: how many numbers a single sum adds up; one after the other, each of its partial sums is rounded by half a
    unit, always the same way where all terms are the same.
    """
    measured = min(FACTOR * envelope, WIDEST[precision] * entered)
    return max(measured, max(ROUNDINGS, terms / 2) * float(np.finfo(precision).eps) * entered)


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
"""Chance that honest draws fail the initialization check for one experiment on one side. Its tests share it equally
(Bonferroni, which asks for no independence among them); a full run has 35 experiments with two sides each, and so less
than 1e-4 in total."""

TRAIN_MODE_LEVEL = 1e-6
"""Chance that honest dropout fails the dropout check for one experiment on one side. Its tests share it equally, as
those of initial laws do; a full run has 2 experiments that drop anything, and so less than 1e-5 in total."""
