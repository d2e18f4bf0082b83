"""GELU by another formula, or something else in its place."""

from collections.abc import Iterator

from crosscheck.explain.variant import Case, Variant
from spec.reference.arithmetic import Array, gelu, relu, sigmoid, tanh_gelu

STAGES = ("linear2",)


def sigmoid_gelu(x: Array) -> Array:
    """Source: Hendrycks and Gimpel (2016)."""
    return x * sigmoid(1.702 * x)


def silu(x: Array) -> Array:
    return x * sigmoid(x)


FORMULAS = (
    ("GELU were the tanh approximation", "PB64", tanh_gelu),
    ("GELU were x sigmoid(1.702 x)", "PB64", sigmoid_gelu),
    ("GELU were SiLU, x sigmoid(x)", "", silu),
    ("GELU were relu", "PB59", relu),
)


def of_experiment(case: Case) -> Iterator[Variant]:
    if case.computes and case.has(activation="gelu"):
        for words, source, formula in FORMULAS:
            differs = ("the activation", "GELU by erf", "GELU by tanh") if formula is tanh_gelu else None
            yield Variant(words, source, substitutes={"transformer.gelu": formula}, differs=differs)
    if case.computes and case.has(activation="gelu-tanh"):
        words, differs = (
            "GELU were by erf, not its tanh approximation",
            ("the activation", "GELU by tanh", "GELU by erf"),
        )
        yield Variant(words, "PB64", substitutes={"transformer.tanh_gelu": gelu}, differs=differs)
