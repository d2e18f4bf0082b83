"""How it is learned: loss, optimizer, schedule, clipping, with every constant explicit, and what counts as learned."""

from typing import Annotated, ClassVar, Literal, NamedTuple

import msgspec
import numpy as np

from spec.limits import LARGEST_EPOCH, LARGEST_EPOCHS, LARGEST_STEPS, LARGEST_TEXT
from spec.models.base import NonNegative, Positive, Rate
from spec.parameters import Parameters
from spec.tasks import IGNORED
from spec.typical import typical

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]

LearningRate = Annotated[Positive, typical(0.01, 0.001, 0.003, 0.03)]
Beta1 = Annotated[Rate, typical(0.5, 0.8, 0.95, 0.0)]
Beta2 = Annotated[Rate, typical(0.9, 0.99, 0.95)]
AdamEpsilon = Annotated[Positive, typical(1e-3, 1e-5, 1e-6, 0.1)]


class CrossEntropy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """loss = reduction over the steps asked for of -log softmax(logits)[target].

    "mean" divides by the number of targets that are not IGNORED; "sum" does not divide.
    Source: `torch.nn.CrossEntropyLoss`.
    """

    reduction: Literal["mean", "sum"]

    def value(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """The loss of logits (..., classes) against int64 targets (...), computed in float64."""
        return float(self.values(logits[None], targets)[0])

    def values(self, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The losses of many runs, float64 (runs,), of logits (runs, ..., classes) against the same targets (...).

        Of complex logits, as the reference has them for its derivatives, they are complex.
        """
        asked = targets != IGNORED
        scores = logits[:, asked].astype(np.result_type(logits, np.float64))
        shifted = scores - np.real(scores).max(axis=-1, keepdims=True)
        log_normalizer = np.log(np.exp(shifted).sum(axis=-1))
        chosen = np.take_along_axis(shifted, targets[asked][None, :, None], axis=-1)[..., 0]
        losses = log_normalizer - chosen
        return losses.mean(axis=-1) if self.reduction == "mean" else losses.sum(axis=-1)


class Adam(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """With g the gradient, t = 1, 2, ...:

        m = beta1 m + (1 - beta1) g,    v = beta2 v + (1 - beta2) g^2
        p = p - learning_rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)

    Source: Kingma and Ba (2015), algorithm 1; `torch.optim.Adam`.
    """

    learning_rate: LearningRate
    beta1: Beta1 = 0.9
    beta2: Beta2 = 0.999
    epsilon: AdamEpsilon = 1e-8

    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")
    """What the optimizer keeps for each parameter, m and v, as people's checkpoints call them."""


class AdamW(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """Adam, and before its step every parameter, biases included, shrinks: p = p (1 - learning_rate weight_decay).

    Source: Loshchilov and Hutter (2019); `torch.optim.AdamW`.
    """

    learning_rate: LearningRate
    weight_decay: Annotated[NonNegative, typical(0.01, 0.0, 0.1, 0.3)]
    beta1: Beta1 = 0.9
    beta2: Beta2 = 0.999
    epsilon: AdamEpsilon = 1e-8

    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")


class SGD(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """b = momentum b + g,  p = p - learning_rate b; without momentum, b = g and nothing is kept.

    Source: `torch.optim.SGD` with dampening 0 and nesterov off.
    """

    learning_rate: LearningRate
    momentum: Annotated[Rate, typical(0.9, 0.5)] = 0.0

    @property
    def slots(self) -> tuple[str, ...]:
        """What the optimizer keeps for each parameter, b, as people's checkpoints call it."""
        return ("momentum_buffer",) if self.momentum else ()


AnyOptimizer = Adam | AdamW | SGD


class ConstantSchedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="Constant", tag_field="name"):
    """The learning rate stays as it is."""

    uses_epochs: ClassVar[bool] = False
    """Whether a step's factor depends on how many epochs there are in all; such a training cannot be prolonged."""

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied by at that step (from 0)."""
        del step
        return 1.0


class WarmUp(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """Linear warm-up: the factor of step s = 0, 1, ... is min(1, (s + 1) / steps); the first step is not lost."""

    steps: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_STEPS), typical(2, 1, 3, 5, 10)]

    uses_epochs: ClassVar[bool] = False

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied by at that step (from 0)."""
        return min(1.0, (step + 1) / self.steps)


class Clipping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """g = g min(1, max_norm / (norm + epsilon)), norm being the 2-norm of all gradients together.

    Source: `torch.nn.utils.clip_grad_norm_`.
    """

    max_norm: Annotated[Positive, typical(1.0, 0.1, 0.5, 5.0)]

    epsilon: ClassVar[float] = 1e-6
    """Fixed, since it is a literal there. Source: `torch.nn.utils.clip_grads_with_norm_`."""


class StepConstants(NamedTuple):
    """What an optimizer step depends on beside gradients and slots: Python floats, hence double precision.

    correction1, correction2: Adam's 1 - beta1^t and 1 - beta2^t; 1 for an optimizer that has none. In float32,
    1 - 0.999^1 is off by 1.3e-5 of itself, which is many times the rounding of everything else.
    """

    learning_rate: float
    correction1: float
    correction2: float


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The recipe. An epoch is `steps_per_epoch` optimizer steps, then an evaluation in eval mode.

    epochs = 0 is a walk: the model is looked at, not trained.
    """

    epochs: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_EPOCHS), typical(1, 2, 3, 5, 8, rare=(16, 30))]
    steps_per_epoch: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_EPOCH), typical(2, 3, 4)] = 1
    loss: CrossEntropy
    optimizer: AnyOptimizer
    schedule: ConstantSchedule | WarmUp = ConstantSchedule()
    clipping: Clipping | None = None

    def learning_rate(self, step: int) -> float:
        """The learning rate of that optimizer step, counted from 0."""
        return self.optimizer.learning_rate * self.schedule.factor(step)

    @property
    def decays(self) -> bool:
        """Whether every step makes every parameter smaller, whatever its gradient."""
        return isinstance(self.optimizer, AdamW) and self.optimizer.weight_decay > 0

    def constants(self, step: int) -> StepConstants:
        """The constants of that optimizer step, counted from 0."""
        if isinstance(self.optimizer, SGD):
            return StepConstants(self.learning_rate(step), 1.0, 1.0)
        corrections = (1 - beta ** (step + 1) for beta in (self.optimizer.beta1, self.optimizer.beta2))
        return StepConstants(self.learning_rate(step), *corrections)


class Learns(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """At least this share of seeds predicts everything right after the last epoch."""

    solved_rate_at_least: Probability

    def reached(self, solved: bool, loss: float) -> bool:
        """Whether one run came out as a user would hope."""
        del loss
        return solved


class NearLowest(Learns, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """At least this share of seeds ends at the lowest loss that there is, which the task knows: |loss / lowest - 1| is
    at most `within`, on what the model is judged on. A loss that is lower than that by more cannot be, either."""

    within: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.01


class ExactMatch(Learns, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """At least this share of seeds predicts at least the share `of_sequences` of the sequences that the model is judged
    on without a single error."""

    of_sequences: Probability = 0.99


class LearnsSometimes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """About this share of seeds does: an honest rate for a recipe that is luck."""

    solved_rate: Probability

    def reached(self, solved: bool, loss: float) -> bool:
        """Whether one run came out as a user would hope."""
        del loss
        return solved


class CannotLearn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """A negative control: no seed solves it, and the loss cannot fall below `loss_at_least`, for the given reason."""

    loss_at_least: Positive
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=LARGEST_TEXT)]

    def reached(self, solved: bool, loss: float) -> bool:
        """Whether one run failed as it must."""
        return not solved and loss >= self.loss_at_least


class Walk(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """Nothing is trained; the shapes and values of each step are shown."""

    def reached(self, solved: bool, loss: float) -> bool:
        """A walk always arrives."""
        del solved, loss
        return True


class NotStated(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """Nobody says what will come of it: what a file without an [outcome] has. Any training that ends has arrived."""

    def reached(self, solved: bool, loss: float) -> bool:
        """There is nothing to miss."""
        del solved, loss
        return True


AnyOutcome = Learns | NearLowest | ExactMatch | LearnsSometimes | CannotLearn | Walk | NotStated


class State(NamedTuple):
    """Where a training stands: parameters, optimizer slots named "<parameter>.<slot>", optimizer steps done.

    carried: where streams are trained on (see `spec.tasks.base.Task.goes_on`), the states in which the last step's
    sequences ended, by the names and shapes of `Model.initial_states`; zeros where there are none.
    """

    parameters: Parameters
    slots: Parameters
    step: int
    carried: Parameters = {}  # noqa: RUF012 (nobody writes into it)


def initial_state(optimizer: AnyOptimizer, parameters: Parameters) -> State:
    """The state before the first step: every slot zero."""
    slots = {f"{name}.{slot}": np.zeros_like(p) for name, p in parameters.items() for slot in optimizer.slots}
    return State(parameters, slots, 0)
