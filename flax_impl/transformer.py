"""The Transformer's encoder, the counterpart of `torch.nn.TransformerEncoder`. See spec.models.transformer."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from flax_impl.attention import attend, merge_heads, split_heads
from flax_impl.dropout import Dropout
from flax_impl.linear import RowLinear
from flax_impl.model import ArrayBatch, Model, valid_steps, zero_padding
from spec.models.transformer import TransformerEncoder as Spec
from spec.parameters import self_attention


class TransformerEncoder(Model):
    """A linear embedding, positions, encoder layers, and a linear head. See spec.models.TransformerEncoder."""

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs):
        super().__init__(spec, rngs=rngs)
        self.input = RowLinear(spec.inputs.size, spec.hidden_size, rngs=rngs)
        self.position_base = spec.position_base if spec.positions == "sinusoidal" else None
        self.encoder = Encoder(spec, rngs=rngs)
        self.head = RowLinear(spec.hidden_size, spec.classes, rngs=rngs)

    def forward(self, batch: ArrayBatch) -> Float[Array, "batch time classes"]:
        valid = valid_steps(batch)
        hidden = self.input(self.embed(batch, valid))
        self.record("input", zero_padding(hidden, valid))
        if self.position_base is not None:
            hidden = hidden + sinusoids(*hidden.shape[1:], self.position_base, hidden.dtype)
        self.record("positions", zero_padding(hidden, valid))
        hidden, trace = self.encoder(hidden, valid)
        for name, value in trace.items():
            self.record(f"encoder.{name}", zero_padding(value, valid))
        logits = zero_padding(self.head(hidden), valid)
        self.record("logits", logits)
        return logits


class Encoder(nnx.Module):
    """Layers one after the other."""

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs):
        self.layers = nnx.List([EncoderLayer(spec, rngs=rngs) for _ in range(spec.num_layers)])

    def __call__(
        self, hidden: Float[Array, "batch time hidden"], valid: Bool[Array, "batch time"] | None
    ) -> tuple[Float[Array, "batch time hidden"], dict[str, Array]]:
        """The last layer's output, and every layer's stages by name."""
        trace = {}
        for index, layer in enumerate(self.layers):
            hidden, stages = layer(hidden, valid)
            trace |= {f"layers.{index}.{name}": value for name, value in stages.items()}
        return hidden, trace


class EncoderLayer(nnx.Module):
    """Attention, then a feed-forward block, each with a residual connection and a norm."""

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs):
        self.norm_first = spec.norm_first
        self.self_attn = PackedSelfAttention(spec.hidden_size, spec.heads, spec.attention_dropout, rngs=rngs)
        self.linear1 = RowLinear(spec.hidden_size, spec.feed_forward_size, rngs=rngs)
        self.linear2 = RowLinear(spec.feed_forward_size, spec.hidden_size, rngs=rngs)
        # The fast variance, E[x^2] - E[x]^2, loses digits where the mean is large.
        norm = partial(nnx.LayerNorm, spec.hidden_size, epsilon=spec.layer_norm_epsilon, use_fast_variance=False)
        self.norm1, self.norm2 = norm(rngs=rngs), norm(rngs=rngs)
        self.dropout, self.dropout1, self.dropout2 = (Dropout(spec.dropout) for _ in range(3))
        gelu = partial(jax.nn.gelu, approximate=False)
        self.activation = {"relu": jax.nn.relu, "gelu": gelu}[spec.activation]

    def __call__(
        self, hidden: Float[Array, "batch time hidden"], valid: Bool[Array, "batch time"] | None
    ) -> tuple[Float[Array, "batch time hidden"], dict[str, Array]]:
        stages = {}
        if self.norm_first:
            stages["norm1"] = self.norm1(hidden)
            stages["self_attn"] = self.self_attn(stages["norm1"], valid)
            hidden = hidden + self.dropout1(stages["self_attn"])
            stages["norm2"] = self.norm2(hidden)
            stages["linear2"] = self.feed_forward(stages["norm2"])
            hidden = hidden + self.dropout2(stages["linear2"])
        else:
            stages["self_attn"] = self.self_attn(hidden, valid)
            hidden = stages["norm1"] = self.norm1(hidden + self.dropout1(stages["self_attn"]))
            stages["linear2"] = self.feed_forward(hidden)
            hidden = stages["norm2"] = self.norm2(hidden + self.dropout2(stages["linear2"]))
        stages["output"] = hidden
        return hidden, stages

    def feed_forward(self, hidden: Float[Array, "batch time hidden"]) -> Float[Array, "batch time hidden"]:
        return self.linear2(self.dropout(self.activation(self.linear1(hidden))))


class PackedSelfAttention(nnx.Module):
    """Multi-head self-attention with queries, keys and values in one matrix, as `torch.nn.MultiheadAttention`.

    `nnx.MultiHeadAttention` keeps its softmax in float32 for float64 inputs.
    """

    def __init__(self, hidden_size: int, heads: int, dropout: float, *, rngs: nnx.Rngs):
        self.heads = heads
        laws = [parameter.law for parameter in self_attention("", hidden_size)]
        self.in_proj = RowLinear(hidden_size, 3 * hidden_size, laws=laws[:2], rngs=rngs)
        self.out_proj = RowLinear(hidden_size, hidden_size, laws=laws[2:], rngs=rngs)
        self.dropout = Dropout(dropout)

    def __call__(
        self, hidden: Float[Array, "batch time hidden"], valid: Bool[Array, "batch time"] | None
    ) -> Float[Array, "batch time hidden"]:
        projected = jnp.split(self.in_proj(hidden), 3, -1)
        query, key, value = (split_heads(projection, self.heads) for projection in projected)
        by_head = valid[:, None] if valid is not None else None
        context, _ = attend(query, key, value, math.sqrt(query.shape[-1]), by_head, self.dropout)
        return self.out_proj(merge_heads(context))


def sinusoids(time: int, hidden: int, base: float, dtype: jnp.dtype) -> Float[Array, "time hidden"]:
    """Sine and cosine of each step's position, interleaved; computed in float64, then cast."""
    # NumPy, since JAX has no float64 unless it is switched on; these are constants of the compiled program.
    positions = np.arange(time, dtype=np.float64)[:, None]
    exponents = np.arange(0, hidden, 2, dtype=np.float64) / hidden
    angles = positions / base**exponents
    return jnp.asarray(np.stack([np.sin(angles), np.cos(angles)], -1).reshape(time, hidden), dtype)
