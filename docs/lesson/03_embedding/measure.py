"""What chapter 3 says of sizes, measured."""

import time

import embedding_flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx
from torch import nn

x, y = jnp.array([[1, 0, 2, 2, 3]]), jnp.array([[3, 1, 2, 3, 2]])

print(f"nn.Embedding(1000, 10): deviation {nn.Embedding(1000, 10).weight.std():.2f}")
print(f"nnx.Embed(1000, 10): deviation {nnx.Embed(1000, 10, rngs=nnx.Rngs(0)).embedding[...].std():.2f}")


# One for all seeds: a second optax.adam(0.05) is another function, and would be compiled again.
RULE = optax.adam(0.05)


@nnx.jit
def is_right(model):
    return (model(x).argmax(-1) == y).all()


def epochs_until_right(seed, law):
    model = embedding_flax.Speller(nnx.Rngs(seed))
    if law == "Flax's":
        model.embed.embedding[...] = nnx.Embed(4, 10, rngs=nnx.Rngs(seed)).embedding[...]
    optimizer = nnx.Optimizer(model, RULE, wrt=nnx.Param)
    for epoch in range(1, 61):
        embedding_flax.update(model, optimizer, x, y)
        if is_right(model):
            return epoch
    return 60


for law in "torch's", "Flax's":
    found = [epochs_until_right(seed, law) for seed in range(10)]
    print(f"embedding by {law} law: right after {np.mean(found):.1f} epochs, mean of 10 seeds")

embed = nnx.Embed(4, 10, rngs=nnx.Rngs(0))
print(
    f"nnx.Embed of 4 rows: row 7 is {embed(jnp.array(7))[0]}, row -1 is row 3: {(embed(jnp.array(-1)) == embed(jnp.array(3))).all()}"
)
print(f"indexing an array of 4 rows: row 7 is row 3: {(embed.embedding[...][7] == embed.embedding[...][3]).all()}")
try:
    nn.Embedding(4, 10)(torch.tensor(7))
except IndexError as error:
    print(f"nn.Embedding of 4 rows: IndexError: {error}")

padded = nn.Embedding(4, 10, padding_idx=0)
padded(torch.tensor([0, 1])).sum().backward()
print(
    f"padding_idx=0: row 0 is {padded.weight[0].abs().max():.1f}, its gradient {padded.weight.grad[0].abs().max():.1f}"
)


def seconds(call):
    begun = time.process_time()
    jax.block_until_ready(call())
    return time.process_time() - begun


model = embedding_flax.Speller(nnx.Rngs(0))
for name, rule in ("the same rule", RULE), ("another optax.adam(0.05)", optax.adam(0.05)):
    optimizer = nnx.Optimizer(model, rule, wrt=nnx.Param)
    spent = seconds(lambda optimizer=optimizer: embedding_flax.update(model, optimizer, x, y))
    print(f"first update of an optimizer with {name}: {spent:.3f} s")
model(x)
is_right(model)
print(
    f"the model called again, by itself: {seconds(lambda: model(x)):.3f} s, within nnx.jit: {seconds(lambda: is_right(model)):.3f} s"
)
