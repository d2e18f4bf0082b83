"""How gradients are clipped."""

from collections.abc import Callable, Iterator

import numpy as np

from crosscheck.explain.variant import Case, Variant
from spec.parameters import Parameters
from spec.reference import optimizer
from spec.training import SGD, Clipping, State, Training

Clip = Callable[[Clipping | None, Parameters], Parameters]


def norm_of(gradients: Parameters) -> float:
    return np.sqrt(sum(np.sum(gradient**2) for gradient in gradients.values()))


def nothing(clipping: Clipping | None, gradients: Parameters) -> Parameters:
    return gradients


def each_tensor(epsilon: float) -> Clip:
    def clip(clipping: Clipping | None, gradients: Parameters) -> Parameters:
        assert clipping is not None
        return {
            name: gradient * np.minimum(1.0, clipping.max_norm / (np.sqrt(np.sum(gradient**2)) + epsilon))
            for name, gradient in gradients.items()
        }

    return clip


def by_value(clipping: Clipping | None, gradients: Parameters) -> Parameters:
    assert clipping is not None
    return {name: np.clip(gradient, -clipping.max_norm, clipping.max_norm) for name, gradient in gradients.items()}


def whole(epsilon: float, up: bool = False, limit: float | None = None) -> Clip:
    def clip(clipping: Clipping | None, gradients: Parameters) -> Parameters:
        assert clipping is not None
        factor = (clipping.max_norm if limit is None else limit) / (norm_of(gradients) + epsilon)
        factor = factor if up else np.minimum(1.0, factor)
        return {name: gradient * factor for name, gradient in gradients.items()}

    return clip


def after_momentum(training: Training, state: State, gradients: Parameters) -> State:
    """The step is clipped, and not what the momentum gathers."""
    assert isinstance(training.optimizer, SGD)
    rate, slots = training.learning_rate(state.step), dict(state.slots)
    steps = {}
    for name, gradient in gradients.items():
        buffer = f"{name}.momentum_buffer"
        if buffer in slots:
            slots[buffer] = training.optimizer.momentum * slots[buffer] + gradient
        steps[name] = rate * slots.get(buffer, gradient)
    moved = optimizer.clipped(training.clipping, steps)
    return State({n: p - moved[n] for n, p in state.parameters.items()}, slots, state.step + 1)


def after_momentum_by_rate(training: Training, state: State, gradients: Parameters) -> State:
    """The same where what is clipped has not been multiplied by the learning rate yet."""
    assert isinstance(training.optimizer, SGD)
    rate, slots = training.learning_rate(state.step), dict(state.slots)
    for name, gradient in gradients.items():
        slots[f"{name}.momentum_buffer"] = training.optimizer.momentum * slots[f"{name}.momentum_buffer"] + gradient
    moved = optimizer.clipped(training.clipping, {n: slots[f"{n}.momentum_buffer"] for n in gradients})
    return State({n: p - rate * moved[n] for n, p in state.parameters.items()}, slots, state.step + 1)


def of_experiment(case: Case) -> Iterator[Variant]:
    clipping = case.experiment.training.clipping
    if case.check not in ("optimizer", "trajectory") or clipping is None:
        return
    epsilon = clipping.epsilon
    clips: tuple[tuple[str, str, Clip], ...] = (
        ("gradients were not clipped", "", nothing),
        ("each tensor were clipped by its own norm", "PB76", each_tensor(epsilon)),
        ("each tensor were clipped by its own norm, without epsilon", "PB76", each_tensor(0.0)),
        ("each element were clipped", "PB76", by_value),
        ("the clipping's factor had no epsilon", "", whole(0.0)),
        ("gradients were scaled up to the norm too", "", whole(epsilon, up=True)),
    )
    for words, source, clip in clips:
        yield Variant(words, source, substitutes={"optimizer.clipped": clip})
    if isinstance(case.experiment.training.optimizer, SGD) and case.experiment.training.optimizer.momentum:
        words = "the step were clipped, and not what the momentum gathers"
        yield Variant(words, "", substitutes={"training.step": after_momentum})
        yield Variant(f"{words}, before the learning rate", "", substitutes={"training.step": after_momentum_by_rate})

    def limited(value: float) -> Variant:
        words = f"gradients were clipped to {value:g} ({clipping.max_norm:g} in the recipe)"
        return Variant(words, "", substitutes={"optimizer.clipped": whole(epsilon, limit=value)})

    solved = case.solve(limited, clipping.max_norm)
    if solved is not None and solved > 0:
        yield limited(solved)
