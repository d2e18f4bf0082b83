"""tanh for relu, relu for tanh, and a relu that lets something through."""

from collections.abc import Iterator

import numpy as np

from crosscheck.explain.variant import Case, Variant, everywhere, option
from spec.reference.arithmetic import Array

STAGES = ("linear2", "rnn")

PLACES = ("rnn.relu", "transformer.relu")


def leaky(slope: float) -> Variant:
    def formula(x: Array) -> Array:
        return np.where(np.real(x) > 0, x, slope * x)

    return Variant(f"relu let {slope:g} of what is negative through", "", substitutes=everywhere(PLACES, formula))


def at_zero(slope: float) -> Variant:
    """Its derivative where its input is exactly zero, by the imaginary step that stands for a derivative."""

    def formula(x: Array) -> Array:
        return np.where(np.real(x) > 0, x, np.where(np.real(x) == 0, slope * x, 0))

    words = f"the gradient of relu at exactly zero were {slope:g}"
    return Variant(words, "PB65", substitutes=everywhere(PLACES, formula))


def of_experiment(case: Case) -> Iterator[Variant]:
    if not case.computes:
        return
    if case.has(nonlinearity="relu"):
        yield option("tanh stood for relu", nonlinearity="tanh")
    if case.has(nonlinearity="tanh"):
        yield option("relu stood for tanh", "PB59", nonlinearity="relu")
    if case.has(nonlinearity="relu") or case.has(activation="relu"):
        if case.check == "forward":
            slope = case.solve(leaky, 0.0)
            if slope:
                yield leaky(slope)
        else:
            yield at_zero(1.0)
            yield at_zero(0.5)
