"""What every model shares: its input layer, padding, and the recording of named intermediates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from flax_impl.linear import initializer
from spec.models import Embedding as EmbeddingSpec
from spec.models import Model as Spec


class ArrayBatch(NamedTuple):
    """`spec.tasks.Batch` as JAX arrays."""

    inputs: Array
    targets: Array
    lengths: Array | None = None
    decoder_inputs: Array | None = None
    initial: dict[str, Array] | None = None


class Model(nnx.Module):
    """Base of all models: batch in, logits out. See spec.models.Model."""

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs):
        self.spec = spec
        self.embedding = Embedding(spec.inputs, rngs=rngs) if isinstance(spec.inputs, EmbeddingSpec) else None

    def predict(self, batch: ArrayBatch) -> Array:
        """Logits for judging the model; those of `__call__` unless the model decodes step by step."""
        return self(batch)

    def embed(self, batch: ArrayBatch, valid: Bool[Array, "batch time"] | None) -> Float[Array, "batch time features"]:
        """The features of each step: the inputs themselves or their embeddings, zero at padding."""
        if self.embedding is None:
            return zero_padding(batch.inputs, valid)
        embedded = zero_padding(self.embedding(batch.inputs, valid), valid)
        self.record("embedding", embedded)
        return embedded

    def record(self, name: str, value: Array) -> None:
        """Keep a named intermediate; the compiler drops those that nobody reads."""
        self.sow(nnx.Intermediate, name, value, init_fn=lambda: value, reduce_fn=lambda _, new: new)


def run(model: Model, batch: ArrayBatch) -> tuple[Array, dict[str, Array]]:
    """The model's logits and its named intermediates."""
    logits, recorded = nnx.capture(model, nnx.Intermediate)(batch)
    return logits, {str(path[0]): variable[...] for path, variable in nnx.to_flat_state(recorded)}


def predict(model: Model, batch: ArrayBatch) -> Array:
    """The logits by which the model is judged."""
    logits, _ = nnx.capture(model.predict, nnx.Intermediate)(batch)
    return logits


class Embedding(nnx.Embed):
    """`nnx.Embed` with the options it lacks. See spec.models.Embedding."""

    def __init__(self, spec: EmbeddingSpec, *, rngs: nnx.Rngs):
        (rows,) = spec.parameters()
        super().__init__(spec.num_embeddings, spec.embedding_dim, embedding_init=initializer(rows.law), rngs=rngs)
        self.spec = spec

    def __call__(
        self, inputs: Int[Array, "batch time"], valid: Bool[Array, "batch time"] | None = None
    ) -> Float[Array, "batch time features"]:
        indices = inputs if valid is None else jnp.where(valid, inputs, 0)
        rows = jnp.take(self.embedding[...], indices, axis=0)
        frozen = jax.lax.stop_gradient(rows)
        if self.spec.scale_grad_by_freq:
            # The difference is exactly zero, and carries the gradient.
            counts = self.counts(indices, valid)[indices]
            # What padding looks up may occur nowhere else, and 0 / 0 would reach the gradient.
            rows = frozen + (rows - frozen) / jnp.maximum(counts, 1)[..., None]
        if self.spec.padding_idx is not None:
            rows = jnp.where((indices == self.spec.padding_idx)[..., None], frozen, rows)
        return rows

    def counts(
        self, indices: Int[Array, "batch time"], valid: Bool[Array, "batch time"] | None
    ) -> Float[Array, " num_embeddings"]:
        """How often each index occurs, padding not counted."""
        weights = jnp.ones(indices.shape) if valid is None else valid
        return jnp.zeros(self.num_embeddings, self.embedding[...].dtype).at[indices].add(weights)

    def renormalize(self, indices: Int[Array, "batch time"], valid: Bool[Array, "batch time"] | None) -> None:
        """Rescale, for good, the rows that are about to be used and whose norm exceeds max_norm."""
        spec, rows = self.spec, self.embedding[...]
        if spec.max_norm is None:
            return
        if valid is not None:
            indices = jnp.where(valid, indices, 0)
        norms = jnp.linalg.norm(rows, ord=spec.norm_type, axis=1)
        too_long = (self.counts(indices, valid) > 0) & (norms > spec.max_norm)
        factors = jnp.where(too_long, spec.max_norm / (norms + spec.renormalization_epsilon), 1)
        self.embedding[...] = rows * factors[:, None]


def valid_steps(batch: ArrayBatch) -> Bool[Array, "batch time"] | None:
    """True where a step belongs to its sequence; None where every step does."""
    if batch.lengths is None:
        return None
    return jnp.arange(batch.inputs.shape[1]) < batch.lengths[:, None]


def zero_padding(
    values: Float[Array, "batch time *features"], valid: Bool[Array, "batch time"] | None
) -> Float[Array, "batch time *features"]:
    """Zero where a step is padding, whatever stood there, NaN included."""
    if valid is None:
        return values
    return jnp.where(valid.reshape(*valid.shape, *[1] * (values.ndim - 2)), values, 0)


def one_hot(indices: Int[Array, "*shape"], classes: int, like: Array) -> Float[Array, "*shape classes"]:
    """One-hot vectors in the dtype of `like`."""
    return jax.nn.one_hot(indices, classes, dtype=like.dtype)
