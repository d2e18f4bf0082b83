"""What chapter 1 says of sizes, measured. Times are of the CPU, so that a busy machine changes them less."""

import time

import jax
import jax.numpy as jnp
import optax
import torch
from flax import nnx
from rnn_cell_flax import Speller, update


def seconds(call):
    begun = time.process_time()
    jax.block_until_ready(call())
    return time.process_time() - begun


torch.manual_seed(0)
first, second = torch.rand(3), torch.rand(3)
print(f"torch, two draws after one seed: apart by {(first - second).abs().max():.3f}")
key = jax.random.key(0)
first, second = jax.random.uniform(key, (3,)), jax.random.uniform(key, (3,))
print(f"JAX, two draws with one key: apart by {jnp.abs(first - second).max():.3f}")
one, other = jax.random.split(key)
first, second = jax.random.uniform(one, (3,)), jax.random.uniform(other, (3,))
print(f"JAX, a draw with each of two keys that it was split into: apart by {jnp.abs(first - second).max():.3f}")

model = Speller(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adam(0.05), wrt=nnx.Param)
x, y = jnp.eye(4)[jnp.array([[1, 0, 2, 2, 3]])], jnp.array([[3, 1, 2, 3, 2]])
first = seconds(lambda: update(model, optimizer, x, y))
later = seconds(lambda: [update(model, optimizer, x, y) for _ in range(50)]) / 50
print(f"update, first call: {first:.2f} s")
print(f"update, each of the next 50 calls: {later * 1000:.1f} ms")
longer = jnp.concatenate([x, x], axis=1), jnp.concatenate([y, y], axis=1)
print(f"update, first call with 10 letters: {seconds(lambda: update(model, optimizer, *longer)):.2f} s")


def scanned(x):
    def step(h, x):
        h = jnp.tanh(model.i(x) + model.h(h))
        return h, model.head(h)

    return jax.lax.scan(step, jnp.zeros((len(x), 8)), x.swapaxes(0, 1))[1].swapaxes(0, 1)


for length in (5, 50, 200):
    x = jnp.zeros((1, length, 4))
    for name, function in ("loop", lambda x: model(x)), ("scan", scanned):
        equations = len(jax.make_jaxpr(function)(x).eqns)
        spent = seconds(lambda f=function, x=x: jax.jit(f).lower(x).compile()(x))
        print(f"{length} steps by {name}: {equations} operations traced, compiled in {spent:.2f} s")
x = jax.random.normal(key, (1, 200, 4))
print(f"loop and scan over 200 steps: apart by {jnp.abs(model(x) - scanned(x)).max():.0e}")
