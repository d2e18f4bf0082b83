"""From a verdict with failures to a blame."""

from collections.abc import Sequence

import msgspec
import numpy as np

from crosscheck.checks import LADDER, Check, gradients
from crosscheck.comparison import Arrays, Comparison, Value
from crosscheck.diagnosis import stages, steps
from crosscheck.diagnosis.arbiter import Arbiter, Intercepted, ask
from crosscheck.diagnosis.distance import Distance, decide, rounding
from crosscheck.diagnosis.finding import Blame, Departure
from crosscheck.probes import equations
from crosscheck.subject import Subject
from spec import text
from spec.errors import OhlolError

WORDS = {
    "law": "the spec's law",
    "spec": "the spec",
    "seeds": "the seeds that it was asked for",
    equations.EXACT: "the equations",
}
"""What stands in the place of a side."""

Recorded = dict[str, Arrays]
"""Each side's arrays of the failed case, by the side's name."""


def find(subject: Subject, comparisons: Sequence[Comparison], recorded: Recorded, seed: int) -> Blame | None:
    """Who departs from the equations at the first failure; None without one. Raises nothing.

    comparisons: all of the experiment. recorded: in the order of the sides.
    """
    failure = next((comparison for comparison in comparisons if comparison.failed), None)
    if failure is None:
        return None
    try:
        # Forced stages may hold anything, NaN included.
        with np.errstate(all="ignore"):
            return _told(failure, comparisons, list(recorded)) or _voted(subject, failure, comparisons, recorded, seed)
    except OhlolError as error:
        return _undecided(f"the reference cannot serve: {error}")
    except Exception as error:
        # A blame explains a verdict; it must not take its place.
        return _undecided(f"the reference could not tell: {text.exception(error)}")


def _told(failure: Comparison, comparisons: Sequence[Comparison], names: list[str]) -> Blame | None:
    """What the comparisons themselves say: of a side that crashed, or was held against something not the other side."""
    place = (failure.check, failure.precision, failure.case)
    failed = [c for c in comparisons if c.failed and (c.check, c.precision, c.case) == place]
    if failure.crashed:
        crashed = {c.alone: c for c in failed if c.crashed and c.alone in names}
        return _blamed(
            [Departure(side=name, stage="crash", tensor="", value=c.note) for name, c in crashed.items()],
            "gave no answer but an exception, or was ended",
        )
    if failure.alone in names:
        alone = {c.alone: c for c in reversed(failed) if c.alone in names}
        return _blamed(
            [_alone(name, c) for name, c in alone.items()],
            _held(failure),
        )
    if failure.kind == "expected" and failure.values is not None:
        wrong = [(n, value) for n, value in zip(names, failure.values, strict=True) if value != failure.expected]
        expected = str(failure.expected)
        found = [
            Departure(side=name, stage=failure.check, tensor=failure.tensor, value=value, expected=expected)
            for name, value in wrong
        ]
        return _blamed(found, "both are held against the spec", expected)
    if not failure.tensor or not _check(failure).SAME_INPUTS:
        return _undecided(failure.note or "the sides drew their own random numbers: there is no third to ask")
    return None


def _voted(
    subject: Subject, failure: Comparison, comparisons: Sequence[Comparison], recorded: Recorded, seed: int
) -> Blame:
    """What the reference says."""
    if failure.kind == "missing":
        lacking = [name for name, arrays in recorded.items() if failure.recorded not in arrays]
        found = [Departure(side=name, stage=failure.check, tensor=failure.tensor, value="missing") for name in lacking]
        return _blamed(found, "the spec asks for it")
    if subject.reference is None:
        return _undecided("nobody knows the equations: each side is as likely to be right")
    if failure.check in ("trajectory", "optimizer"):
        return _by_steps(subject, failure, recorded, seed)
    return _by_stages(subject, failure, comparisons, recorded, seed)


def _by_steps(subject: Subject, failure: Comparison, recorded: Recorded, seed: int) -> Blame:
    """A trajectory, step by step, each from the side's own state."""
    arbiter = Arbiter(subject.reference, stop="train" if failure.check == "trajectory" else "replay")
    try:
        ask(_check(failure), subject, failure, seed, arbiter)
    except Intercepted:
        handed = steps.given(subject, arbiter.calls[-1])
    else:
        return _undecided("the reference was not asked to train")
    found, at_failure = {}, {}
    # Beyond, it is asked for those of the elements at which the sides differ most.
    few = not handed.gradients and not equations.affordable(subject, subject.batch(seed, 0, "float64"))
    for name, arrays in recorded.items():
        last = max((len(array) for key, array in arrays.items() if key.startswith("parameters/")), default=0) - 1
        if last < 0:
            return _undecided(f"{name} recorded no steps")
        failed = min(failure.step if failure.step is not None else last, last)

        def at(step: int, arrays: Arrays = arrays) -> steps.Found:
            only = steps.at_which_they_differ(subject, list(recorded.values()), step, failure) if few else None
            return steps.at_step(subject, handed, arrays, failure.precision, step, only)

        found[name] = steps.first(at, failed)
        at_failure[name] = at(failed)
    ratios = {name: max(at.ratio for at in distances.values()) for name, (_, distances) in found.items()}
    departs = decide(ratios)
    blamed = _sides(departs, recorded)
    honest = next((name for name in recorded if name not in blamed), next(iter(recorded)))
    reference = at_failure[honest].get(failure.tensor, Distance(0.0)).reference
    return _blamed(
        [steps.departure(name, failure, *found[name]) for name in blamed],
        "each step from the side's own state before it, against the reference's",
        float(reference[failure.index]) if reference is not None and reference.ndim == len(failure.index) else None,
        otherwise="no single step of either side is beyond its rounding",
    )


def _by_stages(
    subject: Subject, failure: Comparison, comparisons: Sequence[Comparison], recorded: Recorded, seed: int
) -> Blame:
    """Arrays against the reference's, and each stage of a forward pass against what follows from the ones before."""
    check, precision = _check(failure), failure.precision
    # Layers that only the case has are stages too.
    deep = subject.variant(failure.case)

    def asked(forced: Sequence[Arrays]) -> Arrays:
        return ask(check, subject, failure, seed, Arbiter(subject.reference, forced))

    few = check.NAME == gradients.NAME and any(
        not equations.affordable(point.subject, point.batch)
        for point in subject.points(failure.case, seed, failure.precision)
    )
    elements = _elements(subject, failure, list(recorded.values()), seed) if few else None
    arbiter = Arbiter(subject.reference, elements=elements)
    reference = ask(check, subject, failure, seed, arbiter)
    failure = msgspec.structs.replace(failure, tensor=failure.recorded)
    place = (failure.check, failure.precision, failure.case)
    held = [c for c in comparisons if not c.alone and (c.check, c.precision, c.case) == place]
    bounds, compared = {c.recorded: c.bound for c in held if c.bound}, {c.recorded for c in held}

    def bound(name: str, values: np.ndarray) -> float:
        return bounds.get(name) or rounding(values, precision)

    # Who compiles is asked for more steps than who does not; what failed at a step was held over those that all have.
    shared = _shared_steps([reference, *recorded.values()]) if failure.step is not None else {}
    reference = _cut(reference, shared)
    recorded = {name: _cut(arrays, shared) for name, arrays in recorded.items()}
    plain = {name: stages.distances(arrays, reference, bound, precision) for name, arrays in recorded.items()}
    value = _value(reference, failure)
    if failure.tensor not in reference:
        return _beyond(failure, recorded)
    where = stages.places(arbiter.calls, reference)
    names = next((names for names in where if failure.tensor in names.values()), None)
    if names is None:
        ratios = {name: distances[failure.tensor].ratio for name, distances in plain.items()}
        blamed = _sides(decide(ratios), recorded)
        point, _, tensor = failure.tensor.rpartition("/")
        there = {
            side: {
                name.rpartition("/")[2]: at
                for name, at in found.items()
                if name.rpartition("/")[0] == point and name in compared
            }
            for side, found in plain.items()
        }
        found = [stages.gradient(deep, name, there[name], tensor) for name in blamed]
        return _blamed(found, "against the reference's values", value, "both are within the bound of it")
    keys = {key: name for name, key in names.items()}

    def focus(key: str, ratios: np.ndarray) -> np.ndarray:
        return stages.in_order(deep, keys[key], ratios) if key in keys else ratios

    own = {}
    for name, arrays in recorded.items():
        forced = stages.force(asked, where, arrays, reference)
        own[name] = stages.distances(arrays, forced, bound, precision, focus)
    ratios = {name: max(distances[key].ratio for key in keys) for name, distances in own.items()}
    blamed = _sides(decide(ratios), recorded)
    found = [stages.stage(deep, name, names, own[name], plain[name]) for name in blamed]
    reason = "each stage from the side's own earlier ones, against the reference's"
    return _blamed(found, reason, value, "no stage of either side is beyond its rounding")


def _elements(subject: Subject, failure: Comparison, sides: Sequence[Arrays], seed: int) -> list[dict[str, list[int]]]:
    """For each point of a case of gradients, of which elements the reference is asked for the gradient: at the failed
    one, where the sides differ most."""
    found: list[dict[str, list[int]]] = []
    for point in subject.points(failure.case, seed, failure.precision):
        at: dict[str, list[int]] = {}
        if failure.recorded.removeprefix(point.prefix) in gradients.shapes(point):
            for name, shape in gradients.shapes(point).items():
                held = [side[point.prefix + name] for side in sides if point.prefix + name in side]
                at[name] = steps.most_different(shape, [held])
                if point.prefix + name == failure.recorded and len(failure.index) == len(shape):
                    at[name].append(int(np.ravel_multi_index(failure.index, shape)))
            del at[gradients.LOSS]
        found.append(at)
    return found


def _shared_steps(sides: Sequence[Arrays]) -> dict[str, int]:
    """By name, the steps that everyone has of what differs in their number alone."""
    found: dict[str, int] = {}
    for name in set[str]().union(*sides):
        shapes = {side[name].shape for side in sides if name in side}
        if len(shapes) > 1 and () not in shapes and len({shape[1:] for shape in shapes}) == 1:
            found[name] = min(shape[0] for shape in shapes)
    return found


def _cut(arrays: Arrays, steps: dict[str, int]) -> Arrays:
    return {name: array[: steps[name]] if name in steps else array for name, array in arrays.items()}


def _beyond(failure: Comparison, recorded: Recorded) -> Blame:
    """A tensor that the reference does not have: who has it, or whose value is beyond a limit that both share."""
    held = [name for name, arrays in recorded.items() if failure.tensor in arrays]
    if failure.kind == "extra":
        found = [Departure(side=name, stage=failure.check, tensor=failure.tensor) for name in held]
        return _blamed(found, "the spec has no such tensor")
    if failure.index:
        return _undecided("the reference has no such tensor")  # A distance from each other is no limit that both share.
    found = []
    for name, value in zip(recorded, failure.values or (), strict=False):
        if isinstance(value, float) and failure.bound is not None and not abs(value) <= failure.bound:
            ratio = abs(value) / failure.bound if failure.bound else None
            found.append(Departure(side=name, stage=failure.check, tensor=failure.tensor, value=value, ratio=ratio))
    return _blamed(found, "each side has the same limit", otherwise="the reference has no such tensor")


def _blamed(
    found: list[Departure],
    reason: str,
    reference: Value | None = None,
    otherwise: str = "neither side departs",
) -> Blame:
    if not found:
        return _undecided(otherwise, reference)
    departs = found[0].side if len(found) == 1 else "both"
    return Blame(at_fault=departs, reason=reason, reference=reference, departures=found)


def _undecided(reason: str, reference: Value | None = None) -> Blame:
    return Blame(at_fault="undecided", reason=reason, reference=reference)


def _held(comparison: Comparison) -> str:
    """What a side was held against that was not held against the other one."""
    if comparison.other:
        return f"each side is held against {WORDS.get(comparison.other, f'what is {comparison.other}')}"
    return f"each side is held against itself: {comparison.sides[0]}, against {comparison.sides[1]}"


def _alone(name: str, comparison: Comparison) -> Departure:
    """A side that was not held against the other one."""
    values = list(zip(comparison.sides, comparison.values or (None, None), strict=True))
    return Departure(
        side=name,
        stage=comparison.check,
        tensor=comparison.tensor,
        step=comparison.step,
        index=comparison.index,
        value=next(value for side, value in values if side != comparison.other),
        expected=next((value for side, value in values if side == comparison.other), None),
        ratio=comparison.ratio,
    )


def _sides(departs: str, recorded: Recorded) -> list[str]:
    return list(recorded) if departs == "both" else [name for name in recorded if name == departs]


def _value(reference: Arrays, failure: Comparison) -> Value | None:
    """The reference's value where the comparison failed."""
    array = reference.get(failure.tensor)
    at = failure.index if failure.step is None else (failure.step, *failure.index)
    if array is None or len(at) != array.ndim or any(i >= n for i, n in zip(at, array.shape, strict=True)):
        return None
    return float(array[at])


def _check(failure: Comparison) -> Check:
    return next(check for check in LADDER if failure.check == check.NAME)
