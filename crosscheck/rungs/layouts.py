"""The same numbers, lying otherwise in memory: a caller's arrays may be transposed views, slices, in Fortran order.

Kernels that read memory as if every array were in C order are right as long as all of them lie alike. So parameters
are handed over in Fortran order, their gradients and slots as slices of larger arrays, backwards, and batches as such
slices in Fortran order, in one go. Every shape is one that another rung asks for too, so that nothing more is compiled.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from crosscheck import tolerance, variation, witness, zero_gradient
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.request import Request
from crosscheck.rungs import loss, optimizer
from spec.experiment import Experiment
from spec.framework import Framework, Precision, Trajectory
from spec.parameters import Parameters
from spec.tasks import Batch
from spec.training import State

NAME: str = "layouts"
QUESTION: str = "is every answer the same, however the arrays that are handed over lie in memory?"
PRECISIONS: tuple[Precision, ...] = ("float64",)
SAME_INPUTS: bool = True

PLAIN, LAID = "C order/", "otherwise/"
"""Before the names of what was answered to arrays in C order, and to the same ones in other layouts."""

SEED = 1
"""Added to the request's, for slots in the middle of a training."""


def inapplicable(experiment: Experiment) -> str:
    del experiment
    return ""


def cases(experiment: Experiment, precision: Precision, thorough: bool) -> tuple[str, ...]:
    del experiment, precision, thorough
    return ("mixed",)


def fortran(array: np.ndarray) -> np.ndarray:
    """The same numbers in Fortran order."""
    return np.asfortranarray(array) if array.ndim else array


def strided(array: np.ndarray) -> np.ndarray:
    """The same numbers as every other element of a larger array, the first axis backwards."""
    if not array.ndim:
        return array
    larger = np.repeat(array[::-1], 2, axis=-1)
    return larger[::-1, ..., ::2] if array.ndim > 1 else larger[::-2]


def transposed(array: np.ndarray) -> np.ndarray:
    """Both at once."""
    return fortran(array) if array.ndim < 2 else np.asfortranarray(np.repeat(array, 2, axis=-1))[..., ::2]


def plain(array: np.ndarray) -> np.ndarray:
    """In C order."""
    return np.ascontiguousarray(array) if array.ndim else array


Layout = Callable[[np.ndarray], np.ndarray]


class Layouts(NamedTuple):
    """Of parameters; of their gradients and slots; of batches, logits and targets."""

    parameters: Layout
    updates: Layout
    batch: Layout


def _lay(value: Any, layout: Layout) -> Any:
    """Every array in it, in that layout."""
    match value:
        case np.ndarray():
            return layout(value)
        case dict():
            return {name: _lay(item, layout) for name, item in value.items()}
        case list():
            return [_lay(item, layout) for item in value]
        case Batch():
            return Batch(*(_lay(item, layout) for item in value))
    return value


def record(framework: Framework, experiment: Experiment, case: str, request: Request) -> Arrays:
    del case
    asked = {
        PLAIN: _ask(framework, experiment, request, Layouts(plain, plain, plain)),
        LAID: _ask(framework, experiment, request, Layouts(fortran, strided, transposed)),
    }
    return {part + name: array for part, found in asked.items() for name, array in found}


def _ask(
    framework: Framework, experiment: Experiment, request: Request, layouts: Layouts
) -> Iterator[tuple[str, np.ndarray]]:
    """What every function of the contract answers, by "<function>/<array>". Those that are missing are left out."""
    settings = request.settings
    # What one side may lack, and what is trained beyond the first epoch, differs by side, and so counts in no digest.
    own = witness.aside(framework)
    point = variation.points(experiment, "ragged", request)[0]
    start, batch = _lay(point.parameters, layouts.parameters), _lay(point.batch, layouts.batch)
    yield from _named("round_trip", framework.round_trip(experiment, start, settings))
    yield from _named("forward", framework.forward(experiment, start, batch, settings))
    answered = framework.gradients(experiment, start, batch, settings)
    yield from _named("gradients", {"loss": np.array([answered.loss]), **answered.parameters})
    if experiment.model.decodes and hasattr(own, "predict"):
        yield "predict/logits", own.predict(experiment, start, batch, settings)
    if hasattr(own, "loss_gradient"):
        given = loss.draw(experiment, loss.cases(experiment, request.precision, False)[0], request)[""]
        logits, targets = (_lay(array, layouts.batch) for array in given)
        yield "loss_gradient/logits", own.loss_gradient(experiment, logits, targets, settings).logits
    if not experiment.training.epochs:
        return
    if hasattr(own, "replay"):
        given = _lay(optimizer.draw(experiment, request), layouts.updates)
        replayed = own.replay(experiment, start, given, settings)
        yield from _named("replay", {**replayed.parameters, **replayed.slots})
    trained = _train(own, experiment, request, start, layouts.updates)
    each = experiment.training.steps_per_epoch
    stretch = {"loss": trained.losses, **trained.parameters, **trained.slots}
    yield from _named("train", {name: array[:each] for name, array in stretch.items()})


def _named(function: str, arrays: Parameters) -> Iterator[tuple[str, np.ndarray]]:
    return ((f"{function}/{name}", np.asarray(array)) for name, array in arrays.items())


def _train(
    framework: Framework, experiment: Experiment, request: Request, start: Parameters, of_slots: Layout
) -> Trajectory:
    """An epoch from a state in the middle of the recipe; all epochs of who compiles, for which that is done already."""
    training = experiment.training
    slots = {
        f"{name}.{slot}": np.square(values)
        for number, slot in enumerate(training.optimizer.slots, SEED)
        for name, values in Request(request.precision, "cpu", request.seed + number).start(experiment).items()
    }
    state = State(start, _lay(slots, of_slots), training.steps_per_epoch)
    compiles = hasattr(framework, "overhead") and "compiling" in framework.overhead()
    epochs = training.epochs if compiles else 1
    return framework.train(experiment, state, epochs, request.seed, request.settings, record=True, masks="spec")


def compare(experiment: Experiment, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
    """Each side against itself.

    The rounding of other products, where a side multiplies what lies otherwise without a copy, is far below half of
    float64's digits; a number that is taken from another place is off by its own size.
    """
    found: list[Comparison] = []
    for side, arrays in zip(place.sides, (first, second), strict=True):
        names = dict.fromkeys(name.removeprefix(part) for part in (PLAIN, LAID) for name in arrays)
        names = [name for name in names if not name.startswith((PLAIN, LAID))]
        for name in dict.fromkeys([*names, *_expected(experiment)]):
            keep = _kept(experiment).get(name)
            if keep is not None and not keep.any():
                continue
            function = name.partition("/")[0]
            floor = tolerance.SHARE * tolerance.largest(
                *(array for key, array in arrays.items() if key.startswith(f"{PLAIN}{function}/"))
            )
            found.append(
                place.close(
                    name,
                    arrays.get(PLAIN + name),
                    arrays.get(LAID + name),
                    bound=tolerance.WIDEST[place.precision],
                    floor=floor,
                    keep=keep,
                    stepwise=function == "train",
                    sides=(f"{side}, C order", f"{side}, other layouts"),
                )
            )
    return found


def _expected(experiment: Experiment) -> list[str]:
    """What every implementation must have answered."""
    names = [parameter.name for parameter in experiment.model.parameters()]
    found = [f"{function}/{name}" for function in ("round_trip", "gradients") for name in names]
    trained = [f"train/{name}" for name in ("loss", *names)] if experiment.training.epochs else []
    return [*found, "forward/logits", *trained]


def _kept(experiment: Experiment) -> dict[str, np.ndarray]:
    """Which elements of a training are compared, by name, where that is not all: the others are rounding, blown up."""
    if not zero_gradient.blown_up(experiment.training):
        return {}
    kept = {parameter.name: zero_gradient.kept(parameter) for parameter in experiment.model.parameters()}
    ends = ("", *(f".{slot}" for slot in experiment.training.optimizer.slots))
    return {f"train/{name}{end}": keep for name, keep in kept.items() if keep is not None for end in ends}
