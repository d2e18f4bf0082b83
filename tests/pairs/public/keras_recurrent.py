"""torch's recurrent layers against Keras's on JAX, whose gates stand in another order."""

import keras
from keras import layers
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.GRU(3, 4, batch_first=True, bidirectional=True)
        self.second = nn.LSTM(8, 3, batch_first=True, bias=False)

    def forward(self, x):
        return self.second(self.first(x)[0])[0]


def original():
    return Net()


def port():
    x = keras.Input((3, 3))
    h = layers.Bidirectional(layers.GRU(4, return_sequences=True))(x)
    return keras.Model(x, layers.LSTM(3, return_sequences=True, use_bias=False)(h))


def inputs(rng):
    return (rng.standard_normal((2, 3, 3)),)
