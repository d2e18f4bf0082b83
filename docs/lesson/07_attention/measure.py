"""What chapter 7 says of sizes, measured."""

import attention_flax
import attention_torch
import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

torch.manual_seed(0)
scores = torch.randn(1, 5, 5)
print(
    f"softmax over the batch, batch 1: smallest weight {scores.softmax(0).min():.1f}, a row's sum {scores.softmax(0)[0, 0].sum():.1f}"
)
print(
    f"softmax over the source: largest weight {scores.softmax(-1).max():.2f}, a row's sum {scores.softmax(-1)[0, 0].sum():.1f}"
)

model = attention_torch.Speller()
np.savez("attention.npz", **model.state_dict())
x = torch.eye(4)[torch.tensor([[1, 0, 2, 2, 3]])]
y = torch.tensor([[3, 1, 2, 3, 2]])
given = torch.cat([torch.zeros(1, 1, 4), torch.eye(4)[y[:, :-1]]], dim=1)
optimizer = torch.optim.Adam(model.parameters(), 0.05)
for epoch in range(1, 61):
    loss = attention_torch.update(model, optimizer, x, given, y).item()
    told = "".join("ehlo"[k] for k in model(x, given)[0].argmax(-1))
    alone = attention_torch.spell(model, x)
    if epoch in (5, 10, 15, 20):
        print(f"epoch {epoch}: given the right letters it says {told}, given its own {alone}")

port = attention_flax.Speller(nnx.Rngs(0))
graph, state = nnx.split(port)
compiled = jax.jit(lambda state, x, given: nnx.merge(graph, state)(x, given))
x = jnp.eye(4)[jnp.array([[1, 0, 2, 2, 3]])]
for length in range(1, 6):
    compiled(state, x, jnp.zeros((1, length, 4)))
print(f"given grows from 1 letter to 5: compiled {compiled._cache_size()} times")
compiled = jax.jit(lambda state, x, given: nnx.merge(graph, state)(x, given))
for _ in range(5):
    compiled(state, x, jnp.zeros((1, 5, 4)))
print(f"given always filled up to 5: compiled {compiled._cache_size()} time")
longer = jnp.zeros((1, 5, 4)).at[0, 3].set(1.0)
apart = jnp.abs(port(x, jnp.zeros((1, 5, 4))) - port(x, longer))[0].max(axis=-1)
print(f"another letter given at step 3 moves the answers before it by {apart[:3].max():.0f}")
