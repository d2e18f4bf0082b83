"""The same in JAX, as functions of a dictionary of arrays; and eight ways to get it wrong."""

import jax
import jax.numpy as jnp
import optax

CAUSES = {
    "initial law": "initialization",
    "one bias": "structure",
    "a step late": "forward",
    "softmax twice": "loss",
    "decay in the gradient": "optimizer",
    "large epsilon": "optimizer",
    "kept for dropped": "dropout",
    "one mask for all steps": "dropout",
}
"""Each with the check of crosscheck that finds it."""


def start(key, cause=None):
    keys = iter(jax.random.split(key, 7))

    def even(*shape, bound=8**-0.5):
        return jax.random.uniform(next(keys), shape, jnp.float32, -bound, bound)

    numbers = {"embed": jax.random.normal(next(keys), (4, 10))}
    numbers |= {"i": even(10, 32), "i_bias": even(32), "h": even(8, 32), "h_bias": even(32)}
    numbers |= {"head": even(8, 4), "head_bias": even(4)}
    if cause == "initial law":
        normal, square = jax.nn.initializers.lecun_normal(), jax.nn.initializers.orthogonal()
        numbers |= {name: jnp.zeros_like(numbers[name]) for name in ("i_bias", "h_bias", "head_bias")}
        numbers |= {"embed": numbers["embed"] / 10**0.5, "i": normal(keys_of(key, 0), (10, 32))}
        numbers |= {"h": square(keys_of(key, 1), (8, 32)), "head": normal(keys_of(key, 2), (8, 4))}
    if cause == "one bias":
        numbers["i_bias"] += numbers.pop("h_bias")
    return numbers


def keys_of(key, number):
    return jax.random.fold_in(key, 100 + number)


def run(numbers, x, train=False, key=None, cause=None):
    def step(carry, i):
        h, c = carry
        gates = i + (h @ numbers["h"] + numbers.get("h_bias", 0))
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        new = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (new, c), (h if cause == "a step late" else new)

    i = numbers["embed"][x] @ numbers["i"] + numbers["i_bias"]
    zero = jnp.zeros((len(x), 8), i.dtype)
    out = jax.lax.scan(step, (zero, zero), i.swapaxes(0, 1))[1]
    if train:
        keep = 0.1 if cause == "kept for dropped" else 0.9
        key = jax.random.key(0) if cause == "one mask for all steps" else key
        out = jnp.where(jax.random.bernoulli(key, keep, out.shape), out / keep, 0)
    return out.swapaxes(0, 1) @ numbers["head"] + numbers["head_bias"]


def loss_of(logits, y, cause=None):
    if cause == "softmax twice":
        logits = jax.nn.softmax(logits)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def optimizer_of(cause=None):
    if cause == "decay in the gradient":
        return optax.chain(optax.add_decayed_weights(0.01), optax.adam(0.05))
    return optax.adamw(0.05, eps=1e-3 if cause == "large epsilon" else 1e-8, weight_decay=0.01)
