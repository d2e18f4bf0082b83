"""What a known variant of an experiment's equations is, and how spec.reference computes by it."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
import numpy as np

from crosscheck.comparison import Arrays, Comparison
from spec import reference
from spec.experiment import Experiment
from spec.framework import Settings, Side
from spec.reference.model import Evaluation
from spec.training import NearLowest, NotStated, Training


class Variant(NamedTuple):
    """Another way to compute.

    words: what follows "as if". source: its number in the catalogue of porting bugs, where it has one.
    experiment: the same with other options. substitutes: what stands in the place of functions of spec.reference,
    "transformer.gelu". prepare: changes an evaluation of the model before it begins: parameters, batch, `valid`, masks.
    answers: by the name of a function, or "given back" of a training: what is made of its answer. differs: in what, and
    its values by the equations and here, where that may be a library's default.
    """

    words: str
    source: str = ""
    experiment: Callable[[Experiment], Experiment] | None = None
    substitutes: Mapping[str, Any] = {}
    prepare: Callable[[Evaluation], None] | None = None
    answers: Mapping[str, Callable[..., Any]] = {}
    differs: tuple[str, Any, Any] | None = None


class Case(NamedTuple):
    """Where two sides part. experiment: at the depth that the case looks at. side, plain: what the side that departs
    recorded, and what the equations make of the same. solve: see `Inquiry.solve`. stage: that departs in itself."""

    experiment: Experiment
    check: str
    failure: Comparison
    side: Arrays
    plain: Arrays
    solve: Callable[[Callable[[float], Variant], float], float | None]
    stage: str = ""

    @property
    def model(self) -> Any:
        """Its fields are those of the model's record."""
        return self.experiment.model

    @property
    def kind(self) -> str:
        """The name of the model's class."""
        return type(self.experiment.model).__name__

    def has(self, **fields: Any) -> bool:
        """Whether the model has these fields with these values."""
        return all(getattr(self.model, name, None) == value for name, value in fields.items())

    @property
    def computes(self) -> bool:
        """Whether the model itself is evaluated where the sides part."""
        return self.check in ("forward", "gradients")


class Varied:
    """spec.reference, computing by a variant. Stands where an implementation would."""

    def __init__(self, variant: Variant):
        self._variant = variant

    def describe(self, settings: Settings) -> dict[str, str]:
        """As the reference does."""
        return reference.describe(settings)

    def open(self, subject: Any, settings: Settings) -> Side:
        """Its side on the experiment as the variant has it."""
        change = self._variant.experiment
        side = reference.open(subject if change is None else change(subject), settings)
        answers = {name: self._answered(name, function) for name, function in side.functions().items()}
        return msgspec.structs.replace(side, **answers)

    def _answered(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            with applied(self._variant):
                found = function(*given, **named)
            change = self._variant.answers.get(name)
            return found if change is None else change(found, *given)

        return call

    def forced(self, subject: Any, *given: Any, **named: Any) -> Any:
        """See spec.reference.forced."""
        change = self._variant.experiment
        with applied(self._variant):
            return reference.forced(subject if change is None else change(subject), *given, **named)


@contextmanager
def applied(variant: Variant) -> Iterator[None]:
    """The reference computes by the variant for as long as this lasts."""
    wanted = dict(variant.substitutes)
    if variant.prepare is not None:
        wanted |= dict.fromkeys(("contract.Evaluation", "training.Evaluation"), _prepared(variant.prepare))
    kept = []
    try:
        for place, value in wanted.items():
            file, _, name = place.rpartition(".")
            module = importlib.import_module(f"spec.reference.{file}" if file else "spec.reference")
            kept.append((module, name, getattr(module, name)))
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in reversed(kept):
            setattr(module, name, value)


def _prepared(prepare: Callable[[Evaluation], None]) -> Callable[..., Evaluation]:
    def made(*given: Any, **named: Any) -> Evaluation:
        at = Evaluation(*given, **named)
        prepare(at)
        return at

    return made


def option(words: str, source: str = "", **fields: Any) -> Variant:
    """Other fields of the model's record."""

    def change(experiment: Experiment) -> Experiment:
        return msgspec.structs.replace(experiment, model=msgspec.structs.replace(experiment.model, **fields))

    return Variant(words, source, change)


def trained_by(experiment: Experiment, training: Training) -> Experiment:
    """The experiment with another recipe. What is to come of it goes where that is said of the recipe's own loss."""
    if isinstance(experiment.outcome, NearLowest):
        experiment = msgspec.structs.replace(experiment, outcome=NotStated())
    return experiment.with_training(training)


def recipe(words: str, source: str = "", **fields: Any) -> Variant:
    """Other fields of the recipe: "optimizer__beta1" of a part of it."""

    def change(experiment: Experiment) -> Experiment:
        training = experiment.training
        for name, value in fields.items():
            part, _, inner = name.partition("__")
            new = msgspec.structs.replace(getattr(training, part), **{inner: value}) if inner else value
            training = msgspec.structs.replace(training, **{part: new})
        return trained_by(experiment, training)

    return Variant(words, source, change)


def parameters(
    words: str, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]], source: str = ""
) -> Variant:
    """Other parameters than those that were given. change: of arrays with a leading axis of perturbations."""

    def prepare(at: Evaluation) -> None:
        at.parameters = at.parameters | change(dict(at.parameters))

    return Variant(words, source, prepare=prepare)


def everywhere(places: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Substitutes: the same in each of these places."""
    return dict.fromkeys(places, value)
