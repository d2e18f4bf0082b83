"""A Keras model on JAX against nnx, with dropout and a state that is kept."""

import keras
import optax
from flax import nnx
from keras import layers

keras_backends = ("jax", "jax")


def original(seed):
    keras.utils.set_random_seed(seed)
    x = keras.Input((6,))
    h = layers.BatchNormalization(epsilon=1e-5)(layers.Dense(8)(x))
    h = layers.Dropout(0.2)(keras.ops.tanh(h))
    return keras.Model(x, layers.Dense(3)(h))


class Port(nnx.Module):
    def __init__(self, rngs):
        start = {"kernel_init": nnx.initializers.glorot_uniform(), "rngs": rngs}
        self.up, self.down = nnx.Linear(6, 8, **start), nnx.Linear(8, 3, **start)
        self.norm = nnx.BatchNorm(8, momentum=0.99, rngs=rngs)
        self.drop = nnx.Dropout(0.2, rngs=rngs)

    def __call__(self, x):
        return self.down(self.drop(nnx.tanh(self.norm(self.up(x)))))


def port(seed):
    return Port(nnx.Rngs(seed))


def inputs(rng):
    return (rng.standard_normal((16, 6)),)


optimizers = (optax.adamw(1e-3), optax.adamw(1e-3))
