"""How far two honest sides may part in trajectory: derived from the first side's own runs, for each tensor and step.

The first side trains RUNS more times from starts whose last bits differ (`crosscheck.bounds.rounding_spread`). What
rounding alone makes of the trajectory is seen there, whatever the experiment: nobody states how fast it grows.

    allowed_t = FACTOR * max(envelope_s over s <= t, floor_t)

The envelope's running maximum is taken since errors that have been made stay in parameters and slots, while a deviation
may pass through zero. The floor is STEP_ROUNDINGS units in the last place of the tensor's largest element so far, since
a handful of repetitions may agree to the last bit by luck; and, of a parameter that decays, DECAY_ROUNDINGS a step.

Under Adam that is not enough for an element with hardly any gradient, since Adam divides by the gradient's own size,
and the perturbed runs see only by luck what that makes of rounding. All gradients come of the differences p - 1 between
a probability and its target. Once a model has learned, e = 1 - p is small, but p is still rounded as a number near 1:
the gradients carry errors of a unit in the last place where their size is e. Perturbed runs do not show it, since all
share p's rounding, yet another formula for p rounds in another way. With G the largest gradient, noise in any
gradient is

    n_t = ROUNDINGS eps max over s <= t of G_s / e_s,    e_s = max(1 - exp(-loss_s), eps),

where loss_s is the mean of -log p, so that the largest 1 - p is at least e_s; what it is of smoothed labels and of
squares has its derivation in `crosscheck.bounds.gradient_noise`. With m and v the moving averages of g and
g^2, corrected for their start, and s = sqrt(v) + epsilon, noise of at most n_t in every g_t changes

    m by at most dm_t, the moving average of n (m is linear in g),
    sqrt(v) by at most ds_t, the root of the moving average of n^2 (sqrt(v) is a norm of g: the triangle inequality),

and so the step m / s by at most

    |m_1 / s_1 - m_2 / s_2| <= |m_1 - m_2| / s_2 + |m_1| |s_1 - s_2| / (s_1 s_2)
                            <= (dm + |m_1 / s_1| ds) / max(s_1 - ds, epsilon)

and by no more than two of the largest steps that Adam can make (`zero_gradients.largest_steps`). Their sum over the
steps, times the learning rates, bounds the element; decay only shrinks it. That is a worst case already, so
it is not multiplied by FACTOR. It is derived from the slots, which are compared with their own envelopes or dm_t and
(2 sqrt(v) + ds) ds. An element that never had a gradient on either side, exactly zero, is not given any of it.

AMSGrad has the largest v so far in the place of v, and a maximum of two is no further apart than the two are: dv and ds
are then the largest so far. RMSprop divides g itself, which is noise n, and its v is never corrected; with momentum
those steps are added up as it adds them. Its g is read off two v, |g_t| = sqrt((v_t - alpha v_{t-1}) / (1 - alpha)).

What is computed from parameters that are apart is apart too, and there the envelope knows nothing of such elements. So
logits that are further apart than their bound may also be apart by as much as the reference's own logits are that are
computed from either side's parameters (`crosscheck.bounds.explained_logits`); these are compared themselves.

Where a bound exceeds HORIZON of the largest tensor of its kind, agreement would say nothing: from that step on the
element must be finite and is not compared.

Against a first side that is itself faulty there are three limits which no envelope can widen: the bound of the loss in
the first steps (OPENING_ROUNDINGS); the least number of steps that must have a bound (FEWEST_STEPS); and in float64
LOSS_CAP, unless the envelope itself is beyond it. A stated law of growth for all the other bounds was dropped: any law
that an unstable training keeps to is looser than every bound that is derived for a stable one.
"""

import numpy as np

from crosscheck.bounds import tolerances, zero_gradients
from crosscheck.bounds.rounding_spread import FACTOR
from spec.framework import Precision
from spec.training import SGD, Adam, AdamW, RMSprop, Training


def sizes(values: np.ndarray) -> np.ndarray:
    """The largest element up to each step, (steps,), of values (steps, ...); what is not finite does not count."""
    largest = np.abs(np.where(np.isfinite(values), values, 0.0)).reshape(len(values), -1).max(axis=1, initial=0.0)
    return np.maximum.accumulate(largest.astype(np.float64))


def allowed(envelope: np.ndarray, size: np.ndarray, precision: Precision, decays: bool = False) -> np.ndarray:
    """FACTOR times the envelope's running maximum or its floor, (steps,); size: see `sizes`.

    decays: whether it is of a parameter that every step makes smaller, see DECAY_ROUNDINGS.
    """
    unit = float(np.finfo(precision).eps) * size
    bounds = FACTOR * np.maximum(np.maximum.accumulate(envelope), tolerances.STEP_ROUNDINGS * unit)
    return np.maximum(bounds, tolerances.DECAY_ROUNDINGS * np.arange(1, len(unit) + 1) * unit) if decays else bounds


def loss(envelope: np.ndarray, size: np.ndarray, precision: Precision) -> np.ndarray:
    """The same for the loss, which has a cap."""
    bounds = allowed(envelope, size, precision)
    cap = tolerances.LOSS_CAP[precision] * np.maximum(size, 1.0)
    return np.where(np.maximum.accumulate(envelope) < cap, np.minimum(bounds, cap), bounds)


def errors(losses: np.ndarray, unit: float) -> np.ndarray:
    """e_t, (steps,), of each step's mean loss; unit: eps."""
    finite = np.where(np.isfinite(losses), losses, 0.0).astype(np.float64)
    return np.maximum(-np.expm1(-np.maximum(finite, 0.0)), unit)


def gradients(training: Training, kept: np.ndarray, error: np.ndarray) -> np.ndarray:
    """max over s <= t of |g_s| / e_s, (steps, *shape), of the first side's first slot, of that shape.

    g_t = (m_t - beta1 m_{t-1}) / (1 - beta1), and under RMSprop the same of g^2; after clipping, as the optimizer is
    given it.
    """
    optimizer = training.optimizer
    assert not isinstance(optimizer, SGD)
    slot = np.where(np.isfinite(kept), kept, 0.0).astype(np.float64)
    if isinstance(optimizer, RMSprop):
        gradient = np.sqrt(np.maximum(_entered(slot, optimizer.alpha), 0.0))
    else:
        gradient = _entered(slot, optimizer.beta1)
    return np.maximum.accumulate(np.abs(gradient) / error.reshape(-1, *[1] * (slot.ndim - 1)), axis=0)


def _entered(averages: np.ndarray, beta: float) -> np.ndarray:
    """What each step brought into an exponential moving average that began at zero."""
    before = np.concatenate([np.zeros_like(averages[:1]), averages[:-1]])
    return (averages - beta * before) / (1 - beta)


def moments(training: Training, square: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far noise in every gradient can move exp_avg, (steps, 1...), and the squares, (steps, *shape), by each step.

    square: the first side's exp_avg_sq, or RMSprop's square_avg, which has no exp_avg beside it (0). Neither is
    corrected for its start.
    """
    optimizer = training.optimizer
    assert not isinstance(optimizer, SGD)
    first, second = (0.0, optimizer.alpha) if isinstance(optimizer, RMSprop) else (optimizer.beta1, optimizer.beta2)
    column = (len(noise), *[1] * (square.ndim - 1))
    ds = np.sqrt(_moving(noise**2, second).reshape(column))
    v = np.where(np.isfinite(square), np.abs(square), 0.0).astype(np.float64)
    return _moving(noise, first).reshape(column), (2 * np.sqrt(v) + ds) * ds


def adam(
    training: Training, average: np.ndarray, square: np.ndarray, noise: np.ndarray, name: str | None = None
) -> np.ndarray:
    """How far noise in every gradient can move each element by each step, (steps, *shape): see the module.

    average, square: exp_avg and exp_avg_sq (under AMSGrad the largest) of the first side, (steps, *shape). noise: n_t,
    (steps,). name: the parameter's, which may have a learning rate of its own.
    """
    optimizer = training.optimizer
    assert isinstance(optimizer, Adam | AdamW)
    steps = len(noise)
    column = (steps, *[1] * (average.ndim - 1))
    count = np.arange(1, steps + 1)
    correction1, correction2 = ((1 - beta**count).reshape(column) for beta in (optimizer.beta1, optimizer.beta2))
    dm = _moving(noise, optimizer.beta1).reshape(column) / correction1
    squared = _moving(noise**2, optimizer.beta2)
    squared = np.maximum.accumulate(squared) if optimizer.amsgrad else squared
    ds = np.sqrt(squared.reshape(column) / correction2)
    # A faulty side may have anything in its slots; what is not finite fails elsewhere.
    m, v = (np.where(np.isfinite(slot), slot, 0.0).astype(np.float64) for slot in (average, square))
    s = np.sqrt(np.abs(v) / correction2) + optimizer.epsilon
    moved = (dm + np.abs(m) / correction1 / s * ds) / np.maximum(s - ds, optimizer.epsilon)
    most = 2 * zero_gradients.largest_steps(training, steps).reshape(column)
    return scaled(training, np.minimum(moved, most), name)


def rmsprop(training: Training, square: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """How far noise in every gradient can move what RMSprop steps by, (steps, *shape): b, or without momentum a step
    of learning rate 1. square: the first side's square_avg. noise: as in `adam`."""
    optimizer = training.optimizer
    assert isinstance(optimizer, RMSprop)
    column = (len(noise), *[1] * (square.ndim - 1))
    v = np.where(np.isfinite(square), np.abs(square), 0.0).astype(np.float64)
    gradient = np.sqrt(np.maximum(_entered(v, optimizer.alpha), 0.0))
    ds = np.sqrt(_moving(noise**2, optimizer.alpha)).reshape(column)
    s = np.sqrt(v) + optimizer.epsilon
    moved = (noise.reshape(column) + gradient / s * ds) / np.maximum(s - ds, optimizer.epsilon)
    moved = np.minimum(moved, 2 / np.sqrt(1 - optimizer.alpha))
    kept, found = np.zeros_like(moved[0]), []
    for step in moved:
        kept = optimizer.momentum * kept + step
        found.append(kept)
    return np.array(found)


def scaled(training: Training, moved: np.ndarray, name: str | None) -> np.ndarray:
    """How far steps of learning rate 1 that are off by so much, (steps, *shape), move a parameter by each step."""
    rates = np.array([training.learning_rate(step, name) for step in range(len(moved))])
    return np.cumsum(rates.reshape(-1, *[1] * (moved.ndim - 1)) * moved, axis=0)


def within_horizon(bounds: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The bounds, (steps, ...), infinite for each element from the step on where one exceeds HORIZON of the size."""
    far = bounds > tolerances.HORIZON * size.reshape(-1, *[1] * (bounds.ndim - 1))
    return np.where(np.logical_or.accumulate(far, axis=0), np.inf, bounds)


def _moving(values: np.ndarray, beta: float) -> np.ndarray:
    """The exponential moving average, (steps,), that starts at zero."""
    found, average = [], 0.0
    for value in values:
        average = beta * average + (1 - beta) * float(value)
        found.append(average)
    return np.array(found)
