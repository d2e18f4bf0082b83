"""Products of rounded operands, and gradients through them. See spec.mixed_precision.

The complex-step method gives derivatives of functions, and a rounded gradient is none: b(dy) is made on the way back.
So an evaluation is cut at its products. With their results held as they are, nothing between two of them is rounded,
and for each product, from the last to the first,

    dy  is the derivative by its result y of  loss + sum over later products of <dA, A> + <dB, B>

A and B being their operands, which depend on y: by the complex-step method. Of dy follow its own dA and dB, and in the
end the gradient by a parameter or an input is that sum's derivative by it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from spec.mixed_precision import bfloat16
from spec.reference.arithmetic import Array

Operands = tuple[Array, Array]


def product(left: Array, right: Array) -> Array:
    """A B of rounded operands."""
    return bfloat16(left) @ bfloat16(right)


class Recorded:
    """Takes down each product of an evaluation: its rounded operands, and its result."""

    def __init__(self) -> None:
        self.operands: list[Operands] = []
        self.results: list[Array] = []

    def __call__(self, left: Array, right: Array) -> Array:
        self.operands.append((bfloat16(left), bfloat16(right)))
        self.results.append(self.operands[-1][0] @ self.operands[-1][1])
        return self.results[-1]


class Cut:
    """Gives back what each product is said to result in, and adds up <dA, A> + <dB, B>.

    results: of every product, (1 or perturbations, ...). gradients: dA and dB of those whose terms count, by number.
    """

    def __init__(self, results: list[Array], gradients: dict[int, Operands], perturbations: int):
        self._results = iter(enumerate(results))
        self._gradients = gradients
        self._perturbations = perturbations
        self.terms = np.zeros(perturbations)

    def __call__(self, left: Array, right: Array) -> Array:
        number, result = next(self._results)
        for gradient, operand in zip(self._gradients.get(number, ()), (left, right), strict=False):
            products = gradient * operand
            self.terms = self.terms + products.reshape(len(products), -1).sum(axis=1)
        # Complex throughout: NumPy's tanh of a real number may be a unit off, and steps would no longer tie.
        whole = result.astype(np.complex128)
        return np.broadcast_to(whole, (self._perturbations, *result.shape[1:]))


def surrogate(
    loss: Callable[[Any], Array], results: list[Array], found: dict[int, Operands], perturbations: int
) -> Array:
    """loss + sum of <dA, A> + <dB, B>, for each perturbation. loss: of what makes its products."""
    cut = Cut(results, found, perturbations)
    return loss(cut) + cut.terms


def operand_gradients(
    loss: Callable[[Any], Array], derivative: Callable[[Array, Callable[[Array], Array]], Array]
) -> tuple[list[Array], dict[int, Operands]]:
    """The result of each product, and dA and dB by its number.

    loss: of what makes its products, one value for each perturbation. derivative: of a function of perturbed arrays at
    one array, by each of its elements.
    """
    recorded = Recorded()
    loss(recorded)
    found: dict[int, Operands] = {}
    for number in reversed(range(len(recorded.results))):

        def at(perturbed: Array, number: int = number) -> Array:
            results = recorded.results.copy()
            results[number] = perturbed
            return surrogate(loss, results, found, len(perturbed))

        left, right = recorded.operands[number]
        gradient = bfloat16(derivative(recorded.results[number][0], at))[None]
        found[number] = gradient @ right.swapaxes(-1, -2), left.swapaxes(-1, -2) @ gradient
    return recorded.results, found
