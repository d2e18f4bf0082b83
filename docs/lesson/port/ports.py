"""Three ports of it: as one first writes it, with a GRU of its own, and right."""

import jax
import jax.numpy as jnp
from flax import nnx


class First(nnx.Module):
    def __init__(self, rngs):
        self.up = nnx.Linear(6, 8, rngs=rngs)
        self.rnn = nnx.RNN(nnx.GRUCell(8, 8, rngs=rngs))
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.head = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x, lengths):
        out = self.rnn(nnx.gelu(self.up(x)))
        return self.head(self.norm(out[:, -1]))


def law(key, shape, dtype):
    return jax.random.uniform(key, shape, dtype, -(8**-0.5), 8**-0.5)


class GRU(nnx.Module):
    def __init__(self, rngs):
        self.i = nnx.Linear(8, 24, kernel_init=law, bias_init=law, rngs=rngs)
        self.h = nnx.Linear(8, 24, kernel_init=law, bias_init=law, rngs=rngs)

    def __call__(self, x):
        def step(h, i):
            i_r, i_z, i_n = jnp.split(i, 3, axis=-1)
            h_r, h_z, h_n = jnp.split(self.h(h), 3, axis=-1)
            r, z = nnx.sigmoid(i_r + h_r), nnx.sigmoid(i_z + h_z)
            n = jnp.tanh(i_n + r * h_n)
            h = (1 - z) * n + z * h
            return h, h

        h_0 = jnp.zeros((len(x), 8), x.dtype)
        _, out = jax.lax.scan(step, h_0, self.i(x).swapaxes(0, 1))
        return out.swapaxes(0, 1)


class Second(First):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.rnn = GRU(rngs)


def linear(inputs, outputs, rngs):
    def even(key, shape, dtype):
        return jax.random.uniform(key, shape, dtype, -(inputs**-0.5), inputs**-0.5)

    return nnx.Linear(inputs, outputs, kernel_init=even, bias_init=even, rngs=rngs)


class Third(nnx.Module):
    def __init__(self, rngs):
        self.up = linear(6, 8, rngs)
        self.rnn = GRU(rngs)
        self.norm = nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs)
        self.head = linear(8, 3, rngs)

    def __call__(self, x, lengths):
        out = self.rnn(nnx.gelu(self.up(x), approximate=False))
        last = out[jnp.arange(len(x)), lengths - 1]
        return self.head(self.norm(last))
