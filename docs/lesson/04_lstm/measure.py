"""What chapter 4 says of sizes, measured."""

import math

import jax
import jax.numpy as jnp
import torch
from flax import nnx
from torch import nn


def count(model):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


print(f"nn.LSTM(4, 8): {sum(p.numel() for p in nn.LSTM(4, 8).parameters())} numbers")
cell = nnx.LSTMCell(4, 8, rngs=nnx.Rngs(0))
print(f"nnx.LSTMCell(4, 8): {count(cell)} numbers, in {len(jax.tree.leaves(nnx.state(cell, nnx.Param)))} arrays")
optimized = nnx.OptimizedLSTMCell(4, 8, rngs=nnx.Rngs(0))
print(
    f"nnx.OptimizedLSTMCell(4, 8): {count(optimized)} numbers, in {len(jax.tree.leaves(nnx.state(optimized, nnx.Param)))} arrays"
)

carry = cell.initialize_carry((1, 4), rngs=nnx.Rngs(0))
(first, second), output = cell(carry, jnp.ones((1, 4)))
print(
    f"nnx.LSTMCell's carry: the output is its first part {bool((output == first).all())}, its second {bool((output == second).all())}"
)

print(
    f"share of c that is kept in a step at forget gate 0: {1 / (1 + math.exp(0)):.2f}, at 1: {1 / (1 + math.exp(-1)):.2f}"
)

torch.manual_seed(0)
for kind in nn.RNN, nn.LSTM:
    found = []
    for _ in range(20):
        layer, x = kind(4, 32, batch_first=True), torch.randn(1, 50, 4, requires_grad=True)
        layer(x)[0][0, -1].sum().backward()
        found.append((x.grad[0, 0].norm() / x.grad[0, -1].norm()).item())
    found.sort()
    print(
        f"{kind.__name__}, 50 steps: the first input's gradient is {found[10]:.0e} of the last one's, median of 20 seeds"
    )
