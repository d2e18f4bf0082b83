"""The checks of what is computed: the forward pass, the loss and its gradients."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from crosscheck.bounds import tolerances
from crosscheck.bounds.rounding_spread import FACTOR
from crosscheck.comparison import Comparison
from crosscheck.explain import losses, running
from crosscheck.explain import pairs as explain
from crosscheck.explain.explanation import Budget
from crosscheck.explain.losses import LossSeen
from crosscheck.mapping.results import Divergence, Location
from crosscheck.pair.codec import arrays_in
from crosscheck.pair.given import SIDES
from crosscheck.pair.leafwise import Computed, close
from crosscheck.pair.result import Difference, SourcePlace
from crosscheck.pair.rounding import Deviations, Unit
from crosscheck.pair.state import PRECISIONS, Found, NotChecked, Point, State, cast, from_comparisons
from spec.framework import Precision
from spec.pair import Forward, Inputs, LeafGradients, Values

ASKED_AGAIN, TRAIN, STATISTICS = "asked again", "train mode", "statistics after train mode"
"""Cases."""

FORMULA = 1e-10
"""Relative difference up to which a number is what a formula gives, at least: of sums of thousands of terms."""

DRAWN = 2
"""Random points beside the values that the model was made with."""


def forward(state: State) -> Found:
    """Outputs at several points and batch sizes, in both precisions, and past padding; the places where they part."""
    comparisons: list[Comparison] = []
    for number, point in enumerate(state.points(1 if state.large else DRAWN)):
        for precision in PRECISIONS:
            state.say(f"forward, {point.name}, {precision}")
            comparisons += _forward(state, point, precision, number)
    looked = [f"{1 if state.large else DRAWN} random points and as made", "batch of 1"]
    state.put(next(state.points(0)).values)
    comparisons += list(_padding(state))
    budget = state.budget()
    differences = [_difference(one, budget) for one in state.report.divergences] if state.report else []
    failed = from_comparisons(comparisons)
    # Where places are known, what comes of them is not listed beside them.
    differences += [one for one in failed if not differences or one.case in ("padding", ASKED_AGAIN)]
    return Found(comparisons, differences, ", ".join(looked))


def _forward(state: State, point: Point, precision: Precision, number: int) -> Iterator[Comparison]:
    unit = state.unit(precision)
    whole = state.pair.drawn(state.random(1, number))[:2]
    batches = {"": whole}
    one_row = state.pair.drawn(state.random(1, number), rows=1)[:2]
    if _sizes(one_row[0]) != _sizes(whole[0]):
        batches["batch of 1"] = one_row
    state.put(point.values)
    found: dict[str, tuple[Forward, Forward, Deviations]] = {}
    for batch, (ours, theirs) in batches.items():
        one, two = state.first.forward(ours, precision=precision), state.second.forward(theirs, precision=precision)
        found[batch] = one, two, Deviations()
        if number == 0 and not batch:
            again = state.first.forward(ours, precision=precision), state.second.forward(theirs, precision=precision)
            yield from _again(state, precision, (one, two), again)
    for values in state.perturbed(point.values, unit, f"forward, {point.name}, {precision}"):
        state.first.load(values)
        for batch, (ours, _) in batches.items():
            spread = found[batch][2]
            spread.add(found[batch][0].outputs, state.first.forward(ours, precision=precision).outputs)
    state.first.load(point.values)
    for batch, (one, two, spread) in found.items():
        case = f"{point.name}, {batch}" if batch else point.name
        yield from _outputs(state, one, two, spread, unit, precision, case)


def _sizes(inputs: Inputs) -> list[tuple[int, ...]]:
    return [array.shape for array in arrays_in(inputs)]


def _again(
    state: State, precision: Precision, before: tuple[Forward, Forward], after: tuple[Forward, Forward]
) -> Iterator[Comparison]:
    place = state.place("forward", precision, ASKED_AGAIN)
    for side, one, two in zip(SIDES, before, after, strict=True):
        for name, array in one.outputs.items():
            yield place._replace(sides=(side, f"{side}, again")).identical(
                f"{name} of {side}, asked again", array, two.outputs.get(name)
            )


def _outputs(
    state: State, one: Forward, two: Forward, spread: Deviations, unit: Unit, precision: Precision, case: str
) -> Iterator[Comparison]:
    place = state.place("train mode" if case == TRAIN else "forward", precision, case)
    for link in state.mapping.outputs:
        ours, theirs = one.outputs.get(link.first), two.outputs.get(link.second)
        if ours is None or theirs is None:
            number = 0 if ours is None else 1
            given = ", ".join((one, two)[number].outputs) or "none"
            wanted = (link.first, link.second)[number]
            yield place.failed(link.first, f"expected output {wanted} of {SIDES[number]}, as before, got {given}")
            continue
        ours = ours.transpose(link.axes)
        ours = ours.reshape(theirs.shape) if ours.size == theirs.size else ours
        entered = tolerances.largest(ours)
        allowed = spread.allowed(link.first, unit, entered)
        yield place.close(link.first, cast(ours, precision), cast(theirs, precision), allowed=allowed)


def _padding(state: State) -> Iterator[Comparison]:
    """Whatever stands in padding, what counts stays as it is; on each side, and so between them."""
    if not state.names_padding():
        return
    state.say("forward, padding")
    quiet = state.pair.drawn(state.random(2))
    loud = state.pair.drawn(state.random(2), noise=state.seed + 1)
    valid = quiet[2]
    if valid is None:
        return
    place, unit = state.place("forward", "float64", "padding"), state.unit("float64")
    for number, (side, still, filled) in enumerate(
        ((state.first, quiet[0], loud[0]), (state.second, quiet[1], loud[1]))
    ):
        before, after = side.forward(still).outputs, side.forward(filled).outputs
        for name, array in before.items():
            one, two = _counting(array, valid), _counting(after[name], valid)
            allowed = tolerances.ROUNDINGS * unit.eps * tolerances.largest(one)
            sides = SIDES[number], f"{SIDES[number]}, padding filled"
            yield place._replace(sides=sides).close(f"{name} of {SIDES[number]}", one, two, allowed=allowed)
    ours, theirs = state.first.forward(loud[0]).outputs, state.second.forward(loud[1]).outputs
    for link in state.mapping.outputs:
        moved = ours[link.first].transpose(link.axes).reshape(link.shape)
        one, two = _counting(moved, valid), _counting(theirs[link.second], valid)
        allowed = unit.factor * tolerances.ROUNDINGS * unit.eps * tolerances.largest(one)
        yield place.close(link.first, one, two, allowed=max(allowed, state.report.tolerance if state.report else 0.0))


def _counting(array: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """What is no padding, where an output has a time axis after the batch's."""
    return array[valid] if array.shape[:2] == valid.shape else array


def train_mode(state: State) -> Found:
    """Outputs and statistics in train mode; where something in it is random, the statistics that it does not reach."""
    if not all("train" in side.can for side in (state.first, state.second)):
        missing = next(
            name for name, side in zip(SIDES, (state.first, state.second), strict=True) if "train" not in side.can
        )
        raise NotChecked(f"{missing} has no train mode (call_{missing} may take `train`)", scope=True)
    if "forward" in state.parted:
        raise NotChecked("it builds on the forward pass, where the sides differ", scope=True)
    random = any(state.random_in_train())
    quiet = _quiet_statistics(state) if random else frozenset()
    if random and not quiet:
        raise NotChecked("train mode is random: dropout is looked at by itself", scope=True)
    found = list(_train_mode(state))
    outputs = [one for one in found if one.case != STATISTICS and not random]
    statistics = [one for one in found if one.case == STATISTICS and (not random or one.tensor in quiet)]
    state.put(next(state.points(0)).values)
    state.statistics = {one.tensor for one in statistics if not one.passed}
    comparisons = [*outputs, *statistics]
    differences = from_comparisons(comparisons)
    if differences and not state.large:
        differences = _explained_in_train_mode(state, differences)
        state.put(next(state.points(0)).values)
    reached = ", all that dropout does not reach" if random else ""
    return Found(comparisons, differences, f"{len({one.tensor for one in statistics})} statistics{reached}")


def _quiet_statistics(state: State) -> frozenset[str]:
    """Leaves of the second side that a call in train mode changes on either side, alike with another seed on both."""
    point = next(state.points(0))
    given = state.pair.make_inputs(state.random(3))
    state.put(point.values)
    ours, theirs = (
        [dict(side.forward(inputs, train=True, seed=state.seed + one).state) for one in (1, 2)]
        for side, inputs in zip((state.first, state.second), given, strict=True)
    )
    state.put(point.values)
    kept = state.pushed(point.values)
    moved = [state.pushed(point.values | run) for run in ours]
    found = set()
    for path in kept:
        runs = [[run[path] for run in moved], [run.get(path, kept[path]) for run in theirs]]
        changed = any(not np.array_equal(one, kept[path], equal_nan=True) for one, _ in runs)
        if changed and all(np.array_equal(one, two, equal_nan=True) for one, two in runs):
            found.add(path)
    return frozenset(found)


def _explained_in_train_mode(state: State, differences: list[Difference]) -> list[Difference]:
    """The statistics with what became of them on both sides; the outputs where train mode is eval mode."""
    budget, tolerance = state.budget(), _equal(state)
    point = next(state.points(0))
    ours, theirs = state.pair.make_inputs(state.random(3))
    with budget.elsewhere():
        state.put(point.values)
        one, two = (
            side.forward(given, train=True, record=not number)
            for number, (side, given) in enumerate(((state.first, ours), (state.second, theirs)))
        )
        quiet = state.first.forward(ours).outputs, state.second.forward(theirs).outputs
    kept, after = state.pushed(point.values), state.pushed(point.values | dict(one.state))
    apart = {path for path in kept if not np.array_equal(kept[path], after[path])}
    moved = {
        path: running.MovedStatistic(kept[path], after[path], np.asarray(two.state.get(path, kept[path])))
        for path in apart
        if kept[path].ndim == 1
    }
    found = running.explain(moved, [entry.value for entry in one.intermediates], tolerance, budget)
    still = [
        max(explain.distance(loud.outputs[name], value, tolerance) for name, value in calm.items())
        for loud, calm in zip((one, two), quiet, strict=True)
    ]
    words = running.mode(still[0], still[1])
    return [
        msgspec.structs.replace(
            difference,
            explanation=found.get(difference.name.removeprefix("train mode: "))
            if difference.case == STATISTICS
            else words,
        )
        for difference in differences
    ]


def _train_mode(state: State) -> Iterator[Comparison]:
    state.say("train mode")
    for precision in PRECISIONS:
        unit = state.unit(precision)
        point = next(state.points(0))
        ours, theirs = state.pair.make_inputs(state.random(3))
        state.put(point.values)
        one = state.first.forward(ours, precision=precision, train=True)
        two = state.second.forward(theirs, precision=precision, train=True)
        spread = Deviations()
        for values in state.perturbed(point.values, unit, f"train mode, {precision}"):
            state.first.load(values)
            other = state.first.forward(ours, precision=precision, train=True)
            spread.add(one.outputs, other.outputs)
            spread.add(
                {f"state {k}": v for k, v in one.state.items()}, {f"state {k}": v for k, v in other.state.items()}
            )
        state.first.load(point.values)
        yield from _outputs(state, one, two, spread, unit, precision, TRAIN)
        yield from _statistics(state, point, one.state, two.state, spread, precision)


def _statistics(
    state: State,
    point: Point,
    ours: Mapping[str, np.ndarray],
    theirs: Mapping[str, np.ndarray],
    spread: Deviations,
    precision: Precision,
) -> Iterator[Comparison]:
    place, unit = state.place("train mode", precision, STATISTICS), state.unit(precision)
    kept = state.pushed(point.values)
    moved = state.pushed(point.values | dict(ours))
    largest = max(spread.found.values(), default=0.0)
    for path in moved:
        changed = not np.array_equal(moved[path], kept[path])
        if changed or path in theirs:
            two = theirs.get(path, kept[path])
            entered = tolerances.largest(moved[path], kept[path])
            allowed = max(min(unit.factor * largest, unit.widest * entered), tolerances.ROUNDINGS * unit.eps * entered)
            yield place.close(path, cast(moved[path], precision), cast(two, precision), allowed=allowed)


def gradients(state: State) -> tuple[Found, Found]:
    """The loss, where the pair gives one, and its gradients by leaves and inputs."""
    if "forward" in state.parted:
        raise NotChecked("it builds on the forward pass, where the sides differ", scope=True)
    losses: list[Comparison] = []
    leaves: list[Comparison] = []
    for number, point in enumerate(state.points(1)):
        for precision in PRECISIONS:
            state.say(f"gradients, {point.name}, {precision}")
            for one in _gradients(state, point, precision, number):
                (losses if one.check == "loss" else leaves).append(one)
    found = from_comparisons(losses), from_comparisons(leaves)
    if any(found) and not state.large:
        _explain_gradients(state, *found)
    state.put(next(state.points(0)).values)
    of = "of the pair's loss" if has_loss(state) else "of the mean square distance to random targets"
    return Found(losses, found[0]), Found(leaves, found[1], of)


def _explain_gradients(state: State, of_loss: list[Difference], of_leaves: list[Difference]) -> None:
    """Say in place what the first difference looks like: that of the loss, from which its gradients follow."""
    budget, tolerance = state.budget(), _equal(state)
    seen: list[LossSeen] = []
    ours: dict[str, np.ndarray] = {}
    theirs: dict[str, np.ndarray] = {}
    named = {one.name.removeprefix("gradients: ") for one in of_leaves} & {leaf.path for leaf in state.first.leaves}
    with budget.elsewhere():
        for number, point in enumerate(state.points(1)):
            inputs = state.pair.make_inputs(state.random(4, number))
            state.put(point.values)
            both = state.objectives(inputs, state.random(5, number))
            one, two = state.first.gradients(inputs[0], both[0]), state.second.gradients(inputs[1], both[1])
            outputs = state.first.forward(inputs[0]).outputs
            seen.append(LossSeen(outputs, _flat(inputs[0]), one.loss, two.loss))
            pulled = state.pulled(two.leaves)
            for path in named & one.leaves.keys():
                ours[f"{path}, {point.name}"], theirs[f"{path}, {point.name}"] = one.leaves[path], pulled[path]
    if of_loss:
        found = losses.explain(seen, tolerance, budget)
        of_loss[0] = msgspec.structs.replace(of_loss[0], explanation=found)
    elif ours and len(ours) == len(named) * len(seen):
        found = losses.of_gradients(ours, theirs, tolerance, budget)
        of_leaves[0] = msgspec.structs.replace(of_leaves[0], explanation=found)


def _equal(state: State) -> float:
    """What values may differ by that a formula takes for equal, relative."""
    return max(FORMULA, FACTOR * tolerances.ROUNDINGS * state.unit("float64").eps)


def has_loss(state: State) -> bool:
    return all("loss" in side.can for side in (state.first, state.second))


def _gradients(state: State, point: Point, precision: Precision, number: int) -> Iterator[Comparison]:
    unit = state.unit(precision)
    inputs = state.pair.make_inputs(state.random(4, number))
    state.put(point.values)
    objectives = state.objectives(inputs, state.random(5, number))
    one = state.first.gradients(inputs[0], objectives[0], precision=precision)
    two = state.second.gradients(inputs[1], objectives[1], precision=precision)
    spread = Deviations()
    named = _named(one)
    for values in state.perturbed(point.values, unit, f"gradients, {point.name}, {precision}"):
        state.first.load(values)
        spread.add(named, _named(state.first.gradients(inputs[0], objectives[0], precision=precision)))
    state.first.load(point.values)
    place = state.place("gradients", precision, point.name)
    if has_loss(state):
        entered = max(abs(one.loss), tolerances.largest(*state.first.forward(inputs[0]).outputs.values()))
        allowed = spread.allowed("loss", unit, entered)
        pair = (np.array([side.loss], precision) for side in (one, two))
        yield state.place("loss", precision, point.name).close("loss", *pair, allowed=allowed)
    largest = max(map(tolerances.largest, one.leaves.values()), default=0.0)
    shapes = {leaf.path: leaf.shape for leaf in state.second.leaves}
    pulled = state.pulled(two.leaves)
    covered = state.pulled(Computed(two.leaves, lambda path: np.ones(shapes[path])))
    for path, ours in one.leaves.items():
        keep = covered[path] != 0
        if keep.any():
            entered = max(tolerances.largest(ours), tolerances.SHARE * largest)
            yield close(place, path, ours, pulled[path], spread.allowed(path, unit, entered), keep)
    for name, ours in one.inputs.items():
        theirs = _aligned(inputs, name, two.inputs)
        if theirs is not None:
            entered = max(tolerances.largest(ours), tolerances.SHARE * largest)
            allowed = spread.allowed(f"input {name}", unit, entered)
            yield place.close(f"input {name}", cast(ours, precision), cast(theirs, precision), allowed=allowed)


def _named(found: LeafGradients) -> Values:
    others = {f"input {name}": one for name, one in found.inputs.items()} | {"loss": np.array(found.loss)}
    return Computed([*found.leaves, *others], lambda name: others[name] if name in others else found.leaves[name])


def _aligned(inputs: tuple[Any, Any], name: str, gradients: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The second side's gradient by the same input in the first's layout; None where the input is not found there."""
    ours, theirs = (_flat(one) for one in inputs)
    one, two = ours.get(name), theirs.get(name)
    if one is None or two is None or name not in gradients or one.size != two.size or one.ndim != two.ndim:
        return None
    for axes in itertools.permutations(range(two.ndim)):
        moved = two.transpose(axes)
        if moved.shape == one.shape and np.array_equal(moved, one):
            return gradients[name].transpose(axes)
    return None


def _flat(value: Any, name: str = "") -> dict[str, np.ndarray]:
    below = f"{name}." if name else ""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in _flat(item, f"{below}{key}").items()}
    if isinstance(value, tuple | list):
        return {k: v for key, item in enumerate(value) for k, v in _flat(item, f"{below}{key}").items()}
    return {name: np.asarray(value)} if isinstance(value, np.ndarray | np.generic) else {}


def _difference(one: Divergence, budget: Budget) -> Difference:
    where = one.first.module or one.first.op
    lost = "" if one.second else f"; no value of the {SIDES[1]} answers to it"
    return Difference(
        name=f"forward: {where}",
        check="forward",
        text=f"{where} ({one.first.op}) parts by {one.size:.3g} of its largest value{lost}",
        first=_where(one.first),
        second=_where(one.second) if one.second else None,
        index=one.position,
        values=one.values,
        size=one.size,
        precision="float64",
        explanation=explain.explain(one.parts, budget),
    )


def _where(place: Location) -> SourcePlace:
    return SourcePlace(source=place.source, module=place.module, op=place.op)
