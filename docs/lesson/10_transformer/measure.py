"""What chapter 10 says of sizes, measured."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import transformer_flax
import transformer_torch
from flax import nnx
from torch import nn

HELLO, OHLOL = [[1, 0, 2, 2, 3]], [[3, 1, 2, 3, 2]]
x, y = torch.eye(4)[torch.tensor(HELLO)], torch.tensor(OHLOL)
jax_x, jax_y = jnp.eye(4)[jnp.array(HELLO)], jnp.array(OHLOL)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


by_default = nn.TransformerEncoderLayer(8, 2)
print(
    f"by default: dropout {by_default.dropout1.p}, {by_default.linear1.out_features} hidden units, batch first {by_default.self_attn.batch_first}"
)
print(f"nn.TransformerEncoderLayer(8, 2): {count(nn.TransformerEncoderLayer(8, 2))} numbers")
print(f"nn.TransformerEncoderLayer(8, 2, 16): {count(nn.TransformerEncoderLayer(8, 2, 16))} numbers")

print(
    f"epsilon by default: nn.LayerNorm {nn.LayerNorm(8).eps}, nnx.LayerNorm {nnx.LayerNorm(8, rngs=nnx.Rngs(0)).epsilon}"
)
for size in 1.0, 0.01:
    values = np.random.default_rng(0).standard_normal((1, 5, 8)).astype(np.float32) * size
    ours = nn.LayerNorm(8)(torch.tensor(values)).detach().numpy()
    theirs = nnx.LayerNorm(8, rngs=nnx.Rngs(0))(values)
    print(f"LayerNorm by default, inputs of size {size}: apart by {np.abs(ours - theirs).max():.1e}")

torch.manual_seed(0)
original = transformer_torch.Speller()
start = {name: tensor.numpy().copy() for name, tensor in original.state_dict().items()}
port = transformer_flax.Speller(nnx.Rngs(0))
transformer_flax.load(port, start)
transformer_torch.loss_of(original, x, y).backward()
gradient = original.layer.self_attn.in_proj_bias.grad.abs()
print(f"largest gradient of the query's bias {gradient[:8].max():.1e}, of the key's {gradient[8:16].max():.1e}")
optimizer = torch.optim.Adam(original.parameters(), 0.01)
theirs = nnx.Optimizer(port, optax.adam(0.01), wrt=nnx.Param)
for _ in range(150):
    transformer_torch.update(original, optimizer, x, y)
    transformer_flax.update(port, theirs, jax_x, jax_y)
key_bias = original.layer.self_attn.in_proj_bias.detach().numpy()[8:16]
print(f"after 150 epochs: key's biases apart by {np.abs(key_bias - port.attention.key.bias[...].reshape(8)).max():.1e}")
logits = original(x).detach().numpy()
print(f"after 150 epochs: logits apart by {np.abs(logits - np.asarray(port(jax_x))).max():.1e}")

torch.manual_seed(0)
blind = transformer_torch.Speller()
transformer_torch.positions = lambda length, size: torch.zeros(length, size)
optimizer = torch.optim.Adam(blind.parameters(), 0.01)
losses = [transformer_torch.update(blind, optimizer, x, y).item() for _ in range(500)]
print(f"without positions, 500 epochs: loss {losses[-1]:.4f}; no smaller than 2 ln 2 / 5 = {2 * math.log(2) / 5:.4f}")

layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0).eval()
batch = torch.randn(1, 5, 8)
moved = batch.clone()
moved[0, 4] += 1.0
changed = (layer(batch) - layer(moved))[0, :4].abs().max()
print(f"batch first, to a layer that takes time first: the last letter moves the other outputs by {changed:.1f}")

drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
ones = jnp.ones(1000)
first, second = drop(ones), drop(ones)
again = nnx.Dropout(0.5, rngs=nnx.Rngs(0))(ones)
print(
    f"nnx.Dropout called twice: {(first != second).mean():.2f} of the mask differs, count is now {drop.rngs.count[...]}"
)
print(f"nnx.Dropout made again with the same key: {(first != again).mean():.2f} differs")


@jax.jit
def frozen(ones):
    return nnx.Dropout(0.5, rngs=nnx.Rngs(0))(ones)


print(f"made inside jit, called twice: {(frozen(ones) != frozen(ones)).mean():.2f} differs")
