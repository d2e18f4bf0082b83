"""BERT with its head for masked words: a small one, or as large as the environment says (BERT=LAYERSxWIDTH)."""

import math
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx
from torch import nn

LAYERS, WIDTH = map(int, os.environ.get("BERT", "2x32").split("x"))
HEADS = max(WIDTH // 64, 2)
WORDS, POSITIONS, KINDS = (30522, 512, 2) if WIDTH >= 128 else (90, 16, 2)
BATCH, TIME = (2, 64) if WIDTH >= 128 else (2, 7)
EPSILON, SPREAD = 1e-12, 0.02


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, EPSILON), nn.LayerNorm(WIDTH, EPSILON)

    def forward(self, x, mask):
        heads = [one(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for one in (self.query, self.key, self.value)]
        scores = heads[0] @ heads[1].transpose(-1, -2) / math.sqrt(WIDTH // HEADS)
        weights = scores.masked_fill(~mask[:, None, None], -torch.inf).softmax(-1)
        x = self.norm1(x + self.out((weights @ heads[2]).transpose(1, 2).flatten(-2)))
        return self.norm2(x + self.down(nn.functional.gelu(self.up(x))))


class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        self.word, self.position, self.kind = (nn.Embedding(n, WIDTH) for n in (WORDS, POSITIONS, KINDS))
        self.norm = nn.LayerNorm(WIDTH, EPSILON)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.transform, self.head_norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH, EPSILON)
        self.bias = nn.Parameter(torch.zeros(WORDS))
        for one in self.modules():
            if isinstance(one, nn.Linear | nn.Embedding):
                nn.init.normal_(one.weight, std=SPREAD)
            if isinstance(one, nn.Linear):
                nn.init.zeros_(one.bias)

    def forward(self, words, kinds, mask, labels):
        x = self.word(words) + self.position(torch.arange(words.shape[1])) + self.kind(kinds)
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, mask)
        x = self.head_norm(nn.functional.gelu(self.transform(x)))
        return x @ self.word.weight.T + self.bias


class LayerPort(nnx.Module):
    def __init__(self, rngs):
        self.query, self.key, self.value, self.out = (dense(WIDTH, WIDTH, rngs) for _ in range(4))
        self.up, self.down = dense(WIDTH, 4 * WIDTH, rngs), dense(4 * WIDTH, WIDTH, rngs)
        self.norm1, self.norm2 = (nnx.LayerNorm(WIDTH, epsilon=EPSILON, rngs=rngs) for _ in range(2))

    def __call__(self, x, mask):
        query, key, value = (
            one(x).reshape(*x.shape[:2], HEADS, WIDTH // HEADS) for one in (self.query, self.key, self.value)
        )
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(WIDTH // HEADS)
        weights = jax.nn.softmax(scores, where=mask[:, None, None])
        x = self.norm1(x + self.out(jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(x.shape)))
        return self.norm2(x + self.down(jax.nn.gelu(self.up(x), approximate=False)))


class BertPort(nnx.Module):
    def __init__(self, rngs):
        init = jax.nn.initializers.normal(SPREAD)
        self.word, self.position, self.kind = (
            nnx.Embed(n, WIDTH, embedding_init=init, rngs=rngs) for n in (WORDS, POSITIONS, KINDS)
        )
        self.norm = nnx.LayerNorm(WIDTH, epsilon=EPSILON, rngs=rngs)
        self.layers = nnx.List([LayerPort(rngs) for _ in range(LAYERS)])
        self.transform, self.head_norm = dense(WIDTH, WIDTH, rngs), nnx.LayerNorm(WIDTH, epsilon=EPSILON, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(WORDS))

    def __call__(self, words, kinds, mask, labels):
        x = self.norm(self.word(words) + self.position(jnp.arange(words.shape[1])) + self.kind(kinds))
        for layer in self.layers:
            x = layer(x, mask)
        x = self.head_norm(jax.nn.gelu(self.transform(x), approximate=False))
        return self.word.attend(x) + self.bias[...]


def dense(inward, outward, rngs):
    return nnx.Linear(inward, outward, kernel_init=jax.nn.initializers.normal(SPREAD), rngs=rngs)


def original(seed):
    return Bert()


def port(seed):
    return BertPort(nnx.Rngs(seed))


def inputs(rng):
    guessed = rng.random((BATCH, TIME)) < [1.0, *[0.15] * (TIME - 1)]
    lengths = rng.integers(TIME // 2, TIME + 1, BATCH)
    return {
        "words": rng.integers(0, WORDS, (BATCH, TIME)),
        "kinds": rng.integers(0, KINDS, (BATCH, TIME)),
        "mask": np.arange(TIME) < lengths[:, None],
        # The first word of each is one to be guessed: a loss of none would be 0 / 0.
        "labels": np.where(guessed, rng.integers(0, WORDS, (BATCH, TIME)), -1),
    }


def loss_original(logits, words, kinds, mask, labels):
    return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-1)


def loss_port(logits, words, kinds, mask, labels):
    each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
    return jnp.where(labels >= 0, each, 0).sum() / (labels >= 0).sum()


loss = loss_original, loss_port
mask = "mask"
optimizers = (lambda parameters: torch.optim.AdamW(parameters, 1e-4), optax.adamw(1e-4, weight_decay=0.01))
