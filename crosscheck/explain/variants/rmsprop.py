"""RMSprop's formula: where epsilon stands, what its momentum keeps."""

from collections.abc import Callable, Iterator

import numpy as np

from crosscheck.explain.variant import Case, Variant
from spec.parameters import Parameters
from spec.reference import optimizer
from spec.training import RMSprop, State, Training

Step = Callable[[RMSprop, np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]
"""(recipe, gradient, squares before, squares after, step from 1) -> what is stepped by, without momentum."""


def outside(spec: RMSprop, gradient: np.ndarray, before: np.ndarray, after: np.ndarray, t: int) -> np.ndarray:
    return gradient / (np.sqrt(after) + spec.epsilon)


def inside(spec: RMSprop, gradient: np.ndarray, before: np.ndarray, after: np.ndarray, t: int) -> np.ndarray:
    """Source: optax.rmsprop by default."""
    return gradient / np.sqrt(after + spec.epsilon)


def corrected(spec: RMSprop, gradient: np.ndarray, before: np.ndarray, after: np.ndarray, t: int) -> np.ndarray:
    return gradient / (np.sqrt(after / (1 - spec.alpha**t)) + spec.epsilon)


def late(spec: RMSprop, gradient: np.ndarray, before: np.ndarray, after: np.ndarray, t: int) -> np.ndarray:
    return gradient / (np.sqrt(before) + spec.epsilon)


def stepping(words: str, step: Step = outside, used: bool = True, rated: bool = False) -> Variant:
    """used: whether momentum is. rated: whether it keeps what the learning rate has been multiplied with."""

    def make(training: Training, state: State, gradients: Parameters) -> State:
        spec = training.optimizer
        assert isinstance(spec, RMSprop)
        parameters, slots = dict(state.parameters), dict(state.slots)
        for name, gradient in optimizer.clipped(training.clipping, gradients).items():
            rate, before = training.learning_rate(state.step, name), slots[f"{name}.square_avg"]
            after = slots[f"{name}.square_avg"] = spec.alpha * before + (1 - spec.alpha) * gradient**2
            by = step(spec, gradient, before, after, state.step + 1)
            if spec.momentum:
                buffer = f"{name}.momentum_buffer"
                slots[buffer] = spec.momentum * slots[buffer] + (rate * by if rated else by)
                by = slots[buffer] if used else by
            parameters[name] = parameters[name] - (by if rated and spec.momentum and used else rate * by)
        return State(parameters, slots, state.step + 1)

    return Variant(words, substitutes={"training.step": make})


def of_experiment(case: Case) -> Iterator[Variant]:
    spec = case.experiment.training.optimizer
    if case.check not in ("optimizer", "trajectory") or not isinstance(spec, RMSprop):
        return
    yield stepping("RMSprop's epsilon stood inside the root", inside)._replace(source="PB70")
    yield stepping("RMSprop's squares were corrected for their start, as Adam's are", corrected)
    yield stepping("each step were divided by the root of the squares before it", late)
    if spec.momentum:
        yield stepping("the momentum kept what the learning rate had been multiplied with", rated=True)
        yield stepping("the momentum were kept and not used", used=False)
