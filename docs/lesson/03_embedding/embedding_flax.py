import jax
import jax.numpy as jnp
import optax
from flax import nnx


def law(key, shape, dtype):
    return jax.random.uniform(key, shape, dtype, -(8**-0.5), 8**-0.5)


class Layer(nnx.Module):
    def __init__(self, inputs, rngs):
        self.i = nnx.Linear(inputs, 8, kernel_init=law, bias_init=law, rngs=rngs)
        self.h = nnx.Linear(8, 8, kernel_init=law, bias_init=law, rngs=rngs)

    def __call__(self, x):
        def step(h, i):
            h = jnp.tanh(i + self.h(h))
            return h, h

        h_0 = jnp.zeros((len(x), 8), x.dtype)
        h_n, out = jax.lax.scan(step, h_0, self.i(x).swapaxes(0, 1))
        return out.swapaxes(0, 1)


class Speller(nnx.Module):
    def __init__(self, rngs):
        normal = nnx.initializers.normal(1.0)
        self.embed = nnx.Embed(4, 10, embedding_init=normal, rngs=rngs)
        self.layer0, self.layer1 = Layer(10, rngs), Layer(8, rngs)
        self.head = nnx.Linear(8, 4, kernel_init=law, bias_init=law, rngs=rngs)

    def __call__(self, x):
        return self.head(self.layer1(self.layer0(self.embed(x))))


def loss_of(model, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()


@nnx.jit
def update(model, optimizer, x, y):
    loss, gradients = nnx.value_and_grad(loss_of)(model, x, y)
    optimizer.update(model, gradients)
    return loss


if __name__ == "__main__":
    model, start = Speller(nnx.Rngs(0)), jnp.load("embedding.npz")
    model.embed.embedding[...] = start["embed.weight"]
    linears = model.layer0.i, model.layer0.h, model.layer1.i, model.layer1.h, model.head
    names = "rnn.{}_ih_l0", "rnn.{}_hh_l0", "rnn.{}_ih_l1", "rnn.{}_hh_l1", "head.{}"
    for linear, name in zip(linears, names, strict=True):
        linear.kernel[...], linear.bias[...] = start[name.format("weight")].T, start[name.format("bias")]
    x, y = jnp.array([[1, 0, 2, 2, 3]]), jnp.array([[3, 1, 2, 3, 2]])
    optimizer = nnx.Optimizer(model, optax.adam(0.05), wrt=nnx.Param)
    losses = []
    for epoch in range(5, 31, 5):
        losses += [update(model, optimizer, x, y).item() for _ in range(5)]
        letters = "".join("ehlo"[k] for k in model(x)[0].argmax(-1))
        print(f"epoch {epoch}: loss {losses[-1]:.4f}, {letters}")
