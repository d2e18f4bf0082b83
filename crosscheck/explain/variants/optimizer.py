"""The optimizer's formula: where epsilon stands, corrections, momentum, decay."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np

from crosscheck.explain.variant import Case, Variant, recipe
from spec.parameters import Parameters
from spec.reference import optimizer
from spec.training import SGD, Adam, AdamW, RMSprop, State, Training

Update = Callable[["Moments"], Any]


class Moments(NamedTuple):
    """Adam's, of one tensor. v: what the recipe takes for the second moment, present: the one of this step. t: step,
    from 1. largest: the largest second moment so far."""

    m: np.ndarray
    v: np.ndarray
    present: np.ndarray
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


def present(at: Moments) -> Any:
    return usual(at._replace(v=at.present))


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
        decays: Callable[[Training, str, np.ndarray], float] = lambda training, name, p: training.weight_decay(
            name, p.ndim
        ),
        momentum: Callable[..., Any] | None = None,
    ):
        self._update, self._decay, self._decays, self._momentum = update, decay, decays, momentum
        self._largest: dict[str, np.ndarray] = {}

    def __call__(self, training: Training, state: State, gradients: Parameters) -> State:
        if not state.step:
            self._largest = {}
        gradients = optimizer.clipped(training.clipping, gradients)
        spec = training.optimizer
        assert not isinstance(spec, RMSprop)
        parameters, slots = dict(state.parameters), dict(state.slots)
        for name, gradient in gradients.items():
            p, rate = parameters[name], training.learning_rate(state.step, name)
            decay = self._decays(training, name, p)
            if isinstance(spec, SGD):
                buffer = f"{name}.momentum_buffer"
                momentum = self._momentum or as_it_is
                gradient = gradient + decay * p if decay and self._decay == "before" else gradient
                moved, kept = momentum(spec, p, slots.get(buffer, np.zeros_like(p)), gradient, state.step)
                if buffer in slots:
                    slots[buffer] = kept
                parameters[name] = (p * (1 - rate * decay) if self._decay == "decoupled" else p) - rate * moved
                continue
            if self._decay == "coupled":
                gradient = gradient + decay * p
            m = spec.beta1 * slots[f"{name}.exp_avg"] + (1 - spec.beta1) * gradient
            v = spec.beta2 * slots[f"{name}.exp_avg_sq"] + (1 - spec.beta2) * gradient**2
            slots[f"{name}.exp_avg"], slots[f"{name}.exp_avg_sq"] = m, v
            taken = v
            if spec.amsgrad:
                taken = slots[f"{name}.max_exp_avg_sq"] = np.maximum(slots[f"{name}.max_exp_avg_sq"], v)
            highest = self._highest(f"{name} as it is", v)
            corrected = self._highest(name, v / (1 - spec.beta2 ** (state.step + 1)))
            constants = (spec.beta1, spec.beta2, spec.epsilon)
            at = Moments(m, taken, v, state.step + 1, *constants, highest, corrected, gradient)
            step = rate * self._update(at)
            parameters[name] = _moved(self._decay, p, step, decay, rate, training.full_rate(name))
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


def as_it_is(spec, p, buffer, gradient, step):
    kept = spec.momentum * buffer + gradient
    return gradient + spec.momentum * kept if spec.nesterov else kept, kept


def plain(spec, p, buffer, gradient, step):
    kept = spec.momentum * buffer + gradient
    return kept, kept


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
    return lambda spec, p, buffer, gradient, step: as_it_is(spec, p, buffer, gradient + amount * p, step)


def exchanged(found, *_):
    """The slots of a replay under each other's names."""
    ends = {"exp_avg": "exp_avg_sq", "exp_avg_sq": "exp_avg"}
    slots = {f"{n.rpartition('.')[0]}.{ends[n.rpartition('.')[2]]}": value for n, value in found.slots.items()}
    return found._replace(slots=slots)


def every(training: Training, name: str, p: np.ndarray) -> float:
    return getattr(training.optimizer, "weight_decay", 0.0)


def matrices(training: Training, name: str, p: np.ndarray) -> float:
    return every(training, name, p) if p.ndim > 1 else 0.0


def bare(training: Training, name: str, p: np.ndarray) -> float:
    """As the recipe without its groups has it."""
    return msgspec.structs.replace(training, groups=()).weight_decay(name, p.ndim)


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
    training = case.experiment.training
    spec = training.optimizer
    if isinstance(spec, RMSprop):
        return
    yield from _decays(training)
    if isinstance(spec, SGD):
        if spec.momentum:
            if spec.nesterov:
                yield stepping("steps did not look ahead, as they do by Nesterov", "", momentum=plain)
            else:
                yield stepping("steps were Nesterov's", "", momentum=nesterov)
            yield stepping("the momentum were dampened", "", momentum=dampened)
            yield stepping("the momentum were dampened from the second step on", "", momentum=dampened_after_the_first)
            yield stepping("the momentum were kept and not used", "", momentum=unused)
        if spec.weight_decay:
            yield stepping("the decay were not added to the gradient, but taken off beside it", "", decay="decoupled")
            return

        def decaying(amount: float) -> Variant:
            return stepping(f"parameters decayed by {amount:g}", "PB71", momentum=decayed(amount))

        solved = case.solve(decaying, 0.0)
        if solved:
            yield decaying(solved)
        return
    for words, source, update in ADAM:
        if not (spec.amsgrad and update is largest):
            yield stepping(words, source, update=update)
    if spec.amsgrad:
        yield stepping("the present second moment counted, not the largest so far", "", update=present)
    yield Variant("the two moments stood under each other's names", "", answers={"replay": exchanged})
    if isinstance(spec, AdamW):
        yield stepping("the decay were added to the gradient (L2)", "PB73", decay="coupled")
        yield stepping("the decay came after the step", "", decay="after")
        yield stepping("the decay were not scheduled", "PB71", decay="full rate")
        yield stepping("the decay were not multiplied by the learning rate", "PB71", decay="without rate")


def _decays(training: Training) -> Iterator[Variant]:
    """Which tensors decay, and which have a rate of their own."""
    spec = training.optimizer
    if not isinstance(spec, RMSprop | Adam) and spec.weight_decay:
        if spec.decayed == "every parameter":
            yield stepping("tensors of one axis did not decay", "PB79", decays=matrices)
        else:
            yield stepping("tensors of one axis decayed too", "PB79", decays=every)
    if training.groups:
        yield stepping("groups had the decay of all others", "", decays=bare)
        kept = tuple(msgspec.structs.replace(group, learning_rate=None) for group in training.groups)
        yield recipe("groups had the learning rate of all others", "", groups=kept)
