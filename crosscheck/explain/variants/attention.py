"""Attention: what scores are divided by, what the softmax runs over, and what is masked."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from crosscheck.explain.variant import Case, Variant, everywhere, option
from spec.reference.arithmetic import Array, one_hot, softmax
from spec.reference.model import Evaluation

STAGES = ("attn", "attention", "context")

PLACES = ("attention.softmax", "transformer.softmax", "encoder_decoder.softmax")

Softmax = Callable[[Array, Array], Array]


def by(formula: Softmax) -> dict[str, Softmax]:
    return everywhere(PLACES, formula)


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


def and_zero(formula: Softmax) -> Softmax:
    """Weights of padding are zero all the same."""
    return lambda scores, keep: formula(scores, keep) * keep


FORMULAS = (
    ("the softmax ran over the queries", "PB52", over_queries),
    ("the softmax ran over the queries", "PB52", over_all_queries),
    ("the softmax ran over the batch", "PB52", over_the_batch),
    ("valid keys were masked, and padding were not", "PB43", upside_down),
    ("valid keys were masked, and padding were not", "PB43", upside_down_empty),
    ("valid keys were masked, and padding were not", "PB43", and_zero(upside_down)),
    ("padding were not masked", "", nothing_masked),
    ("the 0/1 mask of valid keys were added to the scores", "PB44", added),
    ("the 0/1 mask of valid keys were added to the scores", "PB44", and_zero(added)),
    ("the 0/1 mask of padding were added to the scores", "PB44", subtracted),
    ("padding were masked after the softmax", "PB44", masked_afterwards),
)
"""Where several formulas are one mistake, made in code that does other things beside it, their words are the same."""


def of_experiment(case: Case) -> Iterator[Variant]:
    if not case.computes or not attends(case):
        return
    for words, factor in _scales(case):
        yield Variant(words, "PB41", substitutes=by(scaled(factor)))
    for words, source, formula in FORMULAS:
        yield Variant(words, source, substitutes=by(formula))
    for value in (-1.0, -10.0, -20.0, -100.0):
        for formula in (weak(value), and_zero(weak(value))):
            yield Variant(f"padding had a score of {value:g}", "PB47", substitutes=by(formula))
    if case.kind == "TransformerEncoder":
        now = "masked" if case.model.causal else "not masked"
        other = "not masked" if case.model.causal else "masked"
        yield option(f"later steps were {other} ({now} in the equations)", causal=not case.model.causal)
    if case.kind in ("SelfAttention", "MultiHeadAttention"):
        yield Variant("query and key were exchanged", "", substitutes=by(of_scores(lambda s: s.swapaxes(-1, -2))))
        heads = getattr(case.model, "heads", 1)
        for words, splits, merges in (
            ("features were split as (width, heads), not (heads, width)", True, False),
            ("features were split and merged as (width, heads), not (heads, width)", True, True),
            ("heads were merged without exchanging their axis and time's", False, None),
        ):
            if heads > 1:
                yield Variant(words, "PB49", substitutes={"attention._heads": split_otherwise(splits, merges)})
        if case.model.max_length is not None:
            yield Variant("one-hot positions counted from 1", "PB37", substitutes={"attention.one_hot": later_one_hot})


def later_one_hot(indices: Array, classes: int) -> Array:
    return np.eye(classes)[(indices + 1) % classes]


def split_otherwise(splits: bool, merges: bool | None) -> Callable[..., Array]:
    """Heads cut out of features otherwise; merges: None for time and heads mixed on the way back."""

    def heads(at: Evaluation, spec: Any, count: int) -> Array:
        inputs = at.inputs()
        if spec.max_length is not None:
            times = one_hot(np.broadcast_to(np.arange(inputs.shape[2]), inputs.shape[:3]), spec.max_length)
            inputs = np.concatenate([inputs, times], axis=-1)
        names = ("query", "key", "value")
        found = [at.record(name, at.zero_padding(at.linear(name, inputs))) for name in names]
        order = np.arange(found[0].shape[-1]).reshape(-1, count).T.ravel()
        if splits:
            found = [projection[..., order] for projection in found]
        query, key, value = (np.split(projection, count, axis=-1) for projection in found)
        scale = math.sqrt(spec.hidden_size)
        weights = [
            softmax(at.product(q, k.swapaxes(-1, -2)) / scale, at.valid[:, None])
            for q, k in zip(query, key, strict=True)
        ]
        at.record("attention.weights", at.zero_padding(np.stack(weights, axis=3)))
        contexts = [at.product(w, v) for w, v in zip(weights, value, strict=True)]
        joined = np.concatenate(contexts, axis=-1)
        if merges:
            joined = joined[..., np.argsort(order)]
        elif merges is None:
            joined = np.stack(contexts, axis=2).reshape(joined.shape)
        return at.record("attention.context", at.zero_padding(joined))

    return heads


def attends(case: Case) -> bool:
    return case.kind in ("LSTMAttention", "SelfAttention", "MultiHeadAttention", "TransformerEncoder", "EncoderDecoder")


def _scales(case: Case) -> Iterator[tuple[str, float]]:
    """What the scores are to be multiplied by, beside what they are divided by already."""
    hidden, heads = getattr(case.model, "hidden_size", 1), getattr(case.model, "heads", 1)
    if case.kind == "TransformerEncoder":
        width, whole = hidden // heads, hidden
    elif case.kind in ("SelfAttention", "MultiHeadAttention"):
        width, whole = hidden, hidden * heads
    else:
        width, whole = 1, hidden
    others = {
        "the root of all heads' width together": whole,
        "the root of half of all heads' width": whole / 2,
        "the root of the width, rounded down to an even number": width // 2 * 2,
    }
    for words, other in others.items():
        if other and other != width:
            yield f"scores were divided by {words}", math.sqrt(width / other)
    if width > 1:
        yield "scores were not divided by anything", math.sqrt(width)
        yield "scores were divided by the width, not by its root", 1 / math.sqrt(width)
