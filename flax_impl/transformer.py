"""The Transformer's encoder, the counterpart of `torch.nn.TransformerEncoder`. See spec.models.transformer."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from flax_impl.attention import attend, merge_heads, split_heads
from flax_impl.dropout import Dropout
from flax_impl.linear import RowLinear
from flax_impl.mixed_precision import Products, products
from flax_impl.model import ArrayBatch, Embedding, Model, valid_steps, zero_padding
from spec.models import Embedding as EmbeddingSpec
from spec.models.transformer import TransformerEncoder as Spec
from spec.parameters import self_attention

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu-tanh": partial(jax.nn.gelu, approximate=True),
}

FEWEST = 256
"""Steps that there is room for at least, where the model has no limit; from there on a power of two, so that there are
few sizes to compile for."""


class Cache(NamedTuple):
    """What a causal model keeps of the steps that it has read, of each layer (batch, heads, steps, width), and how many
    there were."""

    keys: tuple[Array, ...]
    values: tuple[Array, ...]
    read: Array


class TransformerEncoder(Model):
    """A linear embedding, positions, encoder layers, and a linear head. See spec.models.TransformerEncoder."""

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs):
        super().__init__(spec, rngs=rngs)
        options: Any = {"dot_general": products(spec).dot_general, "rngs": rngs}
        self.input = RowLinear(spec.inputs.size, spec.hidden_size, **options)
        self.position_base = spec.position_base if spec.positions == "sinusoidal" else None
        learned = EmbeddingSpec(spec.max_length, spec.hidden_size) if spec.max_length is not None else None
        self.positions = Embedding(learned, rngs=rngs) if learned else None
        self.room, self.heads = spec.max_length, spec.heads
        self.encoder = Encoder(spec, rngs=rngs)
        self.head = RowLinear(spec.hidden_size, spec.classes, **options)

    def forward(self, batch: ArrayBatch) -> Float[Array, "batch time classes"]:
        valid = valid_steps(batch)
        hidden = self.input(self.embed(batch, valid))
        self.record("input", zero_padding(hidden, valid))
        if self.position_base is not None:
            hidden = hidden + sinusoids(*hidden.shape[1:], self.position_base, hidden.dtype)
        if self.positions is not None:
            hidden = hidden + self.positions.embedding[...][: hidden.shape[1]]
        self.record("positions", zero_padding(hidden, valid))
        hidden, trace = self.encoder(hidden, valid)
        for name, value in trace.items():
            self.record(f"encoder.{name}", zero_padding(value, valid))
        logits = zero_padding(self.head(hidden), valid)
        self.record("logits", logits)
        return logits

    def begin(self, batch: int, steps: int) -> Cache:
        room, layers = self.room or max(FEWEST, 1 << (steps - 1).bit_length()), len(self.encoder.layers)
        shape = (batch, self.heads, room, self.input.out_features // self.heads)
        zeros = jnp.zeros(shape, self.input.kernel.dtype)
        return Cache((zeros,) * layers, (zeros,) * layers, jnp.zeros((), np.int32))

    def step(self, symbols: Int[Array, " batch"], state: Cache) -> tuple[Float[Array, "batch classes"], Cache]:
        hidden = self.input(self.read(symbols))[:, None]
        if self.position_base is not None:
            table = sinusoids(state.keys[0].shape[2], hidden.shape[-1], self.position_base, hidden.dtype)
            hidden = hidden + table[state.read]
        if self.positions is not None:
            hidden = hidden + self.positions.embedding[...][state.read]
        hidden, state = self.encoder.step(hidden, state)
        return self.head(hidden[:, 0]), state


class Encoder(nnx.Module):
    """Layers one after the other."""

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs):
        self.layers = nnx.List([EncoderLayer(spec, rngs=rngs) for _ in range(spec.num_layers)])
        # As those of the layers.
        norm = partial(nnx.LayerNorm, spec.hidden_size, epsilon=spec.layer_norm_epsilon, use_fast_variance=False)
        self.norm = norm(rngs=rngs) if spec.final_norm else None

    def __call__(
        self, hidden: Float[Array, "batch time hidden"], valid: Bool[Array, "batch time"] | None
    ) -> tuple[Float[Array, "batch time hidden"], dict[str, Array]]:
        """The last layer's output, and every layer's stages by name."""
        trace = {}
        for index, layer in enumerate(self.layers):
            hidden, stages = layer(hidden, valid)
            trace |= {f"layers.{index}.{name}": value for name, value in stages.items()}
        if self.norm is not None:
            hidden = trace["norm"] = self.norm(hidden)
        return hidden, trace

    def step(
        self, hidden: Float[Array, "batch 1 hidden"], state: Cache
    ) -> tuple[Float[Array, "batch 1 hidden"], Cache]:
        """One step of every layer, which looks at those that are kept and is kept with them."""
        keys, values, read = state
        kept = []
        for layer, layer_keys, layer_values in zip(self.layers, keys, values, strict=True):
            hidden, *new = layer.step(hidden, layer_keys, layer_values, read)
            kept.append(new)
        keys, values = (tuple(layers) for layers in zip(*kept, strict=True))
        return hidden if self.norm is None else self.norm(hidden), Cache(keys, values, read + 1)


class EncoderLayer(nnx.Module):
    """Attention, then a feed-forward block, each with a residual connection and a norm."""

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs):
        self.norm_first = spec.norm_first
        self.self_attn = PackedSelfAttention(
            spec.hidden_size,
            spec.heads,
            spec.attention_dropout,
            causal=spec.causal,
            products=products(spec),
            rngs=rngs,
        )
        options: Any = {"dot_general": products(spec).dot_general, "rngs": rngs}
        self.linear1 = RowLinear(spec.hidden_size, spec.feed_forward_size, **options)
        self.linear2 = RowLinear(spec.feed_forward_size, spec.hidden_size, **options)
        # The fast variance, E[x^2] - E[x]^2, loses digits where the mean is large.
        norm = partial(nnx.LayerNorm, spec.hidden_size, epsilon=spec.layer_norm_epsilon, use_fast_variance=False)
        self.norm1, self.norm2 = norm(rngs=rngs), norm(rngs=rngs)
        self.dropout, self.dropout1, self.dropout2 = (Dropout(spec.dropout) for _ in range(3))
        self.activation = ACTIVATIONS[spec.activation]

    def __call__(
        self, hidden: Float[Array, "batch time hidden"], valid: Bool[Array, "batch time"] | None
    ) -> tuple[Float[Array, "batch time hidden"], dict[str, Array]]:
        return self.around(lambda inputs: self.self_attn(inputs, valid), hidden)

    def step(
        self,
        hidden: Float[Array, "batch 1 hidden"],
        keys: Float[Array, "batch heads steps width"],
        values: Float[Array, "batch heads steps width"],
        read: Int[Array, ""],
    ) -> tuple[Float[Array, "batch 1 hidden"], Array, Array]:
        """One step, and the keys and values with its own."""
        kept = keys, values

        def attention(inputs: Array) -> Array:
            nonlocal kept
            output, *new = self.self_attn.step(inputs, keys, values, read)
            kept = new[0], new[1]
            return output

        hidden, _ = self.around(attention, hidden)
        return hidden, kept[0], kept[1]

    def around(
        self, attention: Callable[[Array], Array], hidden: Float[Array, "batch time hidden"]
    ) -> tuple[Float[Array, "batch time hidden"], dict[str, Array]]:
        """The layer with what it attends by, and its stages."""
        stages = {}
        if self.norm_first:
            stages["norm1"] = self.norm1(hidden)
            stages["self_attn"] = attention(stages["norm1"])
            hidden = hidden + self.dropout1(stages["self_attn"])
            stages["norm2"] = self.norm2(hidden)
            stages["linear2"] = self.feed_forward(stages["norm2"])
            hidden = hidden + self.dropout2(stages["linear2"])
        else:
            stages["self_attn"] = attention(hidden)
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

    def __init__(
        self,
        hidden_size: int,
        heads: int,
        dropout: float,
        *,
        causal: bool = False,
        products: Products = Products(),  # noqa: B008 (nobody writes into it)
        rngs: nnx.Rngs,
    ):
        self.heads, self.causal = heads, causal
        dot_general, self.matmul = products
        laws = [parameter.law for parameter in self_attention("", hidden_size)]
        self.in_proj = RowLinear(hidden_size, 3 * hidden_size, laws=laws[:2], dot_general=dot_general, rngs=rngs)
        self.out_proj = RowLinear(hidden_size, hidden_size, laws=laws[2:], dot_general=dot_general, rngs=rngs)
        self.dropout = Dropout(dropout)

    def __call__(
        self, hidden: Float[Array, "batch time hidden"], valid: Bool[Array, "batch time"] | None
    ) -> Float[Array, "batch time hidden"]:
        query, key, value = self.project(hidden)
        by_head = valid[:, None] if valid is not None else None
        scale = math.sqrt(query.shape[-1])
        context, _ = attend(query, key, value, scale, by_head, self.dropout, self.causal, self.matmul)
        return self.out_proj(merge_heads(context))

    def step(
        self,
        hidden: Float[Array, "batch 1 hidden"],
        keys: Float[Array, "batch heads steps width"],
        values: Float[Array, "batch heads steps width"],
        read: Int[Array, ""],
    ) -> tuple[Float[Array, "batch 1 hidden"], Array, Array]:
        """One step, which looks at the `read` ones before it and at itself; the keys and values with its own."""
        query, key, value = self.project(hidden)
        keys, values = (
            jax.lax.dynamic_update_slice_in_dim(kept, new, read, 2) for kept, new in ((keys, key), (values, value))
        )
        there = jnp.broadcast_to(jnp.arange(keys.shape[2]) <= read, (len(keys), 1, keys.shape[2]))
        context, _ = attend(query, keys, values, math.sqrt(query.shape[-1]), there, matmul=self.matmul)
        return self.out_proj(merge_heads(context)), keys, values

    def project(self, hidden: Float[Array, "batch time hidden"]) -> list[Float[Array, "batch heads time width"]]:
        """Queries, keys and values."""
        projected = jnp.split(self.in_proj(hidden), 3, -1)
        return [split_heads(projection, self.heads) for projection in projected]


def sinusoids(time: int, hidden: int, base: float, dtype: jnp.dtype) -> Float[Array, "time hidden"]:
    """Sine and cosine of each step's position, interleaved; computed in float64, then cast."""
    # NumPy, since JAX has no float64 unless it is switched on; these are constants of the compiled program.
    positions = np.arange(time, dtype=np.float64)[:, None]
    exponents = np.arange(0, hidden, 2, dtype=np.float64) / hidden
    angles = positions / base**exponents
    return jnp.asarray(np.stack([np.sin(angles), np.cos(angles)], -1).reshape(time, hidden), dtype)
