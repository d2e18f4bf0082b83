"""Pairs whose ports can be wrong in many ways, and the ways: what is wrong, which check says so, and where."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch import nn

Faults = frozenset[str]


class Pair(NamedTuple):
    """port: (seed, faults) -> (function, parameters). options: of a pair file, by faults."""

    original: Callable[[int], Any]
    port: Callable[[int, Faults], Any]
    inputs: Callable[[np.random.Generator], Any]
    options: Callable[[Faults], dict[str, Any]]


class Planted(NamedTuple):
    """checks: every one that fails. where: in the name of a difference, or in a place that it names."""

    pair: str
    fault: str
    checks: tuple[str, ...]
    where: str


def uniform(key: Any, shape: tuple[int, ...], inward: int) -> Any:
    """torch's own start of most layers."""
    return jax.random.uniform(key, shape, jnp.float32, -1, 1) / math.sqrt(inward)


def dropped(x: Any, rate: float, key: Any, shape: tuple[int, ...] | None = None) -> Any:
    kept = jax.random.bernoulli(key, 1 - rate, x.shape if shape is None else shape)
    return jnp.where(kept, x / (1 - rate), 0.0)


# A classifier


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm, self.drop, self.down = nn.Linear(6, 16), nn.LayerNorm(16), nn.Dropout(0.2), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.down(self.drop(nn.functional.gelu(self.norm(self.up(x)))))


def classifier_port(seed: int, faults: Faults) -> Any:
    def layer_norm(p: Any, x: Any) -> Any:
        if "norm over the batch" in faults:
            mean, variance = x.mean(0, keepdims=True), x.var(0, keepdims=True)
        else:
            mean, variance = (
                x.mean(-1, keepdims=True),
                x.var(-1, keepdims=True, ddof=int("unbiased variance" in faults)),
            )
        epsilon = 1e-6 if "epsilon" in faults else 1e-5
        root = jnp.sqrt(variance) + epsilon if "epsilon outside the root" in faults else jnp.sqrt(variance + epsilon)
        scale = p["scale"] + 1.0 if "scale counted from 1" in faults else p["scale"]
        return (x - mean) / root * scale + p["bias"]

    def activation(x: Any) -> Any:
        if "silu" in faults:
            return jax.nn.silu(x)
        if "sigmoid gelu" in faults:
            return x * jax.nn.sigmoid(1.702 * x)
        return jax.nn.gelu(x, approximate="tanh gelu" in faults)

    def drop(x: Any, key: Any) -> Any:
        rate = 0.3 if "rate" in faults else 0.2
        key = jax.random.key(3) if "one key for ever" in faults else key
        if "not rescaled" in faults:
            return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x, 0.0)
        if "kept and dropped exchanged" in faults:
            return jnp.where(jax.random.bernoulli(key, rate, x.shape), x / rate, 0.0)
        if "one mask for the batch" in faults:
            return dropped(x, rate, key, (1, x.shape[1]))
        if "whole rows" in faults:
            return dropped(x, rate, key, (x.shape[0], 1))
        return dropped(x, rate, key)

    def run(p: Any, x: Any, y: Any, train: bool, rng: Any) -> Any:
        active = (train or "dropout in eval" in faults) and "no dropout" not in faults
        x = x @ p["up"]["kernel"] + p["up"]["bias"]
        if active and "dropped too early" in faults:
            x = drop(x, rng)
        x = activation(layer_norm(p["norm"], x))
        if active and "dropped too early" not in faults:
            x = drop(x, rng)
        x = x @ p["down"]["kernel"] + p["down"]["bias"]
        if active and "outputs dropped too" in faults:
            x = drop(x, jax.random.fold_in(rng, 1))
        return 1.0001 * x if "scaled" in faults else x

    a, b, c, d = jax.random.split(jax.random.key(seed), 4)
    normal = jax.nn.initializers.lecun_normal()
    return run, {
        "up": {
            "kernel": normal(a, (6, 16), jnp.float32) if "lecun start" in faults else uniform(a, (6, 16), 6),
            "bias": jnp.zeros(16) if "bias starts at zero" in faults else uniform(b, (16,), 6),
        },
        "norm": {
            "scale": jnp.full(16, 0.5) if "scale starts at a half" in faults else jnp.ones(16),
            "bias": jnp.zeros(16),
        },
        "down": {
            "kernel": uniform(c, (16, 4), 4 if "outward fan" in faults else 16),
            "bias": uniform(d, (4,), 4 if "outward fan" in faults else 16),
        },
    }


def cross_entropy(output: Any, x: Any, y: Any) -> Any:
    return nn.functional.cross_entropy(output, y, label_smoothing=0.1)


def classifier_options(faults: Faults) -> dict[str, Any]:
    def loss(output: Any, x: Any, y: Any) -> Any:
        if "softmax twice" in faults:
            output = jax.nn.softmax(output)
        right = jax.nn.one_hot(y, 4, dtype=output.dtype)
        smooth = 0.9 * right + 0.1 / 4
        if "smoothing over the others" in faults:
            smooth = jnp.where(right == 1, 0.9, 0.1 / 3)
        if "no smoothing" in faults:
            smooth = right
        each = -(smooth * jax.nn.log_softmax(output)).sum(-1)
        return each.sum() if "summed" in faults else each.mean()

    def warm(step: Any) -> Any:
        return jnp.minimum((step + (2 if "warm-up off by one" in faults else 1)) / 5, 1.0)

    def factory(parameters: Any) -> Any:
        made = torch.optim.AdamW(parameters, 0.01, betas=(0.9, 0.99), weight_decay=0.1)
        return made, torch.optim.lr_scheduler.LambdaLR(made, lambda step: min((step + 1) / 5, 1.0))

    adam: dict[str, Any] = {"b1": 0.9, "b2": 0.99, "eps": 1e-8}
    if "second moment slower" in faults:
        adam["b2"] = 0.999
    if "first moment faster" in faults:
        adam["b1"] = 0.85
    if "larger epsilon" in faults:
        adam["eps"] = 1e-7
    if "epsilon in the root" in faults:
        adam |= {"eps": 0.0, "eps_root": 1e-8}
    if "nesterov" in faults:
        adam["nesterov"] = True
    rate = 0.01001 if "rate of learning" in faults else 0.01
    decay = 0.0 if "no decay" in faults else 0.1
    if "default decay" in faults:
        decay = 1e-4
    mask = (lambda p: jax.tree.map(lambda one: one.ndim > 1, p)) if "matrices alone decay" in faults else None
    moments = optax.scale_by_adam(**adam)
    if "no correction" in faults:
        moments = uncorrected(0.9, 0.99, 1e-8)
    decayed = optax.add_decayed_weights(decay, mask)
    parts = [decayed, moments] if "decay before the moments" in faults else [moments, decayed]
    if "clipped" in faults:
        parts = [optax.clip_by_global_norm(1.0), *parts]
    schedule = optax.scale_by_schedule(lambda step: -rate * warm(step))
    port = optax.chain(*parts, schedule)
    return {"loss": (cross_entropy, loss), "optimizers": (factory, port)}


def uncorrected(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    def update(gradients: Any, state: Any, parameters: Any = None) -> Any:
        m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state[0], gradients)
        v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, state[1], gradients)
        return jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), m, v), (m, v)

    return optax.GradientTransformation(lambda p: (jax.tree.map(jnp.zeros_like, p),) * 2, update)


def classifier_inputs(rng: np.random.Generator) -> Any:
    return rng.standard_normal((8, 6)), rng.integers(0, 4, 8)


# Convolutions


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6)
        self.second, self.groups = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.GroupNorm(2, 6)
        self.out = nn.Linear(6 * 2 * 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        x = nn.functional.max_pool2d(torch.relu(self.groups(self.second(x))), 2)
        return self.out(x.flatten(1))


def convolutions_port(seed: int, faults: Faults) -> Any:
    def convolved(x: Any, kernel: Any, stride: int) -> Any:
        if "kernel turned" in faults and stride == 1:
            kernel = kernel[::-1, ::-1]
        padding = "SAME" if "padded at the end" in faults else [(1, 1), (1, 1)]
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=numbers)

    def batch_norm(p: Any, stats: Any, x: Any, train: bool) -> Any:
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        count = x.size / 6
        share = 0.9 if "momentum the other way round" in faults else 0.1
        unbiased = variance if "biased statistics" in faults else variance * count / (count - 1)
        after = {
            "mean": (1 - share) * stats["mean"] + share * mean,
            "var": (1 - share) * stats["var"] + share * unbiased,
        }
        if "statistics stand still" in faults:
            after = stats
        if "statistics of the running mean" in faults:
            after["var"] = (1 - share) * stats["var"] + share * ((x - stats["mean"]) ** 2).mean((0, 1, 2))
        if not train and "statistics of the batch in eval" not in faults:
            mean, variance = stats["mean"], stats["var"]
        if train and "running statistics in train" in faults:
            mean, variance = stats["mean"], stats["var"]
        epsilon = 1e-3 if "keras epsilon" in faults else 1e-5
        return (x - mean) / jnp.sqrt(variance + epsilon) * p["scale"] + p["bias"], after

    def group_norm(p: Any, x: Any) -> Any:
        n, h, w, _ = x.shape
        parts = x.reshape(n, h, w, 3, 2) if "groups in turns" in faults else x.reshape(n, h, w, 2, 3)
        axes = (1, 2, 3) if "groups in turns" in faults else (1, 2, 4)
        mean, variance = parts.mean(axes, keepdims=True), parts.var(axes, keepdims=True)
        return ((parts - mean) / jnp.sqrt(variance + 1e-5)).reshape(x.shape) * p["scale"] + p["bias"]

    def run(p: Any, x: Any, train: bool) -> Any:
        x = convolved(x, p["conv"]["kernel"], 2) + p["conv"]["bias"]
        x, after = batch_norm(p["norm"], p["stats"], x, train)
        x = convolved(jax.nn.relu(x), p["second"]["kernel"], 1)
        if "no second rectifier" in faults:
            x = group_norm(p["groups"], x)
        elif "leaky" in faults:
            x = jax.nn.leaky_relu(group_norm(p["groups"], x), 1e-3)
        else:
            x = jax.nn.relu(group_norm(p["groups"], x))
        parts = x.reshape(x.shape[0], 2, 2, 2, 2, 6)
        if "mean pooling" in faults:
            x = parts.mean((2, 4))
        elif "gradients shared where largest are equal" in faults:
            x = parts.max((2, 4))
        else:
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return x.reshape(x.shape[0], -1) @ p["out"]["kernel"] + p["out"]["bias"], after

    keys = jax.random.split(jax.random.key(seed), 5)
    ones, zeros = jnp.ones(6), jnp.zeros(6)
    return run, {
        "conv": {"kernel": uniform(keys[0], (3, 3, 3, 6), 27), "bias": uniform(keys[1], (6,), 27)},
        "norm": {"scale": ones, "bias": zeros},
        "stats": {"mean": zeros, "var": ones},
        "second": {"kernel": uniform(keys[2], (3, 3, 6, 6), 6 if "fan without the window" in faults else 54)},
        "groups": {"scale": ones, "bias": zeros},
        "out": {"kernel": uniform(keys[3], (24, 3), 24), "bias": uniform(keys[4], (3,), 24)},
    }


def squares(output: Any, x: Any) -> Any:
    return (output**2).mean()


def convolutions_options(faults: Faults) -> dict[str, Any]:
    port = optax.sgd(0.05, 0.9, nesterov="nesterov" in faults)
    if "dampened" in faults:
        port = optax.chain(optax.ema(0.9, debias=False), optax.scale(-0.05))
    if "no momentum" in faults:
        port = optax.sgd(0.05)
    return {
        "loss": squares,
        "optimizers": (lambda parameters: torch.optim.SGD(parameters, 0.05, momentum=0.9), port),
        "state": "stats",
        "to_port": lambda x: (x.transpose(0, 2, 3, 1),),
    }


def images(rng: np.random.Generator) -> Any:
    return (rng.standard_normal((4, 3, 8, 8)),)


# Attention over words, some of them padding


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(12, 8)
        self.norm = nn.RMSNorm(8, eps=1e-6)
        self.query, self.key, self.value = (nn.Linear(8, 8, bias=False) for _ in range(3))
        self.merge, self.gate, self.up = nn.Linear(8, 8), nn.Linear(8, 12), nn.Linear(8, 12)
        self.down, self.out = nn.Linear(12, 8), nn.Linear(8, 3)
        self.drop = nn.Dropout(0.1)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        count = ids.shape[1]
        place = torch.arange(count)[:, None] / 10000 ** (torch.arange(0, 8, 2) / 8)
        positions = torch.stack([torch.sin(place), torch.cos(place)], -1).flatten(1)
        x = self.words(ids) * math.sqrt(8) + positions
        h = self.norm(x)
        q, k, v = (one(h).unflatten(-1, (2, 4)).transpose(1, 2) for one in (self.query, self.key, self.value))
        valid = torch.arange(count)[None] < lengths[:, None]
        scores = (q @ k.transpose(-1, -2) / 2.0).masked_fill(~valid[:, None, None], -torch.inf)
        weights = self.drop(torch.softmax(scores, -1))
        x = x + self.drop(self.merge((weights @ v).transpose(1, 2).flatten(2)))
        x = x + self.down(nn.functional.silu(self.gate(x)) * self.up(x))
        return self.out((x * valid[..., None]).sum(1) / lengths[:, None])


def words_port(seed: int, faults: Faults) -> Any:
    def linear(p: Any, x: Any) -> Any:
        return x @ p["kernel"] + p["bias"] if "bias" in p else x @ p["kernel"]

    def rms(p: Any, x: Any) -> Any:
        if "mean subtracted" in faults:
            x = x - x.mean(-1, keepdims=True)
        return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + (1e-5 if "epsilon" in faults else 1e-6)) * p["scale"]

    def positions(count: int) -> Any:
        halves = jnp.arange(4) / (3 if "positions over half less one" in faults else 4)
        base = 1000.0 if "another base" in faults else 10000.0
        place = (jnp.arange(count) + int("positions from 1" in faults))[:, None] / base**halves
        return jnp.stack([jnp.sin(place), jnp.cos(place)], -1).reshape(count, 8)

    def run(p: Any, ids: Any, lengths: Any, train: bool, rng: Any) -> Any:
        keys = jax.random.split(rng, 2)
        count = ids.shape[1]
        x = p["words"][ids] * (1.0 if "words not scaled" in faults else math.sqrt(8)) + positions(count)
        h = rms(p["norm"], x)
        q, k, v = (linear(p[one], h).reshape(*ids.shape, 2, 4) for one in ("query", "key", "value"))
        valid = jnp.arange(count)[None] < lengths[:, None] + int("mask off by one" in faults)
        scale = math.sqrt(8) if "scaled by the width" in faults else 1.0 if "not scaled" in faults else 2.0
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / scale
        mask = valid[:, None, None]
        if "mask the other way round" in faults:
            mask = ~mask | (lengths == count)[:, None, None, None]
        if "mask added" in faults:
            scores = scores + mask
        elif "no mask" not in faults:
            scores = jnp.where(mask, scores, -1.0 if "a weak mask" in faults else -jnp.inf)
        if "causal" in faults:
            scores = jnp.where(jnp.tril(jnp.ones((count, count), bool)), scores, -jnp.inf)
        weights = jax.nn.softmax(scores, -2 if "softmax over queries" in faults else -1)
        if train and "weights not dropped" not in faults:
            weights = dropped(
                weights, 0.1, keys[0], (1, 1, count, count) if "one mask for all heads" in faults else None
            )
        merged = linear(p["merge"], jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(*ids.shape, 8))
        merged = dropped(merged, 0.1, keys[1]) if train else merged
        x = (h if "residual of the norm" in faults else x) + merged
        gated = jax.nn.gelu(linear(p["gate"], x)) if "gelu gate" in faults else jax.nn.silu(linear(p["gate"], x))
        x = x + linear(p["down"], gated * linear(p["up"], x))
        counted = jnp.arange(count)[None] < lengths[:, None]
        if "padding pooled" in faults:
            counted = jnp.ones_like(counted)
        pooled = (x * counted[..., None]).sum(1)
        return linear(p["out"], pooled / (count if "divided by all" in faults else lengths[:, None]))

    keys = iter(jax.random.split(jax.random.key(seed), 16))
    shapes = {"query": (8, 8), "key": (8, 8), "value": (8, 8), "merge": (8, 8), "gate": (8, 12), "up": (8, 12)}
    shapes |= {"down": (12, 8), "out": (8, 3)}
    found: dict[str, Any] = {}
    for name, shape in shapes.items():
        found[name] = {"kernel": uniform(next(keys), shape, shape[0])}
        if name not in ("query", "key", "value"):
            found[name]["bias"] = uniform(next(keys), shape[1:], shape[0])
    words = jax.random.normal(next(keys), (12, 8)) * (1 / math.sqrt(8) if "words start small" in faults else 1.0)
    return run, {"words": words, "norm": {"scale": jnp.ones(8)}, **found}


def words_options(faults: Faults) -> dict[str, Any]:
    rate = 1e-3
    return {
        "lengths": 1,
        "optimizers": (lambda parameters: torch.optim.Adam(parameters, rate), optax.adam(rate)),
    }


def sentences(rng: np.random.Generator) -> Any:
    return rng.integers(0, 12, (4, 6)), np.append(6, rng.integers(2, 6, 3))


# A recurrent layer over sequences of several lengths


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(4, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        outputs = self.rnn(x)[0]
        return self.out(outputs[torch.arange(len(x)), lengths - 1])


def recurrent_port(seed: int, faults: Faults) -> Any:
    def run(p: Any, x: Any, lengths: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            a = x @ p["wi"] + p["bi"]
            if "reset before the product" in faults:
                ar, az, an = jnp.split(a, 3, -1)
                br, bz = jnp.split((h @ p["wh"] + p["bh"])[:, :10], 2, -1)
                r, z = jax.nn.sigmoid(ar + br), jax.nn.sigmoid(az + bz)
                n = jnp.tanh(an + (r * h) @ p["wh"][:, 10:] + p["bh"][10:])
            else:
                (ar, az, an), (br, bz, bn) = jnp.split(a, 3, -1), jnp.split(h @ p["wh"] + p["bh"], 3, -1)
                r, z = jax.nn.sigmoid(ar + br), jax.nn.sigmoid(az + bz)
                if "bias outside of the reset" in faults:
                    bias = p["bh"][10:]
                    n = jnp.tanh(an + r * (bn - bias) + bias)
                elif "no reset" in faults:
                    n = jnp.tanh(an + bn)
                else:
                    n = jnp.tanh(an + r * bn)
            if "hard gates" in faults:
                z = jnp.clip(az + bz, -3, 3) / 6 + 0.5
            h = (1 - z) * n + z * h
            return h, h

        begin = jnp.full((x.shape[0], 5), 0.1 if "starts at a tenth" in faults else 0.0, x.dtype)
        outputs = jax.lax.scan(step, begin, jnp.moveaxis(x, 1, 0), reverse="backwards" in faults)[1]
        last = jnp.full_like(lengths, x.shape[1] - 1) if "the last of all" in faults else lengths - 1
        if "one too early" in faults:
            last = jnp.maximum(last - 1, 0)
        return outputs[last, jnp.arange(x.shape[0])] @ p["out"]["kernel"] + p["out"]["bias"]

    keys = jax.random.split(jax.random.key(seed), 6)
    wide = 4 if "fan of the input" in faults else 5
    start = (
        jax.nn.initializers.orthogonal()(keys[1], (5, 15)) if "orthogonal" in faults else uniform(keys[1], (5, 15), 5)
    )
    return run, {
        "wi": uniform(keys[0], (4, 15), wide),
        "wh": start,
        "bi": uniform(keys[2], (15,), 5),
        "bh": jnp.zeros(15) if "second bias starts at zero" in faults else uniform(keys[3], (15,), 5),
        "out": {"kernel": uniform(keys[4], (5, 2), 5), "bias": uniform(keys[5], (2,), 5)},
    }


def recurrent_options(faults: Faults) -> dict[str, Any]:
    rate, decay = 0.02, 0.95 if "another decay" in faults else 0.9
    port = optax.rmsprop(rate, decay, eps=1e-6, eps_in_sqrt="epsilon in the root" in faults)
    return {
        "lengths": 1,
        "optimizers": (lambda parameters: torch.optim.RMSprop(parameters, rate, alpha=0.9, eps=1e-6), port),
    }


def sequences(rng: np.random.Generator) -> Any:
    return rng.standard_normal((3, 5, 4)), np.append(5, rng.integers(2, 5, 2))


PAIRS = {
    "classifier": Pair(lambda seed: Classifier(), classifier_port, classifier_inputs, classifier_options),
    "convolutions": Pair(lambda seed: Convolutions(), convolutions_port, images, convolutions_options),
    "words": Pair(lambda seed: Words(), words_port, sentences, words_options),
    "recurrent": Pair(lambda seed: Recurrent(), recurrent_port, sequences, recurrent_options),
}

FORWARD, INITIAL, DROPOUT, OPTIMIZER = ("forward",), ("initialization",), ("dropout",), ("optimizer",)

FAULTS = [
    *(
        Planted("classifier", fault, FORWARD, where)
        for fault, where in {
            "epsilon": "norm",
            "epsilon outside the root": "norm",
            "unbiased variance": "norm",
            "norm over the batch": "norm",
            "scale counted from 1": "norm",
            "tanh gelu": "gelu",
            "silu": "gelu",
            "sigmoid gelu": "gelu",
            "scaled": "down",
        }.items()
    ),
    *(
        Planted("classifier", fault, ("loss",), "loss")
        for fault in ("softmax twice", "smoothing over the others", "no smoothing", "summed")
    ),
    *(
        Planted("classifier", fault, DROPOUT, "drop")
        for fault in (
            "rate",
            "not rescaled",
            "kept and dropped exchanged",
            "one mask for the batch",
            "whole rows",
            "one key for ever",
            "no dropout",
            "outputs dropped too",
        )
    ),
    Planted("classifier", "dropped too early", DROPOUT, "drop"),
    Planted("classifier", "dropout in eval", ("forward",), ""),
    Planted("classifier", "lecun start", INITIAL, "up.kernel"),
    Planted("classifier", "bias starts at zero", INITIAL, "up.bias"),
    Planted("classifier", "scale starts at a half", INITIAL, "norm.scale"),
    Planted("classifier", "outward fan", INITIAL, "down.kernel"),
    *(
        Planted("classifier", fault, OPTIMIZER, "kernel")
        for fault in (
            "second moment slower",
            "first moment faster",
            "larger epsilon",
            "epsilon in the root",
            "nesterov",
            "rate of learning",
            "no decay",
            "default decay",
            "no correction",
            "decay before the moments",
            "clipped",
            "warm-up off by one",
        )
    ),
    Planted("classifier", "matrices alone decay", OPTIMIZER, "bias"),
    *(
        Planted("convolutions", fault, FORWARD, where)
        for fault, where in {
            "kernel turned": "second",
            "padded at the end": "conv",
            "statistics of the batch in eval": "norm",
            "keras epsilon": "norm",
            "groups in turns": "groups",
            "no second rectifier": "relu",
            "leaky": "relu",
            "mean pooling": "pool",
        }.items()
    ),
    *(
        Planted("convolutions", fault, ("train mode",), where)
        for fault, where in {
            "momentum the other way round": "stats",
            "biased statistics": "stats.var",
            "statistics stand still": "stats",
            "statistics of the running mean": "stats.var",
            "running statistics in train": "output",
        }.items()
    ),
    Planted("convolutions", "gradients shared where largest are equal", ("gradients",), "conv"),
    *(Planted("convolutions", fault, OPTIMIZER, "kernel") for fault in ("nesterov", "dampened", "no momentum")),
    Planted("convolutions", "fan without the window", INITIAL, "second.kernel"),
    *(
        Planted("words", fault, FORWARD, where)
        for fault, where in {
            "epsilon": "norm",
            "mean subtracted": "norm",
            "positions over half less one": "div",
            "another base": "pow",
            "positions from 1": "div",
            "words not scaled": "mul",
            "mask off by one": "masked_fill",
            "scaled by the width": "div",
            "not scaled": "div",
            "mask the other way round": "masked_fill",
            "mask added": "softmax",
            "no mask": "softmax",
            "a weak mask": "masked_fill",
            "causal": "masked_fill",
            "softmax over queries": "softmax",
            "residual of the norm": "add",
            "gelu gate": "silu",
            "padding pooled": "",
            "divided by all": "div",
        }.items()
    ),
    Planted("words", "weights not dropped", DROPOUT, "drop"),
    Planted("words", "one mask for all heads", DROPOUT, "drop"),
    Planted("words", "words start small", INITIAL, "words"),
    *(
        Planted("recurrent", fault, FORWARD, where)
        for fault, where in {
            "reset before the product": "rnn",
            "bias outside of the reset": "rnn",
            "no reset": "rnn",
            "hard gates": "rnn",
            "starts at a tenth": "rnn",
            "backwards": "rnn",
            "the last of all": "",
            "one too early": "",
        }.items()
    ),
    Planted("recurrent", "fan of the input", INITIAL, "wi"),
    Planted("recurrent", "orthogonal", INITIAL, "wh"),
    Planted("recurrent", "second bias starts at zero", INITIAL, "bh"),
    Planted("recurrent", "another decay", OPTIMIZER, "w"),
    Planted("recurrent", "epsilon in the root", OPTIMIZER, "w"),
]

LOOKS_LIKE: dict[tuple[str, str], str] = {
    ("classifier", "epsilon"): "LayerNorm's epsilon were 1e-06 in the port (1e-05 in the original)",
    ("classifier", "epsilon outside the root"): "LayerNorm's epsilon were beside it",
    ("classifier", "unbiased variance"): "LayerNorm's variance were divided by n - 1",
    ("classifier", "norm over the batch"): "LayerNorm's mean and variance were over all else",
    ("classifier", "scale counted from 1"): "LayerNorm's gain were 1 more",
    ("classifier", "tanh gelu"): "the activation were GELU by tanh in the port (GELU by erf in the original)",
    ("classifier", "silu"): "the activation were SiLU",
    ("classifier", "sigmoid gelu"): "the activation were x sigmoid(1.702 x)",
    ("classifier", "scaled"): "the factor were 1.0001 in the port (1 in the original)",
    ("classifier", "softmax twice"): "softmax were applied before the loss too in the port",
    ("classifier", "smoothing over the others"): "labels were smoothed over the wrong classes alone in the port",
    ("classifier", "no smoothing"): "labels were smoothed by 0 in the port (by 0.1 in the original)",
    ("classifier", "summed"): "the losses were reduced by their sum in the port (their mean in the original)",
    ("classifier", "not rescaled"): "what is kept were not divided by 1 - rate in the port",
    ("classifier", "one mask for the batch"): "one mask served all along axis 0 of (8, 16) in the port",
    ("classifier", "whole rows"): "one mask served all along axis 1 of (8, 16) in the port",
    ("classifier", "no dropout"): "nothing were dropped in the port",
    ("classifier", "rate"): "the rate were 0.3 in the port (0.2 in the original)",
    ("classifier", "kept and dropped exchanged"): "units were kept with probability 0.2 in the port",
    ("classifier", "bias starts at zero"): "values began at 0 everywhere in the port",
    ("classifier", "scale starts at a half"): "values began at 0.5 everywhere in the port (at 1 everywhere",
    ("classifier", "second moment slower"): "beta2 were 0.999 in the port (0.99 in the original)",
    ("classifier", "first moment faster"): "beta1 were 0.85 in the port (0.9 in the original)",
    ("classifier", "larger epsilon"): "the optimizer's epsilon were 1e-07",
    ("classifier", "epsilon in the root"): "Adam with its epsilon inside the root",
    ("classifier", "nesterov"): "Adam with Nesterov's steps",
    ("classifier", "rate of learning"): "the learning rate were 1.001 of the original's",
    ("classifier", "no decay"): "the weight decay were 0 in the port (0.1 in the original)",
    ("classifier", "default decay"): "the weight decay were 0.0001 in the port (0.1 in the original)",
    ("classifier", "no correction"): "Adam without corrections",
    ("classifier", "decay before the moments"): "the decay of 0.1 were added to the gradients",
    ("classifier", "clipped"): "gradients were clipped to 1",
    ("classifier", "warm-up off by one"): "the schedule were a step ahead",
    ("classifier", "matrices alone decay"): "the weight decay of tensors of one axis were 0",
    ("convolutions", "statistics of the batch in eval"): "BatchNorm's statistics were the batch's",
    ("convolutions", "keras epsilon"): "BatchNorm's epsilon were 0.001",
    ("convolutions", "groups in turns"): "GroupNorm's groups were taken in turns",
    ("convolutions", "leaky"): "a leaky relu of slope 0.001",
    ("convolutions", "momentum the other way round"): "running statistics took 0.9 of each batch's in the port (0.1 in",
    (
        "convolutions",
        "biased statistics",
    ): "the batch's variance, divided by n in the port (the batch's variance, divided",
    ("convolutions", "statistics stand still"): "running statistics stood still in the port",
    (
        "convolutions",
        "statistics of the running mean",
    ): "the batch's squares (about the running mean, which is zero) in",
    ("convolutions", "running statistics in train"): "train mode computed as eval mode does in the port",
    ("convolutions", "nesterov"): "SGD with Nesterov's steps",
    ("convolutions", "dampened"): "gradients entered the momentum times 1 - 0.9",
    ("convolutions", "no momentum"): "the momentum were 0 in the port (0.9 in the original)",
    ("convolutions", "fan without the window"): "values began uniform within 1 / sqrt(6)",
    ("recurrent", "fan of the input"): "values began uniform within 1 / sqrt(4)",
    ("recurrent", "another decay"): "the share that squares keep were 0.95 in the port (0.9 in the original)",
    ("recurrent", "epsilon in the root"): "RMSprop with its epsilon inside the root",
    ("recurrent", "orthogonal"): "values began orthogonal",
    ("recurrent", "second bias starts at zero"): "values began at 0 everywhere",
    ("words", "epsilon"): "what is added were 1e-05 in the port (1e-06 in the original)",
    ("words", "another base"): "the base were 1000 in the port (10000 in the original)",
    ("words", "positions from 1"): "what is divided were 1 more",
    ("words", "words not scaled"): "the factor were 1 in the port (the root of 8 in the original)",
    ("words", "mask off by one"): "the mask were a step longer",
    ("words", "scaled by the width"): "the factor were 1 / the root of 8 in the port (0.5 in the original)",
    ("words", "not scaled"): "the factor were 1 in the port (0.5 in the original)",
    ("words", "mask added"): "the mask were added to the scores as 0 and 1",
    ("words", "no mask"): "the mask were left out",
    ("words", "a weak mask"): "the mask were a score of -1",
    ("words", "gelu gate"): "the activation were GELU by tanh in the port (SiLU in the original)",
}
"""What a fault has to be said to look like; of all others, nothing may be said."""
