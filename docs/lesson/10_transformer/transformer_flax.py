import jax
import jax.numpy as jnp
import optax
from flax import nnx


def uniform(bound):
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


def linear(inputs, outputs, rngs):
    law = uniform(inputs**-0.5)
    return nnx.Linear(inputs, outputs, kernel_init=law, bias_init=law, rngs=rngs)


def positions(length, size):
    angles = jnp.arange(length)[:, None] / 10000 ** (jnp.arange(0, size, 2) / size)
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(length, size)


class Speller(nnx.Module):
    def __init__(self, rngs, dropout=0.0):
        self.embed, self.head = linear(4, 8, rngs), linear(8, 4, rngs)
        laws = {"kernel_init": uniform((6 / (8 + 3 * 8)) ** 0.5), "out_kernel_init": uniform(8**-0.5)}
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, **laws, rngs=rngs)
        self.norm1 = nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs)
        self.up, self.down = linear(8, 16, rngs), linear(16, 8, rngs)
        self.norm2 = nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs)
        self.drop = nnx.Dropout(dropout, rngs=rngs)

    def __call__(self, x):
        x = self.embed(x) + positions(x.shape[1], 8).astype(x.dtype)
        x = self.norm1(x + self.drop(self.attention(x)))
        hidden = self.drop(nnx.relu(self.up(x)))
        x = self.norm2(x + self.drop(self.down(hidden)))
        return self.head(x)


def loss_of(model, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()


@nnx.jit
def update(model, optimizer, x, y):
    loss, gradients = nnx.value_and_grad(loss_of)(model, x, y)
    optimizer.update(model, gradients)
    return loss


def load(model, start):
    names = {"embed": model.embed, "head": model.head, "layer.linear1": model.up, "layer.linear2": model.down}
    for name, layer in names.items():
        layer.kernel[...], layer.bias[...] = start[f"{name}.weight"].T, start[f"{name}.bias"]
    attention, packed = model.attention, jnp.split(start["layer.self_attn.in_proj_weight"], 3)
    for layer, rows in zip((attention.query, attention.key, attention.value), packed, strict=True):
        layer.kernel[...] = rows.T.reshape(8, 2, 4)
    attention.out.kernel[...] = start["layer.self_attn.out_proj.weight"].T.reshape(2, 4, 8)


if __name__ == "__main__":
    model = Speller(nnx.Rngs(0))
    load(model, jnp.load("transformer.npz"))
    x, y = jnp.eye(4)[jnp.array([[1, 0, 2, 2, 3]])], jnp.array([[3, 1, 2, 3, 2]])
    optimizer = nnx.Optimizer(model, optax.adam(0.01), wrt=nnx.Param)
    losses = []
    for epoch in range(25, 151, 25):
        losses += [update(model, optimizer, x, y).item() for _ in range(25)]
        letters = "".join("ehlo"[k] for k in model(x)[0].argmax(-1))
        print(f"epoch {epoch}: loss {losses[-1]:.4f}, {letters}")
