"""The rule for parameters whose exact gradient is zero, such as attention's key bias (`Parameter.zero_gradient`).

What a computer finds there is rounding noise, different on either side, and Adam divides a gradient by its own size:
it makes full steps of noise. After a few steps two honest sides hold different values there, and no bound on their
difference would mean anything. So these rows, and no others, are judged like this instead:

1. gradients: on both sides each such element must be zero up to the rounding of the other gradients.
2. trajectory under Adam, AdamW and RMSprop: their values and slots are left out of the comparison, and each side's own
   drift |p_t - p_0| must stay within what the optimizer can do at most, whatever the gradients are (`largest_drift`).
   Losses, logits and every other parameter are compared as always: the model's output does not depend on these rows.
3. trajectory under SGD: nothing is left out, since SGD does not blow up noise.

An embedding's padding row is under the same rule; its gradient is zero exactly, and passes.
"""

import math

import numpy as np

from crosscheck.comparison import Comparison, Place
from spec.parameters import Parameter
from spec.training import SGD, RMSprop, Training

ROUNDING = 1e-3
"""Share by which a drift may exceed its limit: float32 rounds 1 - beta2^t (0.001 at first) by up to 6e-5 of itself."""


def kept(parameter: Parameter) -> np.ndarray | None:
    """True for the elements that are compared as always; None where that is all of them."""
    if parameter.zero_gradient is None:
        return None
    keep = np.ones(parameter.shape, bool)
    keep[slice(*parameter.zero_gradient)] = False
    return keep


def blown_up(training: Training) -> bool:
    """Whether the optimizer divides a gradient by its own size, so that noise becomes full steps."""
    return not isinstance(training.optimizer, SGD)


def rows(parameter: Parameter) -> str:
    """The tensor's name with the rows that the rule is about."""
    assert parameter.zero_gradient is not None
    first, last = parameter.zero_gradient
    return f"{parameter.name}[{first}:{last}]"


def noise(place: Place, parameter: Parameter, first: np.ndarray, second: np.ndarray, bound: float) -> Comparison:
    """Rule 1: gradients of these rows within `bound` of zero on both sides."""
    free = ~_kept(parameter)
    largest = (float(np.abs(first[free]).max()), float(np.abs(second[free]).max()))
    note = "largest on either side; the exact gradient is zero"
    return place.limited(rows(parameter), largest, float(np.max(largest)), bound, 2 * int(free.sum()), note)


def drift(
    place: Place, training: Training, parameter: Parameter, start: np.ndarray, first: np.ndarray, second: np.ndarray
) -> Comparison:
    """Rule 2: each side's drift from the start, (steps, *shape), within what the optimizer can do at most."""
    free = ~_kept(parameter)
    drifts = [np.abs(side[:, free] - start[free]).max(axis=1) for side in (first, second)]
    allowed = largest_drift(training, parameter, float(np.abs(start[free]).max()), len(first)) * (1 + ROUNDING)
    furthest = np.maximum(*drifts)
    # Where the learning rate is zero, nothing may drift at all.
    ratios = np.divide(furthest, allowed, out=np.where(furthest > 0, np.inf, 0.0), where=allowed > 0)
    at = int(ratios.argmax())
    values = (float(drifts[0][at]), float(drifts[1][at]))
    note = f"drift from the start by step {at}; its exact gradient is zero"
    elements = 2 * len(first) * int(free.sum())
    return place.limited(rows(parameter), values, float(np.max(values)), float(allowed[at]), elements, note)


def largest_drift(training: Training, parameter: Parameter, start: float, steps: int) -> np.ndarray:
    """The furthest from `start` that an element of `parameter` can have been moved after each step, by any gradients.

    Under Adam, by Cauchy and Schwarz, with m and v the moving averages of g and g^2 over t steps,

        |m| = (1 - beta1) |sum beta1^k g_k| <= (1 - beta1) sqrt(sum (beta1^2 / beta2)^k) sqrt(sum beta2^k g_k^2)
            = (1 - beta1) sqrt(sum over k < t of (beta1^2 / beta2)^k) sqrt(v / (1 - beta2))

    so a step is at most learning_rate r_t, with r_t = |m / (1 - beta1^t)| / sqrt(v / (1 - beta2^t)) at its largest:
    1 at first, 7.3 in the end for 0.9 and 0.999. AMSGrad divides by no less. AdamW adds learning_rate weight_decay |p|.

    RMSprop divides g by at least sqrt(v) >= sqrt(1 - alpha) |g|, and its momentum adds such quotients up:
    r_t = (1 + momentum + ... + momentum^(t-1)) / sqrt(1 - alpha).
    """
    decay = training.weight_decay(parameter.name, len(parameter.shape))
    moved, drifts = 0.0, []
    for step, largest in enumerate(largest_steps(training, steps)):
        shrinking = decay * (start + moved) if decay else 0.0  # 0 times an infinite drift would be NaN.
        rate = training.learning_rate(step, parameter.name)
        moved += rate * (largest + shrinking) if rate else 0.0
        drifts.append(moved)
    return np.array(drifts)


def largest_steps(training: Training, steps: int) -> np.ndarray:
    """The r_t of `largest_drift`, (steps,): the largest that each step can be, in learning rates."""
    optimizer = training.optimizer
    assert not isinstance(optimizer, SGD)
    if isinstance(optimizer, RMSprop):
        kept = np.cumsum(optimizer.momentum ** np.arange(steps))
        return kept / math.sqrt(1 - optimizer.alpha)
    ratio = optimizer.beta1**2 / optimizer.beta2 if optimizer.beta2 else math.inf if optimizer.beta1 else 0.0
    series, found = 0.0, []
    for step in range(steps):
        series += ratio**step
        correction = math.sqrt(1 - optimizer.beta2 ** (step + 1)) / (1 - optimizer.beta1 ** (step + 1))
        found.append((1 - optimizer.beta1) * math.sqrt(series / (1 - optimizer.beta2)) * correction)
    return np.array(found)


def _kept(parameter: Parameter) -> np.ndarray:
    keep = kept(parameter)
    assert keep is not None
    return keep
