"""What a model writes on from a prompt: step by step, from the state that the step before left.

Forward reads sequences as wholes, and a state that is dropped, late, or at another position than it says shows in none
of them. So each side's logits of every step are held against its own forward pass over the text that came of it, and
both sides' against each other, greedily and with the same uniform numbers.

To write is compiled for. By default it is asked of one experiment for each kind of model, and of every one that is not
shipped.
"""

from collections.abc import Callable, Iterator

import numpy as np

from crosscheck.bounds import tolerances
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.probes import sample_points
from crosscheck.probes.witness import aside
from crosscheck.request import Request
from crosscheck.subject import Subject
from spec.framework import Framework, Precision, Side
from spec.points import CONTINUED, Point, Writing

NAME: str = "generation"
QUESTION: str = (
    "does what is written on from a prompt, step by step, come of the same logits as the whole read at once?"
)
# In float32 another symbol may be the best, and what follows is then of another size than rounding.
PRECISIONS: tuple[Precision, ...] = ("float64",)
SAME_INPUTS: bool = True

LOGITS, SYMBOLS, AT_ONCE = "logits", "symbols", "logits at once"
"""Of every step that chooses a symbol; what it chose; and what forward gives for these steps of the whole text."""


def inapplicable(subject: Subject) -> str:
    reason = subject.writes_nothing
    return f"it {reason}" if reason else ""


def cases(subject: Subject, precision: Precision, thorough: bool) -> tuple[str, ...]:
    del precision
    return (CONTINUED,) if thorough or subject.stands_for_others(_writing) else ()


def _writing(subject: Subject) -> list[str]:
    """The kind of model, where it writes."""
    return [] if subject.writes_nothing else [subject.family]


def record(framework: Framework, subject: Subject, case: str, request: Request) -> Arrays:
    points = subject.points(case, request.seed, request.precision)
    recorded = sample_points.record(framework, points, _compute(request), request, chosen=True)
    # Each side reads its own text, so that the other is handed another one where they differ.
    alone = aside(framework)
    for point in points:
        writing, symbols = _writing_of(point), recorded[point.prefix + SYMBOLS]
        if symbols.shape == (len(writing.prompt), writing.length):
            side = alone.open(point.subject, request.settings)
            logits = side.forward(point.parameters, writing.whole(symbols))["logits"]
            recorded[point.prefix + AT_ONCE] = logits[:, writing.prompt.shape[1] - 1 :]
    return recorded


def _compute(request: Request) -> Callable[[Side, Point], Arrays]:
    def compute(side: Side, point: Point) -> Arrays:
        prompt, count, temperature, *_ = _writing_of(point)
        made = side.need("generate")(point.parameters, prompt, count, temperature=temperature, seed=request.seed)
        return {LOGITS: made.logits, SYMBOLS: made.symbols}

    return compute


def _writing_of(point: Point) -> Writing:
    assert point.writing is not None
    return point.writing


def compare(subject: Subject, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
    points = subject.points(place.case, place.seed, place.precision)
    found = [comparison for point in points for comparison in _judge(subject, place, point, first, second)]
    expected = sample_points.names(points, [LOGITS, SYMBOLS, AT_ONCE])
    return found + place.only(expected, first, second)


def _judge(subject: Subject, place: Place, point: Point, first: Arrays, second: Arrays) -> Iterator[Comparison]:
    writing = _writing_of(point)
    key = point.prefix + LOGITS
    shape = (len(writing.prompt), writing.length, subject.classes)
    entered = tolerances.largest(first.get(key), second.get(key), np.array(tolerances.ENTERED))
    allowed = tolerances.allowed(place.precision, sample_points.measured(point, LOGITS, first), entered)
    for side, arrays in zip(place.sides, (first, second), strict=True):
        here = place.within(side, "step by step", "at once")
        pair = arrays.get(key), arrays.get(point.prefix + AT_ONCE)
        yield here.close(LOGITS, *pair, allowed=allowed, shape=shape).at(point.name, key)
    yield place.close(LOGITS, first.get(key), second.get(key), allowed=allowed, shape=shape).at(point.name, key)
    key = point.prefix + SYMBOLS
    yield place.identical(SYMBOLS, first.get(key), second.get(key)).at(point.name, key)
