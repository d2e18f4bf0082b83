"""The loss. See spec.training.CrossEntropy."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from spec.tasks import IGNORED
from spec.training import CrossEntropy


def cross_entropy(
    spec: CrossEntropy, logits: Float[Array, "*batch classes"], targets: Int[Array, "*batch"]
) -> Float[Array, ""]:
    """Cross-entropy over the targets that are not IGNORED."""
    asked = targets != IGNORED
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(asked, targets, 0))
    total = jnp.where(asked, losses, 0).sum()
    return total / asked.sum() if spec.reduction == "mean" else total
