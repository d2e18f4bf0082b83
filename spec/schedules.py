"""Schedules: what the learning rate is multiplied by at each step, and the decay with it where that is a part of it."""

import math
from typing import Annotated, ClassVar, Literal

import msgspec

from spec.limits import LARGEST_STEPS
from spec.typical import typical

Steps = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_STEPS)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


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

    steps: Annotated[Steps, typical(2, 1, 3, 5, 10)]

    uses_epochs: ClassVar[bool] = False

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied by at that step (from 0)."""
        return min(1.0, (step + 1) / self.steps)


class Cosine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """Half a cosine from 1 down to `end`, behind a linear warm-up. With T = steps - warm_up and t = s - warm_up:

        factor = (s + 1) / warm_up                                  for s < warm_up
        factor = end + (1 - end) (1 + cos(pi min(1, t / n))) / 2    from there on

    steps: of both together. reached: at which step the factor is `end` for the first time: "at the last step", that is
    at s = steps - 1, with n = T - 1 (where T is 1, `end` at once); or "one step later", with n = T. It stays there.

    Source: Loshchilov and Hutter (2017), equation 5, without restarts.
    """

    steps: Annotated[Steps, typical(6, 3, 4, 10)]
    reached: Annotated[Literal["at the last step", "one step later"], typical("one step later")]
    end: Annotated[Share, typical(0.1, 0.5)] = 0.0
    warm_up: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_STEPS), typical(1, 2)] = 0

    uses_epochs: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.warm_up >= self.steps:
            raise ValueError(f"warm_up: expected less than steps = {self.steps}, got {self.warm_up}")

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied by at that step (from 0)."""
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        count = self.steps - self.warm_up - (self.reached == "at the last step")
        done = min(1.0, (step - self.warm_up) / count) if count else 1.0
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * done)) / 2


class StepDecay(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """A staircase: the factor of step s = 0, 1, ... is gamma^floor(s / every).

    Source: `torch.optim.lr_scheduler.StepLR`, stepped after each step of the optimizer.
    """

    every: Annotated[Steps, typical(2, 1, 3, 5)]
    gamma: Annotated[float, msgspec.Meta(gt=0, le=1), typical(0.5, 0.9)]

    uses_epochs: ClassVar[bool] = False

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied by at that step (from 0)."""
        return self.gamma ** (step // self.every)


AnySchedule = ConstantSchedule | WarmUp | Cosine | StepDecay
