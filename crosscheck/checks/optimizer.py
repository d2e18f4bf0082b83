"""The optimizer alone, on gradients that are given: both sides' slots and parameters after every step."""

import numpy as np

from crosscheck.bounds import tolerances
from crosscheck.bounds.tolerances import Steady
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.request import Request
from crosscheck.subject import Subject
from spec.framework import Framework, Precision
from spec.parameters import Parameter, Parameters, generator_for

NAME: str = "optimizer"
QUESTION: str = "given the same gradients, does the optimizer take the same steps?"
PRECISIONS: tuple[Precision, ...] = ("float64", "float32")
SAME_INPUTS: bool = True

STEPS = 50

SMALLEST = -9.0
"""Decimal exponent of the smallest gradients; the largest are 1. Adam's epsilon, 1e-8, lies in between."""

FAINT = -4.0
"""Decimal exponent of the largest gradients of a faint step, whose norm stays below any clipping."""

TINY = -7.0
"""Decimal exponent of the largest gradients of an element that never has larger ones, where epsilon counts throughout.
Elsewhere Adam's second moment forgets a large gradient only after a thousand steps."""


POISONED: dict[int, float] = {5: np.inf, 20: np.nan}
"""Step -> what one element of its gradients is, in a replay of its own. A training that overflows must not be hidden on
one side: which elements are finite from there on, and which are not, is the same on both."""

KINDS = "kinds/"
"""Before the names of what came of that: for each element 0 where it is finite, 1 where it is infinite, 2 for NaN."""


def inapplicable(subject: Subject) -> str:
    return "" if subject.training.epochs else "nothing is trained"


def cases(subject: Subject, precision: Precision, thorough: bool) -> tuple[str, ...]:
    del subject, precision, thorough
    return ("replay",)


def record(framework: Framework, subject: Subject, case: str, request: Request) -> Arrays:
    del case
    replay = framework.open(subject, request.settings).need("replay")
    gradients = draw(subject, request)
    made = replay(request.start(subject), gradients)
    # Numbers that are not finite are what is asked for; who computes in NumPy need not be warned of them.
    with np.errstate(all="ignore"):
        overflown = replay(request.start(subject), poisoned(subject, gradients))
    parts = {"slots/": made.slots, "parameters/": made.parameters}
    kinds = {f"{KINDS}{name}": kinds_of(array) for name, array in overflown.parameters.items()}
    return {part + name: array for part, arrays in parts.items() for name, array in arrays.items()} | kinds


def kinds_of(array: np.ndarray) -> np.ndarray:
    """See KINDS."""
    return (np.isinf(array) + 2 * np.isnan(array)).astype(np.int64)


def poisoned(subject: Subject, gradients: list[Parameters]) -> list[Parameters]:
    """The same gradients with what POISONED says in the last element of the first tensor."""
    name = subject.parameters()[0].name
    found = list(gradients)
    for step, value in POISONED.items():
        moved = found[step][name].copy()
        moved.flat[-1] = value
        found[step] = {**found[step], name: moved}
    return found


def draw(subject: Subject, request: Request) -> list[Parameters]:
    """Every step's gradients: of all sizes from 1e-9 to 1, with elements and steps among them that are exactly zero.

    Every tenth step is zero and every third faint, so that clipping acts on some and not on others.
    """
    drawn = {p.name: _series(p, request.seed).astype(request.precision) for p in subject.parameters()}
    return [{name: series[step] for name, series in drawn.items()} for step in range(STEPS)]


def _series(parameter: Parameter, seed: int) -> np.ndarray:
    """One parameter's gradients, (steps, *shape). Kinds of elements: always zero, always tiny, of any size."""
    generator = generator_for(seed, "replay", parameter.name)
    kind = generator.choice(3, size=parameter.shape, p=(0.1, 0.3, 0.6))
    step = np.arange(STEPS).reshape(-1, *[1] * len(parameter.shape))
    largest = np.where(kind == 1, TINY, np.where(step % 3 == 2, FAINT, 0.0))
    exponents = generator.uniform(SMALLEST, largest)
    signs = generator.choice((-1.0, 1.0), size=exponents.shape)
    return np.where((kind == 0) | (step % 10 == 3), 0.0, signs * 10.0**exponents)


def compare(subject: Subject, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
    training, table = subject.training, subject.parameters()
    bounds = tolerances.REPLAY[place.precision]
    slots = {f"slots/{p.name}.{slot}": (STEPS, *p.shape) for slot in training.optimizer.slots for p in table}
    parameters = {f"parameters/{p.name}": (STEPS, *p.shape) for p in table}
    rate = max(training.learning_rate(step) for step in range(STEPS))

    def close(name: str, shape: tuple[int, ...], bound: Steady, floor: float | np.ndarray) -> Comparison:
        bound_of_step = bound.steps(STEPS)
        one, two = first.get(name), second.get(name)
        return place.close(name, one, two, bound=bound_of_step, floor=floor, shape=shape, stepwise=True)

    found = [close(n, shape, bounds.slots, _largest(n, shape, first, second)) for n, shape in slots.items()]
    found += [close(n, shape, bounds.parameters, rate) for n, shape in parameters.items()]
    # A stable sort: where two tensors part at the same step, the one that is computed first comes first.
    found.sort(key=lambda comparison: comparison.step if not comparison.passed and comparison.step is not None else -1)
    kinds = [f"{KINDS}{p.name}" for p in table]
    found += [place.identical(name, first.get(name), second.get(name)) for name in kinds]
    return found + place.only([*slots, *parameters, *kinds], first, second)


def _largest(name: str, shape: tuple[int, ...], first: Arrays, second: Arrays) -> np.ndarray:
    """The tensor's largest element on either side, up to each step."""
    given = [side[name] for side in (first, second) if name in side and side[name].shape == shape]
    sizes = [np.nan_to_num(np.abs(array)).reshape(STEPS, -1).max(axis=1) for array in given]
    return np.maximum.accumulate(np.max(sizes, axis=0)) if sizes else np.zeros(STEPS)
