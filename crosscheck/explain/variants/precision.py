"""Parts that are computed in a lower precision."""

from collections.abc import Callable, Iterator

import numpy as np

from crosscheck.explain.variant import Case, Variant, option
from spec.mixed_precision import bfloat16
from spec.reference import mixed_precision, recurrent


def rounded_states(round_: Callable[[np.ndarray], np.ndarray]) -> dict[str, object]:
    """The state is rounded after every step."""

    def run(at, cell, *given, **named):
        def step(x, h, state):
            return tuple(round_(s) for s in cell(x, h, state))

        return PLAIN(at, step, *given, **named)

    return {"recurrent.run": run}


def to_float32(values: np.ndarray) -> np.ndarray:
    return values if np.iscomplexobj(values) else values.astype(np.float32).astype(np.float64)


PLAIN = recurrent.run


def of_products(case: Case) -> Iterator[Variant]:
    """What of products is rounded."""
    if case.check != "forward":
        return
    if case.model.mixed_precision is None:
        yield option("operands were rounded to bfloat16", mixed_precision="bfloat16")
        return
    yield option("no operand were rounded to bfloat16", mixed_precision=None)
    product = mixed_precision.product
    yield Variant(
        "what products give were rounded to bfloat16 too",
        substitutes={"model.rounded_product": lambda left, right: bfloat16(product(left, right))},
    )


def of_experiment(case: Case) -> Iterator[Variant]:
    if not case.computes:
        return
    yield from of_products(case)
    recurrent_kinds = ("RNN", "GRU", "LSTM", "RNNCell", "LSTMAttention", "EncoderDecoder")
    if case.check == "forward" and case.failure.precision == "float64" and case.kind in recurrent_kinds:
        yield Variant("the state were rounded to float32 at every step", "PB92", substitutes=rounded_states(to_float32))
        if case.model.mixed_precision:
            yield Variant("the state were rounded to bfloat16 at every step", substitutes=rounded_states(bfloat16))
