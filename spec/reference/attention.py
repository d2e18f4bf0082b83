"""Attention. See spec.models.attention."""

import math

import numpy as np

from spec.models.attention import LSTMAttention as LSTMAttentionSpec
from spec.models.attention import MultiHeadAttention as MultiHeadAttentionSpec
from spec.models.attention import SelfAttention as SelfAttentionSpec
from spec.reference import lstm, recurrent
from spec.reference.arithmetic import Array, one_hot, softmax
from spec.reference.model import Evaluation


def LSTMAttention(at: Evaluation, spec: LSTMAttentionSpec) -> Array:  # noqa: N802
    """See spec.models.LSTMAttention."""
    del spec
    (hidden, _), last = recurrent.run(
        at, lstm.step, ("rnn.", "_l0"), at.inputs(), at.valid, ("h", "c"), at.initial("rnn", 0)
    )
    at.record("rnn.h_n", last[0][:, None])
    at.record("rnn.c_n", last[1][:, None])
    scores = at.product(hidden, at.affine(hidden, at["attention.weight"]).swapaxes(-1, -2))
    weights = softmax(scores, at.valid[:, None])
    weights = at.record("attention.weights", at.zero_padding(weights))
    context = at.record("attention.context", at.zero_padding(at.product(weights, hidden)))
    return at.record("logits", at.zero_padding(at.linear("head", np.concatenate([context, hidden], axis=-1))))


def SelfAttention(at: Evaluation, spec: SelfAttentionSpec) -> Array:  # noqa: N802
    """See spec.models.SelfAttention."""
    return at.record("logits", at.zero_padding(at.linear("head", _heads(at, spec, 1))))


def MultiHeadAttention(at: Evaluation, spec: MultiHeadAttentionSpec) -> Array:  # noqa: N802
    """See spec.models.MultiHeadAttention."""
    output = at.record("output", at.zero_padding(at.linear("output", _heads(at, spec, spec.heads))))
    return at.record("logits", at.zero_padding(at.linear("head", output)))


def _heads(at: Evaluation, spec: SelfAttentionSpec, count: int) -> Array:
    """The heads' contexts, side by side."""
    inputs = at.inputs()
    if spec.max_length is not None:
        times = one_hot(np.broadcast_to(np.arange(inputs.shape[2]), inputs.shape[:3]), spec.max_length)
        inputs = np.concatenate([inputs, times], axis=-1)
    names = ("query", "key", "value")
    projections = [at.record(name, at.zero_padding(at.linear(name, inputs))) for name in names]
    query, key, value = (np.split(projection, count, axis=-1) for projection in projections)
    weights = [
        softmax(at.product(q, k.swapaxes(-1, -2)) / math.sqrt(spec.hidden_size), at.valid[:, None])
        for q, k in zip(query, key, strict=True)
    ]
    single = type(spec) is SelfAttentionSpec
    recorded = at.record("attention.weights", at.zero_padding(weights[0] if single else np.stack(weights, axis=3)))
    weights = [recorded if single else recorded[:, :, :, head] for head in range(count)]
    contexts = np.concatenate([at.product(w, v) for w, v in zip(weights, value, strict=True)], axis=-1)
    return at.record("attention.context", at.zero_padding(contexts))
