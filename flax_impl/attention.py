"""Attention. See spec.models.attention."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from flax_impl import SIZES
from flax_impl.linear import RowLinear
from flax_impl.lstm import LSTMCell
from flax_impl.mixed_precision import Matmul, products
from flax_impl.model import ArrayBatch, Model, one_hot, valid_steps, zero_padding
from flax_impl.recurrent import Layers, initial_state, record_final
from spec.models.attention import LSTMAttention as LSTMAttentionSpec
from spec.models.attention import MultiHeadAttention as MultiHeadAttentionSpec
from spec.models.attention import SelfAttention as SelfAttentionSpec
from spec.models.base import ATTENTION

(MANY,) = SIZES[ATTENTION]
"""Weights from which on they are not kept for the backward pass: they leave the caches, and fill the memory."""

BLOCK = 128
"""Queries at a time."""


class LSTMAttention(Model):
    """An LSTM whose every state looks at all of its states. See spec.models.LSTMAttention."""

    def __init__(self, spec: LSTMAttentionSpec, *, rngs: nnx.Rngs):
        super().__init__(spec, rngs=rngs)
        dot_general, self.matmul = products(spec)
        options: Any = {"dot_general": dot_general, "rngs": rngs}
        self.rnn = Layers(LSTMCell, spec.inputs.size, spec.hidden_size, **options)
        self.attention = RowLinear(spec.hidden_size, spec.hidden_size, use_bias=False, **options)
        self.head = RowLinear(2 * spec.hidden_size, spec.classes, **options)

    def forward(self, batch: ArrayBatch) -> Float[Array, "batch time classes"]:
        valid = valid_steps(batch)
        inputs = self.embed(batch, valid)
        states, final, trace = self.rnn(inputs, valid, initial_state(batch, "rnn"))
        for name, value in trace.items():
            self.record(f"rnn.{name}", value)
        record_final(self, "rnn", final)
        context, weights = attend(states, self.attention(states), states, 1.0, valid, matmul=self.matmul)
        self.record("attention.weights", zero_padding(weights, valid))
        self.record("attention.context", zero_padding(context, valid))
        logits = zero_padding(self.head(jnp.concatenate([context, states], -1)), valid)
        self.record("logits", logits)
        return logits


class SelfAttention(Model):
    """Scaled dot-product attention of a sequence to itself. See spec.models.SelfAttention."""

    def __init__(self, spec: SelfAttentionSpec, heads: int = 1, *, rngs: nnx.Rngs):
        super().__init__(spec, rngs=rngs)
        self.width = spec.hidden_size
        self.max_length = spec.max_length
        projected = heads * spec.hidden_size
        dot_general, self.matmul = products(spec)
        options: Any = {"dot_general": dot_general, "rngs": rngs}
        self.query = RowLinear(spec.input_size, projected, **options)
        self.key = RowLinear(spec.input_size, projected, **options)
        self.value = RowLinear(spec.input_size, projected, **options)
        self.head = RowLinear(spec.hidden_size, spec.classes, **options)

    def forward(self, batch: ArrayBatch) -> Float[Array, "batch time classes"]:
        valid = valid_steps(batch)
        inputs = self.embed(batch, valid)
        if self.max_length is not None:
            times = jnp.broadcast_to(jnp.arange(inputs.shape[1]), inputs.shape[:2])
            inputs = jnp.concatenate([inputs, one_hot(times, self.max_length, inputs)], -1)
        query, key, value = self.query(inputs), self.key(inputs), self.value(inputs)
        for name, projection in (("query", query), ("key", key), ("value", value)):
            self.record(name, zero_padding(projection, valid))
        output = self.mix(query, key, value, valid)
        logits = zero_padding(self.head(output), valid)
        self.record("logits", logits)
        return logits

    def mix(
        self, query: Array, key: Array, value: Array, valid: Bool[Array, "batch time"] | None
    ) -> Float[Array, "batch time hidden"]:
        """What each step takes from the others."""
        context, weights = attend(query, key, value, math.sqrt(self.width), valid, matmul=self.matmul)
        self.record("attention.weights", zero_padding(weights, valid))
        self.record("attention.context", zero_padding(context, valid))
        return context


class MultiHeadAttention(SelfAttention):
    """Several self-attentions side by side. See spec.models.MultiHeadAttention."""

    def __init__(self, spec: MultiHeadAttentionSpec, *, rngs: nnx.Rngs):
        super().__init__(spec, spec.heads, rngs=rngs)
        self.heads = spec.heads
        self.output = RowLinear(
            spec.heads * spec.hidden_size, spec.hidden_size, dot_general=products(spec).dot_general, rngs=rngs
        )

    def mix(
        self, query: Array, key: Array, value: Array, valid: Bool[Array, "batch time"] | None
    ) -> Float[Array, "batch time hidden"]:
        query, key, value = (split_heads(projection, self.heads) for projection in (query, key, value))
        by_head = valid[:, None] if valid is not None else None
        context, weights = attend(query, key, value, math.sqrt(self.width), by_head, matmul=self.matmul)
        context = merge_heads(context)
        self.record("attention.weights", zero_padding(weights.swapaxes(1, 2), valid))
        self.record("attention.context", zero_padding(context, valid))
        output = self.output(context)
        self.record("output", zero_padding(output, valid))
        return output


def attend(
    query: Float[Array, "*batch time width"],
    key: Float[Array, "*batch source width"],
    value: Float[Array, "*batch source features"],
    scale: float,
    valid: Bool[Array, "*#batch source"] | None = None,
    dropout: nnx.Dropout | None = None,
    causal: bool = False,
    matmul: Matmul = jnp.matmul,
) -> tuple[Float[Array, "*batch time features"], Float[Array, "*batch time source"]]:
    """Context and weights: softmax over the valid source steps of query . key / scale. No valid step, no weight.

    causal: of these, only the steps up to the query's own. Where there are many weights, the context comes from BLOCK
    queries after the other. The weights that are returned are then a computation of their own, which the compiler drops
    where nobody reads them.
    """
    first = 0 if causal else None
    context, weights = _written_out(matmul, query, key, value, scale, valid, first, dropout)
    if weights.size >= MANY and not _drops(dropout):
        # One head at a time stays in a core's caches; other platforms need many heads at once to be busy.
        by_head, in_blocks = (partial(function, matmul, scale, causal) for function in (_by_head, _in_blocks))
        context = jax.lax.platform_dependent(query, key, value, valid, cpu=by_head, default=in_blocks)
    return context, weights


def split_heads(projection: Float[Array, "batch time features"], heads: int) -> Float[Array, "batch heads time width"]:
    """Head j owns the j-th block of features."""
    batch, time, features = projection.shape
    return projection.reshape(batch, time, heads, features // heads).swapaxes(1, 2)


def merge_heads(context: Float[Array, "batch heads time width"]) -> Float[Array, "batch time features"]:
    """The opposite of split_heads."""
    batch, heads, time, width = context.shape
    return context.swapaxes(1, 2).reshape(batch, time, heads * width)


def _written_out(
    matmul: Matmul,
    query: Float[Array, "*batch time width"],
    key: Float[Array, "*batch source width"],
    value: Float[Array, "*batch source features"],
    scale: float,
    valid: Bool[Array, "*#batch source"] | None,
    first: Array | int | None = None,
    dropout: nnx.Dropout | None = None,
) -> tuple[Float[Array, "*batch time features"], Float[Array, "*batch time source"]]:
    """The equations of `attend`. first: at which step the queries begin, where they look at no later one."""
    scores = matmul(query, key.swapaxes(-1, -2)) / scale
    kept = None if valid is None else valid[..., None, :]
    if first is not None:
        now = first + jnp.arange(query.shape[-2])
        before = jnp.arange(key.shape[-2]) <= now[:, None]
        kept = before if kept is None else kept & before
    if kept is None:
        weights = jax.nn.softmax(scores, -1)
    else:
        # The lowest finite number, since a row of nothing but -inf would be NaN, also in its gradient.
        scores = jnp.where(kept, scores, jnp.finfo(scores.dtype).min)
        weights = jax.nn.softmax(scores, -1) * kept
    if dropout is not None:
        weights = dropout(weights)
    return matmul(weights, value), weights


def _in_blocks(
    matmul: Matmul,
    scale: float,
    causal: bool,
    query: Float[Array, "*batch time width"],
    key: Float[Array, "*batch source width"],
    value: Float[Array, "*batch source features"],
    valid: Bool[Array, "*#batch source"] | None,
) -> Float[Array, "*batch time features"]:
    """The context of `attend`, some queries at a time, whose weights the backward pass computes again."""
    *batch, time, width = query.shape
    size = min(time, BLOCK)
    blocks = -(-time // size)
    filled = jnp.pad(query, [(0, 0)] * len(batch) + [(0, blocks * size - time), (0, 0)])
    queries = jnp.moveaxis(filled.reshape(*batch, blocks, size, width), -3, 0)

    def context(
        block: Float[Array, "*batch size width"], first: Int[Array, ""]
    ) -> Float[Array, "*batch size features"]:
        return _written_out(matmul, block, key, value, scale, valid, first if causal else None)[0]

    # A loop keeps its passes apart by itself, so the compiler need not be kept from merging them.
    block_context = jax.checkpoint(context, prevent_cse=False)
    contexts = jax.lax.map(lambda block: block_context(*block), (queries, jnp.arange(blocks) * size))
    return jnp.moveaxis(contexts, 0, -3).reshape(*batch, blocks * size, -1)[..., :time, :]


def _by_head(
    matmul: Matmul,
    scale: float,
    causal: bool,
    query: Float[Array, "*batch time width"],
    key: Float[Array, "*batch source width"],
    value: Float[Array, "*batch source features"],
    valid: Bool[Array, "*#batch source"] | None,
) -> Float[Array, "*batch time features"]:
    """`_in_blocks` for one sequence and head after the other."""
    *batch, time, _ = query.shape
    if valid is not None:
        valid = jnp.broadcast_to(valid, (*batch, valid.shape[-1]))
    rows = jax.tree.map(lambda array: array.reshape(-1, *array.shape[len(batch) :]), (query, key, value, valid))
    contexts = jax.lax.map(lambda row: _in_blocks(matmul, scale, causal, *row), rows)
    return contexts.reshape(*batch, time, -1)


def _drops(dropout: nnx.Dropout | None) -> bool:
    """Whether any weight is dropped."""
    return dropout is not None and not dropout.deterministic and dropout.rate > 0
