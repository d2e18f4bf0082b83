"""What every model shares: its input layer, padding, and the recording of named intermediates."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from spec.models import Embedding
from spec.models import Model as Spec


class TensorBatch(NamedTuple):
    """`spec.tasks.Batch` as tensors."""

    inputs: Tensor
    targets: Tensor
    lengths: Tensor | None = None
    decoder_inputs: Tensor | None = None
    initial: dict[str, Tensor] | None = None


class Model(nn.Module):
    """Base of all models: batch in, logits out. See spec.models.Model."""

    def __init__(self, spec: Spec):
        super().__init__()
        self.spec = spec
        self.embedding = embedding(spec.inputs) if isinstance(spec.inputs, Embedding) else None
        self.intermediates: dict[str, Tensor] | None = None

    @property
    def recording(self) -> bool:
        """Whether somebody asked for the intermediates."""
        return self.intermediates is not None

    def predict(self, batch: TensorBatch) -> Tensor:
        """Logits for judging the model; those of `forward` unless the model decodes step by step."""
        return self(batch)

    def embed(
        self, batch: TensorBatch, valid: Bool[Tensor, "batch time"] | None
    ) -> Float[Tensor, "batch time features"]:
        """The features of each step: the inputs themselves or their embeddings, zero at padding."""
        if self.embedding is None:
            return zero_padding(batch.inputs, valid)
        if valid is None:
            embedded = self.embedding(batch.inputs)
        else:
            # Padding must not count in scale_grad_by_freq or be rescaled by max_norm, so it is never looked up.
            rows = self.embedding(batch.inputs[valid])
            embedded = rows.new_zeros(*valid.shape, rows.shape[-1]).masked_scatter(valid[..., None], rows)
        self.record("embedding", embedded)
        return embedded

    def record(self, name: str, value: Tensor) -> None:
        """Keep a named intermediate where somebody asked for them."""
        if self.intermediates is not None:
            self.intermediates[name] = value


def embedding(spec: Embedding) -> nn.Embedding:
    """See spec.models.Embedding."""
    return nn.Embedding(
        spec.num_embeddings,
        spec.embedding_dim,
        padding_idx=spec.padding_idx,
        max_norm=spec.max_norm,
        norm_type=spec.norm_type,
        scale_grad_by_freq=spec.scale_grad_by_freq,
        sparse=spec.sparse,
    )


def valid_steps(batch: TensorBatch) -> Bool[Tensor, "batch time"] | None:
    """True where a step belongs to its sequence; None where every step does."""
    if batch.lengths is None:
        return None
    return torch.arange(batch.inputs.shape[1], device=batch.inputs.device) < batch.lengths[:, None]


def zero_padding(
    values: Float[Tensor, "batch time *features"], valid: Bool[Tensor, "batch time"] | None
) -> Float[Tensor, "batch time *features"]:
    """Zero where a step is padding, whatever stood there, NaN included."""
    if valid is None:
        return values
    return torch.where(valid.reshape(*valid.shape, *[1] * (values.ndim - 2)), values, 0)


def one_hot(indices: Int[Tensor, "*shape"], classes: int, like: Tensor) -> Float[Tensor, "*shape classes"]:
    """One-hot vectors in the dtype of `like`."""
    # Not nn.functional.one_hot, which looks at the largest index: a value, which vmap does not have.
    return (indices[..., None] == torch.arange(classes, device=indices.device)).to(like.dtype)
