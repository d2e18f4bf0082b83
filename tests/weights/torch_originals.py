"""Models as people write them in torch, with names of their own. Each takes what the experiment's batch has."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

Predict = Callable[[np.ndarray], np.ndarray]


class Tagger(nn.Module):
    """A stock recurrent layer, and a linear map, called as people call them."""

    def __init__(self, layer: nn.RNNBase, name: str = "lstm", classes: int = 4):
        super().__init__()
        self.name = name
        setattr(self, name, layer)
        self.fc = nn.Linear(layer.hidden_size * (2 if layer.bidirectional else 1), classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(getattr(self, self.name)(x)[0])


class Stacked(nn.Module):
    """Layers that were made one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn1, self.rnn2, self.rnn3 = (nn.RNN(size, 8, batch_first=True) for size in (4, 8, 8))
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.rnn1, self.rnn2, self.rnn3):
            x = layer(x)[0]
        return self.fc(x)


class Embedded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb, self.rnn, self.fc = (
            nn.Embedding(4, 10),
            nn.RNN(10, 8, num_layers=2, batch_first=True),
            nn.Linear(8, 4),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(self.emb(x))[0])


class Attention(nn.Module):
    """Several heads; projections apart."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        def parted(projection: nn.Linear) -> Tensor:
            return projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q, k, v = map(parted, (self.q_proj, self.k_proj, self.v_proj))
        weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1)
        return self.o_proj((weights @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn, self.ln1, self.ln2 = Attention(8, 2), nn.LayerNorm(8), nn.LayerNorm(8)
        self.fc1, self.fc2 = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.ln1(x + self.attn(x))
        return self.ln2(x + self.fc2(torch.relu(self.fc1(x))))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj, self.head = nn.Linear(4, 8), nn.Linear(8, 4)
        self.blocks = nn.ModuleList([Block() for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class OneHead(nn.Module):
    """Self-attention with its projections in one."""

    def __init__(self) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.randn(24, 4) / 2)
        self.in_proj_bias = nn.Parameter(torch.randn(24) / 2)
        self.classify = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (x @ self.in_proj_weight.T + self.in_proj_bias).chunk(3, -1)
        return self.classify(torch.softmax(q @ k.transpose(1, 2) / 8**0.5, -1) @ v)


class Stock(nn.Module):
    """torch's own encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Linear(4, 8), nn.Linear(8, 4)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(self.embed(x)))


ORIGINALS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "lstm": ("hello-lstm", lambda: Tagger(nn.LSTM(4, 8, batch_first=True))),
    "gru": ("hello-gru", lambda: Tagger(nn.GRU(4, 8, batch_first=True), "gru")),
    "both ways": ("hello-bidirectional-gru", lambda: Tagger(nn.GRU(4, 8, batch_first=True, bidirectional=True), "bi")),
    "relu": (
        "hello-stacked-bidirectional-relu",
        lambda: Tagger(
            nn.RNN(4, 8, num_layers=2, batch_first=True, bidirectional=True, nonlinearity="relu"), "encoder"
        ),
    ),
    "unrolled relu": ("hello-rnn", lambda: Tagger(nn.RNN(4, 8, batch_first=True, nonlinearity="relu"), "rnn")),
    "stacked": ("hello-stacked-rnn", Stacked),
    "embedded": ("hello-embedding-rnn", Embedded),
    "transformer": ("hello-transformer-no-positions", Transformer),
    "stock": ("hello-transformer-no-positions", Stock),
    "one head": ("hello-self-attention-no-positions", OneHead),
}
"""Each with the experiment whose model it is."""


def made(name: str) -> nn.Module:
    """One of ORIGINALS, its values drawn anew, biases and norms included."""
    torch.manual_seed(0)
    model = ORIGINALS[name][1]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) / 4)
    return model


def predicts(model: nn.Module, dtype: torch.dtype | None = None) -> Predict:
    """What it predicts, in float64, from values rounded to that dtype."""
    copied = copy.deepcopy(model)
    copied = (copied.to(dtype) if dtype else copied).double().eval()

    def predict(inputs: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return copied(torch.from_numpy(np.ascontiguousarray(inputs))).numpy()

    return predict
