"""Decoders as they are written today, and other pairs of whole architectures, each small."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import nn

WIDTH, HEADS, GROUPS, SIZE, INNER = 16, 4, 2, 4, 24


class RMSNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Attention(nn.Module):
    """Heads in groups that share keys and values; rotary positions by halves."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(WIDTH, HEADS * SIZE, bias=False)
        self.k_proj = nn.Linear(WIDTH, GROUPS * SIZE, bias=False)
        self.v_proj = nn.Linear(WIDTH, GROUPS * SIZE, bias=False)
        self.o_proj = nn.Linear(HEADS * SIZE, WIDTH, bias=False)
        self.register_buffer("inv_freq", 1.0 / 10000.0 ** (torch.arange(0, SIZE, 2) / SIZE), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        angles = torch.arange(x.shape[1])[:, None] * self.inv_freq
        angles = torch.cat([angles, angles], -1)

        def turned(h: torch.Tensor) -> torch.Tensor:
            one, other = h.chunk(2, -1)
            return h * angles.cos() + torch.cat([-other, one], -1) * angles.sin()

        q, k, v = (one(x).unflatten(-1, (-1, SIZE)).transpose(1, 2) for one in (self.q_proj, self.k_proj, self.v_proj))
        q, k = turned(q), turned(k).repeat_interleave(HEADS // GROUPS, 1)
        v = v.repeat_interleave(HEADS // GROUPS, 1)
        a = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(a.transpose(1, 2).flatten(2))


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(WIDTH, INNER, bias=False), nn.Linear(WIDTH, INNER, bias=False)
        self.down_proj = nn.Linear(INNER, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn, self.mlp = Attention(), Gated()
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(), RMSNorm()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self, layers: int = 2) -> None:
        super().__init__()
        self.embed_tokens, self.norm = nn.Embedding(11, WIDTH), RMSNorm()
        self.layers = nn.ModuleList([Block() for _ in range(layers)])
        self.lm_head = nn.Linear(WIDTH, 11, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.embed_tokens(x)
        for layer in self.layers:
            h = layer(h)
        return self.lm_head(self.norm(h))


def rotated(h: jax.Array, pairs: bool) -> jax.Array:
    """h: (batch, time, heads, size). pairs: neighbours are turned together, as in the paper; else halves are."""
    angles = jnp.arange(h.shape[1])[:, None, None] / 10000.0 ** (jnp.arange(0, SIZE, 2) / SIZE)
    if pairs:
        one, other = h[..., ::2], h[..., 1::2]
    else:
        one, other = jnp.split(h, 2, -1)
    turned = one * jnp.cos(angles) - other * jnp.sin(angles), other * jnp.cos(angles) + one * jnp.sin(angles)
    return jnp.stack(turned, -1).reshape(h.shape) if pairs else jnp.concatenate(turned, -1)


def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """q: (batch, time, heads, size). k, v: the same of groups of heads. Causal."""
    k, v = (jnp.repeat(one, HEADS // one.shape[2], 2) for one in (k, v))
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(SIZE)
    seen = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    a = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), -1)
    return jnp.einsum("bhqk,bkhd->bqhd", a, v).reshape(*q.shape[:2], -1)


class BlockPort(nnx.Module):
    def __init__(self, pairs: bool, rngs: nnx.Rngs) -> None:
        self.q = nnx.LinearGeneral(WIDTH, (HEADS, SIZE), use_bias=False, rngs=rngs)
        self.k = nnx.LinearGeneral(WIDTH, (GROUPS, SIZE), use_bias=False, rngs=rngs)
        self.v = nnx.LinearGeneral(WIDTH, (GROUPS, SIZE), use_bias=False, rngs=rngs)
        self.out = nnx.Linear(HEADS * SIZE, WIDTH, use_bias=False, rngs=rngs)
        self.gate, self.up = (nnx.Linear(WIDTH, INNER, use_bias=False, rngs=rngs) for _ in range(2))
        self.down = nnx.Linear(INNER, WIDTH, use_bias=False, rngs=rngs)
        self.norm1, self.norm2 = nnx.RMSNorm(WIDTH, rngs=rngs), nnx.RMSNorm(WIDTH, rngs=rngs)
        self.pairs = pairs

    def __call__(self, x: jax.Array) -> jax.Array:
        h = self.norm1(x)
        x = x + self.out(attention(rotated(self.q(h), self.pairs), rotated(self.k(h), self.pairs), self.v(h)))
        h = self.norm2(x)
        return x + self.down(jax.nn.silu(self.gate(h)) * self.up(h))


class DecoderPort(nnx.Module):
    """pairs: rotary positions turn neighbours, for which rows of the original's queries and keys are put in order."""

    def __init__(self, pairs: bool = False, layers: int = 2) -> None:
        rngs = nnx.Rngs(0)
        self.embed, self.norm = nnx.Embed(11, WIDTH, rngs=rngs), nnx.RMSNorm(WIDTH, rngs=rngs)
        self.blocks = nnx.List([BlockPort(pairs, rngs) for _ in range(layers)])
        self.head = nnx.Linear(WIDTH, 11, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        h = self.embed(x)
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


class Mixed(nn.Module):
    """A layer of attention and a layer behind it, several times over."""

    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        names = ("q", "k", "v", "o")
        self.layers = nn.ModuleList(
            [nn.ModuleDict({name: nn.Linear(WIDTH, WIDTH) for name in names}) for _ in range(layers)]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            q, k, v = (layer[name](x).unflatten(-1, (HEADS, SIZE)).transpose(1, 2) for name in ("q", "k", "v"))
            a = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + layer["o"](a.transpose(1, 2).flatten(2))
        return x


def scanned_port(layers: int = 3) -> tuple[Callable[..., jax.Array], Mapping[str, Any]]:
    """The same under one scan, with q, k and v in one matrix."""

    def run(p: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
        def layer(x: jax.Array, of: Mapping[str, jax.Array]) -> tuple[jax.Array, None]:
            q, k, v = (one.reshape(*x.shape[:2], HEADS, SIZE) for one in jnp.split(x @ of["qkv"] + of["bias"], 3, -1))
            return x + attention(q, k, v) @ of["out"] + of["out_bias"], None

        return jax.lax.scan(layer, x, p)[0]

    shapes = {"qkv": (WIDTH, 3 * WIDTH), "bias": (3 * WIDTH,), "out": (WIDTH, WIDTH), "out_bias": (WIDTH,)}
    return run, {name: jnp.zeros((layers, *shape)) for name, shape in shapes.items()}
