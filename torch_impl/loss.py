"""The loss. See spec.losses."""

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from spec.tasks import IGNORED
from spec.training import AnyLoss, CrossEntropy, MeanSquaredError


def compute_loss(
    spec: AnyLoss,
    logits: Float[Tensor, "*batch classes"],
    targets: Int[Tensor, "*batch"] | Float[Tensor, "*batch classes"],
    whole: Tensor | None = None,
) -> Float[Tensor, ""]:
    """The loss over the targets that count; with `whole`, the share that these have in the loss of the batch which has
    those targets."""
    if isinstance(spec, MeanSquaredError):
        return mean_squared_error(spec, logits, targets, whole)
    return cross_entropy(spec, logits, targets, whole)


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


def mean_squared_error(
    spec: MeanSquaredError,
    outputs: Float[Tensor, "*batch outputs"],
    targets: Float[Tensor, "*batch outputs"],
    whole: Float[Tensor, "*whole outputs"] | None = None,
) -> Float[Tensor, ""]:
    """Squared errors of the targets that are numbers; `whole` as in `compute_loss`."""
    asked = ~targets.isnan()
    # Both: NaN times the zero that a mask leaves of its gradient is NaN.
    total = functional.mse_loss(outputs.where(asked, 0), targets.where(asked, 0), reduction="sum")
    if spec.reduction == "sum":
        return total
    return total / (asked if whole is None else ~whole.isnan()).sum().clamp(min=1)
