"""Where a Transformer's norms and residual connections stand."""

from collections.abc import Callable, Iterator

import numpy as np

from crosscheck.explain.variant import Case, Variant, option
from spec.reference.arithmetic import Array, gelu, layer_norm, relu, tanh_gelu
from spec.reference.model import Evaluation
from spec.reference.transformer import _attention

STAGES = ("output", "norm")

Layer = Callable[[Evaluation, object, str, Array], Array]


def layer(attends: Callable[[int], bool], feeds: Callable[[int], bool]) -> Layer:
    """A layer that has its residual connections only where these say so of its number."""

    def run(at: Evaluation, spec, name: str, hidden: Array) -> Array:
        number = int(name.rpartition(".")[2])

        def record(stage: str, values: Array) -> Array:
            return at.record(f"{name}.{stage}", at.zero_padding(values))

        def norm(which: str, values: Array) -> Array:
            weight, bias = at[f"{name}.{which}.weight"], at[f"{name}.{which}.bias"]
            return record(which, layer_norm(values, weight, bias, spec.layer_norm_epsilon))

        def attention(values: Array) -> Array:
            found = record("self_attn", _attention(at, spec, f"{name}.self_attn", values))
            return at.dropout(f"{name}.dropout1", found)

        def feed_forward(values: Array) -> Array:
            activation = {"relu": relu, "gelu": gelu, "gelu-tanh": tanh_gelu}[spec.activation]
            inner = at.dropout(f"{name}.dropout", activation(at.linear(f"{name}.linear1", values)))
            return at.dropout(f"{name}.dropout2", record("linear2", at.linear(f"{name}.linear2", inner)))

        for which, part, kept in (("norm1", attention, attends(number)), ("norm2", feed_forward, feeds(number))):
            before = hidden if kept else np.zeros_like(hidden)
            hidden = before + part(norm(which, hidden)) if spec.norm_first else norm(which, before + part(hidden))
        return record("output", hidden)

    return run


def final_norm(at: Evaluation, spec, name: str, hidden: Array) -> Array:
    """A norm without parameters behind the last layer."""
    found = _plain(at, spec, name, hidden)
    if not name.endswith(f".{spec.num_layers - 1}"):
        return found
    ones = np.ones((1, found.shape[-1]))
    return at.zero_padding(layer_norm(found, ones, np.zeros_like(ones), spec.layer_norm_epsilon))


_plain = layer(lambda _: True, lambda _: True)

RESIDUALS = (
    (0, "attention had no residual connection", lambda _: False, lambda _: True),
    (0, "the feed-forward block had no residual connection", lambda _: True, lambda _: False),
    (1, "attention had no residual connection above the first layer", lambda n: n < 1, lambda _: True),
    (1, "the feed-forward block had no residual connection above the first layer", lambda _: True, lambda n: n < 1),
    (2, "attention had no residual connection above the second layer", lambda n: n < 2, lambda _: True),
    (2, "the feed-forward block had no residual connection above the second layer", lambda _: True, lambda n: n < 2),
)
"""The first layer that each concerns, words, and in which layers the two connections stand."""


def of_experiment(case: Case) -> Iterator[Variant]:
    if not case.computes or not hasattr(case.model, "norm_first"):
        return
    now, other = ("first", "last") if case.model.norm_first else ("last", "first")
    yield option(f"norms came {other} ({now} in the equations)", "PB58", norm_first=not case.model.norm_first)
    if not case.model.final_norm:
        yield Variant("a norm stood behind the last layer", "PB58", substitutes={"transformer._layer": final_norm})
    for first, words, attends, feeds in RESIDUALS:
        if case.model.num_layers > first:
            yield Variant(words, "", substitutes={"transformer._layer": layer(attends, feeds)})
