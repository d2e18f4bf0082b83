"""What two sides are asked about. An experiment of the spec is one subject (spec.subject says what it answers).

Checks, probes and bounds know a subject by what stands here: no model, no module of it and no part of a name.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np

from spec.dropout import DropoutSite
from spec.framework import Precision
from spec.parameters import Parameter, Parameters
from spec.points import Point
from spec.tasks import Batch
from spec.training import AnyOutcome, Training


class Subject(Protocol):
    """What is compared: its tensors and stages, what both sides are given, and where they are looked at."""

    @property
    def name(self) -> str:
        """As reports have it."""
        ...

    @property
    def hash(self) -> str:
        """Changes with anything that changes the answers."""
        ...

    @property
    def family(self) -> str:
        """What kind of model it is, as reports group by; also the name of its class, where sides have one."""
        ...

    @property
    def training(self) -> Training:
        """The recipe; one of 0 epochs where nothing is trained, whose loss is still that of the gradients."""
        ...

    @property
    def outcome(self) -> AnyOutcome:
        """What is said to come of the training."""
        ...

    @property
    def seeds(self) -> int:
        """Independent runs that the outcome is held against."""
        ...

    def parameters(self) -> tuple[Parameter, ...]:
        """The trained tensors, in the order of computation."""
        ...

    @property
    def parameter_count(self) -> int:
        """Number of trained values."""
        ...

    def stages(self) -> tuple[str, ...]:
        """Names of what `forward` returns, in the order of computation; the last is `logits`."""
        ...

    def recurrence(self, stage: str) -> int:
        """How a stage runs over its second axis, time: 1 from the first step on, -1 from the last; 0 for neither."""
        ...

    @property
    def classes(self) -> int:
        """Length of the logits' last axis; the others are the targets', see `spec.tasks.logits_shape`."""
        ...

    @property
    def decodes(self) -> bool:
        """Whether it writes a sequence of its own, so that `predict` is another matter than `forward`."""
        ...

    @property
    def writes_nothing(self) -> str:
        """Why it cannot write on from a prompt by `generate`: what it does instead. Empty where it can."""
        ...

    @property
    def has_numeric_inputs(self) -> bool:
        """Whether the batch's inputs are numbers, by which there is a gradient, and not indices."""
        ...

    @property
    def has_dropout(self) -> bool:
        """Whether anything is ever dropped."""
        ...

    def dropout_sites(self, batch: int, time: int) -> dict[str, DropoutSite]:
        """Where, by name, for a batch of that size."""
        ...

    def keep_masks(self, batch: int, time: int, generator: "np.random.Generator") -> dict[str, np.ndarray]:
        """Masks to hand over, by site: 0 where a unit is dropped, 1 / (1 - rate) where it is kept, float64."""
        ...

    @property
    def observed(self) -> "Subject":
        """What masks are observed of: itself, or as much of it as they can be seen through."""
        ...

    @property
    def observed_length(self) -> int:
        """Steps of the batches with which `observed_masks` is asked for."""
        ...

    def observed_batch(self, size: int, seed: int, precision: Precision) -> Batch:
        """So many sequences of that length, without padding."""
        ...

    def observed_masks(
        self, forward: Callable[[Parameters], dict[str, np.ndarray]], batch: Batch
    ) -> dict[str, np.ndarray]:
        """What one forward pass in train mode multiplied by, by site, float64; NaN where its outputs do not tell.

        forward: parameters -> stages, always of that batch and with the same seed. Raises Unsupported where nobody
        knows parameters under which the outputs tell.
        """
        ...

    def start(self, seed: int, precision: Precision) -> Parameters:
        """The parameters that both sides are given."""
        ...

    def batch(self, seed: int, step: int, precision: Precision) -> Batch:
        """The training batch of that step."""
        ...

    def evaluation_batch(self, precision: Precision) -> Batch:
        """The batch on which it is judged, the same at every epoch."""
        ...

    def with_training(self, training: Training) -> Self:
        """The same with another recipe."""
        ...

    def cases(self, precision: Precision, thorough: bool) -> tuple[str, ...]:
        """Of forward and gradients: a shape each, for a compiler compiles once for each."""
        ...

    def variant(self, case: str) -> "Subject":
        """What a case looks at: itself, or another depth of it."""
        ...

    def points(self, case: str, seed: int, precision: Precision) -> list[Point]:
        """Where a case looks. The first point has no name."""
        ...

    def fullest(self, seed: int, precision: Precision) -> Point:
        """The point whose batch has the most that a batch may have."""
        ...

    def options(self, declared: Mapping[str, str]) -> list[str]:
        """Those of the options that a side declares to leave out (spec.options) that it has."""
        ...

    @property
    def has_drawn_batches(self) -> bool:
        """Whether a training batch depends on the seed and the step."""
        ...

    @property
    def own_of_members(self) -> tuple[str, ...]:
        """Kinds of what each training has to itself beside parameters and slots, where many are trained side by side:
        masks, batches, their lengths and initial states, rows that are kept or rescaled, a norm to clip by."""
        ...

    def stands_for_others(self, kinds: Callable[[Any], Sequence[str]]) -> bool:
        """Whether it is looked at where that takes seconds: it is one of the few of those at hand that have all kinds
        together, or it is not at hand or was named, and of any kind."""
        ...

    @property
    def is_at_hand(self) -> bool:
        """Whether it is one of those that are compared by default, which can stand for each other."""
        ...

    @property
    def reference(self) -> Any:
        """Who knows the equations: an implementation in float64, spec.reference; None for nobody."""
        ...
