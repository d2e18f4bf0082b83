"""Which of the shipped experiments a test needs that is about kinds of models and trainings, not about each one."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from spec.experiment import Experiment, load

Trait = tuple[Any, ...]


def traits(experiment: Experiment) -> set[Trait]:
    """What kinds of things it is made of: models, options that are switched on or off, optimizers, and so on."""
    return set(_traits(experiment.model)) | set(_traits(experiment.training)) | set(_traits(experiment.task))


def _traits(part: msgspec.Struct) -> Iterator[Trait]:
    kind = type(part).__name__
    yield (kind,)
    for field in part.__struct_fields__:
        match getattr(part, field):
            case msgspec.Struct() as inner:
                yield from _traits(inner)
            case bool() | str() | None as value:
                yield kind, field, value
            case int() | float() as value:
                # How many or how large is no other kind; none, one or several may be.
                yield kind, field, min(value, 2) if isinstance(value, int) else value > 0


def covering(names: Sequence[str]) -> list[str]:
    """Some of them, in their order, that have all traits which any has: smaller ones where there is a choice."""
    experiments = {name: load(name) for name in names}
    left = {name: traits(experiment) for name, experiment in experiments.items()}
    sizes = {name: experiment.model.parameter_count for name, experiment in experiments.items()}
    missing = set().union(*left.values())
    chosen = []
    while missing:
        name = max(left, key=lambda name: (len(left[name] & missing), -sizes[name]))
        missing -= left.pop(name)
        chosen.append(name)
    return [name for name in names if name in chosen]
