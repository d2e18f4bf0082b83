"""How it is learned: loss, optimizer, schedule, clipping, with every constant explicit, and what counts as learned."""

from fnmatch import fnmatchcase
from typing import Annotated, ClassVar, NamedTuple

import msgspec
import numpy as np

from spec.limits import LARGEST_EPOCH, LARGEST_EPOCHS, LARGEST_TEXT
from spec.losses import AnyLoss, CrossEntropy, MeanSquaredError
from spec.models.base import Positive
from spec.optimizers import SGD, Adam, AdamW, AnyOptimizer, Group, RMSprop, StepConstants
from spec.parameters import Parameters
from spec.schedules import AnySchedule, ConstantSchedule, Cosine, StepDecay, WarmUp
from spec.typical import typical

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "AnyLoss",
    "AnyOptimizer",
    "AnyOutcome",
    "AnySchedule",
    "CannotLearn",
    "Clipping",
    "ConstantSchedule",
    "Cosine",
    "CrossEntropy",
    "Group",
    "Learns",
    "LearnsSometimes",
    "LossAtMost",
    "MeanSquaredError",
    "NotStated",
    "RMSprop",
    "State",
    "StepConstants",
    "StepDecay",
    "Training",
    "Walk",
    "WarmUp",
    "initial_state",
]

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Clipping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of the gradients, before anything else is made of them, decay included. At least one of the two, in this order:

        max_value: each element: g = min(max(g, -max_value), max_value)
        max_norm:  g = g min(1, max_norm / (norm + epsilon)), norm being the 2-norm of all gradients together

    Source: `torch.nn.utils.clip_grad_value_`, `torch.nn.utils.clip_grad_norm_`.
    """

    max_norm: Annotated[Positive, typical(1.0, 0.1, 0.5, 5.0)] | None = None
    max_value: Annotated[Positive, typical(0.1, 0.01, 1.0)] | None = None

    epsilon: ClassVar[float] = 1e-6
    """Fixed, since it is a literal there. Source: `torch.nn.utils.clip_grads_with_norm_`."""

    def __post_init__(self) -> None:
        if self.max_norm is None and self.max_value is None:
            raise ValueError("max_norm: expected a number, or one of max_value, got neither")


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The recipe. An epoch is `steps_per_epoch` optimizer steps, then an evaluation in eval mode.

    epochs = 0 is a walk: the model is looked at, not trained.

    accumulate: a batch is taken in so many parts, its sequences in order and as many in each, one after the other,
    which takes less memory. A step is that of the whole batch all the same: each part's losses are divided by what
    "mean" divides the whole batch's by, however much of that is the part's, and gradients are added up before they are
    clipped. Dropout masks are those of the whole batch, cut; an implementation's own masks are drawn for each part.
    """

    epochs: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_EPOCHS), typical(1, 2, 3, 5, 8, rare=(16, 30))]
    steps_per_epoch: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_EPOCH), typical(2, 3, 4)] = 1
    loss: AnyLoss
    optimizer: AnyOptimizer
    groups: tuple[Group, ...] = ()
    accumulate: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_EPOCH), typical(2, 1, 3, 4)] = 1
    schedule: AnySchedule = ConstantSchedule()
    clipping: Clipping | None = None

    def __post_init__(self) -> None:
        for group in self.groups:
            if group.weight_decay is not None and not hasattr(self.optimizer, "weight_decay"):
                name = type(self.optimizer).__name__
                raise ValueError(f"groups: expected no weight_decay beside {name}, got {group.weight_decay}")

    def learning_rate(self, step: int, name: str | None = None) -> float:
        """The learning rate of that optimizer step, counted from 0: the optimizer's, or that of a parameter's group."""
        return self.full_rate(name) * self.schedule.factor(step)

    def full_rate(self, name: str | None = None) -> float:
        """The same before the schedule."""
        own = None if name is None else self.group(name).learning_rate
        return self.optimizer.learning_rate if own is None else own

    def weight_decay(self, name: str, axes: int) -> float:
        """The weight decay of a parameter of that name, which has so many axes."""
        own = self.group(name).weight_decay
        if own is not None:
            return own
        match self.optimizer:
            case AdamW(weight_decay=decay, decayed=decayed) | SGD(weight_decay=decay, decayed=decayed):
                return decay if decayed == "every parameter" or axes > 1 else 0.0
        return 0.0

    def group(self, name: str) -> Group:
        """The group of the parameter of that name; one that says nothing where it is in none."""
        return next((group for group in self.groups if fnmatchcase(name, group.pattern)), Group(name))

    @property
    def grouped(self) -> bool:
        """Whether parameters differ in learning rate or decay."""
        return bool(self.groups) or getattr(self.optimizer, "decayed", "every parameter") != "every parameter"

    def constants(self, step: int) -> StepConstants:
        """The constants of that optimizer step, counted from 0."""
        if not isinstance(self.optimizer, Adam | AdamW):
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


class LossAtMost(Learns, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """At least this share of seeds ends with a loss of at most `loss_at_most`, on what the model is judged on."""

    loss_at_most: Positive


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


AnyOutcome = Learns | NearLowest | ExactMatch | LossAtMost | LearnsSometimes | CannotLearn | Walk | NotStated


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
