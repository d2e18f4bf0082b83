"""What chapter 5 says of sizes, measured."""

import gru_flax
import gru_torch
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx

x, y = jnp.eye(4)[jnp.array([[1, 0, 2, 2, 3]])], jnp.array([[3, 1, 2, 3, 2]])


class Stock(nnx.Module):
    """Flax's own cell in place of ours."""

    def __init__(self, rngs):
        self.rnn = nnx.RNN(nnx.GRUCell(4, 8, rngs=rngs))
        self.head = nnx.Linear(8, 4, rngs=rngs)

    def __call__(self, x):
        return self.head(self.rnn(x))


def count(model):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def trained(model, epochs, optimizer):
    optimizer = nnx.Optimizer(model, optimizer, wrt=nnx.Param)
    return [gru_flax.update(model, optimizer, x, y).item() for _ in range(epochs)]


torch.manual_seed(0)
original = gru_torch.Speller()
start = {name: tensor.numpy() for name, tensor in original.state_dict().items()}
print(f"nn.GRU(4, 8): {sum(p.numel() for p in original.rnn.parameters())} numbers")
print(f"nnx.GRUCell(4, 8): {count(nnx.GRUCell(4, 8, rngs=nnx.Rngs(0)))} numbers")

# All biases zero: then the cell without b_hn computes what torch's does.
for rule_name, rule in ("Adam 0.05", optax.adam(0.05)), ("SGD 0.5", optax.sgd(0.5)):
    stock, ours = Stock(nnx.Rngs(0)), gru_flax.Speller(nnx.Rngs(0))
    cell = stock.rnn.cell
    for linear, name in (ours.i, "rnn.weight_ih_l0"), (ours.h, "rnn.weight_hh_l0"), (ours.head, "head.weight"):
        linear.kernel[...] = jnp.asarray(start[name].T)
        linear.bias[...] = jnp.zeros_like(linear.bias[...])
    cell.dense_i.kernel[...] = ours.i.kernel[...]
    cell.dense_h.kernel[...] = ours.h.kernel[...]
    stock.head.kernel[...] = ours.head.kernel[...]
    apart = jnp.abs(stock(x) - ours(x)).max()
    print(f"{rule_name}, nnx.GRUCell and ours from one start without biases: logits apart by {apart:.0e}")
    one, other = trained(stock, 60, rule), trained(ours, 60, rule)
    gaps = np.abs(np.array(one) - np.array(other))
    print(f"{rule_name}, losses: apart by {gaps[1]:.4f} at epoch 2")
    print(f"{rule_name}, losses: apart by {gaps.max():.3f} at most, at epoch {gaps.argmax() + 1}")

kernels = nnx.GRUCell(4, 8, rngs=nnx.Rngs(0))
largest = np.abs(start["rnn.weight_ih_l0"]).max()
print(f"torch's law: no number of the GRU beyond {8**-0.5:.3f}; largest weight by the input {largest:.3f}")
print(f"Flax's own law: largest weight by the input {jnp.abs(kernels.dense_i.kernel[...]).max():.3f}, biases all zero")
