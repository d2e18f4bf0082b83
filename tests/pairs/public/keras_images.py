"""One Keras model, convolutions with BatchNorm: on torch and on JAX."""

import keras
import optax
import torch
from keras import layers


def original(seed):
    keras.utils.set_random_seed(seed)
    images = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(images)
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling2D()(layers.Activation("relu")(x))
    x = layers.Dense(5, activation="gelu")(layers.Flatten()(x))
    return keras.Model(images, layers.Dense(3)(x))


def port(seed):
    keras.utils.set_random_seed(seed)
    images = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(images)
    x = layers.BatchNormalization(momentum=0.99, epsilon=1e-3)(x)
    x = layers.MaxPooling2D()(layers.Activation("relu")(x))
    x = layers.Dense(5, activation="gelu")(layers.Flatten()(x))
    return keras.Model(images, layers.Dense(3)(x))


def inputs(rng):
    return (rng.standard_normal((4, 6, 6, 3)),)


optimizers = (lambda parameters: torch.optim.Adam(parameters, 1e-3), optax.adam(1e-3))
