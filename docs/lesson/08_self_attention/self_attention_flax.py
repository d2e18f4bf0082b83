import jax
import jax.numpy as jnp
import optax
from flax import nnx


def linear(inputs, outputs, rngs):
    def law(key, shape, dtype):
        return jax.random.uniform(key, shape, dtype, -(inputs**-0.5), inputs**-0.5)

    return nnx.Linear(inputs, outputs, kernel_init=law, bias_init=law, rngs=rngs)


class Speller(nnx.Module):
    def __init__(self, rngs):
        self.q = linear(9, 8, rngs)
        self.k = linear(9, 8, rngs)
        self.v = linear(9, 8, rngs)
        self.head = linear(8, 4, rngs)

    def __call__(self, x):
        where = jnp.broadcast_to(jnp.eye(5, dtype=x.dtype), (len(x), 5, 5))
        x = jnp.concatenate([x, where], axis=-1)
        scores = self.q(x) @ self.k(x).mT / 8**0.5
        weights = nnx.softmax(scores, axis=-1)
        return self.head(weights @ self.v(x))


def loss_of(model, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()


@nnx.jit
def update(model, optimizer, x, y):
    loss, gradients = nnx.value_and_grad(loss_of)(model, x, y)
    optimizer.update(model, gradients)
    return loss


if __name__ == "__main__":
    model, start = Speller(nnx.Rngs(0)), jnp.load("self_attention.npz")
    for linear, name in (model.q, "q"), (model.k, "k"), (model.v, "v"), (model.head, "head"):
        linear.kernel[...], linear.bias[...] = start[f"{name}.weight"].T, start[f"{name}.bias"]
    x, y = jnp.eye(4)[jnp.array([[1, 0, 2, 2, 3]])], jnp.array([[3, 1, 2, 3, 2]])
    optimizer = nnx.Optimizer(model, optax.adam(0.01), wrt=nnx.Param)
    losses = []
    for epoch in range(40, 201, 40):
        losses += [update(model, optimizer, x, y).item() for _ in range(40)]
        letters = "".join("ehlo"[k] for k in model(x)[0].argmax(-1))
        print(f"epoch {epoch}: loss {losses[-1]:.4f}, {letters}")
