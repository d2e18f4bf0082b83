"""Models as people write them in Keras. In float64, on its NumPy backend (which imports JAX all the same)."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

os.environ["KERAS_BACKEND"] = "numpy"

import keras  # pyright: ignore[reportMissingImports]
from keras import layers  # pyright: ignore[reportMissingImports]

keras.config.set_floatx("float64")

Predict = Callable[[np.ndarray], np.ndarray]


def attending() -> keras.Model:
    """Several heads over inputs that carry their own positions, one-hot, which the experiment's model adds itself."""
    given = keras.Input((5, 4))
    x = layers.Concatenate()([given, Positions()(given)])
    x = layers.MultiHeadAttention(2, 8, output_shape=8)(x, x)
    return keras.Model(given, layers.Dense(4)(x))


class Positions(layers.Layer):
    def call(self, x: Any) -> Any:
        return keras.ops.broadcast_to(keras.ops.eye(5, dtype="float64"), (x.shape[0], 5, 5))

    def compute_output_shape(self, shape: Any) -> Any:
        return (shape[0], 5, 5)


def sequential(*given: Any, inputs: Any = (5, 4), dtype: str | None = None) -> keras.Model:
    return keras.Sequential([keras.Input(inputs, dtype=dtype), *given, layers.Dense(4)])


ORIGINALS: dict[str, tuple[str, Callable[[], keras.Model]]] = {
    "lstm": ("hello-lstm", lambda: sequential(layers.LSTM(8, return_sequences=True))),
    "gru": ("hello-gru", lambda: sequential(layers.GRU(8, return_sequences=True))),
    "old gru": ("hello-gru", lambda: sequential(layers.GRU(8, return_sequences=True, reset_after=False))),
    "no biases": ("hello-gru", lambda: sequential(layers.GRU(8, return_sequences=True, use_bias=False))),
    "rnn": ("hello-rnn", lambda: sequential(layers.SimpleRNN(8, return_sequences=True))),
    "relu": ("hello-rnn", lambda: sequential(layers.SimpleRNN(8, return_sequences=True, activation="relu"))),
    "both ways": (
        "hello-bidirectional-lstm",
        lambda: sequential(layers.Bidirectional(layers.LSTM(8, return_sequences=True))),
    ),
    "stacked": (
        "hello-stacked-rnn",
        lambda: sequential(*(layers.SimpleRNN(8, return_sequences=True) for _ in range(3))),
    ),
    "embedded": (
        "hello-embedding-rnn",
        lambda: sequential(
            layers.Embedding(4, 10),
            *(layers.SimpleRNN(8, return_sequences=True) for _ in range(2)),
            inputs=(5,),
            dtype="int32",
        ),
    ),
    "attending": ("hello-multi-head-attention", attending),
}
"""Each with the experiment whose model it is."""


def made(name: str, policy: str = "float64") -> tuple[keras.Model, Predict]:
    """One of ORIGINALS, its values drawn anew, and what it predicts."""
    keras.utils.clear_session()
    keras.config.set_dtype_policy(policy)
    model = ORIGINALS[name][1]()
    random = np.random.default_rng(0)
    model.set_weights([one + random.normal(0, 0.2, one.shape) for one in model.get_weights()])
    return model, lambda inputs: np.asarray(model(inputs))
