"""The Transformer's encoder: stock `torch.nn.TransformerEncoder`. See spec.models.transformer."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spec.models.transformer import TransformerEncoder as Spec
from torch_impl.model import Model, TensorBatch, valid_steps, zero_padding

STAGES = ("self_attn", "norm1", "linear2", "norm2")


class TransformerEncoder(Model):
    """A linear embedding, positions, encoder layers, and a linear head. See spec.models.TransformerEncoder."""

    def __init__(self, spec: Spec):
        super().__init__(spec)
        self.input = nn.Linear(spec.inputs.size, spec.hidden_size)
        self.position_base = spec.position_base if spec.positions == "sinusoidal" else None

        def new_layer() -> nn.TransformerEncoderLayer:
            layer = nn.TransformerEncoderLayer(
                spec.hidden_size,
                spec.heads,
                dim_feedforward=spec.feed_forward_size,
                dropout=spec.dropout,
                activation=spec.activation,
                layer_norm_eps=spec.layer_norm_epsilon,
                batch_first=True,
                norm_first=spec.norm_first,
            )
            # The layer gives its one rate to the attention weights too, where the spec has a rate of their own.
            layer.self_attn.dropout = spec.attention_dropout
            return layer

        self.encoder = nn.TransformerEncoder(new_layer(), spec.num_layers, enable_nested_tensor=False)
        # It fills itself with copies of the layer that it is given, which would all start the same.
        self.encoder.layers = nn.ModuleList(new_layer() for _ in range(spec.num_layers))
        self.head = nn.Linear(spec.hidden_size, spec.classes)

    def forward(self, batch: TensorBatch) -> Float[Tensor, "batch time classes"]:
        valid = valid_steps(batch)
        hidden = self.input(self.embed(batch, valid))
        self.record("input", zero_padding(hidden, valid))
        if self.position_base is not None:
            hidden = hidden + sinusoids(*hidden.shape[1:], self.position_base, hidden.dtype, hidden.device)
        self.record("positions", zero_padding(hidden, valid))
        # True means "ignore" here, the opposite of what valid says. A row without a valid step would be NaN: it may
        # attend to its padding, since nothing of it is kept.
        ignored = None if valid is None else ~valid & valid.any(1, keepdim=True)
        hidden = self.encoder(hidden, src_key_padding_mask=ignored)
        logits = zero_padding(self.head(hidden), valid)
        self.record("logits", logits)
        return logits


@cache
def sinusoids(
    time: int, hidden: int, base: float, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "time hidden"]:
    """Sine and cosine of each step's position, interleaved; computed in float64, then cast."""
    # What an evaluation kept here, a training must be able to use.
    with torch.inference_mode(False):
        positions = torch.arange(time, dtype=torch.float64)[:, None]
        exponents = torch.arange(0, hidden, 2, dtype=torch.float64) / hidden
        angles = positions / base**exponents
        return torch.stack([angles.sin(), angles.cos()], -1).flatten(1).to(device, dtype)
