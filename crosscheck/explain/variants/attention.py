"""Attention: what scores are divided by, what the softmax runs over, and what is masked."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from crosscheck.explain.variant import Case, Variant
from spec.reference.arithmetic import Array, softmax

PLACES = ("attention.softmax", "transformer.softmax", "encoder_decoder.softmax")

Softmax = Callable[[Array, Array], Array]


def by(formula: Softmax) -> dict[str, Softmax]:
    return dict.fromkeys(PLACES, formula)


def scaled(factor: float) -> Softmax:
    return lambda scores, keep: softmax(scores * factor, keep)


def over_queries(scores: Array, keep: Array) -> Array:
    kept = np.broadcast_to(keep, scores.shape[-3:])
    return softmax(scores.swapaxes(-1, -2), kept.swapaxes(-1, -2)).swapaxes(-1, -2)


def over_all_queries(scores: Array, keep: Array) -> Array:
    """Padded keys are masked as ever, and padded queries count."""
    lowest = np.finfo(np.float64).min
    masked = np.where(keep, scores, lowest)
    return softmax(masked.swapaxes(-1, -2)).swapaxes(-1, -2)


def over_the_batch(scores: Array, keep: Array) -> Array:
    lowest = np.finfo(np.float64).min
    masked = np.where(keep, scores, lowest)
    return np.moveaxis(softmax(np.moveaxis(masked, 1, -1)), -1, 1)


def upside_down(scores: Array, keep: Array) -> Array:
    return softmax(np.where(~keep, scores, np.finfo(np.float64).min))


def upside_down_empty(scores: Array, keep: Array) -> Array:
    return softmax(scores, ~keep)


def nothing_masked(scores: Array, keep: Array) -> Array:
    return softmax(scores)


def added(scores: Array, keep: Array) -> Array:
    return softmax(scores + keep)


def subtracted(scores: Array, keep: Array) -> Array:
    return softmax(scores + ~keep)


def masked_afterwards(scores: Array, keep: Array) -> Array:
    return softmax(scores) * keep


def weak(value: float) -> Softmax:
    return lambda scores, keep: softmax(np.where(keep, scores, value))


def of_scores(change: Callable[[Array], Array]) -> Softmax:
    return lambda scores, keep: softmax(change(scores), keep)


def in_float32(scores: Array, keep: Array) -> Array:
    return softmax(scores.astype(np.float32), keep).astype(scores.dtype)


FORMULAS = (
    ("the softmax ran over the queries", "PB52", over_queries),
    ("the softmax ran over the queries, padded ones too", "PB52", over_all_queries),
    ("the softmax ran over the batch", "PB52", over_the_batch),
    ("valid keys were masked and padding were not", "PB43", upside_down),
    ("valid keys were masked and padding were not, rows without a key being zero", "PB43", upside_down_empty),
    ("padding were not masked", "", nothing_masked),
    ("the 0/1 mask of valid keys were added to the scores", "PB44", added),
    ("the 0/1 mask of padding were added to the scores", "PB44", subtracted),
    ("padding were masked after the softmax", "PB44", masked_afterwards),
)


def of_experiment(case: Case) -> Iterator[Variant]:
    attends = case.kind in ("LSTMAttention", "SelfAttention", "MultiHeadAttention", "TransformerEncoder", "EncoderDecoder")
    if not case.computes or not attends:
        return
    for words, factor in _scales(case):
        yield Variant(words, "PB41", substitutes=by(scaled(factor)))
    for words, source, formula in FORMULAS:
        yield Variant(words, source, substitutes=by(formula))

    def masked(value: float) -> Variant:
        return Variant(f"padding had a score of {value:g}", "PB47", substitutes=by(weak(value)))

    for value in (-1.0, -10.0, -20.0, -100.0, 0.0):
        yield masked(value)
    yield Variant("the softmax were computed in float32", "PB92", substitutes=by(in_float32))
    if case.kind == "SelfAttention":
        swapped = of_scores(lambda scores: scores.swapaxes(-1, -2))
        yield Variant("query and key were exchanged", "", substitutes=by(swapped))
    if case.kind in ("SelfAttention", "MultiHeadAttention", "TransformerEncoder"):
        yield Variant("query and key were exchanged", "", substitutes=by(of_scores(lambda s: s.swapaxes(-1, -2))))


def _scales(case: Case) -> Iterator[tuple[str, float]]:
    """What the scores are to be multiplied by, beside what they are divided by already."""
    hidden, heads = getattr(case.model, "hidden_size", 1), getattr(case.model, "heads", 1)
    if case.kind == "TransformerEncoder":
        width, whole = hidden // heads, hidden
    elif case.kind in ("SelfAttention", "MultiHeadAttention"):
        width, whole = hidden, hidden * heads
    else:
        width, whole = 1, hidden
    others = {"the root of all heads' width together": whole, "nothing": 1, "the root of half of that": whole / 2}
    others["the root of the width, rounded down to an even number"] = width // 2 * 2
    for words, other in others.items():
        if other and other != width:
            yield f"scores were divided by {words}", math.sqrt(width / other)
    if width > 1:
        yield "scores were divided by the width, not by its root", 1 / math.sqrt(width)
