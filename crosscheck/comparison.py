"""One comparison: what was held against what, where it was worst, and whether that is within its bound."""

import itertools
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from spec.framework import Precision

Arrays = Mapping[str, np.ndarray]
"""What one side recorded for one case of a check, by name."""

Value = float | str

Kind = Literal["compared", "expected", "missing", "extra", "unsteady", "crashed", "impossible"]
"""What a comparison is: of two values with each other; of both with what the subject says; a tensor that a side lacks,
or that nobody asked for; a side that answered otherwise when it was asked again, or not at all; none, for another
reason."""


class Unsteady(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that was another one when the same was asked again.

    tensor: its name in the function's answer; index: the first element that differs. values: there, in both answers; a
    text where it is no finite number. differing: so many of `elements` do.
    """

    function: str
    tensor: str
    values: tuple[float | str, float | str]
    index: tuple[int, ...] = ()
    differing: int = 1
    elements: int = 1


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What speaks for two ensembles being alike, and against it. See crosscheck.statistics.ensembles.

    same, different: p-values, see crosscheck.statistics.equivalence.Equivalence. members: of each sample. deviations:
    of either one's values, where their means are compared; rate: of both together, where rates are. needed: members a
    side that would do, where these do not; 0 where no number is known. control: whether a side was compared with
    itself.
    """

    same: float
    different: float
    members: tuple[int, ...]
    deviations: tuple[float, float] = (0.0, 0.0)
    rate: float | None = None
    needed: int = 0
    control: bool = False


GROWTH = 128
"""Steps of a trajectory that are kept of how it went, at most."""

GROWTH_DIGITS = 4
"""Of the differences and bounds that are kept so: enough for a picture."""

VALUE_DIGITS = 8
"""Of the values."""


class DifferenceGrowth(msgspec.Struct, frozen=True, kw_only=True):
    """How two trajectories went, for a picture of them; what is judged is all of their steps.

    steps: optimizer steps, from 0, at most `GROWTH` of them: of each stretch the one that comes nearest to its bound.
    difference: the largest one there, and bound: of its element; infinite where there is none. first, second: the
    values, where there is one a step, such as the loss.
    """

    steps: list[int]
    difference: list[float]
    bound: list[float]
    first: list[float] = []
    second: list[float] = []


class StageGrowth(msgspec.Struct, frozen=True, kw_only=True):
    """How a difference grows over the stages of one computation, such as a forward pass, in their order.

    names: of the stages. difference: the largest one there, infinite where a side has no number, and bound: what is
    allowed of it. own: whether the stage is wrong in itself, and not through those before it.
    """

    names: list[str]
    difference: list[float]
    bound: list[float]
    own: list[bool]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome for one tensor (or count, or rate) in one case of one check.

    kind: see there. expected: what both values ought to be, where it is that.
    sides: who the two `values` come from. alone: the one side whose values these are, where it was held against itself,
    a law or the equations, and `other` is which of `sides` stands for these; both empty where it was the two with each
    other. point: of the case, where `tensor` was looked at, see spec.points. array: the name under which both sides
    recorded it; empty where that is `tensor`. step: optimizer step, from 0, of a trajectory. index: the worst element.
    For a trajectory that leaves its bound, step and index are those of the first step that does; otherwise those of
    the step that comes closest to its bound. ratio: difference / bound at its largest, over all steps.
    envelopes: the difference in units of the first side's one-bit envelope, median over the steps, where it is known.
    elements: how many values were compared; 0 when the comparison could not be made, which is a failure.
    crashed: whether a side gave no answer but an exception, whose text is in `note` and `traceback`.
    evidence: of an ensemble's endpoint, whose `bound` is the margin. underpowered: neither within the margin nor beyond
    it, so far as the evidence goes; not passed then, and no failure either. growth: of a trajectory, how it went.
    """

    experiment: str
    check: str
    precision: Precision
    case: str
    tensor: str
    sides: tuple[str, str]
    passed: bool
    elements: int
    kind: Kind = "compared"
    alone: str = ""
    other: str = ""
    point: str = ""
    array: str = ""
    expected: Value | None = None
    step: int | None = None
    index: tuple[int, ...] = ()
    values: tuple[Value, Value] | None = None
    difference: float | None = None
    bound: float | None = None
    ratio: float | None = None
    envelopes: float | None = None
    note: str = ""
    traceback: str = ""
    evidence: Evidence | None = None
    underpowered: bool = False
    growth: DifferenceGrowth | None = None

    @property
    def failed(self) -> bool:
        """Whether something is known to be wrong."""
        return not self.passed and not self.underpowered

    @property
    def crashed(self) -> bool:
        """Whether a side gave no answer."""
        return self.kind == "crashed"

    @property
    def recorded(self) -> str:
        """The name under which both sides recorded the tensor."""
        return self.array or self.tensor

    def at(self, point: str, array: str) -> "Comparison":
        """The same, of a tensor at that point."""
        label = f"{self.tensor} ({point})" if point else self.tensor
        return msgspec.structs.replace(self, tensor=label, point=point, array=array)

    @property
    def headroom(self) -> float | None:
        """How many times the largest difference fits into its bound; None without a difference to measure."""
        return 1.0 / self.ratio if self.ratio else None


class Place(NamedTuple):
    """Where comparisons are made, and between whom. seed: of the recordings, so that what was drawn can be again.

    alone, other: see Comparison.
    """

    experiment: str
    check: str
    precision: Precision
    case: str
    sides: tuple[str, str]
    seed: int = 0
    alone: str = ""
    other: str = ""

    def against(self, side: str, what: str, first: bool = False) -> "Place":
        """Where one side is held against what is no side's. first: whether that comes first."""
        return self._replace(sides=(what, side) if first else (side, what), alone=side, other=what)

    def within(self, side: str, first: str = "", second: str = "") -> "Place":
        """Where one side is held against itself. first, second: what to call the two, behind its name."""
        one, two = (f"{side}, {when}" if when else side for when in (first, second))
        return self._replace(sides=(one, two), alone=side, other="")

    def failed(
        self, tensor: str, note: str, values: tuple[Value, Value] | None = None, kind: Kind = "impossible"
    ) -> Comparison:
        """A comparison that could not be made, which counts as a difference."""
        return self._comparison(tensor, passed=False, elements=0, note=note, values=values, kind=kind)

    def missing(self, tensor: str, first: np.ndarray | None, second: np.ndarray | None) -> Comparison:
        """A tensor that is None on a side."""
        return self.failed(tensor, f"missing {_who(self.sides, first is not None, second is not None)}", kind="missing")

    def crashed(self, side: str, reason: str, traceback: str = "") -> Comparison:
        """A side that had no answer to give."""
        return self._replace(alone=side)._comparison(
            "", passed=False, elements=0, note=f"{side}: {reason}", kind="crashed", traceback=traceback
        )

    def equal(
        self, tensor: str, first: Value, second: Value, note: str = "", sides: tuple[str, str] | None = None
    ) -> Comparison:
        """Two values that must be the same, such as a shape or a count."""
        return self._comparison(
            tensor, passed=first == second, elements=1, values=(first, second), note=note, sides=sides or self.sides
        )

    def expected(self, tensor: str, expected: Value, first: Value, second: Value) -> Comparison:
        """Two values that must both be what the spec says."""
        passed = first == second == expected
        note = "" if passed else f"expected {expected}"
        values = (first, second)
        return self._comparison(
            tensor, passed=passed, elements=2, values=values, note=note, kind="expected", expected=expected
        )

    def whole_number(
        self, tensor: str, expected: int, first: np.ndarray | None, second: np.ndarray | None
    ) -> Comparison:
        """A whole number that both sides recorded, each as an array of one."""
        said: list[Value] = []
        for array in (first, second):
            if array is None:
                said.append("missing")
            elif array.shape == (1,) and array.dtype.kind in "iu":
                said.append(int(array[0]))
            else:
                said.append(f"{array.dtype} {array.shape}")
        return self.expected(tensor, expected, *said)

    def limited(
        self, tensor: str, values: tuple[Value, Value], difference: float, bound: float, elements: int, note: str
    ) -> Comparison:
        """A number that has a limit of its own, such as a drift or a test's -log10 p."""
        passed = bool(difference <= bound)  # False for NaN.
        ratio = difference / bound if bound else (0.0 if passed else math.inf)
        return self._comparison(
            tensor,
            passed=passed,
            elements=elements,
            values=values,
            difference=difference,
            bound=bound,
            ratio=ratio,
            note=note,
        )

    def unsteady(self, side: str, found: Unsteady, passed: bool) -> Comparison:
        """An answer of one side that was another one when it was asked again. passed: whether that is allowed."""
        note = f"not deterministic: {found.function} was asked twice with the same arguments; "
        note += f"{found.differing} of {found.elements} elements are not the same bits"
        values = found.values
        numbers = [value for value in values if isinstance(value, float)]
        difference = abs(numbers[0] - numbers[1]) if len(numbers) == 2 else None
        return self.within(side, second="asked again")._comparison(
            found.tensor or found.function,
            kind="unsteady",
            passed=passed,
            elements=0,
            index=found.index,
            values=values,
            difference=difference,
            bound=None if passed else 0.0,
            ratio=None if passed else math.inf,
            note=note,
        )

    def too_few(self, tensor: str, note: str) -> Comparison:
        """A test that so few runs cannot fail, and which therefore shows nothing."""
        return self._comparison(tensor, passed=False, elements=0, note=note, underpowered=True)

    def identical(self, tensor: str, first: np.ndarray | None, second: np.ndarray | None) -> Comparison:
        """Two arrays that must agree bit for bit."""
        if first is None or second is None:
            return self.missing(tensor, first, second)
        if problem := _unlike(self.sides, first, second):
            return self.failed(tensor, problem)
        if not first.size:
            return self.failed(tensor, "nothing to compare: the tensor has no elements")
        # As bytes, since -0.0 == 0.0 and NaN != NaN.
        bits = [
            np.ascontiguousarray(side).view(f"u{side.dtype.itemsize}").reshape(first.shape) for side in (first, second)
        ]
        differ = np.flatnonzero(bits[0] != bits[1])
        at = _index(int(differ[0]) if differ.size else 0, first.shape)
        values = (float(first[at]), float(second[at]))
        return self._comparison(
            tensor,
            passed=not differ.size,
            elements=first.size,
            index=at,
            values=values,
            difference=abs(values[0] - values[1]),
            bound=0.0,
            ratio=math.inf if differ.size else 0.0,
            note=f"{differ.size} of {first.size} elements are not the same bits" if differ.size else "",
        )

    def close(
        self,
        tensor: str,
        first: np.ndarray | None,
        second: np.ndarray | None,
        *,
        bound: float | np.ndarray = 0.0,
        allowed: float | np.ndarray | None = None,
        floor: float | np.ndarray = 0.0,
        shape: tuple[int, ...] | None = None,
        stepwise: bool = False,
        keep: np.ndarray | None = None,
        diverges: bool = False,
    ) -> Comparison:
        """Two arrays within |first - second| <= bound * max(largest of either, floor), or within `allowed` if given.

        shape: what the spec says it must be, where it says so; the dtype must be the place's precision. stepwise: the
        first axis counts optimizer steps; each has a scale of its own, and bound and floor may differ by step. Steps
        whose bound is infinite must be finite and are not counted: that far no bound means anything.
        allowed: one for all, one for each step, or one for each element of each step; infinite as above.
        keep: which elements of a step count (of its shape); the others are judged by a rule of their own.
        diverges: whether both may cease to be finite, from the same step on (or, where no bound means anything, each
        from one of its own) and up to the last; up to there they are compared.
        """
        if first is None or second is None:
            return self.missing(tensor, first, second)
        if problem := _unlike(self.sides, first, second, shape, self.precision):
            return self.failed(tensor, problem)
        steps = first.shape[0] if stepwise else 1
        inner = first.shape[1:] if stepwise else first.shape
        chosen = np.flatnonzero(keep) if keep is not None else np.arange(math.prod(inner))
        if not steps * chosen.size:
            return self.failed(tensor, "nothing to compare: the tensor has no elements")
        one, two = (side.reshape(steps, -1)[:, chosen].astype(np.float64) for side in (first, second))
        finite = np.isfinite(one) & np.isfinite(two)
        ended = _ended(one, two, allowed) if diverges and not finite.all() else None
        if not finite.all() and ended is None:
            at, element = (int(i) for i in np.argwhere(~finite)[0])
            return self._comparison(
                tensor,
                passed=False,
                elements=one.size,
                step=at if stepwise else None,
                index=_index(chosen[element], inner),
                values=(float(one[at, element]), float(two[at, element])),
                ratio=math.inf,
                note=f"not finite {_who(self.sides, bool(np.isfinite(one).all()), bool(np.isfinite(two).all()))}",
            )
        note = "" if ended is None else "not finite on both sides"
        if ended == 0:
            return self._comparison(tensor, passed=True, elements=one.size, ratio=0.0, note=note)
        whole, steps = steps, steps if ended is None else ended
        one, two = one[:steps], two[:steps]
        note += f" from step {steps} of {whole} on" if note else ""
        difference = np.abs(one - two)
        if allowed is None:
            scale = np.maximum(np.maximum(np.abs(one).max(axis=1), np.abs(two).max(axis=1)), floor)
            judged = np.isfinite(np.broadcast_to(bound, (steps,)))
            # A bound beyond the horizon is infinite, and infinity times a scale of zero would be NaN.
            limit = np.where(judged, np.where(judged, bound, 0.0) * scale, np.inf)[:, None]
        else:
            limit = np.broadcast_to(allowed, (whole,))[:, None] if np.ndim(allowed) < 2 else _flat(allowed)[:, chosen]
            limit = limit[:steps]
        judged = np.broadcast_to(np.isfinite(limit), difference.shape)
        if not judged.any():
            return self.failed(tensor, "nothing to compare: no step has a bound")
        limit = np.broadcast_to(limit, difference.shape)
        # Where nothing is allowed, nothing may differ.
        ratios = np.divide(difference, limit, out=np.where(difference > 0, np.inf, 0.0), where=limit > 0)
        ratio = ratios.max(axis=1)
        beyond = np.flatnonzero(ratio > 1)
        at = int(beyond[0] if beyond.size else ratio.argmax())
        # Of those that are furthest beyond what is allowed, the largest.
        element = int(np.where(ratios[at] == ratio[at], difference[at], -1.0).argmax())
        return self._comparison(
            tensor,
            passed=not beyond.size,
            elements=int(judged.sum()),
            step=at if stepwise else None,
            index=_index(chosen[element], inner),
            values=(float(one[at, element]), float(two[at, element])),
            difference=float(difference[at, element]),
            bound=float(limit[at, element]),
            ratio=float(ratio.max()),
            note="; ".join(filter(None, (_extent(judged), note))),
            growth=_growth(one, two, ratios, limit) if stepwise else None,
        )

    def only(self, expected: list[str], first: Arrays, second: Arrays) -> list[Comparison]:
        """A failure for each array that a side recorded and that is not among the expected ones."""
        extra = [name for name in {**first, **second} if name not in expected]
        return [
            self.failed(name, f"not in the spec, but in {_holders(self.sides, name, first, second)}", kind="extra")
            for name in extra
        ]

    def _comparison(self, tensor: str, **fields: Any) -> Comparison:
        place = self._asdict()
        del place["seed"]
        return Comparison(tensor=tensor, **{**place, **fields})


def _growth(one: np.ndarray, two: np.ndarray, ratios: np.ndarray, limit: np.ndarray) -> DifferenceGrowth:
    """How a trajectory went. All (steps, elements)."""
    steps, every = len(one), np.arange(len(one))
    difference = np.abs(one - two)
    # Where nothing has a bound, all ratios are 0, and the largest difference is what there is to show.
    worst = np.where(ratios.any(axis=1), ratios.argmax(axis=1), difference.argmax(axis=1))
    ratio = ratios[every, worst]
    ends = np.linspace(0, steps, min(steps, GROWTH) + 1).astype(int)
    kept = np.array([begin + int(ratio[begin:end].argmax()) for begin, end in itertools.pairwise(ends)])
    at = (kept, worst[kept])
    alone = one.shape[1] == 1
    return DifferenceGrowth(
        steps=kept.tolist(),
        difference=_rounded(difference[at], GROWTH_DIGITS),
        bound=_rounded(limit[at], GROWTH_DIGITS),
        first=_rounded(one[at], VALUE_DIGITS) if alone else [],
        second=_rounded(two[at], VALUE_DIGITS) if alone else [],
    )


def _rounded(values: np.ndarray, digits: int) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in values.tolist()]


def _ended(one: np.ndarray, two: np.ndarray, allowed: float | np.ndarray | None) -> int | None:
    """The step from which on two sides, (steps, elements), are not compared any more since neither stays finite; None
    where one alone is not, where one is again, or where they part ways at a step that has a bound."""
    gone = [np.asarray(~np.isfinite(side).all(axis=1)) for side in (one, two)]
    starts = [int(side.argmax()) if side.any() else len(side) for side in gone]
    begins, both = min(starts), max(starts)
    if both == len(one) or not all(side[start:].all() for side, start in zip(gone, starts, strict=True)):
        return None
    each = np.zeros(1) if allowed is None else np.asarray(allowed, np.float64)
    limits = np.broadcast_to(each, len(one)) if each.ndim < 2 else _flat(each).min(axis=1)
    return None if np.isfinite(limits[begins:both]).any() else begins


def _flat(values: float | np.ndarray) -> np.ndarray:
    """Each step's values in a row."""
    array = np.asarray(values)
    return array.reshape(len(array), -1)


def _extent(judged: np.ndarray) -> str:
    """How much of a trajectory, (steps, elements), has a bound; empty where all of it does."""
    steps, compared = len(judged), int(judged.any(axis=1).sum())
    said = [f"compared over the first {compared} of {steps} steps"] if compared < steps else []
    if judged.sum() < compared * judged.shape[1]:
        said.append(f"{judged[:compared].mean():.1%} of the values there have a bound")
    return "; ".join(said)


def _index(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(flat, shape))


def _who(sides: tuple[str, str], first_well: bool, second_well: bool) -> str:
    if first_well == second_well:
        return "on both sides"
    return f"in {sides[1] if first_well else sides[0]}"


def _holders(sides: tuple[str, str], name: str, first: Arrays, second: Arrays) -> str:
    return " and ".join(side for side, arrays in zip(sides, (first, second), strict=True) if name in arrays)


def _unlike(
    sides: tuple[str, str],
    first: np.ndarray,
    second: np.ndarray,
    shape: tuple[int, ...] | None = None,
    dtype: str | None = None,
) -> str:
    """What is wrong with the arrays' shapes or dtypes, in words; empty when nothing is."""
    if shape is None and first.shape != second.shape:
        return f"shapes differ: {first.shape} in {sides[0]}, {second.shape} in {sides[1]}"
    if dtype is None and first.dtype != second.dtype:
        return f"dtypes differ: {first.dtype} in {sides[0]}, {second.dtype} in {sides[1]}"
    for side, array in zip(sides, (first, second), strict=True):
        if shape is not None and array.shape != shape:
            return f"expected shape {shape}, got {array.shape} in {side}"
        if dtype is not None and array.dtype != dtype:
            return f"expected dtype {dtype}, got {array.dtype} in {side}"
    return ""
