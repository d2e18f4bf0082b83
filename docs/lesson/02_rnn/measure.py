"""What chapter 2 says of sizes, measured."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import rnn_flax
import torch
from flax import nnx
from torch import nn

x, y = jnp.eye(4)[jnp.array([[1, 0, 2, 2, 3]])], jnp.array([[3, 1, 2, 3, 2]])


def trained(biases, epochs=60):
    """Losses of the chapter's model with both biases trained; the state's kept at zero; or that, and the other twice as
    fast. All begin with the same sum of the two."""
    model = rnn_flax.Speller(nnx.Rngs(0))
    model.i.bias[...] += model.h.bias[...]
    model.h.bias[...] = jnp.zeros(8)
    rules = {"rest": optax.adam(0.05), "still": optax.set_to_zero(), "twice": optax.adam(0.1)}

    def label(path, leaf):
        names = [getattr(step, "key", None) for step in path]
        if names[:2] == ["h", "bias"] and biases != "two":
            return "still"
        return "twice" if names[:2] == ["i", "bias"] and biases == "one, twice as fast" else "rest"

    rule = optax.partition(rules, lambda state: jax.tree_util.tree_map_with_path(label, state))
    optimizer = nnx.Optimizer(model, rule, wrt=nnx.Param)
    return np.array([rnn_flax.update(model, optimizer, x, y).item() for _ in range(epochs)])


two = trained("two")
for biases in "one", "one, twice as fast":
    gaps = np.abs(trained(biases) - two)
    print(f"two biases against {biases}: losses apart by {gaps[0]:.0e} at epoch 1, by {gaps.max():.0e} at most")

layer = nn.RNN(4, 8, batch_first=True)
word = torch.eye(4)[torch.tensor([[1, 0, 2, 2, 3]])]
changed = word.clone()
changed[0, 0] = 0
right = (layer(word)[0] - layer(changed)[0])[0, 4].abs().max()
wrong = (layer(word.swapaxes(0, 1))[0] - layer(changed.swapaxes(0, 1))[0])[4, 0].abs().max()
print(f"another first letter moves the last output by {right:.0e}; with batch and time exchanged by {wrong:.0f}")

numbers = jnp.ones(1000)
moved = jax.jit(lambda numbers: numbers + 1, donate_argnums=0)(numbers)
print(f"an array after it was donated: deleted is {numbers.is_deleted()}")

stock = nnx.SimpleCell(4, 8, rngs=nnx.Rngs(0))
for name, kernel in ("input", stock.dense_i.kernel), ("state", stock.dense_h.kernel):
    print(
        f"nnx.SimpleCell, kernel by the {name}: deviation {kernel[...].std():.2f}, largest {jnp.abs(kernel[...]).max():.2f}"
    )
weights = nn.RNN(4, 8).weight_hh_l0
print(f"nn.RNN, weight_hh_l0: deviation {weights.std():.2f}, largest {weights.abs().max():.2f}")
