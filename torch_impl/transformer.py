"""The Transformer's encoder: stock `torch.nn.TransformerEncoder`. See spec.models.transformer."""

import math
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from spec.models.transformer import TransformerEncoder as Spec
from torch_impl import mixed_precision
from torch_impl.attention import attend
from torch_impl.model import Model, TensorBatch, valid_steps, zero_padding

STAGES = ("self_attn", "norm1", "linear2", "norm2")

ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu-tanh": partial(functional.gelu, approximate="tanh")}
"""As the stock layer takes them. Not `nn.GELU("tanh")`, which it takes for the other one in eval mode."""


class Cache(NamedTuple):
    """What a causal model keeps of the steps that it has read, (layers, batch, heads, steps, width) each, and how many
    there were. Steps write into it in place."""

    keys: Tensor
    values: Tensor
    read: int


class TransformerEncoder(Model):
    """A linear embedding, positions, encoder layers, and a linear head. See spec.models.TransformerEncoder."""

    def __init__(self, spec: Spec):
        super().__init__(spec)
        self.input = nn.Linear(spec.inputs.size, spec.hidden_size)
        self.position_base = spec.position_base if spec.positions == "sinusoidal" else None
        self.positions = nn.Embedding(spec.max_length, spec.hidden_size) if spec.max_length is not None else None
        self.causal = spec.causal
        self.final_norm = spec.final_norm
        self.heads, self.width = spec.heads, spec.hidden_size // spec.heads

        def new_layer() -> nn.TransformerEncoderLayer:
            layer = nn.TransformerEncoderLayer(
                spec.hidden_size,
                spec.heads,
                dim_feedforward=spec.feed_forward_size,
                dropout=spec.dropout,
                activation=ACTIVATIONS[spec.activation],
                layer_norm_eps=spec.layer_norm_epsilon,
                batch_first=True,
                norm_first=spec.norm_first,
            )
            if spec.mixed_precision:
                layer.self_attn = mixed_precision.MultiheadAttention(spec.hidden_size, spec.heads, batch_first=True)
            # The layer gives its one rate to the attention weights too, where the spec has a rate of their own.
            layer.self_attn.dropout = spec.attention_dropout
            return layer

        norm = nn.LayerNorm(spec.hidden_size, spec.layer_norm_epsilon) if spec.final_norm else None
        self.encoder = nn.TransformerEncoder(new_layer(), spec.num_layers, norm, enable_nested_tensor=False)
        # It fills itself with copies of the layer that it is given, which would all start the same.
        self.encoder.layers = nn.ModuleList(new_layer() for _ in range(spec.num_layers))
        self.head = nn.Linear(spec.hidden_size, spec.classes)

    def forward(self, batch: TensorBatch) -> Float[Tensor, "batch time classes"]:
        valid = valid_steps(batch)
        hidden = self.input(self.embed(batch, valid))
        self.record("input", zero_padding(hidden, valid))
        if self.position_base is not None:
            hidden = hidden + sinusoids(*hidden.shape[1:], self.position_base, hidden.dtype, hidden.device)
        if self.positions is not None:
            hidden = hidden + self.positions.weight[: hidden.shape[1]]
        self.record("positions", zero_padding(hidden, valid))
        # True means "ignore" here, the opposite of what valid says. A row without a valid step would be NaN: it may
        # attend to its padding, since nothing of it is kept.
        ignored = None if valid is None else ~valid & valid.any(1, keepdim=True)
        later = later_steps(hidden.shape[1], hidden.device) if self.causal else None
        hidden = self.encoder(hidden, mask=later, src_key_padding_mask=ignored, is_causal=self.causal)
        if self.final_norm:
            self.record("encoder.norm", zero_padding(hidden, valid))
        logits = zero_padding(self.head(hidden), valid)
        self.record("logits", logits)
        return logits

    def begin(self, batch: int, steps: int) -> Cache:
        like, layers = self.input.weight, len(self.encoder.layers)
        keys, values = (like.new_zeros(layers, batch, self.heads, steps, self.width) for _ in range(2))
        return Cache(keys, values, 0)

    def step(self, symbols: Int[Tensor, " batch"], state: Cache) -> tuple[Float[Tensor, "batch classes"], Cache]:
        hidden = self.input(self.read(symbols))
        if self.position_base is not None:
            steps, width = state.keys.shape[3], hidden.shape[-1]
            hidden = hidden + sinusoids(steps, width, self.position_base, hidden.dtype, hidden.device)[state.read]
        if self.positions is not None:
            hidden = hidden + self.positions.weight[state.read]
        for layer, keys, values in zip(self.encoder.layers, state.keys, state.values, strict=True):
            hidden = step_layer(layer, hidden, keys, values, state.read)
        if self.encoder.norm is not None:
            hidden = self.encoder.norm(hidden)
        return self.head(hidden), state._replace(read=state.read + 1)


def step_layer(
    layer: Any,
    hidden: Float[Tensor, "batch hidden"],
    keys: Float[Tensor, "batch heads steps width"],
    values: Float[Tensor, "batch heads steps width"],
    read: int,
) -> Float[Tensor, "batch hidden"]:
    """A stock layer's step, by its own modules: as a whole it keeps nothing of the steps before, and reads them again.

    Its key and value are written behind those of the `read` steps before.
    """

    def attention(inputs: Tensor) -> Tensor:
        packed = functional.linear(inputs, layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias)
        query, key, value = packed.unflatten(-1, (3, layer.self_attn.num_heads, -1)).unbind(1)
        keys[:, :, read], values[:, :, read] = key, value
        seen = slice(read + 1)
        context, _ = attend(query[:, :, None], keys[:, :, seen], values[:, :, seen], math.sqrt(query.shape[-1]))
        return layer.self_attn.out_proj(context.flatten(1))

    def feed_forward(inputs: Tensor) -> Tensor:
        return layer.linear2(layer.activation(layer.linear1(inputs)))

    if layer.norm_first:
        hidden = hidden + attention(layer.norm1(hidden))
        return hidden + feed_forward(layer.norm2(hidden))
    hidden = layer.norm1(hidden + attention(hidden))
    return layer.norm2(hidden + feed_forward(hidden))


@cache
def later_steps(time: int, device: torch.device) -> Bool[Tensor, "time time"]:
    """True where a step (row) is before another (column), which it may not look at."""
    with torch.inference_mode(False):
        return torch.ones(time, time, dtype=torch.bool, device=device).triu(1)


@cache
def sinusoids(
    time: int, hidden: int, base: float, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "time hidden"]:
    """Sine and cosine of each step's position, interleaved; computed in float64, then cast."""
    # What an evaluation kept here, a training must be able to use.
    with torch.inference_mode(False):
        positions = torch.arange(time, dtype=torch.float64)[:, None]
        exponents = torch.arange(0, hidden, 2, dtype=torch.float64) / hidden
        angles = positions / base**exponents
        return torch.stack([angles.sin(), angles.cos()], -1).flatten(1).to(device, dtype)
