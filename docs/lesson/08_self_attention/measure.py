"""What chapter 8 says of sizes, measured."""

import math

import jax.numpy as jnp
import self_attention_torch
import torch
from flax import nnx
from torch import nn

x, y = torch.eye(4)[torch.tensor([[1, 0, 2, 2, 3]])], torch.tensor([[3, 1, 2, 3, 2]])


class Blind(self_attention_torch.Speller):
    """Without positions."""

    def forward(self, x):
        x = torch.cat([x, torch.zeros(len(x), 5, 5)], dim=-1)
        weights = (self.q(x) @ self.k(x).mT / 8**0.5).softmax(dim=-1)
        return self.head(weights @ self.v(x))


torch.manual_seed(0)
blind = Blind()
optimizer = torch.optim.Adam(blind.parameters(), 0.01)
losses = [self_attention_torch.update(blind, optimizer, x, y).item() for _ in range(500)]
print(f"without positions, 500 epochs: loss {losses[-1]:.4f}; 2 ln 2 / 5 = {2 * math.log(2) / 5:.4f}")
probabilities = blind(x)[0].softmax(-1)
print(
    f"at both l's it says l with {probabilities[2, 2]:.2f} and o with {probabilities[2, 3]:.2f}; the two rows are apart by {(probabilities[2] - probabilities[3]).abs().max():.0f}"
)

for size in 8, 512:
    q, k = torch.randn(1000, size), torch.randn(1000, size)
    scores = (q * k).sum(-1)
    print(
        f"{size} features: a score deviates by {scores.std():.1f}, divided by the root by {(scores / size**0.5).std():.1f}"
    )

q, k = torch.randn(1, 5, 512), torch.randn(1, 5, 512)
print(
    f"512 features, 5 positions: largest weight {(q @ k.mT).softmax(-1).max():.2f}, with the root {(q @ k.mT / 512**0.5).softmax(-1).max():.2f}"
)

seen = jnp.array([True, True, False, False, False])
weights = nnx.softmax(jnp.where(seen, jnp.zeros(5), -jnp.inf))
print(f"three of five hidden by -inf: weights {weights.tolist()}")
nothing = torch.full((5,), -math.inf).softmax(-1)
print(f"all hidden by -inf: weights {nothing.tolist()}")
attention = nn.MultiheadAttention(8, 1, batch_first=True)
print(
    f"nn.Linear(9, 8) three times: {3 * (9 * 8 + 8)} numbers; nn.MultiheadAttention(8, 1): {sum(p.numel() for p in attention.parameters())}"
)
