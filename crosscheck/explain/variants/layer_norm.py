"""LayerNorm: its epsilon, where that stands, the variance, gain and bias."""

from collections.abc import Callable, Iterator

import numpy as np

from crosscheck.explain.variant import Case, Variant, option
from spec.reference.arithmetic import Array
from spec.reference.model import Evaluation

STAGES = ("norm",)

EPSILONS = (1e-12, 1e-8, 1e-6, 1e-5, 1e-3, 0.0)
"""Those that libraries and well-known models have; others are solved for."""

PLACE = "transformer.layer_norm"


def epsilon(case: Case, value: float) -> Variant:
    words = f"LayerNorm's epsilon were {value:g} ({case.model.layer_norm_epsilon:g} in the equations)"
    made = option(words, "PB61", layer_norm_epsilon=value)
    return made._replace(differs=("LayerNorm's epsilon", case.model.layer_norm_epsilon, value))


def beside_the_root(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    return _norm(x, weight, bias, lambda variance: np.sqrt(variance) + epsilon)


def sample_variance(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    return _norm(x, weight, bias, lambda variance: np.sqrt(_sample(x, variance) + epsilon))


def sample_deviation(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    return _norm(x, weight, bias, lambda variance: np.sqrt(_sample(x, variance)) + epsilon)


def without(kind: str, value: float, which: str) -> Callable[[Evaluation], None]:
    """Gain or bias of the norms of that name are as if they were not there."""

    def prepare(at: Evaluation) -> None:
        end = f"{which}.{kind}"
        changed = {n: np.full_like(v, value) for n, v in at.parameters.items() if n.endswith(end) and "norm" in n}
        at.parameters = {**at.parameters, **changed}

    return prepare


def _sample(x: Array, variance: Array) -> Array:
    return variance * x.shape[-1] / (x.shape[-1] - 1)


def _norm(x: Array, weight: Array, bias: Array, root) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / root(variance) * weight[:, None, None] + bias[:, None, None]


FORMULAS = (
    ("LayerNorm's epsilon stood beside the root", "PB62", beside_the_root),
    ("LayerNorm's variance were divided by n - 1", "PB62", sample_variance),
    ("LayerNorm divided by the sample's deviation plus epsilon", "PB62", sample_deviation),
)


def of_experiment(case: Case) -> Iterator[Variant]:
    if not case.computes or not hasattr(case.model, "layer_norm_epsilon"):
        return
    known = [value for value in EPSILONS if value != case.model.layer_norm_epsilon]
    solved = case.solve(lambda value: epsilon(case, value), case.model.layer_norm_epsilon)
    if solved is not None and solved > 0 and solved not in known and solved != case.model.layer_norm_epsilon:
        known.append(solved)
    for value in known:
        yield epsilon(case, value)
    for words, source, formula in FORMULAS:
        yield Variant(words, source, substitutes={PLACE: formula})
    for which in ("", "norm1", "norm2"):
        of = which or "LayerNorm"
        yield Variant(f"{of}'s gain were not applied", "", prepare=without("weight", 1.0, which))
        yield Variant(f"{of}'s bias were not added", "", prepare=without("bias", 0.0, which))
