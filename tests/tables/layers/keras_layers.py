"""Keras' layers on one of its backends: keras_layers.py jax"""

import os
import sys

os.environ["KERAS_BACKEND"] = sys.argv[1]

import keras
import numpy as np
from serve import HEADS, Attention, Recurrent, serve


def entered(one):
    return keras.ops.convert_to_tensor(np.float32(one))


def recurrent(made, kind, **options):
    def built(inputs, hidden, seed):
        keras.utils.set_random_seed(seed)
        layer = made(hidden, return_sequences=True, return_state=True, **options)
        layer.build((None, None, inputs))
        return layer

    def named(layer):
        return {one.path.rpartition("/")[2]: one for one in layer.weights}

    def initial(seed, inputs, hidden):
        return {name: keras.ops.convert_to_numpy(one) for name, one in named(built(inputs, hidden, seed)).items()}

    def run(parameters, x, states, lengths):
        hidden = parameters["recurrent_kernel"].shape[0]
        layer = built(x.shape[2], hidden, 0)
        for name, one in named(layer).items():
            one.assign(parameters[name])
        given = {}
        if states is not None:
            given["initial_state"] = [entered(one) for one in states]
        if lengths is not None:
            mask = np.arange(x.shape[1])[None] < np.asarray(lengths)[:, None]
            given["mask"] = keras.ops.convert_to_tensor(mask)
        outputs, *after = layer(entered(x), **given)
        return keras.ops.convert_to_numpy(outputs), [keras.ops.convert_to_numpy(one) for one in after]

    return Recurrent(kind, initial, run, "mask", made)


def attention():
    def built(seed, features, heads):
        keras.utils.set_random_seed(seed)
        layer = keras.layers.MultiHeadAttention(heads, features // heads)
        shape = (None, None, features)
        layer.build(shape, shape, shape)
        return layer

    def named(layer):
        return {"/".join(one.path.split("/")[-2:]): one for one in layer.weights}

    def initial(seed, features, heads):
        return {name: keras.ops.convert_to_numpy(one) for name, one in named(built(seed, features, heads)).items()}

    def run(parameters, query, key, value, mask):
        layer = built(0, query.shape[2], HEADS)
        for name, one in named(layer).items():
            one.assign(parameters[name])
        given = None if mask is None else keras.ops.convert_to_tensor(mask)
        query, key, value = map(entered, (query, key, value))
        return keras.ops.convert_to_numpy(layer(query, value, key, attention_mask=given))

    return Attention(initial, run, True, "attention_mask")


serve(
    {
        "SimpleRNN": recurrent(keras.layers.SimpleRNN, "rnn"),
        "GRU": recurrent(keras.layers.GRU, "gru"),
        "GRU, reset_after=False": recurrent(keras.layers.GRU, "gru", reset_after=False),
        "LSTM": recurrent(keras.layers.LSTM, "lstm"),
        "MultiHeadAttention": attention(),
    },
    ("keras", sys.argv[1], "numpy"),
    "float32",
)
