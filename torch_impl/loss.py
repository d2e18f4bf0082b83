"""The loss. See spec.training.CrossEntropy."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from spec.tasks import IGNORED
from spec.training import CrossEntropy


def cross_entropy(
    spec: CrossEntropy, logits: Float[Tensor, "*batch classes"], targets: Int[Tensor, "*batch"]
) -> Float[Tensor, ""]:
    """Cross-entropy over the targets that are not IGNORED."""
    return functional.cross_entropy(
        logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORED, reduction=spec.reduction
    )
