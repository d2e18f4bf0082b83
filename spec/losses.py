"""Losses: what is minimized. Each is told in float64 for one batch, and for many runs at once."""

from typing import Annotated, Literal

import msgspec
import numpy as np

from spec.limits import LARGEST_SIZE
from spec.models.base import Positive
from spec.tasks import IGNORED
from spec.typical import typical

Reduction = Literal["mean", "sum"]


class CrossEntropy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """With K classes, weights w (all 1 where none are given), e = label_smoothing, l = -log softmax(logits), and y the
    target of a step that counts:

        loss of a step = (1 - e) w[y] l[y] + (e / K) sum over classes c of w[c] l[c]

    "sum" adds these up. "mean" divides their sum by that of w[y], the number of targets that count where there are no
    weights; it is 0 where no target counts. A target counts unless it is IGNORED, or `ignore_index`, a class of which
    nothing is learned; what is judged is the task's matter.

    Source: `torch.nn.CrossEntropyLoss`; of the smoothing Szegedy et al. (2016), section 7.
    """

    reduction: Reduction
    label_smoothing: Annotated[float, msgspec.Meta(ge=0, lt=1), typical(0.1, 0.3)] = 0.0
    class_weights: tuple[Annotated[Positive, typical(0.5, 1.0, 2.0)], ...] | None = None
    ignore_index: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_SIZE), typical(0, 1)] | None = None

    def value(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """The loss of logits (..., classes) against int64 targets (...), computed in float64."""
        return float(self.values(logits[None], targets)[0])

    def values(self, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The losses of many runs, float64 (runs,), of logits (runs, ..., classes) against the same targets (...).

        Of complex logits, as the reference has them for its derivatives, they are complex.
        """
        asked = self.asked(targets)
        scores = logits[:, asked].astype(np.result_type(logits, np.float64))
        shifted = scores - np.real(scores).max(axis=-1, keepdims=True, initial=-np.inf)
        log_normalizer = np.log(np.exp(shifted).sum(axis=-1))
        chosen = np.take_along_axis(shifted, targets[asked][None, :, None], axis=-1)[..., 0]
        losses = (log_normalizer - chosen) * self.weights(targets[asked], logits.shape[-1])
        if self.label_smoothing:
            every = np.ones(logits.shape[-1]) if self.class_weights is None else np.array(self.class_weights)
            spread = ((log_normalizer[..., None] - shifted) * every).mean(axis=-1)
            losses = (1 - self.label_smoothing) * losses + self.label_smoothing * spread
        total = losses.sum(axis=-1)
        return total / (self.divisor(targets) or 1.0) if self.reduction == "mean" else total

    def asked(self, targets: np.ndarray) -> np.ndarray:
        """Which targets count, bool of their shape."""
        return (targets != IGNORED) & (targets != (IGNORED if self.ignore_index is None else self.ignore_index))

    def weights(self, targets: np.ndarray, classes: int) -> np.ndarray:
        """w[y] of targets that count."""
        return (np.ones(classes) if self.class_weights is None else np.array(self.class_weights))[targets]

    def divisor(self, targets: np.ndarray) -> float:
        """What "mean" divides by: the sum of w[y]."""
        asked = targets[self.asked(targets)]
        return float(len(asked) if self.class_weights is None else self.weights(asked, 0).sum())

    @property
    def uneven(self) -> float:
        """How many times the largest weight is the smallest."""
        return max(self.class_weights) / min(self.class_weights) if self.class_weights else 1.0

    @property
    def heaviest(self) -> float:
        """The largest weight."""
        return max(self.class_weights) if self.class_weights else 1.0

    def slope(self, targets: np.ndarray) -> float:
        """How large the gradient by all logits together can be: for each target a probability less one or none, times
        its weight and its share."""
        return self.uneven if self.reduction == "mean" else self.heaviest * int(self.asked(targets).sum())

    def share(self, targets: np.ndarray) -> float:
        """How large the gradient by the logits of a single target can be."""
        return self.heaviest / ((self.divisor(targets) or 1.0) if self.reduction == "mean" else 1.0)

    def least(self, targets: np.ndarray, classes: int) -> float:
        """The lowest loss that any logits have; above 0 where labels are smoothed."""
        if not self.label_smoothing:
            return 0.0
        asked = targets[self.asked(targets)]
        every = np.ones(classes) if self.class_weights is None else np.array(self.class_weights)
        spread = np.broadcast_to(self.label_smoothing / classes * every, (len(asked), classes)).copy()
        spread[np.arange(len(asked)), asked] += (1 - self.label_smoothing) * every[asked]
        total = -(spread * np.log(spread / spread.sum(axis=1, keepdims=True))).sum()
        return float(total / (self.divisor(targets) or 1.0) if self.reduction == "mean" else total)

    @property
    def words(self) -> str:
        """What it is called where it is drawn."""
        return f"cross-entropy ({self.reduction})"


AnyLoss = CrossEntropy
