"""A file exported by flax_impl loads into stock PyTorch modules, strictly, and gives the same outputs."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from kinds import covering
from safetensors.torch import load_file
from torch import Tensor, nn

import flax_impl
from spec.experiment import load, shipped
from spec.framework import Settings
from spec.models import Embedding, Model
from spec.parameters import save

ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu-tanh": partial(nn.functional.gelu, approximate="tanh")}


class Stock(nn.Module):
    """The model as somebody would write it who has never heard of this project."""

    def __init__(self, model: Model):
        super().__init__()
        self.model = model
        size = model.inputs.size
        if isinstance(model.inputs, Embedding):
            spec = model.inputs
            self.embedding = nn.Embedding(
                spec.num_embeddings, spec.embedding_dim, padding_idx=spec.padding_idx, max_norm=spec.max_norm,
                norm_type=spec.norm_type,
            )  # fmt: skip
        hidden: int = model.hidden_size  # type: ignore[attr-defined]
        self.kind = kind = type(model).__name__
        head = hidden
        if kind == "RNNCell":
            self.cell = nn.RNNCell(size, hidden)
        elif kind in ("RNN", "LSTM", "GRU"):
            layers = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}[kind]
            options = {"nonlinearity": model.nonlinearity} if kind == "RNN" else {}  # type: ignore[attr-defined]
            options |= {"batch_first": True, "bidirectional": model.bidirectional}  # type: ignore[attr-defined]
            self.rnn = layers(size, hidden, model.num_layers, **options)  # type: ignore[attr-defined]
            head = hidden * (2 if model.bidirectional else 1)  # type: ignore[attr-defined]
        elif kind == "LSTMAttention":
            self.rnn = nn.LSTM(size, hidden, batch_first=True)
            self.attention = nn.Linear(hidden, hidden, bias=False)
            head = 2 * hidden
        elif kind == "EncoderDecoder":
            layers = {"LSTM": nn.LSTM, "GRU": nn.GRU}[model.cell]  # type: ignore[attr-defined]
            self.encoder = layers(size, hidden, batch_first=True)
            self.decoder = layers(model.classes + 1, hidden, batch_first=True)
            head = 2 * hidden
        elif kind in ("SelfAttention", "MultiHeadAttention"):
            width = hidden * getattr(model, "heads", 1)
            self.query, self.key, self.value = (nn.Linear(model.input_size, width) for _ in range(3))  # type: ignore[attr-defined]
            if kind == "MultiHeadAttention":
                self.output = nn.Linear(width, hidden)
        elif kind == "TransformerEncoder":
            self.input = nn.Linear(size, hidden)
            if model.positions == "learned":  # type: ignore[attr-defined]
                self.positions = nn.Embedding(model.max_length, hidden)  # type: ignore[attr-defined]
            layer = nn.TransformerEncoderLayer(
                hidden, model.heads, model.feed_forward_size, 0.0, ACTIVATIONS[model.activation], batch_first=True,  # type: ignore[attr-defined]
                norm_first=model.norm_first,  # type: ignore[attr-defined]
            )  # fmt: skip
            norm = nn.LayerNorm(hidden) if model.final_norm else None  # type: ignore[attr-defined]
            self.encoder = nn.TransformerEncoder(layer, model.num_layers, norm, enable_nested_tensor=False)  # type: ignore[attr-defined]
        if getattr(model, "head", True):
            self.head = nn.Linear(head, model.classes)
            if getattr(model, "tied", False):
                self.head.weight = self.embedding.weight

    def forward(self, inputs: Tensor, decoder_inputs: Tensor | None) -> Tensor:
        x = self.embedding(inputs) if hasattr(self, "embedding") else inputs
        y = getattr(self, f"run_{self.kind}", self.run_layers)(x, decoder_inputs)
        return self.head(y) if hasattr(self, "head") else y

    def run_layers(self, x: Tensor, _: Tensor | None) -> Tensor:
        outputs, final = self.rnn(x)
        return final[-1] if getattr(self.model, "readout", "") == "last step" else outputs

    def run_RNNCell(self, x: Tensor, _: Tensor | None) -> Tensor:  # noqa: N802
        hidden, outputs = None, []
        for step in x.unbind(1):
            hidden = self.cell(step, hidden)
            outputs.append(hidden)
        return torch.stack(outputs, 1)

    def run_LSTMAttention(self, x: Tensor, _: Tensor | None) -> Tensor:  # noqa: N802
        states, _ = self.rnn(x)
        weights = torch.softmax(torch.bmm(states, self.attention(states).transpose(1, 2)), dim=-1)
        return torch.cat([torch.bmm(weights, states), states], -1)

    def run_EncoderDecoder(self, x: Tensor, decoder_inputs: Tensor | None) -> Tensor:  # noqa: N802
        assert decoder_inputs is not None
        encoded, state = self.encoder(x)
        decoded, _ = self.decoder(nn.functional.one_hot(decoder_inputs, self.model.classes + 1).to(x.dtype), state)
        weights = torch.softmax(torch.bmm(decoded, encoded.transpose(1, 2)), dim=-1)
        return torch.cat([torch.bmm(weights, encoded), decoded], -1)

    def run_SelfAttention(self, x: Tensor, _: Tensor | None) -> Tensor:  # noqa: N802
        if self.model.positions == "one-hot":  # type: ignore[attr-defined]
            x = torch.cat([x, torch.eye(5, dtype=x.dtype)[None].expand(x.shape[0], -1, -1)], -1)
        heads = getattr(self.model, "heads", 1)
        q, k, v = (f(x).unflatten(-1, (heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        return nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def run_MultiHeadAttention(self, x: Tensor, _: Tensor | None) -> Tensor:  # noqa: N802
        return self.output(self.run_SelfAttention(x, None))

    def run_TransformerEncoder(self, x: Tensor, _: Tensor | None) -> Tensor:  # noqa: N802
        x = self.input(x)
        if self.model.positions == "sinusoidal":  # type: ignore[attr-defined]
            time, hidden = x.shape[1:]
            table = torch.zeros(time, hidden, dtype=x.dtype)
            for t in range(time):
                for i in range(0, hidden, 2):
                    angle = torch.tensor(t / 10000 ** (i / hidden), dtype=x.dtype)
                    table[t, i], table[t, i + 1] = angle.sin(), angle.cos()
            x = x + table
        if self.model.positions == "learned":  # type: ignore[attr-defined]
            x = x + self.positions(torch.arange(x.shape[1]))
        causal: bool = self.model.causal  # type: ignore[attr-defined]
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype) if causal else None
        return self.encoder(x, mask, is_causal=causal)


# No gradient of a sparse table in Flax; and a stock layer that is called as it stands rounds no operands.
LEFT_OUT = ("hello-embedding-sparse", "hello-gru-bfloat16")


@pytest.mark.by_default(
    "hello-stacked-lstm-dropout",
    "hello-bidirectional-gru",
    "hello-transformer-norm-first",
    "hello-embedding-padding",
    "hello-encoder-decoder*",
    "hello-multi-head-attention",
    "last-step-classifier",
)
@pytest.mark.parametrize("name", [n for n in covering(shipped()) if n not in LEFT_OUT])
def test_flax_weights_in_stock_modules(name: str, tmp_path: Path) -> None:
    experiment, settings = load(name), Settings("float64")
    parameters = flax_impl.initialize(experiment, 4, settings)
    # Through flax's own modules, as a trained model's weights would come.
    save(tmp_path / "weights.safetensors", flax_impl.round_trip(experiment, parameters, settings))

    stock = Stock(experiment.model).double().eval()
    weights = load_file(tmp_path / "weights.safetensors")
    if getattr(experiment.model, "tied", False):
        weights["head.weight"] = weights["embedding.weight"]
    stock.load_state_dict(weights, strict=True)
    # As one calls a stock module: what is past a sequence's length are steps like others.
    batch = experiment.batch(0, 0, "float64")._replace(lengths=None, initial=None, resets=None)
    decoder_inputs = None if batch.decoder_inputs is None else torch.from_numpy(batch.decoder_inputs)
    with torch.no_grad():
        logits = stock(torch.from_numpy(batch.inputs), decoder_inputs).numpy()
    ours = flax_impl.forward(experiment, parameters, batch, settings)["logits"]
    np.testing.assert_allclose(ours, logits, rtol=1e-12, atol=1e-14)
    assert np.abs(logits).max() > 1e-3
