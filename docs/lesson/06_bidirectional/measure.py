"""What chapter 6 says of sizes, measured."""

import jax.numpy as jnp
import torch
from flax import nnx
from torch import nn

torch.manual_seed(0)
layer = nn.LSTM(4, 8, num_layers=2, bidirectional=True, batch_first=True)
out, (h_n, c_n) = layer(torch.randn(3, 5, 4))
print(f"two layers, both directions, batch 3: out {tuple(out.shape)}, h_n {tuple(h_n.shape)}")
print(
    f"out[:, -1, :8] is h_n[2]: {torch.equal(out[:, -1, :8], h_n[2])}; out[:, 0, 8:] is h_n[3]: {torch.equal(out[:, 0, 8:], h_n[3])}"
)

layer = nn.LSTM(4, 8, bidirectional=True, batch_first=True)
x = torch.randn(1, 5, 4)
other = x.clone()
other[0, 0] += 1
moved = (layer(x)[0] - layer(other)[0]).abs()
print(
    f"another first item moves the last step's forward half by {moved[0, -1, :8].max():.0e}, its backward half by {moved[0, -1, 8:].max():.0f}"
)

padded = torch.cat([x, torch.zeros(1, 3, 4)], dim=1)
filled = torch.cat([x, torch.ones(1, 3, 4)], dim=1)
difference = (layer(padded)[0] - layer(filled)[0])[:, :5].abs().max()
packed = [nn.utils.rnn.pack_padded_sequence(one, [5], batch_first=True) for one in (padded, filled)]
same = (layer(packed[0])[0].data - layer(packed[1])[0].data).abs().max()
print(f"another filling behind the sequence moves its outputs by {difference:.2f}; packed, by {same:.0f}")

x = jnp.asarray(x.numpy())
for keep in False, True:
    backward = nnx.RNN(nnx.LSTMCell(4, 8, rngs=nnx.Rngs(0)), reverse=True, keep_order=keep)
    moved = jnp.abs(backward(x) - backward(x.at[0, 0].add(1)))[0].max(axis=-1)
    print(
        f"nnx.RNN(reverse=True, keep_order={keep}): another first item moves output {int(moved.argmax())} and no other"
    )
    assert (moved > 0).sum() == 1
