"""What every model shares: its input layer, padding, and the recording of named intermediates."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from spec.models import Embedding
from spec.models import Model as Spec
from spec.tasks import check_shapes
from torch_impl import mixed_precision


class TensorBatch(NamedTuple):
    """`spec.tasks.Batch` as tensors."""

    inputs: Tensor
    targets: Tensor
    lengths: Tensor | None = None
    decoder_inputs: Tensor | None = None
    initial: dict[str, Tensor] | None = None
    resets: Tensor | None = None


class Model(nn.Module):
    """Base of all models: batch in, logits out. See spec.models.Model."""

    def __init__(self, spec: Spec):
        super().__init__()
        self.spec = spec
        self.embedding = embedding(spec.inputs) if isinstance(spec.inputs, Embedding) else None
        self.intermediates: dict[str, Tensor] | None = None
        # The states in which the last call's sequences ended, by the names of those that a batch begins with; kept
        # where somebody puts a dictionary here.
        self.ended: dict[str, Tensor] | None = None

    def __call__(
        self,
        inputs: TensorBatch | Tensor,
        lengths: Tensor | None = None,
        *,
        decoder_inputs: Tensor | None = None,
        initial: Mapping[str, Tensor] | None = None,
        resets: Tensor | None = None,
    ) -> Tensor:
        """Logits: (batch, time, classes), or (batch, classes) where the model reads out the last step.

        inputs: a batch record, which is taken as it is. Or its inputs alone: floating (batch, time, features), or
            integer indices (batch, time) for an embedding, which are not looked at and have to be in its range.
        lengths, decoder_inputs, initial, resets: then the rest of the record, as `spec.tasks.Batch` has it; initial by
            names such as "rnn.h_0". Raises InvalidBatch for shapes that the model cannot take.

        A model of mixed precision has to be called within torch_impl.mixed_precision.products; else RuntimeError.
        """
        mixed_precision.check(self.spec)
        if not isinstance(inputs, TensorBatch):
            check_shapes(
                self.spec,
                tuple(inputs.shape),
                None if lengths is None else tuple(lengths.shape),
                None if decoder_inputs is None else tuple(decoder_inputs.shape),
                {name: tuple(state.shape) for name, state in (initial or {}).items()} or None,
                None if resets is None else tuple(resets.shape),
                is_integer=not inputs.is_floating_point(),
            )
            # A model reads no targets.
            targets = inputs.new_zeros(0, dtype=torch.int64)
            inputs = TensorBatch(inputs, targets, lengths, decoder_inputs, dict(initial or {}) or None, resets)
        return super().__call__(inputs)

    def forward(self, batch: TensorBatch) -> Tensor:
        """Logits under the model's equations; every named intermediate is recorded where somebody asked for them."""
        raise NotImplementedError

    @property
    def recording(self) -> bool:
        """Whether somebody asked for the intermediates."""
        return self.intermediates is not None

    def predict(self, batch: TensorBatch) -> Tensor:
        """Logits for judging the model; those of `forward` unless the model decodes step by step."""
        return self(batch)

    def begin(self, batch: int, steps: int) -> Any:
        """The state before the first of so many steps of so many sequences, see `step`."""
        raise NotImplementedError

    def step(self, symbols: Int[Tensor, " batch"], state: Any) -> tuple[Float[Tensor, "batch classes"], Any]:
        """The logits of the next step of sequences that go on with these symbols, and the state after it.

        Of a model that is causal (spec.models.Model.causal): what `forward` gives for the last step of the whole.
        """
        raise NotImplementedError

    def read(self, symbols: Int[Tensor, " batch"]) -> Float[Tensor, "batch features"]:
        """The features of a step of these symbols: one-hot, or their embeddings."""
        if self.embedding is None:
            return one_hot(symbols, self.spec.inputs.size, next(self.parameters()))
        return self.embedding(symbols[:, None])[:, 0]

    def embed(
        self, batch: TensorBatch, valid: Bool[Tensor, "batch time"] | None
    ) -> Float[Tensor, "batch time features"]:
        """The features of each step: the inputs themselves or their embeddings, zero at padding."""
        if self.embedding is None:
            return zero_padding(batch.inputs, valid)
        if valid is None:
            embedded = self.embedding(batch.inputs)
        elif self.embedding.scale_grad_by_freq or self.embedding.max_norm is not None:
            # Padding must not count in the one or be rescaled by the other, so it is never looked up.
            rows = self.embedding(batch.inputs[valid])
            embedded = rows.new_zeros(*valid.shape, rows.shape[-1]).masked_scatter(valid[..., None], rows)
        else:
            # How many steps are valid neither vmap nor a compiler knows. Padding may hold no index at all.
            embedded = zero_padding(self.embedding(torch.where(valid, batch.inputs, 0)), valid)
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
