"""MLX's recurrent layers and attention, on a CPU."""

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_flatten, tree_unflatten
from serve import HEADS, Attention, Recurrent, serve

mx.set_default_device(mx.cpu)


def recurrent(made, kind):
    def initial(seed, inputs, hidden):
        mx.random.seed(seed)
        return {name: np.array(one) for name, one in tree_flatten(made(inputs, hidden).parameters())}

    def run(parameters, x, states, lengths):
        hidden = parameters["bias" if kind != "gru" else "b"].shape[0] // {"rnn": 1, "gru": 3, "lstm": 4}[kind]
        layer = made(x.shape[2], hidden)
        layer.update(tree_unflatten([(name, mx.array(one.astype(np.float32))) for name, one in parameters.items()]))
        given = [] if states is None else [mx.array(np.float32(one)) for one in states]
        found = layer(mx.array(np.float32(x)), *given)
        every = found if isinstance(found, tuple) else (found,)
        return np.array(every[0]), [np.array(one)[:, -1] for one in every]

    return Recurrent(kind, initial, run, "", made)


def attention():
    def initial(seed, features, heads):
        mx.random.seed(seed)
        made = nn.MultiHeadAttention(features, heads, bias=True)
        return {name: np.array(one) for name, one in tree_flatten(made.parameters())}

    def run(parameters, query, key, value, mask):
        layer = nn.MultiHeadAttention(query.shape[2], HEADS, bias=True)
        layer.update(tree_unflatten([(name, mx.array(one.astype(np.float32))) for name, one in parameters.items()]))
        given = None if mask is None else mx.array(mask)[:, None]
        return np.array(layer(*(mx.array(np.float32(one)) for one in (query, key, value)), given))

    default = any("bias" in name for name, _ in tree_flatten(nn.MultiHeadAttention(4, 2).parameters()))
    return Attention(initial, run, default, "mask")


serve(
    {
        "nn.RNN": recurrent(nn.RNN, "rnn"),
        "nn.GRU": recurrent(nn.GRU, "gru"),
        "nn.LSTM": recurrent(nn.LSTM, "lstm"),
        "nn.MultiHeadAttention": attention(),
    },
    ("mlx", "numpy"),
    "float32",
)
