"""Attention. See spec.models.attention."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from spec.models.attention import LSTMAttention as LSTMAttentionSpec
from spec.models.attention import MultiHeadAttention as MultiHeadAttentionSpec
from spec.models.attention import SelfAttention as SelfAttentionSpec
from spec.models.base import ATTENTION
from torch_impl import SIZES, mixed_precision
from torch_impl.model import Model, TensorBatch, one_hot, valid_steps, zero_padding
from torch_impl.recurrent import initial_state, record_final, run, unroll

(MANY,) = SIZES[ATTENTION]
"""Weights from which on a fused kernel saves time enough.

Its backward pass makes weights anew as exp(score - log sum exp): with large scores they do not add up to one, which
crosscheck sees in float32.
"""


class LSTMAttention(Model):
    """An LSTM whose every state looks at all of its states. See spec.models.LSTMAttention."""

    def __init__(self, spec: LSTMAttentionSpec):
        super().__init__(spec)
        self.rnn = nn.LSTM(spec.inputs.size, spec.hidden_size, batch_first=True)
        self.attention = nn.Linear(spec.hidden_size, spec.hidden_size, bias=False)
        self.head = nn.Linear(2 * spec.hidden_size, spec.classes)

    def forward(self, batch: TensorBatch) -> Float[Tensor, "batch time classes"]:
        valid = valid_steps(batch)
        inputs = self.embed(batch, valid)
        initial = initial_state(batch, "rnn")
        states, final = run(self.rnn, inputs, batch.lengths, initial)
        if self.intermediates is not None:
            for name, value in unroll(self.rnn, inputs, valid, initial)[2].items():
                self.record(f"rnn.{name}", value)
        record_final(self, "rnn", final)
        context, weights = attend(states, self.attention(states), states, 1.0, valid, self.recording)
        if weights is not None:
            self.record("attention.weights", zero_padding(weights, valid))
        self.record("attention.context", zero_padding(context, valid))
        logits = zero_padding(self.head(torch.cat([context, states], -1)), valid)
        self.record("logits", logits)
        return logits


class SelfAttention(Model):
    """Scaled dot-product attention of a sequence to itself. See spec.models.SelfAttention."""

    def __init__(self, spec: SelfAttentionSpec, heads: int = 1):
        super().__init__(spec)
        self.width = spec.hidden_size
        self.max_length = spec.max_length
        projected = heads * spec.hidden_size
        self.query = nn.Linear(spec.input_size, projected)
        self.key = nn.Linear(spec.input_size, projected)
        self.value = nn.Linear(spec.input_size, projected)
        self.head = nn.Linear(spec.hidden_size, spec.classes)

    def forward(self, batch: TensorBatch) -> Float[Tensor, "batch time classes"]:
        valid = valid_steps(batch)
        inputs = self.embed(batch, valid)
        if self.max_length is not None:
            times = torch.arange(inputs.shape[1], device=inputs.device).expand(inputs.shape[:2])
            inputs = torch.cat([inputs, one_hot(times, self.max_length, inputs)], -1)
        query, key, value = self.query(inputs), self.key(inputs), self.value(inputs)
        for name, projection in (("query", query), ("key", key), ("value", value)):
            self.record(name, zero_padding(projection, valid))
        output = self.mix(query, key, value, valid)
        logits = zero_padding(self.head(output), valid)
        self.record("logits", logits)
        return logits

    def mix(
        self, query: Tensor, key: Tensor, value: Tensor, valid: Bool[Tensor, "batch time"] | None
    ) -> Float[Tensor, "batch time hidden"]:
        """What each step takes from the others."""
        context, weights = attend(query, key, value, math.sqrt(self.width), valid, self.recording)
        if weights is not None:
            self.record("attention.weights", zero_padding(weights, valid))
        self.record("attention.context", zero_padding(context, valid))
        return context


class MultiHeadAttention(SelfAttention):
    """Several self-attentions side by side. See spec.models.MultiHeadAttention."""

    def __init__(self, spec: MultiHeadAttentionSpec):
        super().__init__(spec, spec.heads)
        self.heads = spec.heads
        self.output = nn.Linear(spec.heads * spec.hidden_size, spec.hidden_size)

    def mix(
        self, query: Tensor, key: Tensor, value: Tensor, valid: Bool[Tensor, "batch time"] | None
    ) -> Float[Tensor, "batch time hidden"]:
        query, key, value = (split_heads(projection, self.heads) for projection in (query, key, value))
        by_head = valid[:, None] if valid is not None else None
        context, weights = attend(query, key, value, math.sqrt(self.width), by_head, self.recording)
        context = merge_heads(context)
        if weights is not None:
            self.record("attention.weights", zero_padding(weights.transpose(1, 2), valid))
        self.record("attention.context", zero_padding(context, valid))
        output = self.output(context)
        self.record("output", zero_padding(output, valid))
        return output


def attend(
    query: Float[Tensor, "*batch time width"],
    key: Float[Tensor, "*batch source width"],
    value: Float[Tensor, "*batch source features"],
    scale: float,
    valid: Bool[Tensor, "*#batch source"] | None = None,
    recording: bool = False,
) -> tuple[Float[Tensor, "*batch time features"], Float[Tensor, "*batch time source"] | None]:
    """Context and weights: softmax over the valid source steps of query . key / scale. No valid step, no weight.

    Where there are many weights and nobody records them, a fused kernel computes the context alone.
    """
    if not recording and query.shape[:-1].numel() * key.shape[-2] >= MANY:
        return _fused(query, key, value, scale, valid), None
    scores = query @ key.transpose(-1, -2) / scale
    if valid is None:
        weights = torch.softmax(scores, -1)
    else:
        kept = valid[..., None, :]
        # The lowest finite number, since a row of nothing but -inf would be NaN, also in its gradient.
        scores = scores.masked_fill(~kept, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, -1) * kept
    return weights @ value, weights


def split_heads(
    projection: Float[Tensor, "batch time features"], heads: int
) -> Float[Tensor, "batch heads time width"]:
    """Head j owns the j-th block of features."""
    return projection.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(context: Float[Tensor, "batch heads time width"]) -> Float[Tensor, "batch time features"]:
    """The opposite of split_heads."""
    return context.transpose(1, 2).flatten(2)


def _fused(
    query: Float[Tensor, "*batch time width"],
    key: Float[Tensor, "*batch source width"],
    value: Float[Tensor, "*batch source features"],
    scale: float,
    valid: Bool[Tensor, "*#batch source"] | None,
) -> Float[Tensor, "*batch time features"]:
    """The context of `attend`."""
    if query.ndim == 3:
        # Without an axis of heads, torch takes none of its fused kernels.
        query, key, value = query[:, None], key[:, None], value[:, None]
        return _fused(query, key, value, scale, None if valid is None else valid[:, None])[:, 0]
    mask = some = None
    if valid is not None:
        kept = valid[..., None, :]
        # Not every kernel promises zeros for a row of nothing but masked steps: it attends to all, and counts as zero.
        some = kept.any(-1, keepdim=True)
        mask = kept | ~some
    stock = nn.functional.scaled_dot_product_attention
    attention = mixed_precision.attention if mixed_precision.active() else stock
    context = attention(query, key, value, mask, scale=1 / scale)
    return context if some is None else context * some
