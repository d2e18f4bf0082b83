"""The few operations that the equations are made of, on real and on complex numbers alike.

Arrays carry a leading axis of perturbations: parameters (perturbations, *shape), activations (perturbations, batch,
...), with 1 perturbation where only values are wanted. Comparisons look at the real part, nothing is cast, and nothing
takes an absolute value, so that an imaginary part of 1e-30 comes through as a derivative.
"""

import math
from collections.abc import Callable

import numpy as np

Array = np.ndarray


def linear(
    inputs: Array, weight: Array, bias: Array | None = None, product: Callable[[Array, Array], Array] = np.matmul
) -> Array:
    """W x + b: inputs (perturbations, batch, [time,] features), weight (perturbations, outputs, features).

    product: of two matrices.
    """
    between = (1,) * (inputs.ndim - 3)
    columns = weight.swapaxes(-1, -2).reshape(len(weight), *between, weight.shape[2], weight.shape[1])
    products = product(inputs, columns)
    if bias is None:
        return products
    return products + bias.reshape(len(bias), 1, *between, -1)


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x), in the form that cannot overflow."""
    return (1 + np.tanh(x / 2)) / 2


def relu(x: Array) -> Array:
    """x where it is positive, else 0; the derivative at 0 is 0."""
    return np.where(np.real(x) > 0, x, 0)


def erf(x: Array) -> Array:
    """The error function, and its derivative 2 / sqrt(pi) e^(-x^2) on the imaginary part."""
    values = np.vectorize(math.erf, otypes=[np.float64])(np.real(x))
    if not np.iscomplexobj(x):
        return values
    return values + 1j * np.imag(x) * (2 / math.sqrt(math.pi)) * np.exp(-(np.real(x) ** 2))


def gelu(x: Array) -> Array:
    """x (1 + erf(x / sqrt 2)) / 2."""
    return x * (1 + erf(x / math.sqrt(2))) / 2


def tanh_gelu(x: Array) -> Array:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2."""
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def softmax(scores: Array, keep: Array | None = None) -> Array:
    """e^x / sum of e^x over the last axis, of the kept entries alone; zeros where none is kept."""
    kept = np.ones(scores.shape, bool) if keep is None else np.broadcast_to(keep, scores.shape)
    highest = np.max(np.real(scores), axis=-1, keepdims=True, where=kept, initial=np.finfo(np.float64).min)
    exponentials = np.where(kept, np.exp(np.where(kept, scores - highest, 0)), 0)
    total = exponentials.sum(axis=-1, keepdims=True)
    return exponentials / np.where(np.real(total) > 0, total, 1)


def layer_norm(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    """(x - mean) / sqrt(variance + epsilon) * weight + bias over the last axis of (perturbations, batch, time, n)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + epsilon) * weight[:, None, None] + bias[:, None, None]


def one_hot(indices: Array, classes: int) -> Array:
    """One-hot vectors, float64."""
    return np.eye(classes)[indices]
