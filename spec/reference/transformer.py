"""The Transformer's encoder. See spec.models.transformer."""

import math

import numpy as np

from spec.models.transformer import TransformerEncoder as Spec
from spec.reference.arithmetic import Array, gelu, layer_norm, relu, softmax, tanh_gelu
from spec.reference.model import Evaluation


def TransformerEncoder(at: Evaluation, spec: Spec) -> Array:  # noqa: N802
    """See spec.models.TransformerEncoder."""
    hidden = at.record("input", at.zero_padding(at.linear("input", at.inputs())))
    if spec.positions == "sinusoidal":
        hidden = hidden + positions(hidden.shape[2], spec.hidden_size, spec.position_base)
    if spec.positions == "learned":
        hidden = hidden + at["positions.weight"][:, None, : hidden.shape[2]]
    hidden = at.record("positions", at.zero_padding(hidden))
    for layer in range(spec.num_layers):
        hidden = _layer(at, spec, f"encoder.layers.{layer}", hidden)
    if spec.final_norm:
        norm = layer_norm(hidden, at["encoder.norm.weight"], at["encoder.norm.bias"], spec.layer_norm_epsilon)
        hidden = at.record("encoder.norm", at.zero_padding(norm))
    return at.record("logits", at.zero_padding(at.linear("head", hidden)))


def positions(time: int, hidden: int, base: float) -> Array:
    """p_t, (time, hidden)."""
    table = np.zeros((time, hidden))
    for t in range(time):
        for i in range(0, hidden, 2):
            angle = t / base ** (i / hidden)
            table[t, i], table[t, i + 1] = math.sin(angle), math.cos(angle)
    return table


def _layer(at: Evaluation, spec: Spec, name: str, hidden: Array) -> Array:
    def norm(which: str, values: Array) -> Array:
        weight, bias = at[f"{name}.{which}.weight"], at[f"{name}.{which}.bias"]
        return record(which, layer_norm(values, weight, bias, spec.layer_norm_epsilon))

    def record(stage: str, values: Array) -> Array:
        return at.record(f"{name}.{stage}", at.zero_padding(values))

    def attention(values: Array) -> Array:
        return at.dropout(f"{name}.dropout1", record("self_attn", _attention(at, spec, f"{name}.self_attn", values)))

    def feed_forward(values: Array) -> Array:
        activation = {"relu": relu, "gelu": gelu, "gelu-tanh": tanh_gelu}[spec.activation]
        inner = at.dropout(f"{name}.dropout", activation(at.linear(f"{name}.linear1", values)))
        return at.dropout(f"{name}.dropout2", record("linear2", at.linear(f"{name}.linear2", inner)))

    if spec.norm_first:
        hidden = hidden + attention(norm("norm1", hidden))
        hidden = hidden + feed_forward(norm("norm2", hidden))
    else:
        hidden = norm("norm1", hidden + attention(hidden))
        hidden = norm("norm2", hidden + feed_forward(hidden))
    return record("output", hidden)


def _attention(at: Evaluation, spec: Spec, name: str, hidden: Array) -> Array:
    projected = at.affine(hidden, at[f"{name}.in_proj_weight"], at[f"{name}.in_proj_bias"])
    query, key, value = np.split(projected, 3, axis=-1)
    width = spec.hidden_size // spec.heads
    keep = at.valid[:, None]
    if spec.causal:
        keep = keep & np.tril(np.ones((hidden.shape[2], hidden.shape[2]), bool))
    contexts = []
    for head in range(spec.heads):
        own = slice(head * width, (head + 1) * width)
        scores = at.product(query[..., own], key[..., own].swapaxes(-1, -2)) / math.sqrt(width)
        weights = softmax(scores, keep)
        if f"{name}.dropout" in at.masks:
            weights = weights * at.masks[f"{name}.dropout"][:, head]
        contexts.append(at.product(weights, value[..., own]))
    return at.linear(f"{name}.out_proj", np.concatenate(contexts, axis=-1))
