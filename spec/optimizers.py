"""Optimizers: what becomes of the gradients, and for which parameters otherwise. Every constant is explicit.

Where libraries differ, what stands here is what is computed: docs/optimizers.md says who else computes it.
"""

from typing import Annotated, Literal, NamedTuple

import msgspec

from spec.limits import LARGEST_TEXT
from spec.models.base import NonNegative, Positive, Rate
from spec.typical import typical

LearningRate = Annotated[Positive, typical(0.01, 0.001, 0.003, 0.03)]
Beta1 = Annotated[Rate, typical(0.5, 0.8, 0.95, 0.0)]
Beta2 = Annotated[Rate, typical(0.9, 0.99, 0.95)]
AdamEpsilon = Annotated[Positive, typical(1e-3, 1e-5, 1e-6, 0.1)]
Decay = Annotated[NonNegative, typical(0.01, 0.0, 0.1, 0.3)]
Momentum = Annotated[Rate, typical(0.9, 0.5)]

Decayed = Literal["every parameter", "matrices"]
"""What a weight decay is of: of every parameter, biases and norms included; or of matrices alone, which are the
parameters of at least two axes, an embedding among them. Source of the latter: nanoGPT's `configure_optimizers`."""


class Adam(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """With g the gradient, t = 1, 2, ...:

        m = beta1 m + (1 - beta1) g,    v = beta2 v + (1 - beta2) g^2
        p = p - learning_rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)

    amsgrad: u = max(u, v) is kept too, u beginning at zero, and stands in the place of v in the step. The largest is
    taken of what is not corrected yet, and is then corrected as v would be.

    Source: Kingma and Ba (2015), algorithm 1; Reddi, Kale and Kumar (2018), algorithm 2; `torch.optim.Adam`.
    """

    learning_rate: LearningRate
    beta1: Beta1 = 0.9
    beta2: Beta2 = 0.999
    epsilon: AdamEpsilon = 1e-8
    amsgrad: bool = False

    @property
    def slots(self) -> tuple[str, ...]:
        """What the optimizer keeps for each parameter, m, v and u, as people's checkpoints call them."""
        return ADAM_SLOTS if self.amsgrad else ADAM_SLOTS[:2]


class AdamW(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """Adam, and before its step what is decayed shrinks: p = p (1 - learning_rate weight_decay).

    Source: Loshchilov and Hutter (2019); `torch.optim.AdamW`.
    """

    learning_rate: LearningRate
    weight_decay: Decay
    beta1: Beta1 = 0.9
    beta2: Beta2 = 0.999
    epsilon: AdamEpsilon = 1e-8
    amsgrad: bool = False
    decayed: Decayed = "every parameter"

    @property
    def slots(self) -> tuple[str, ...]:
        """As Adam's."""
        return ADAM_SLOTS if self.amsgrad else ADAM_SLOTS[:2]


ADAM_SLOTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")


class SGD(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """g = g + weight_decay p,  b = momentum b + g,  p = p - learning_rate b

    Without momentum, b = g and nothing is kept.
    nesterov: p = p - learning_rate (g + momentum b), with the new b: the step looks ahead.

    Source: `torch.optim.SGD` with dampening 0.
    """

    learning_rate: LearningRate
    momentum: Momentum = 0.0
    nesterov: bool = False
    weight_decay: Annotated[NonNegative, typical(0.01, 0.1)] = 0.0
    decayed: Decayed = "every parameter"

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise ValueError(f"nesterov: expected false without momentum, got {str(self.nesterov).lower()}")

    @property
    def slots(self) -> tuple[str, ...]:
        """What the optimizer keeps for each parameter, b, as people's checkpoints call it."""
        return ("momentum_buffer",) if self.momentum else ()


class RMSprop(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """v = alpha v + (1 - alpha) g^2,  b = momentum b + g / (sqrt(v) + epsilon),  p = p - learning_rate b.

    v and b begin at zero, v is not corrected, no mean is taken off the squares ("centered"), epsilon stands outside of
    the root, and the learning rate is no part of what b keeps. Without momentum nothing but v is kept.

    Source: Tieleman and Hinton (2012), lecture 6.5; `torch.optim.RMSprop`.
    """

    learning_rate: LearningRate
    alpha: Annotated[Rate, typical(0.9, 0.95, 0.5)] = 0.99
    epsilon: AdamEpsilon = 1e-8
    momentum: Momentum = 0.0

    @property
    def slots(self) -> tuple[str, ...]:
        """What the optimizer keeps for each parameter, v and b, as people's checkpoints call them."""
        return ("square_avg", "momentum_buffer") if self.momentum else ("square_avg",)


AnyOptimizer = Adam | AdamW | SGD | RMSprop


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters with a learning rate or a weight decay of their own, in the place of the optimizer's.

    pattern: of their canonical names, "*" for any text, "?" for one character, "[ab]" for one of those. A parameter is
    in the first group whose pattern its whole name fits. learning_rate: before the schedule; 0 leaves them as they
    are. weight_decay: also of what the optimizer's `decayed` leaves out. What is not given is the optimizer's.
    """

    pattern: Annotated[str, msgspec.Meta(min_length=1, max_length=LARGEST_TEXT), typical("*bias*", "head.*", "*weight")]
    learning_rate: Annotated[NonNegative, typical(0.02, 0.005, 0.0)] | None = None
    weight_decay: Annotated[NonNegative, typical(0.0, 0.2)] | None = None


class StepConstants(NamedTuple):
    """What an optimizer step depends on beside gradients and slots: Python floats, hence double precision.

    correction1, correction2: Adam's 1 - beta1^t and 1 - beta2^t; 1 for an optimizer that has none. In float32,
    1 - 0.999^1 is off by 1.3e-5 of itself, which is many times the rounding of everything else.
    """

    learning_rate: float
    correction1: float
    correction2: float
