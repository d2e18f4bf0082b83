"""Blocks of a layer's arrays, found by their shapes: which elements are a gate's part of a kernel or of a bias.

A block is the numbers of elements in its array: (hidden, inputs) of a kernel, (hidden,) of a bias.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]


class Block(NamedTuple):
    array: str
    number: int
    elements: np.ndarray

    def put(self, arrays: Arrays, value: np.ndarray) -> None:
        arrays[self.array].reshape(-1)[self.elements] = value

    def take(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        return arrays[self.array].reshape(-1)[self.elements]


class Blocks(NamedTuple):
    """By role; transposable: of square kernels, whose shape says nothing about which axis is which."""

    inputs: list[Block]
    hidden: list[Block]
    biases: list[Block]
    transposable: bool


def of_recurrent(shapes: Mapping[str, tuple[int, ...]], inputs: int, hidden: int) -> Blocks:
    """Raises ValueError for an array whose shape fits none of the roles."""
    found = Blocks([], [], [], any(tuple(s for s in shape if s > 1) == (hidden, hidden) for shape in shapes.values()))
    for name, shape in shapes.items():
        elements = np.arange(int(np.prod(shape))).reshape([s for s in shape if s > 1])
        if elements.ndim == 2 and (inputs + hidden) in elements.shape:
            both = elements if elements.shape[1] == inputs + hidden else elements.T
            found.inputs.extend(_rows(name, both[:, :inputs], hidden))
            found.hidden.extend(_rows(name, both[:, inputs:], hidden))
        elif elements.ndim == 2 and inputs in elements.shape:
            found.inputs.extend(_rows(name, elements if elements.shape[1] == inputs else elements.T, hidden))
        elif elements.ndim == 2 and hidden in elements.shape and elements.shape[0] >= hidden:
            found.hidden.extend(_rows(name, elements if elements.shape[1] == hidden else elements.T, hidden))
        elif elements.ndim == 2 and hidden in elements.shape:
            found.hidden.extend(_rows(name, elements.T, hidden))
        elif elements.size % hidden == 0:
            found.biases.extend(_rows(name, elements.reshape(-1), hidden))
        else:
            raise ValueError(f"{name}: expected a kernel or a bias, got shape {shape}")
    return found


def _rows(name: str, elements: np.ndarray, hidden: int) -> list[Block]:
    if elements.shape[0] % hidden:
        raise ValueError(f"{name}: expected blocks of {hidden} rows, got {elements.shape[0]}")
    parts = elements.reshape(-1, hidden, *elements.shape[1:])
    return [Block(name, number, part) for number, part in enumerate(parts)]


def of_attention(shapes: Mapping[str, tuple[int, ...]], features: int) -> tuple[list[Block], list[Block]]:
    """Kernels as (out, in), were they written as torch's are, and biases."""
    kernels, biases = [], []
    for name, shape in shapes.items():
        elements = np.arange(int(np.prod(shape)))
        if elements.size % features**2 == 0:
            kernels += [Block(name, n, one) for n, one in enumerate(elements.reshape(-1, features, features))]
        elif elements.size % features == 0:
            biases += [Block(name, n, one) for n, one in enumerate(elements.reshape(-1, features))]
        else:
            raise ValueError(f"{name}: expected a kernel or a bias of {features} features, got shape {shape}")
    return kernels, biases
