"""The loss. See spec.losses."""

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from spec.tasks import IGNORED
from spec.training import CrossEntropy


def cross_entropy(
    spec: CrossEntropy,
    logits: Float[Tensor, "*batch classes"],
    targets: Int[Tensor, "*batch"],
    whole: Int[Tensor, "*whole"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy over the targets that count; with `whole`, the share that these have in the loss of the batch which
    has those targets."""
    if spec.ignore_index is not None:
        targets = targets.masked_fill(targets == spec.ignore_index, IGNORED)
        # Where nothing counts, torch's own mean is 0 / 0.
        whole = targets if whole is None else whole
    reduction = spec.reduction if whole is None else "sum"
    loss = functional.cross_entropy(
        logits.flatten(0, -2),
        targets.flatten(),
        None if spec.class_weights is None else logits.new_tensor(spec.class_weights),
        ignore_index=IGNORED,
        reduction=reduction,
        label_smoothing=spec.label_smoothing,
    )
    if whole is None or spec.reduction == "sum":
        return loss
    return loss / divisor(spec, whole, logits)


def divisor(spec: CrossEntropy, targets: Int[Tensor, "*batch"], like: Tensor) -> Float[Tensor, ""]:
    """What "mean" divides by: the sum of the weights of the targets that count, or 1 where none does."""
    asked = counted(spec, targets)
    weights = asked.to(like.dtype)
    if spec.class_weights is not None:
        weights = like.new_tensor(spec.class_weights)[targets.where(asked, 0)] * weights
    total = weights.sum()
    return total.where(total > 0, 1)


def counted(spec: CrossEntropy, targets: Int[Tensor, "*batch"]) -> Bool[Tensor, "*batch"]:
    """Which targets count."""
    return (targets != IGNORED) & (targets != (IGNORED if spec.ignore_index is None else spec.ignore_index))
