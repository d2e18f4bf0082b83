"""Losses: what is minimized. Each is told in float64 for one batch, and for many runs at once."""

import math
from typing import Annotated, ClassVar, Literal, NamedTuple

import msgspec
import numpy as np

from spec.limits import LARGEST_SIZE
from spec.models.base import Positive
from spec.tasks import IGNORED, asked
from spec.typical import typical

Reduction = Literal["mean", "sum"]


class Entered(NamedTuple):
    """How large the numbers are that a loss is made of, and those that its gradient by the logits is."""

    loss: float
    gradient: float


class Terms(NamedTuple):
    """How many numbers a single sum adds up at most: on the way to a loss, and to its gradient by one logit."""

    loss: int
    gradient: int


class CrossEntropy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """With K classes, weights w (all 1 where none are given), e = label_smoothing, l = -log softmax(logits), and y the
    target of a step that counts:

        loss of a step = (1 - e) w[y] l[y] + (e / K) sum over classes c of w[c] l[c]

    "sum" adds these up. "mean" divides their sum by that of w[y], the number of targets that count where there are no
    weights; it is 0 where no target counts. A target counts unless it is IGNORED, or `ignore_index`, a class of which
    nothing is learned; what is judged is the task's matter.

    Source: `torch.nn.CrossEntropyLoss`; of the smoothing Szegedy et al. (2016), section 7.
    """

    numeric: ClassVar[bool] = False
    """Whether targets are numbers, and not classes. See `spec.tasks.base.Task.numeric`."""

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

    def slope(self, targets: np.ndarray, loss: float) -> float:
        """How large the gradient by all logits together can be: for each target a probability less one or none, times
        its weight and its share, however large the loss is."""
        del loss
        return self.uneven if self.reduction == "mean" else self.heaviest * int(self.asked(targets).sum())

    def share(self, targets: np.ndarray, loss: float) -> float:
        """How large the gradient by the logits of a single target can be, however large the loss is."""
        del loss
        return self.heaviest / ((self.divisor(targets) or 1.0) if self.reduction == "mean" else 1.0)

    def entered(self, logits: np.ndarray, targets: np.ndarray) -> Entered:
        """See Entered. A loss is what is left of logits; a gradient, of a probability, which is of order 1, and its
        share in a mean is that of its weight."""
        largest = float(np.abs(logits[self.asked(targets)]).max(initial=1.0))
        weight = self.heaviest if self.reduction == "sum" else self.uneven
        return Entered(weight * largest, self.share(targets, 0.0))

    def terms(self, targets: np.ndarray, classes: int) -> Terms:
        """See Terms. Smoothed labels q sum up to 1, which who differentiates l = -log softmax adds up over the classes:
        the gradient by logit c is softmax[c] * sum(q) - q[c]."""
        asked = int(self.asked(targets).sum())
        return Terms(asked + classes, classes) if self.label_smoothing else Terms(asked, 1)

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


class MeanSquaredError(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """With o an output of the model, and t the target of that output:

        loss of an output = (o - t)^2

    "sum" adds these up. "mean" divides their sum by the number of targets that count, each step having as many of them
    as the model has outputs; it is 0 where no target counts. A target counts unless it is NaN. Outputs are what a model
    calls its logits, and targets have their shape.

    Source: `torch.nn.MSELoss`.
    """

    numeric: ClassVar[bool] = True
    """Whether targets are numbers, and not classes. See `spec.tasks.base.Task.numeric`."""

    reduction: Reduction

    def value(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """The loss of outputs against floating targets of their shape, computed in float64."""
        return float(self.values(logits[None], targets)[0])

    def values(self, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The losses of many runs, float64 (runs,), of outputs (runs, ...) against the same targets (...).

        Of complex outputs, as the reference has them for its derivatives, they are complex.
        """
        asked = self.asked(targets)
        outputs = logits[:, asked].astype(np.result_type(logits, np.float64))
        total = ((outputs - targets[asked]) ** 2).sum(axis=-1)
        return total / (self.divisor(targets) or 1.0) if self.reduction == "mean" else total

    def asked(self, targets: np.ndarray) -> np.ndarray:
        """Which targets count, bool of their shape."""
        return asked(targets)

    def divisor(self, targets: np.ndarray) -> float:
        """What "mean" divides by: the number of targets that count."""
        return float(self.asked(targets).sum())

    def slope(self, targets: np.ndarray, loss: float) -> float:
        """How large the gradient by all outputs together can be where the loss is so large. With d = o - t of N targets
        it is the sum of |2 d|, or of |2 d / N|, and by Cauchy and Schwarz sum |d| <= sqrt(N sum d^2)."""
        return 2 * math.sqrt(max(loss, 0.0) * (1.0 if self.reduction == "mean" else self.divisor(targets)))

    def share(self, targets: np.ndarray, loss: float) -> float:
        """How large the gradient by a single output can be where the loss is so large: |d| <= sqrt(sum d^2)."""
        return 2 * math.sqrt(max(loss, 0.0) / ((self.divisor(targets) or 1.0) if self.reduction == "mean" else 1.0))

    def entered(self, logits: np.ndarray, targets: np.ndarray) -> Entered:
        """See Entered. A difference of two given numbers is rounded by half a unit of itself, and its square by one and
        a half; squares are none of them negative, so that their sum hides nothing. Both are as large as they are."""
        asked = self.asked(targets)
        largest = 2 * float(np.abs(logits[asked].astype(np.float64) - targets[asked]).max(initial=0.0))
        share = (self.divisor(targets) or 1.0) if self.reduction == "mean" else 1.0
        return Entered(self.value(logits, targets), largest / share)

    def terms(self, targets: np.ndarray, classes: int) -> Terms:
        """See Terms."""
        del classes
        return Terms(int(self.asked(targets).sum()), 1)

    def least(self, targets: np.ndarray, classes: int) -> float:
        """The lowest loss that any outputs have."""
        del targets, classes
        return 0.0

    @property
    def words(self) -> str:
        """What it is called where it is drawn."""
        return "mean squared error" if self.reduction == "mean" else "squared error (sum)"


AnyLoss = CrossEntropy | MeanSquaredError
