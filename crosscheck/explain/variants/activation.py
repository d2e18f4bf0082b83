"""Activations of a stranger's pair: one for another."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from crosscheck.explain.decimals import written
from crosscheck.explain.pairs import Candidate
from crosscheck.explain.variants.gelu import sigmoid_gelu, silu, tanh_gelu
from crosscheck.mapping.results import OperationPart
from spec.reference.arithmetic import gelu, relu, sigmoid

FORMULAS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "GELU by erf": gelu,
    "GELU by tanh": tanh_gelu,
    "x sigmoid(1.702 x)": sigmoid_gelu,
    "SiLU": silu,
    "relu": relu,
    "relu of at most 6": lambda x: np.clip(x, 0, 6),
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "a hard sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "softplus": lambda x: np.logaddexp(x, 0),
    "ELU": lambda x: np.where(x > 0, x, np.expm1(x)),
    "nothing": lambda x: x,
    "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "SELU": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
}

OPERATIONS = (
    "gelu",
    "silu",
    "silu_",
    "relu",
    "relu_",
    "tanh",
    "sigmoid",
    "hardsigmoid",
    "softplus",
    "elu",
    "mish",
    "leaky_relu",
    "logistic",
    "threshold",
    "hardtanh",
)
"""Names of operations that are an activation alone; among others, chance may make an activation of one."""


def of_pair(part: OperationPart) -> Iterator[Candidate]:
    if part.op not in OPERATIONS or len(part.inputs) != 1 or part.inputs[0].size != part.value.size:
        return
    x = part.inputs[0].reshape(part.value.shape)
    scale = np.abs(part.value).max(initial=0.0)
    for here, formula in FORMULAS.items():
        own = formula(x)
        if not np.allclose(own, part.value, rtol=0, atol=part.tolerance * scale):
            continue
        for there, other in FORMULAS.items():
            if there != here:
                source = "PB64" if "GELU" in here and ("GELU" in there or "1.702" in there) else ""
                yield Candidate("the activation", here, there, own, other(x), source)
        slope = _slope(x, part.other)
        if here == "relu" and slope:
            leaky = np.where(x > 0, x, slope * x)
            yield Candidate("the activation", "relu", f"a leaky relu of slope {slope:g}", own, leaky)


def _slope(x: np.ndarray, y: np.ndarray) -> float | None:
    """Of what is negative."""
    below = x < 0
    ratios = y[below] / x[below]
    return written(float(np.median(ratios))) if ratios.size and math.isfinite(float(np.median(ratios))) else None
