"""What chapter 9 says of sizes, measured."""

import jax
import jax.numpy as jnp
import multi_head_torch
import torch
from flax import nnx
from torch import nn


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


model = multi_head_torch.Speller()
print(f"two heads of 8, as in the course: {count(model) - count(model.head)} numbers")
print(f"nn.MultiheadAttention(8, 2), two heads of 4: {count(nn.MultiheadAttention(8, 2))} numbers")

x = torch.arange(80).reshape(1, 5, 16)
right, wrong = x.unflatten(-1, (2, 8)).transpose(1, 2), x.reshape(1, 2, 5, 8)
print(
    f"head 0, position 1 begins with number {right[0, 0, 1, 0]}; reshaped alone, with {wrong[0, 0, 1, 0]}: it is half of position 0"
)

ours = nn.MultiheadAttention(8, 2)
theirs = nnx.MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(0))
print(
    f"nn.MultiheadAttention(8, 2): largest query weight {ours.in_proj_weight[:8].abs().max():.2f}, bound {(6 / 32) ** 0.5:.2f}"
)
print(f"nnx.MultiHeadAttention(2, 8): largest query weight {jnp.abs(theirs.query.kernel[...]).max():.2f}")
print(f"nnx.MultiHeadAttention(2, 8): query kernel {theirs.query.kernel.shape}, out kernel {theirs.out.kernel.shape}")

dropping = {"decode": False, "dropout_rate": 0.5, "deterministic": False, "use_bias": False}
for broadcast in True, False:
    layer = nnx.MultiHeadAttention(2, 8, broadcast_dropout=broadcast, **dropping, rngs=nnx.Rngs(0))
    x = jnp.broadcast_to(jax.random.normal(jax.random.key(1), (1, 5, 8)), (4, 5, 8))
    out = layer(x)
    print(
        f"broadcast_dropout={broadcast}: of 4 equal sequences the outputs are apart by {jnp.abs(out - out[:1]).max():.1f}"
    )
