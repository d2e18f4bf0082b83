"""The same numbers, lying otherwise in memory: a caller's arrays may be transposed views, slices, in Fortran order.

Kernels that read memory as if every array were in C order are right as long as all of them lie alike. So parameters
and starts are handed over in Fortran order, by turns whole and as slices of larger arrays; gradients and slots as
slices, by turns in C order backwards and in Fortran order, so that they lie otherwise than their parameters; batches
and masks as slices in Fortran order; all in one go. Every shape is one that another check asks for too, so that nothing
more is compiled, but for masks that are handed over by name.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from crosscheck.bounds import tolerances, zero_gradients
from crosscheck.checks import loss, optimizer, trajectory
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.probes import determinism, witness
from crosscheck.request import Request
from crosscheck.subject import Subject
from spec.errors import Unsupported
from spec.framework import Framework, Precision, Side, Trajectory
from spec.parameters import Parameters, generator_for
from spec.tasks import Batch
from spec.training import State

NAME: str = "layouts"
QUESTION: str = "is every answer the same, however the arrays that are handed over lie in memory?"
PRECISIONS: tuple[Precision, ...] = ("float64",)
SAME_INPUTS: bool = True

PLAIN, LAID = "C order/", "otherwise/"
"""Before the names of what was answered to arrays in C order, and to the same ones in other layouts."""

TRAINED = ("train", "train_starts")
"""Functions whose answers have a leading axis of steps."""

REPLAYED = 10
"""Steps that the optimizer is asked for alone, of who does not compile: what it reads from the wrong place it does so
from the first or, where that is a slot, the second one on."""

SEED = 1
"""Added to the request's, for slots in the middle of a training."""


def inapplicable(subject: Subject) -> str:
    del subject
    return ""


def cases(subject: Subject, precision: Precision, thorough: bool) -> tuple[str, ...]:
    del precision
    return ("mixed",) if thorough or subject.stands_for_others(_handed) else ()


def _handed(subject: Subject) -> list[str]:
    """What reads the arrays that are handed over: the kind of model, and of optimizer; and masks, where there are."""
    masks = ["masks"] if subject.has_dropout else []
    return [subject.family, type(subject.training.optimizer).__name__, *masks]


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
    """A slice in Fortran order; of one axis, backwards."""
    return strided(array) if array.ndim < 2 else np.asfortranarray(np.repeat(array, 2, axis=-1))[..., ::2]


def plain(array: np.ndarray) -> np.ndarray:
    """In C order."""
    return np.ascontiguousarray(array) if array.ndim else array


Layout = Callable[[np.ndarray], np.ndarray]


class Layouts(NamedTuple):
    """Of parameters; of their gradients and slots; of batches, masks, logits and targets. Each to be had by turns."""

    parameters: Sequence[Layout]
    updates: Sequence[Layout]
    batch: Sequence[Layout]


def lay(value: Any, layouts: Sequence[Layout], turn: int = 0) -> Any:
    """Every array in it in one of those layouts, neighbours in different ones, and so the same name in two steps."""
    match value:
        case np.ndarray():
            return layouts[turn % len(layouts)](value)
        case dict():
            return {name: lay(item, layouts, turn + number) for number, (name, item) in enumerate(value.items())}
        case list():
            return [lay(item, layouts, turn + number) for number, item in enumerate(value)]
        case Batch():
            return Batch(*(lay(item, layouts, turn) for item in value))
    return value


def record(framework: Framework, subject: Subject, case: str, request: Request) -> Arrays:
    del case
    asked = {
        PLAIN: _ask(framework, subject, request, Layouts((plain,), (plain,), (plain,))),
        LAID: _ask(framework, subject, request, Layouts((fortran, transposed), (strided, transposed), (transposed,))),
    }
    return {part + name: array for part, found in asked.items() for name, array in found}


def _ask(
    framework: Framework, subject: Subject, request: Request, layouts: Layouts
) -> Iterator[tuple[str, np.ndarray]]:
    """What every function of the contract answers, by "<function>/<array>". Those that are missing are left out."""
    # What one side may lack, and what is trained beyond the first epoch, differs by side, and so counts in no digest.
    own_framework = witness.aside(framework, again=False)
    side, own = (asked.open(subject, request.settings) for asked in (framework, own_framework))
    point = subject.fullest(request.seed, request.precision)
    start, batch = lay(point.parameters, layouts.parameters), lay(point.batch, layouts.batch)
    yield from _named("round_trip", side.round_trip(start))
    yield from _named("forward", side.forward(start, batch))
    answered = side.gradients(start, batch)
    yield from _named("gradients", {"loss": np.array([answered.loss]), **answered.parameters})
    if subject.has_dropout:
        yield from _masked(own, subject, request, start, point.batch, layouts.batch)
    whole = side.compiles
    # Of models that do not decode no other check asks for it, and so it would have to be compiled.
    if own.predict is not None and (subject.decodes or not whole):
        yield "predict/logits", own.predict(start, batch)
    if own.loss_gradient is not None:
        given = loss.draw(subject, loss.cases(subject, request.precision, False)[0], request)[""]
        logits, targets = (lay(array, layouts.batch) for array in given)
        yield "loss_gradient/logits", own.loss_gradient(logits, targets).logits
    if not subject.training.epochs:
        return
    if own.replay is not None:
        steps = optimizer.draw(subject, request)
        given = lay(steps if whole else steps[:REPLAYED], layouts.updates)
        replayed = own.replay(start, given)
        yield from _named("replay", {**replayed.parameters, **replayed.slots})
    trained = _train(own, subject, request, start, layouts.updates, whole)
    yield from _named("train", _begun(subject, trained))
    if request.envelope and own.train_starts is not None:
        # Of this side alone the check trajectory asks for that, and again whether it gives the same twice.
        short = subject if whole else determinism.shortened(subject)
        starts = [lay(given, layouts.parameters) for given in trajectory.starts(subject, request, point.parameters)]
        starts = starts if whole else starts[: determinism.MEMBERS]
        runs = own_framework.open(short, request.settings).need("train_starts")(starts, request.seed)
        yield from _named("train_starts", _begun(short, runs[-1]))


def _masked(
    side: Side,
    subject: Subject,
    request: Request,
    start: Parameters,
    batch: Batch,
    laid: Sequence[Layout],
) -> Iterator[tuple[str, np.ndarray]]:
    """Logits and gradients with masks by name. Nothing where they are left out, which other checks say."""
    size, time = batch.inputs.shape[:2]
    drawn = subject.keep_masks(size, time, generator_for(request.seed, "layouts"))
    masks = lay(drawn, laid)
    with suppress(Unsupported):
        asked = (start, lay(batch, laid))
        logits = side.forward(*asked, dropout=masks)["logits"]
        found = side.gradients(*asked, dropout=masks).parameters
        yield from _named("masked", {"logits": logits, **found})


def _begun(subject: Subject, trained: Trajectory) -> Parameters:
    """The first epoch of a training."""
    stretch = {"loss": trained.losses, **trained.parameters, **trained.slots}
    return {name: array[: subject.training.steps_per_epoch] for name, array in stretch.items()}


def _named(function: str, arrays: Parameters) -> Iterator[tuple[str, np.ndarray]]:
    return ((f"{function}/{name}", np.asarray(array)) for name, array in arrays.items())


def _train(
    side: Side,
    subject: Subject,
    request: Request,
    start: Parameters,
    of_slots: Sequence[Layout],
    whole: bool,
) -> Trajectory:
    """An epoch from a state in the middle of the recipe; all epochs of who compiles, for which that is done already."""
    training = subject.training
    slots = {
        f"{name}.{slot}": np.square(values)
        for number, slot in enumerate(training.optimizer.slots, SEED)
        for name, values in Request(request.precision, "cpu", request.seed + number).start(subject).items()
    }
    state = State(start, lay(slots, of_slots), training.steps_per_epoch)
    epochs = training.epochs if whole else 1
    return side.train(state, epochs, request.seed, record=True, masks="spec")


def compare(subject: Subject, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
    """Each side against itself.

    The rounding of other products, where a side multiplies what lies otherwise without a copy, is far below half of
    float64's digits; a number that is taken from another place is off by its own size.
    """
    found: list[Comparison] = []
    kept = _kept(subject)
    for side, arrays in zip(place.sides, (first, second), strict=True):
        sizes = _sizes(arrays)
        names = dict.fromkeys(name.removeprefix(part) for part in (PLAIN, LAID) for name in arrays)
        names = [name for name in names if not name.startswith((PLAIN, LAID))]
        for name in dict.fromkeys([*names, *_expected(subject)]):
            keep = kept.get(name)
            if keep is not None and not keep.any():
                continue
            function = name.partition("/")[0]
            found.append(
                place.within(side, "C order", "other layouts").close(
                    name,
                    arrays.get(PLAIN + name),
                    arrays.get(LAID + name),
                    bound=tolerances.WIDEST[place.precision],
                    floor=tolerances.SHARE * sizes.get(function, 0.0),
                    keep=keep,
                    stepwise=function in TRAINED,
                )
            )
    return found


def _sizes(arrays: Arrays) -> dict[str, float]:
    """The largest element of what each function answered to arrays in C order."""
    answers: dict[str, list[np.ndarray]] = {}
    for name, array in arrays.items():
        if name.startswith(PLAIN):
            answers.setdefault(name.removeprefix(PLAIN).partition("/")[0], []).append(array)
    return {function: tolerances.largest(*given) for function, given in answers.items()}


def _expected(subject: Subject) -> list[str]:
    """What every implementation must have answered."""
    names = [parameter.name for parameter in subject.parameters()]
    found = [f"{function}/{name}" for function in ("round_trip", "gradients") for name in names]
    trained = [f"train/{name}" for name in ("loss", *names)] if subject.training.epochs else []
    return [*found, "forward/logits", *trained]


def _kept(subject: Subject) -> dict[str, np.ndarray]:
    """Which elements of a training are compared, by name, where that is not all: the others are rounding, blown up."""
    if not zero_gradients.blown_up(subject.training):
        return {}
    kept = {parameter.name: zero_gradients.kept(parameter) for parameter in subject.parameters()}
    ends = ("", *(f".{slot}" for slot in subject.training.optimizer.slots))
    every = [(f"{function}/", end) for function in TRAINED for end in ends]
    return {f"{at}{name}{end}": keep for name, keep in kept.items() if keep is not None for at, end in every}
