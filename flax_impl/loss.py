"""The loss. See spec.losses."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from spec.tasks import IGNORED
from spec.training import AnyLoss, CrossEntropy, MeanSquaredError


def compute_loss(
    spec: AnyLoss,
    logits: Float[Array, "*batch classes"],
    targets: Int[Array, "*batch"] | Float[Array, "*batch classes"],
    whole: Array | None = None,
) -> Float[Array, ""]:
    """The loss over the targets that count; with `whole`, the share that these have in the loss of the batch which has
    those targets."""
    if isinstance(spec, MeanSquaredError):
        return mean_squared_error(spec, logits, targets, whole)
    return cross_entropy(spec, logits, targets, whole)


def cross_entropy(
    spec: CrossEntropy,
    logits: Float[Array, "*batch classes"],
    targets: Int[Array, "*batch"],
    whole: Int[Array, "*whole"] | None = None,
) -> Float[Array, ""]:
    """Cross-entropy over the targets that count; with `whole`, the share that these have in the loss of the batch which
    has those targets."""
    asked = counted(spec, targets)
    labels = jnp.where(asked, targets, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    weights = None if spec.class_weights is None else jnp.array(spec.class_weights, logits.dtype)
    if weights is not None:
        losses = weights[labels] * losses
    if spec.label_smoothing:
        every = -jax.nn.log_softmax(logits) * (1 if weights is None else weights)
        losses = (1 - spec.label_smoothing) * losses + spec.label_smoothing * every.mean(-1)
    total = jnp.where(asked, losses, 0).sum()
    return total / divisor(spec, targets if whole is None else whole, logits) if spec.reduction == "mean" else total


def divisor(spec: CrossEntropy, targets: Int[Array, "*batch"], like: Array) -> Float[Array, ""]:
    """What "mean" divides by: the sum of the weights of the targets that count, or 1 where none does."""
    asked = counted(spec, targets)
    weights = asked.astype(like.dtype)
    if spec.class_weights is not None:
        weights = jnp.array(spec.class_weights, like.dtype)[jnp.where(asked, targets, 0)] * weights
    total = weights.sum()
    return jnp.where(total > 0, total, 1)


def counted(spec: CrossEntropy, targets: Int[Array, "*batch"]) -> Bool[Array, "*batch"]:
    """Which targets count."""
    return (targets != IGNORED) & (targets != (IGNORED if spec.ignore_index is None else spec.ignore_index))


def mean_squared_error(
    spec: MeanSquaredError,
    outputs: Float[Array, "*batch outputs"],
    targets: Float[Array, "*batch outputs"],
    whole: Float[Array, "*whole outputs"] | None = None,
) -> Float[Array, ""]:
    """Squared errors of the targets that are numbers; `whole` as in `compute_loss`."""
    asked = ~jnp.isnan(targets)
    # Both: NaN times the zero that a mask leaves of its gradient is NaN.
    total = optax.squared_error(jnp.where(asked, outputs, 0), jnp.where(asked, targets, 0)).sum()
    if spec.reduction == "sum":
        return total
    return total / jnp.maximum((asked if whole is None else ~jnp.isnan(whole)).sum(), 1)
