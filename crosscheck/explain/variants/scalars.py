"""Numbers that stand in a stranger's code: what something is multiplied by, divided by, added to, or a power of."""

import math
from collections.abc import Iterator

import numpy as np

from crosscheck.explain.decimals import written
from crosscheck.explain.pairs import Candidate
from crosscheck.mapping.results import OperationPart

MULTIPLIED = ("mul", "mul_", "div", "div_", "output")
ADDED = ("add", "add_", "sub", "sub_")
POWERS = ("pow",)


def of_pair(part: OperationPart) -> Iterator[Candidate]:
    if len(part.inputs) != 1 or part.leaves or part.inputs[0].size not in (part.value.size, part.value.shape[-1]):
        return
    x = part.inputs[0]
    if x.size == part.value.size:
        x = x.reshape(part.value.shape)
        if part.op in MULTIPLIED:
            one, two = (_factor(x, y) for y in (part.value, part.other))
            if one is not None and two is not None:
                yield Candidate("the factor", told(one), told(two), one * x, two * x)
        if part.op in ADDED:
            one, two = (_term(x, y) for y in (part.value, part.other))
            if one is not None and two is not None:
                yield Candidate("what is added", f"{one:g}", f"{two:g}", x + one, x + two, "PB61")
        if part.op in POWERS:
            one, two = (_base(x, y) for y in (part.value, part.other))
            if one is not None and two is not None:
                yield Candidate("the base", f"{one:g}", f"{two:g}", one**x, two**x, "PB37")
    if part.op in ("div", "div_") and part.first:
        more = (part.other - part.value) * x
        shift = written(float(np.median(more)))
        if shift:
            words = f"{abs(shift):g} {'more' if shift > 0 else 'less'}"
            yield Candidate("what is divided", "as it is", words, part.value, part.value + shift / x, "PB37")


def told(factor: float) -> str:
    """A factor as somebody would have written it: a number, or a root."""
    for name, value in ((f"{factor:.6g}", written(factor)),):
        if value is not None:
            return name
    square, inverse = factor**2, factor**-2
    for words, number in (("the root of {}", square), ("1 / the root of {}", inverse)):
        if abs(number - round(number)) < 1e-6 * number and 1 < round(number) < 1e6:
            return words.format(round(number))
    return f"{factor:.6g}"


def _factor(x: np.ndarray, y: np.ndarray) -> float | None:
    """The one number that x is multiplied by."""
    at = int(np.abs(x).argmax())
    factor = float(y.flat[at] / x.flat[at])
    return factor if math.isfinite(factor) and factor else None


def _term(x: np.ndarray, y: np.ndarray) -> float | None:
    return written(float(np.median(y - x)))


def _base(x: np.ndarray, y: np.ndarray) -> float | None:
    at = int(np.abs(x).argmax())
    base = float(y.flat[at] ** (1 / x.flat[at]))
    return written(base) if math.isfinite(base) else None
