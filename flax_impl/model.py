"""What every model shares: its input layer, padding, and the recording of named intermediates."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from flax_impl.linear import initializer
from spec.models import Embedding as EmbeddingSpec
from spec.models import Model as Spec
from spec.tasks import check_shapes


class ArrayBatch(NamedTuple):
    """`spec.tasks.Batch` as JAX arrays."""

    inputs: Array
    targets: Array
    lengths: Array | None = None
    decoder_inputs: Array | None = None
    initial: dict[str, Array] | None = None
    resets: Array | None = None


class Model(nnx.Module):
    """Base of all models: batch in, logits out. See spec.models.Model."""

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs):
        self.spec = spec
        self.embedding = Embedding(spec.inputs, rngs=rngs) if isinstance(spec.inputs, EmbeddingSpec) else None

    def __call__(
        self,
        inputs: ArrayBatch | ArrayLike,
        lengths: ArrayLike | None = None,
        *,
        decoder_inputs: ArrayLike | None = None,
        initial: Mapping[str, ArrayLike] | None = None,
        resets: ArrayLike | None = None,
    ) -> Array:
        """Logits: (batch, time, classes), or (batch, classes) where the model reads out the last step.

        inputs: a batch record, which is taken as it is. Or its inputs alone: floating (batch, time, features), or
            integer indices (batch, time) for an embedding, which are not looked at and have to be in its range.
        lengths, decoder_inputs, initial, resets: then the rest of the record, as `spec.tasks.Batch` has it; initial by
            names such as "rnn.h_0". Raises InvalidBatch for shapes that the model cannot take.
        """
        if not isinstance(inputs, ArrayBatch):
            states = dict(initial or {}) or None
            arrays: Any = jax.tree.map(jnp.asarray, (inputs, lengths, decoder_inputs, states, resets))
            shapes: Any = jax.tree.map(jnp.shape, arrays)
            check_shapes(self.spec, *shapes, is_integer=jnp.issubdtype(arrays[0].dtype, jnp.integer))
            # A model reads no targets.
            inputs = ArrayBatch(arrays[0], jnp.zeros(0, int), *arrays[1:])
        # Flax refuses to record anything that nobody captures.
        logits, _ = nnx.capture(self.forward, nnx.Intermediate)(inputs)
        return logits

    def forward(self, batch: ArrayBatch) -> Array:
        """The same of a record, for who captures the named intermediates that it records; see `run`."""
        raise NotImplementedError

    def predict(self, batch: ArrayBatch) -> Array:
        """Logits for judging the model; those of `forward` unless the model decodes step by step."""
        return self.forward(batch)

    def begin(self, batch: int, steps: int) -> Any:
        """The state before the first of so many steps of so many sequences, see `step`."""
        raise NotImplementedError

    def step(self, symbols: Int[Array, " batch"], state: Any) -> tuple[Float[Array, "batch classes"], Any]:
        """The logits of the next step of sequences that go on with these symbols, and the state after it.

        Of a model that is causal (spec.models.Model.causal): what `forward` gives for the last step of the whole.
        """
        raise NotImplementedError

    def read(self, symbols: Int[Array, " batch"]) -> Float[Array, "batch features"]:
        """The features of a step of these symbols: one-hot, or their embeddings."""
        if self.embedding is None:
            return one_hot(symbols, self.spec.inputs.size, jax.tree.leaves(nnx.state(self, nnx.Param))[0])
        return self.embedding(symbols[:, None])[:, 0]

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
    logits, recorded = nnx.capture(model.forward, nnx.Intermediate)(batch)
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
