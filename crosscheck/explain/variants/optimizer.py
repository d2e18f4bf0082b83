"""The optimizer's formula: where epsilon stands, corrections, momentum, decay."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from crosscheck.explain.variant import Case, Variant
from spec.parameters import Parameters
from spec.reference import optimizer
from spec.training import SGD, AdamW, State, Training

Update = Callable[["Moments"], Any]


class Moments(NamedTuple):
    """Adam's, of one tensor. t: step, from 1. largest: the largest second moment so far."""

    m: np.ndarray
    v: np.ndarray
    t: int
    beta1: float
    beta2: float
    epsilon: float
    largest: np.ndarray
    largest_corrected: np.ndarray
    gradient: np.ndarray


def usual(at: Moments) -> Any:
    return (at.m / (1 - at.beta1**at.t)) / (np.sqrt(at.v / (1 - at.beta2**at.t)) + at.epsilon)


def inside_the_root(at: Moments) -> Any:
    return (at.m / (1 - at.beta1**at.t)) / np.sqrt(at.v / (1 - at.beta2**at.t) + at.epsilon)


def before_correction(at: Moments) -> Any:
    root = np.sqrt(1 - at.beta2**at.t)
    return root / (1 - at.beta1**at.t) * at.m / (np.sqrt(at.v) + at.epsilon)


def uncorrected(at: Moments) -> Any:
    return at.m / (np.sqrt(at.v) + at.epsilon)


def first_corrected(at: Moments) -> Any:
    return (at.m / (1 - at.beta1**at.t)) / (np.sqrt(at.v) + at.epsilon)


def later(by: int) -> Update:
    return lambda at: usual(at._replace(t=at.t + by))


def largest(at: Moments) -> Any:
    """Source: torch.optim.Adam with amsgrad, which keeps the largest before it is corrected."""
    return (at.m / (1 - at.beta1**at.t)) / (np.sqrt(at.largest / (1 - at.beta2**at.t)) + at.epsilon)


def largest_corrected(at: Moments) -> Any:
    """Source: optax.amsgrad."""
    return (at.m / (1 - at.beta1**at.t)) / (np.sqrt(at.largest_corrected) + at.epsilon)


def in_float32(second_alone: bool) -> Update:
    def update(at: Moments) -> Any:
        one = 1 - np.float32(at.beta1) ** np.float32(at.t)
        two = 1 - np.float32(at.beta2) ** np.float32(at.t)
        one = 1 - at.beta1**at.t if second_alone else float(one)
        return (at.m / one) / (np.sqrt(at.v / float(two)) + at.epsilon)

    return update


def nesterov_adam(at: Moments) -> Any:
    """Source: optax.adam with nesterov."""
    m = at.beta1 * at.m / (1 - at.beta1 ** (at.t + 1)) + (1 - at.beta1) * at.gradient / (1 - at.beta1**at.t)
    return m / (np.sqrt(at.v / (1 - at.beta2**at.t)) + at.epsilon)


class Steps:
    """Steps of an optimizer. What it keeps beside the slots, such as largest moments, begins with the training."""

    def __init__(
        self,
        update: Update = usual,
        decay: str = "before",
        decays: Callable[[np.ndarray], bool] = lambda p: True,
        rate: Callable[[Training, int], float] = lambda training, step: training.learning_rate(step),
        momentum: Callable[..., Any] | None = None,
    ):
        self._update, self._decay, self._decays, self._rate, self._momentum = update, decay, decays, rate, momentum
        self._largest: dict[str, np.ndarray] = {}

    def __call__(self, training: Training, state: State, gradients: Parameters) -> State:
        if not state.step:
            self._largest = {}
        gradients = optimizer.clipped(training.clipping, gradients)
        rate, spec = self._rate(training, state.step), training.optimizer
        parameters, slots = dict(state.parameters), dict(state.slots)
        for name, gradient in gradients.items():
            p = parameters[name]
            if isinstance(spec, SGD):
                buffer = f"{name}.momentum_buffer"
                assert self._momentum is not None
                moved, kept = self._momentum(spec, p, slots.get(buffer, np.zeros_like(p)), gradient, state.step)
                if buffer in slots:
                    slots[buffer] = kept
                parameters[name] = p - rate * moved
                continue
            decay = spec.weight_decay if isinstance(spec, AdamW) and self._decays(p) else 0.0
            if self._decay == "coupled":
                gradient = gradient + decay * p
            m = spec.beta1 * slots[f"{name}.exp_avg"] + (1 - spec.beta1) * gradient
            v = spec.beta2 * slots[f"{name}.exp_avg_sq"] + (1 - spec.beta2) * gradient**2
            largest = self._highest(f"{name} as it is", v)
            corrected = self._highest(name, v / (1 - spec.beta2 ** (state.step + 1)))
            at = Moments(m, v, state.step + 1, spec.beta1, spec.beta2, spec.epsilon, largest, corrected, gradient)
            step = rate * self._update(at)
            parameters[name] = _moved(self._decay, p, step, decay, rate, spec.learning_rate)
            slots[f"{name}.exp_avg"], slots[f"{name}.exp_avg_sq"] = m, v
        return State(parameters, slots, state.step + 1)

    def _highest(self, name: str, value: np.ndarray) -> np.ndarray:
        self._largest[name] = np.maximum(self._largest.get(name, np.zeros_like(value)), value)
        return self._largest[name]


def _moved(kind: str, p: np.ndarray, step: np.ndarray, decay: float, rate: float, full: float) -> np.ndarray:
    """A parameter after its step and its decay. full: the learning rate without schedule."""
    match kind:
        case "before":
            return p * (1 - rate * decay) - step
        case "after":
            return (p - step) * (1 - rate * decay)
        case "full rate":
            return p * (1 - full * decay) - step
        case "without rate":
            return p * (1 - decay * rate / full) - step
        case _:
            return p - step


def nesterov(spec, p, buffer, gradient, step):
    kept = spec.momentum * buffer + gradient
    return gradient + spec.momentum * kept, kept


def dampened(spec, p, buffer, gradient, step):
    kept = spec.momentum * buffer + (1 - spec.momentum) * gradient
    return kept, kept


def dampened_after_the_first(spec, p, buffer, gradient, step):
    kept = gradient if not step else spec.momentum * buffer + (1 - spec.momentum) * gradient
    return kept, kept


def unused(spec, p, buffer, gradient, step):
    return gradient, spec.momentum * buffer + gradient


def decayed(amount: float):
    def moved(spec, p, buffer, gradient, step):
        kept = spec.momentum * buffer + gradient + amount * p
        return kept, kept

    return moved


def exchanged(found, *_):
    """The slots of a replay under each other's names."""
    ends = {"exp_avg": "exp_avg_sq", "exp_avg_sq": "exp_avg"}
    slots = {f"{n.rpartition('.')[0]}.{ends[n.rpartition('.')[2]]}": value for n, value in found.slots.items()}
    return found._replace(slots=slots)


ADAM: tuple[tuple[str, str, Update], ...] = (
    ("Adam's epsilon stood inside the root", "PB70", inside_the_root),
    ("Adam's epsilon were added before the correction", "PB70", before_correction),
    ("Adam's moments were not corrected", "PB80", uncorrected),
    ("Adam's second moment were not corrected", "PB80", first_corrected),
    ("Adam's moments were corrected a step late", "PB80", later(1)),
    ("the largest second moment so far counted (AMSGrad)", "", largest),
    ("the largest second moment so far counted (AMSGrad)", "", largest_corrected),
    ("Adam took Nesterov's steps", "", nesterov_adam),
    ("Adam's corrections were computed in float32", "PB92", in_float32(False)),
    ("Adam's second correction were computed in float32", "PB92", in_float32(True)),
)


def stepping(words: str, source: str, **fields: Any) -> Variant:
    return Variant(words, source, substitutes={"training.step": Steps(**fields)})


def of_experiment(case: Case) -> Iterator[Variant]:
    if case.check not in ("optimizer", "trajectory"):
        return
    spec = case.experiment.training.optimizer
    if isinstance(spec, SGD):
        if spec.momentum:
            yield stepping("steps were Nesterov's", "", momentum=nesterov)
            yield stepping("the momentum were dampened", "", momentum=dampened)
            yield stepping("the momentum were dampened from the second step on", "", momentum=dampened_after_the_first)
            yield stepping("the momentum were kept and not used", "", momentum=unused)

        def decaying(amount: float) -> Variant:
            return stepping(f"parameters decayed by {amount:g}", "PB71", momentum=decayed(amount))

        solved = case.solve(decaying, 0.0)
        if solved:
            yield decaying(solved)
        return
    for words, source, update in ADAM:
        yield stepping(words, source, update=update)
    yield Variant("the two moments stood under each other's names", "", answers={"replay": exchanged})
    if isinstance(spec, AdamW):
        yield stepping("the decay were added to the gradient (L2)", "PB73", decay="coupled")
        yield stepping("the decay came after the step", "", decay="after")
        yield stepping("the decay were not scheduled", "PB71", decay="full rate")
        yield stepping("the decay were not multiplied by the learning rate", "PB71", decay="without rate")
        yield stepping("tensors of one axis did not decay", "PB79", decays=lambda p: p.ndim > 1)
