"""The loss alone, of given logits: its value, and its gradient by them."""

from typing import NamedTuple

import numpy as np

from crosscheck.bounds import rounding_spread, tolerances
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.probes.witness import aside
from crosscheck.request import Request
from crosscheck.subject import Subject
from spec.framework import Framework, Precision, Side
from spec.parameters import generator_for
from spec.tasks import IGNORED, is_numeric

NAME: str = "loss"
QUESTION: str = "given the same logits and targets, are the loss and its gradient the same?"
PRECISIONS: tuple[Precision, ...] = ("float64", "float32")
SAME_INPUTS: bool = True

SHAPES: dict[str, tuple[int, ...]] = {"every step": (3, 5), "one step": (7,)}
"""The targets' shape by case: (batch, time), and (batch,) where one step is read out."""

SIZES: dict[str, float] = {"": 1.0, "tiny": 1e-6, "large": 30.0, "huge": 1e4}
"""Standard deviation of the logits by set. Exponentials of 1e4 overflow, those of -30 are lost beside 1."""


OFFSET = 100.0
"""Added to outputs and targets that are numbers."""


class Set(NamedTuple):
    """One set of logits and targets, all of a case's shape."""

    logits: np.ndarray
    targets: np.ndarray


def inapplicable(subject: Subject) -> str:
    del subject
    return ""


def cases(subject: Subject, precision: Precision, thorough: bool) -> tuple[str, ...]:
    del precision
    targets = subject.evaluation_batch("float64").targets
    axes = targets.ndim - 1 if is_numeric(targets) else targets.ndim
    own = tuple(case for case, shape in SHAPES.items() if len(shape) == axes)
    return tuple(SHAPES) if thorough else own


def draw(subject: Subject, case: str, request: Request) -> dict[str, Set]:
    """The sets by name: logits of every size, then the targets that are special. The first has no name."""
    classes, shape = subject.classes, SHAPES[case]
    generator = generator_for(request.seed, NAME, case)
    if subject.training.loss.numeric:
        return _of_numbers((*shape, classes), generator, request.precision)
    places = np.arange(np.prod(shape)).reshape(shape)
    targets = generator.integers(0, classes, shape, np.int64)
    drawn = generator.normal(size=(*shape, classes)).astype(request.precision)
    sets = {name: Set((drawn * size).astype(request.precision), targets) for name, size in SIZES.items()}
    spikes = np.where(generator.random(drawn.shape) < 0.5, -1e4, 1e4).astype(request.precision)
    return sets | {
        "spikes": Set(spikes, targets),
        "zeros": Set(np.zeros_like(drawn), targets),
        # All the same in half of the rows, and two that tie for the largest in the others.
        "ties": Set(np.where((places % 2)[..., None], drawn[..., :1], np.maximum(drawn, 0)), targets),
        "first class": Set(drawn, np.zeros_like(targets)),
        "last class": Set(drawn, np.full_like(targets, classes - 1)),
        "some ignored": Set(drawn, np.where(places % 3 == 1, IGNORED, targets)),
        "one asked": Set(drawn, np.where(places == places.size // 2, targets, IGNORED)),
        # What stands at an ignored target must not matter, as long as it is a number.
        "ignored and huge": Set(
            np.where((places % 3 == 1)[..., None], drawn * 1e4, drawn).astype(request.precision),
            np.where(places % 3 == 1, IGNORED, targets),
        ),
    }


def _of_numbers(shape: tuple[int, ...], generator: "np.random.Generator", precision: Precision) -> dict[str, Set]:
    """The sets where targets are numbers, of the outputs' shape."""
    targets, drawn = (generator.normal(size=shape).astype(precision) for _ in range(2))
    number = targets.dtype.type
    sets = {name: Set((drawn * size).astype(precision), targets) for name, size in SIZES.items()}
    places = np.arange(targets.size).reshape(shape)
    # A step of which nothing is asked, as padding is, and single numbers; with one output the two are the same.
    steps = np.broadcast_to((np.arange(targets.size // shape[-1]) % 3 == 1).reshape(shape[:-1])[..., None], shape)
    return sets | {
        "zeros": Set(np.zeros_like(drawn), targets),
        "targets of zero": Set(drawn, np.zeros_like(targets)),
        "exact": Set(targets, targets),
        # What is left of two numbers that are near each other, or far from zero: a square's other formula loses it.
        "near": Set(targets * number(1 + 1e-3), targets),
        "offset": Set(drawn + number(OFFSET), targets + number(OFFSET)),
        "some ignored": Set(drawn, np.where(steps, number(np.nan), targets)),
        "some outputs ignored": Set(drawn, np.where(places % 2 == 1, number(np.nan), targets)),
        "one asked": Set(drawn, np.where(places == places.size // 2, targets, number(np.nan))),
        # What stands at an ignored target must not matter, as long as it is a number.
        "ignored and huge": Set(np.where(steps, drawn * number(1e4), drawn), np.where(steps, number(np.nan), targets)),
    }


def record(framework: Framework, subject: Subject, case: str, request: Request) -> Arrays:
    side, further = (asked.open(subject, request.settings) for asked in (framework, aside(framework)))
    recorded: dict[str, np.ndarray] = {}
    for name, given in draw(subject, case, request).items():

        def compute(asked: Side, logits: np.ndarray, name: str = name, targets: np.ndarray = given.targets) -> Arrays:
            found = asked.need("loss_gradient")(logits, targets)
            return {_key(name, "loss"): np.array([found.loss], request.precision), _key(name, "gradient"): found.logits}

        found = compute(side, given.logits)
        recorded |= found
        if request.envelope:
            moved = rounding_spread.perturbed({"logits": given.logits}, request.seed)
            recorded |= rounding_spread.measure(found, (compute(further, perturbed["logits"]) for perturbed in moved))
    return recorded


def compare(subject: Subject, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
    sets = draw(subject, place.case, Request(place.precision, "cpu", place.seed))
    found, expected = [], []
    for name, given in sets.items():
        loss = subject.training.loss
        sizes = loss.entered(given.logits, given.targets)._asdict()
        terms = loss.terms(given.targets, subject.classes)._asdict()
        for tensor, shape in (("loss", (1,)), ("gradient", given.logits.shape)):
            key = _key(name, tensor)
            one, two = first.get(key), second.get(key)
            entered = tolerances.largest(one, two, np.array(sizes[tensor]))
            measured = float(np.max(first.get(rounding_spread.PREFIX + key, 0.0)))
            allowed = tolerances.allowed(place.precision, measured, entered, terms[tensor])
            found.append(place.close(tensor, one, two, allowed=allowed, shape=shape).at(name, key))
            expected += [key, rounding_spread.PREFIX + key]
    return found + place.only(expected, first, second)


def _key(name: str, tensor: str) -> str:
    return f"{name}/{tensor}" if name else tensor
