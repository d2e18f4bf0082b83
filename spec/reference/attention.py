"""Attention. See spec.models.attention."""

import math

import numpy as np

from spec.models.attention import LSTMAttention as LSTMAttentionSpec
from spec.models.attention import MultiHeadAttention as MultiHeadAttentionSpec
from spec.models.attention import SelfAttention as SelfAttentionSpec
from spec.reference import lstm, recurrent
from spec.reference.arithmetic import Array, linear, one_hot, softmax
from spec.reference.model import Evaluation


def LSTMAttention(at: Evaluation, spec: LSTMAttentionSpec) -> Array:  # noqa: N802
    """See spec.models.LSTMAttention."""
    del spec
    (hidden, cell), last = recurrent.run(
        at, lstm.step, ("rnn.", "_l0"), at.inputs(), at.valid, ("h", "c"), at.initial("rnn", 0)
    )
    at.record("rnn.h_l0", hidden)
    at.record("rnn.c_l0", cell)
    at.record("rnn.h_n", last[0][:, None])
    at.record("rnn.c_n", last[1][:, None])
    weights = softmax(hidden @ linear(hidden, at["attention.weight"]).swapaxes(-1, -2), at.valid[:, None])
    at.record("attention.weights", at.zero_padding(weights))
    context = at.record("attention.context", at.zero_padding(weights @ hidden))
    return at.record("logits", at.zero_padding(at.linear("head", np.concatenate([context, hidden], axis=-1))))


def SelfAttention(at: Evaluation, spec: SelfAttentionSpec) -> Array:  # noqa: N802
    """See spec.models.SelfAttention."""
    (context,) = _heads(at, spec, 1)
    return at.record("logits", at.zero_padding(at.linear("head", context)))


def MultiHeadAttention(at: Evaluation, spec: MultiHeadAttentionSpec) -> Array:  # noqa: N802
    """See spec.models.MultiHeadAttention."""
    context = np.concatenate(_heads(at, spec, spec.heads), axis=-1)
    output = at.linear("output", context)
    at.record("output", at.zero_padding(output))
    return at.record("logits", at.zero_padding(at.linear("head", output)))


def _heads(at: Evaluation, spec: SelfAttentionSpec, count: int) -> list[Array]:
    """Each head's context."""
    inputs = at.inputs()
    if spec.max_length is not None:
        times = one_hot(np.broadcast_to(np.arange(inputs.shape[2]), inputs.shape[:3]), spec.max_length)
        inputs = np.concatenate([inputs, times], axis=-1)
    projections = [at.linear(name, inputs) for name in ("query", "key", "value")]
    for name, projection in zip(("query", "key", "value"), projections, strict=True):
        at.record(name, at.zero_padding(projection))
    query, key, value = (np.split(projection, count, axis=-1) for projection in projections)
    weights = [
        softmax(q @ k.swapaxes(-1, -2) / math.sqrt(spec.hidden_size), at.valid[:, None])
        for q, k in zip(query, key, strict=True)
    ]
    contexts = [w @ v for w, v in zip(weights, value, strict=True)]
    at.record(
        "attention.weights",
        at.zero_padding(weights[0] if type(spec) is SelfAttentionSpec else np.stack(weights, axis=3)),
    )
    at.record("attention.context", at.zero_padding(np.concatenate(contexts, axis=-1)))
    return contexts
