"""How gradients are clipped."""

from collections.abc import Callable, Iterator

import numpy as np

from crosscheck.explain.variant import Case, Variant, recipe
from spec.parameters import Parameters
from spec.reference import optimizer
from spec.training import SGD, Clipping, State, Training

Clip = Callable[[Clipping | None, Parameters], Parameters]

USUAL: Clip = optimizer.clipped
"""The equations', whatever stands in their place."""


def norm_of(gradients: Parameters) -> float:
    return np.sqrt(sum(np.sum(gradient**2) for gradient in gradients.values()))


def nothing(clipping: Clipping | None, gradients: Parameters) -> Parameters:
    return gradients


def each_tensor(epsilon: float) -> Clip:
    def clip(clipping: Clipping | None, gradients: Parameters) -> Parameters:
        largest = _norm(clipping)
        return {
            name: gradient * np.minimum(1.0, largest / (np.sqrt(np.sum(gradient**2)) + epsilon))
            for name, gradient in gradients.items()
        }

    return _behind_values(clip)


def by_value(clipping: Clipping | None, gradients: Parameters) -> Parameters:
    largest = _norm(clipping)
    return {name: np.clip(gradient, -largest, largest) for name, gradient in gradients.items()}


def whole(epsilon: float, up: bool = False, limit: float | None = None) -> Clip:
    def clip(clipping: Clipping | None, gradients: Parameters) -> Parameters:
        factor = (_norm(clipping) if limit is None else limit) / (norm_of(gradients) + epsilon)
        factor = factor if up else np.minimum(1.0, factor)
        return {name: gradient * factor for name, gradient in gradients.items()}

    return _behind_values(clip)


def _norm(clipping: Clipping | None) -> float:
    assert clipping is not None
    assert clipping.max_norm is not None
    return clipping.max_norm


def _behind_values(clip: Clip) -> Clip:
    """The same of gradients that are limited one by one before, where the recipe does."""

    def both(clipping: Clipping | None, gradients: Parameters) -> Parameters:
        assert clipping is not None
        if clipping.max_value is not None:
            gradients = USUAL(Clipping(max_value=clipping.max_value), gradients)
        return clip(clipping, gradients)

    return both


def parts(*kinds: str) -> Clip:
    """The recipe's limits of these kinds, in this order."""

    def clip(clipping: Clipping | None, gradients: Parameters) -> Parameters:
        for kind in kinds:
            gradients = USUAL(Clipping(**{kind: getattr(clipping, kind)}), gradients)
        return gradients

    return clip


def norm_of_value(clipping: Clipping | None, gradients: Parameters) -> Parameters:
    assert clipping is not None
    return USUAL(Clipping(max_norm=clipping.max_value), gradients)


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
    yield Variant("gradients were not clipped", "", substitutes={"optimizer.clipped": nothing})
    if clipping.max_value is not None:
        yield from _of_values(case, clipping, clipping.max_value)
    if clipping.max_norm is not None:
        yield from _of_norms(case, clipping, clipping.max_norm)


def _of_values(case: Case, clipping: Clipping, now: float) -> Iterator[Variant]:
    if clipping.max_norm is None:
        yield Variant(
            "all gradients were scaled by their norm", "PB76", substitutes={"optimizer.clipped": norm_of_value}
        )
    else:
        for words, clip in (
            ("gradients were scaled by their norm, and then limited one by one", parts("max_norm", "max_value")),
            ("gradients were scaled by their norm alone", parts("max_norm")),
            ("gradients were limited one by one alone", parts("max_value")),
        ):
            yield Variant(words, "", substitutes={"optimizer.clipped": clip})

    def limited(value: float) -> Variant:
        words = f"each gradient were limited to {value:g} ({now:g} in the recipe)"
        return recipe(words, "", clipping__max_value=value)

    solved = case.solve(limited, now)
    if solved is not None and solved > 0:
        yield limited(solved)


def _of_norms(case: Case, clipping: Clipping, now: float) -> Iterator[Variant]:
    epsilon = clipping.epsilon
    clips: tuple[tuple[str, str, Clip], ...] = (
        ("each tensor were clipped by its own norm", "PB76", each_tensor(epsilon)),
        ("each tensor were clipped by its own norm, without epsilon", "PB76", each_tensor(0.0)),
        ("each element were clipped", "PB76", by_value),
        ("the clipping's factor had no epsilon", "", whole(0.0)),
        ("gradients were scaled up to the norm too", "", whole(epsilon, up=True)),
    )
    for words, source, clip in clips:
        yield Variant(words, source, substitutes={"optimizer.clipped": clip})
    spec, grouped = case.experiment.training.optimizer, case.experiment.training.groups
    if isinstance(spec, SGD) and spec.momentum and spec == SGD(spec.learning_rate, spec.momentum) and not grouped:
        words = "the step were clipped, and not what the momentum gathers"
        yield Variant(words, "", substitutes={"training.step": after_momentum})
        yield Variant(f"{words}, before the learning rate", "", substitutes={"training.step": after_momentum_by_rate})

    def limited(value: float) -> Variant:
        words = f"gradients were clipped to {value:g} ({now:g} in the recipe)"
        return Variant(words, "", substitutes={"optimizer.clipped": whole(epsilon, limit=value)})

    solved = case.solve(limited, now)
    if solved is not None and solved > 0:
        yield limited(solved)
