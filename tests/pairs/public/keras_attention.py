"""torch's embedding, attention and norm against Keras's on JAX."""

import keras
from keras import layers
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.words(x)
        return self.head(self.norm(x + self.attention(x, x, x, need_weights=False)[0]))


class Port(keras.Model):
    def __init__(self):
        super().__init__()
        self.words = layers.Embedding(11, 8)
        self.attention = layers.MultiHeadAttention(2, 4)
        self.norm = layers.LayerNormalization(epsilon=1e-5)
        self.head = layers.Dense(3)

    def call(self, x):
        x = self.words(x)
        return self.head(self.norm(x + self.attention(x, x)))


def original():
    return Net()


def port():
    made = Port()
    made(keras.ops.zeros((1, 6), "int32"))
    return made


def inputs(rng):
    return (rng.integers(0, 11, (3, 6)),)
