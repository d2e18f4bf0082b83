"""An experiment as crosscheck asks for it: what crosscheck.subject.Subject says, for the models and tasks of the spec.

What crosscheck has to know of a model, beyond its parameters and stages, stands behind this and nowhere in crosscheck.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np

from spec import parameters, tasks
from spec.dropout import DropoutSite, keep_masks
from spec.models import AnyModel, Embedding
from spec.parameters import Parameter, Parameters
from spec.tasks import AnyTask, Batch
from spec.training import Training

if TYPE_CHECKING:
    from spec.framework import Precision
    from spec.points import Point

SPREAD = 0.1
"""Half-width of the noise on parameters whose law is a constant: a zero bias would hide that it is missing."""


class ExperimentSubject:
    """What an experiment answers to crosscheck. See crosscheck.subject.Subject."""

    __slots__ = ()

    if TYPE_CHECKING:
        name: str
        model: AnyModel
        task: AnyTask
        training: Training

    @property
    def family(self) -> str:
        return type(self.model).__name__

    def parameters(self) -> tuple[Parameter, ...]:
        return self.model.parameters()

    @property
    def parameter_count(self) -> int:
        return self.model.parameter_count

    def stages(self) -> tuple[str, ...]:
        return self.model.intermediates()

    def recurrence(self, stage: str) -> int:
        return self.model.recurrence(stage)

    @property
    def classes(self) -> int:
        return self.model.classes

    @property
    def mixed_precision(self) -> str | None:
        """What operands of products are rounded to; see spec.mixed_precision."""
        return self.model.mixed_precision

    @property
    def decodes(self) -> bool:
        return self.model.decodes

    @property
    def writes_nothing(self) -> str:
        return self.model.writes_nothing

    @property
    def has_numeric_inputs(self) -> bool:
        return not isinstance(self.model.inputs, Embedding)

    @property
    def has_dropout(self) -> bool:
        return self.model.has_dropout

    def dropout_sites(self, batch: int, time: int) -> dict[str, DropoutSite]:
        return self.model.dropout_sites(batch, time)

    def keep_masks(self, batch: int, time: int, generator: "np.random.Generator") -> dict[str, np.ndarray]:
        return keep_masks(self.model, batch, time, generator)

    @property
    def observed(self) -> Self:
        return _observed_masks().shallow(self)

    @property
    def observed_length(self) -> int:
        return _observed_masks().time_of(self)

    def observed_batch(self, size: int, seed: int, precision: "Precision") -> Batch:
        return _observed_masks().batch_of(self, size, seed, precision)

    def observed_masks(
        self, forward: Callable[[Parameters], dict[str, np.ndarray]], batch: Batch
    ) -> dict[str, np.ndarray]:
        return _observed_masks().observe(self, forward, batch)

    def start(self, seed: int, precision: "Precision") -> Parameters:
        return parameters.draw(self.parameters(), seed, precision, SPREAD)

    def batch(self, seed: int, step: int, precision: "Precision") -> Batch:
        initial = tasks.draw_initial(self.task, self.model, seed, [step], precision)
        states = {name: values[0] for name, values in (initial or {}).items()}
        return self.task.batch(seed, step, precision)._replace(initial=states or None)

    def batches(self, seed: int, steps: range, precision: "Precision") -> Batch:
        """The training batches of at least one step, in the order of `steps`, which every array's first axis is."""
        initial = tasks.draw_initial(self.task, self.model, seed, steps, precision)
        return self.task.batches(seed, steps, precision)._replace(initial=initial)

    def goes_on(self, steps: range) -> np.ndarray | None:
        """See spec.tasks.base.Task.goes_on."""
        return self.task.goes_on(steps)

    @property
    def carried(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the states that are carried from one step of training to the next; empty for none."""
        return self.model.initial_states(self.task.batch_size) if self.task.streams else {}

    def evaluation_batch(self, precision: "Precision") -> Batch:
        batch = self.task.evaluation_batch(precision)
        initial = tasks.evaluation_initial(self.task, self.model, len(batch.inputs), precision)
        return batch._replace(initial=initial)

    @property
    def batch_size(self) -> int:
        """Sequences of a training batch."""
        return self.task.batch_size

    @property
    def counts_in_whole_batches(self) -> bool:
        """Whether a step depends on more of a batch than the sum over its sequences."""
        return isinstance(self.model.inputs, Embedding) and self.model.inputs.scale_grad_by_freq

    def with_training(self, training: Training) -> Self:
        return msgspec.structs.replace(self, training=training)  # type: ignore[type-var]

    def cases(self, precision: "Precision", thorough: bool) -> tuple[str, ...]:
        return _points().cases(self, precision, thorough)

    def variant(self, case: str) -> Self:
        return _points().variant(self, case)

    def points(self, case: str, seed: int, precision: "Precision") -> "list[Point]":
        return _points().points(self, case, seed, precision)

    def fullest(self, seed: int, precision: "Precision") -> "Point":
        return _points().fullest(self, seed, precision)

    def options(self, declared: Mapping[str, str]) -> list[str]:
        from spec import options

        return options.had(self, declared)  # type: ignore[arg-type]

    @property
    def has_drawn_batches(self) -> bool:
        return self.task.drawn

    @property
    def own_of_members(self) -> tuple[str, ...]:
        inputs = self.model.inputs
        embedding = inputs if isinstance(inputs, Embedding) else None
        kinds = {
            "masks": self.has_dropout,
            "batches": self.has_drawn_batches,
            "lengths": self.task.ragged,
            "initial states": self.task.initial_deviation > 0,
            "carried states": bool(self.carried),
            "resets": self.task.resets,
            "padding": embedding is not None and embedding.padding_idx is not None,
            "rescaled rows": embedding is not None and embedding.max_norm is not None,
            "clipping": self.training.clipping is not None,
        }
        return tuple(kind for kind, there in kinds.items() if there)

    @property
    def is_at_hand(self) -> bool:
        known = _representatives().at_hand().get(self.name)
        return known is not None and msgspec.to_builtins(known) == msgspec.to_builtins(self)

    def stands_for_others(self, kinds: Callable[[Any], Sequence[str]]) -> bool:
        return self.name in _representatives().representatives(kinds) if self.is_at_hand else bool(kinds(self))

    @property
    def reference(self) -> Any:
        from spec import reference

        return reference


# Here, since both look at experiments.
def _points() -> Any:
    from spec import points

    return points


def _representatives() -> Any:
    from spec import representatives

    return representatives


def _observed_masks() -> Any:
    from spec import observed_masks

    return observed_masks
