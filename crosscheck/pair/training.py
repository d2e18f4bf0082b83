"""The checks of training: the optimizer on given gradients, and trajectories from the same start."""

import math
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import msgspec
import numpy as np

from crosscheck.bounds import tolerances
from crosscheck.bounds.rounding_spread import FACTOR
from crosscheck.comparison import Comparison, DifferenceGrowth
from crosscheck.explain import optimizers
from crosscheck.explain.explanation import Explanation
from crosscheck.mapping.link import join
from crosscheck.pair import leafwise, rounding
from crosscheck.pair.leafwise import Computed, close
from crosscheck.pair.rounding import Deviations, Unit
from crosscheck.pair.state import PRECISIONS, Found, NotChecked, State, from_comparisons
from spec.framework import Precision
from spec.pair import PairBatch, PairStep, Values

REPLAYED, REPLAYED_LARGE = 30, 4
"""Steps of the optimizer, and of a large model's."""

STEPS, STEPS_LARGE = 10, 5
"""Steps of a trajectory."""

LOSS = "loss"
"""What stands beside the leaves at each step."""

SMALLEST, TINY, FAINT = -9.0, -7.0, -4.0
"""Decimal exponents of gradients: see crosscheck.checks.optimizer."""

ROUNDINGS = 8.0
"""A step's roundings of a parameter and of its step: see tolerances.REPLAY."""

CONSTANTS = {"float64": 0.0, "float32": 6e-4}
"""Share of the way that a parameter has gone by which rounded constants may change it. Who computes 1 - beta^t in
float32, as optax does, rounds a beta next to 1 by 2^-24, which is 2^-24 / (1 - beta) of the difference: 6e-4 for a beta
of 0.9999, the nearest to 1 that is in use. In float64 the same is 1e-12, and the roundings above cover it."""

INVISIBLE = 1e-11
"""Gradient, in units of the largest of any leaf, that is rounding of a zero: see crosscheck.mapping.verification."""

NOISE = 1e3
"""A gradient of so many units in the last place of its leaf's largest has lost a thousandth of its size to rounding,
and steps that divide by it, as Adam's do, say nothing. Beyond it the perturbed runs tell."""


def apart(state: State) -> set[str]:
    """Leaves of the second side that are known to be trained in another way."""
    obstacles = state.report.obstacles if state.report else ()
    named = {path for one in obstacles for path in one.leaves}
    by_source = {
        target
        for target, link in state.mapping.links.items()
        if any(piece.source in named for part in link.parts for piece in part.pieces)
    }
    return {leaf.path for leaf in state.second.leaves if leaf.path in named or leaf.path in by_source}


def _need_optimizers(state: State) -> None:
    """Raise NotChecked where there are none on either side."""
    sides = (state.first, state.second)
    if all("optimizer" in side.can for side in sides):
        return
    keras = any("Keras" in side.kind for side in sides)
    words = "; Keras's own are not checked, torch's and optax's are" if keras else ""
    raise NotChecked(f"the pair gives no optimizers{words}", scope=True)


def optimizer(state: State) -> Found:
    """Both optimizers on the same gradients, drawn for the second side's leaves and brought over by the map."""
    _need_optimizers(state)
    linked = {path for path, link in state.mapping.links.items() if link.parts}
    left = apart(state)
    compared = [leaf.path for leaf in state.second.leaves if leaf.trainable and leaf.path in linked - left]
    if not compared:
        raise NotChecked("every leaf is trained in another way", scope=False)
    steps = REPLAYED_LARGE if state.large else REPLAYED
    comparisons = []
    for precision in PRECISIONS:
        state.say(f"optimizer, {precision}")
        comparisons += _replayed(state, precision, compared, steps)
    state.put(next(state.points(0)).values)
    comparisons.sort(key=lambda one: -1 if one.passed else one.step or 0)
    text = f"{steps} steps on gradients of 1e-9 to 1"
    text += f"; without {', '.join(sorted(left))}, trained in another way" if left else ""
    differences = from_comparisons(comparisons)
    if differences and not state.large:
        differences[0] = msgspec.structs.replace(differences[0], explanation=_explained(state, compared, steps))
    return Found(comparisons, differences, text)


def _explained(state: State, compared: Sequence[str], steps: int) -> Explanation | None:
    """In what the optimizers differ, by their steps in float64 on the same gradients."""
    budget = state.budget()
    start = next(state.points(0)).values
    with budget.elsewhere():
        state.put(start)
        drawn = [_kept(_drawn(state, step, compared, "float64"), compared) for step in range(steps)]
        gradients = [_drawn(state, step, compared, "float64") for step in range(steps)]
        before = _kept(state.pushed(start), compared)
        replayed = state.first.replay(map(state.pulled, gradients))
        ours = [_kept(state.pushed(_over(start, one)), compared) for one in replayed]
        theirs = [_kept(one, compared) for one in state.second.replay(gradients)]
        state.put(start)
    one, two = (optimizers.moves(before, drawn, side, compared) for side in (ours, theirs))
    return optimizers.explain(one, two, budget)


def _kept(values: Values, paths: Sequence[str]) -> dict[str, np.ndarray]:
    """Of a model that is not large, whose arrays may be kept."""
    return {path: np.array(values[path], np.float64) for path in paths}


def _replayed(state: State, precision: Precision, compared: Sequence[str], steps: int) -> list[Comparison]:
    start = next(state.points(0)).values
    state.put(start)
    drawn = [_drawn(state, step, compared, precision) for step in range(steps)]
    ours = state.first.replay(map(state.pulled, drawn), precision=precision)
    theirs = state.second.replay(drawn, precision=precision)
    before = last = state.pushed(start)
    # The way that each number has gone, where constants count; else how far a bound goes by sizes alone.
    gone = {path: np.zeros(before[path].shape, np.float32) for path in compared if CONSTANTS[precision]}
    tightest: dict[str, Comparison] = {}
    place = state.place("optimizer", precision, "replay")
    unit = max(rounding.unit_of(precision, state.leaves, False).eps, float(np.finfo(precision).eps)) / 2
    for step, (one, two) in enumerate(zip(ours, theirs, strict=True)):
        if state.large:
            state.say(f"optimizer, {precision}, step {step + 1} of {steps}")
        now = state.pushed(_over(start, one))
        for path in compared:
            here = now[path]
            way = np.abs(here.astype(np.float64) - last[path])
            size = max(tolerances.largest(here, before[path]), float(way.max(initial=0.0)))
            allowed: float | np.ndarray = ROUNDINGS * (step + 1) * unit * size
            if path in gone:
                gone[path] += way
                allowed = allowed + CONSTANTS[precision] * gone[path].astype(np.float64)
            del way
            _keep(tightest, path, close(place, path, here, two[path], allowed), step)
        last = now
    if not tightest:
        return [place.failed("replay", "nothing to compare: no step was made")]
    return list(tightest.values())


def _keep(tightest: dict[str, Comparison], name: str, found: Comparison, step: int) -> None:
    """Of a tensor's steps the first that fails, else the one nearest to its bound; elements are added up."""
    found = msgspec.structs.replace(found, step=step)
    held = tightest.get(name)
    if held is None:
        tightest[name] = found
    elif held.passed:
        chosen = found if not found.passed or (found.ratio or 0.0) > (held.ratio or 0.0) else held
        tightest[name] = msgspec.structs.replace(chosen, elements=held.elements + found.elements)


def _drawn(state: State, step: int, compared: Sequence[str], precision: Precision) -> Values:
    """A step's gradients by the second side's leaves: of all sizes, some zero; zero where nothing is compared.

    In a leaf of more numbers than a block they repeat, which an optimizer of numbers one by one does not see.
    """
    numbers = {leaf.path: number for number, leaf in enumerate(state.second.leaves) if leaf.trainable}

    def one(path: str) -> np.ndarray:
        number = numbers[path]
        shape = state.second.leaves[number].shape
        if path not in compared or step % 10 == 3:
            return np.zeros(shape, precision)
        size = min(math.prod(shape), leafwise.BLOCK)
        kind = state.random(6, number).choice(3, size=size, p=(0.1, 0.3, 0.6))
        random = state.random(7, number, step)
        largest = np.where(kind == 1, TINY, FAINT if step % 3 == 2 else 0.0)
        sizes = 10.0 ** random.uniform(SMALLEST, largest, size)
        signs = random.choice((-1.0, 1.0), size=size)
        return np.resize(np.where(kind == 0, 0.0, sizes * signs).astype(precision), shape)

    return Computed(numbers, one)


def _over(values: Values, others: Values) -> Values:
    """The values, and in place of some of them others."""
    return Computed(values, lambda path: others[path] if path in others else values[path])


def trajectory(state: State) -> Found:
    """Both trained from the same start on the same batches, against the first side's own perturbed runs."""
    _need_optimizers(state)
    if parted := [one for one in ("forward", "loss", "gradients", "train mode", "optimizer") if one in state.parted]:
        raise NotChecked(f"it builds on {', '.join(parted)}, where the sides differ", scope=True)
    if left := apart(state):
        raise NotChecked(f"trained in another way: {', '.join(sorted(left))}", scope=True)
    steps = STEPS_LARGE if state.large else STEPS
    train = all("train" in side.can for side in (state.first, state.second)) and not any(state.random_in_train())
    comparisons: list[Comparison] = []
    words = []
    for precision in PRECISIONS:
        run = _Trajectory(state, precision, steps, train)
        comparisons += run.comparisons()
        if run.reached < steps:
            words.append(f"{precision}: rounding alone parts runs after {run.reached}")
    state.put(next(state.points(0)).values)
    mode = "train" if train else "eval"
    runs = state.unit("float64").runs
    text = f"{steps} steps in {mode} mode, {runs} perturbed run{'s' if runs > 1 else ''}" + "".join(
        f"; {one}" for one in words
    )
    text += f"; without {', '.join(sorted(state.statistics))}, which differ in train mode" if state.statistics else ""
    return Found(comparisons, from_comparisons(comparisons), text)


class _Trajectory:
    """Runs beside each other, step by step and leaf by leaf; no step is kept.

    First how far perturbed runs of the first side part from its own, then the second side's against the first's. So of
    a large model, whose run is gigabytes, no more than two are under way at a time.
    """

    def __init__(self, state: State, precision: Precision, steps: int, train: bool) -> None:
        self.state, self.steps, self.train = state, steps, train
        self.precision: Precision = precision
        self.unit: Unit = state.unit(precision)
        self.place = state.place("trajectory", precision, "eval mode" if not train else "train mode")
        self.spreads = [Deviations() for _ in range(steps)]
        self.sizes: dict[str, float] = {}
        self.gone: dict[str, float] = {}
        self.start = next(state.points(0)).values
        self.last: Values = state.pushed(self.start)
        self.tightest: dict[str, Comparison] = {}
        self.grown: dict[str, tuple[list[int], list[float], list[float], list[tuple[float, float]]]] = {}
        self.reached = steps
        self.beyond: set[str] = set()
        self.batches: tuple[list[PairBatch], list[PairBatch]] = ([], [])
        for step in range(steps):
            inputs = state.pair.make_inputs(state.random(8, step))
            for own, given, objective in zip(
                self.batches, inputs, state.objectives(inputs, state.random(9, step)), strict=True
            ):
                own.append(PairBatch(given, objective))

    def comparisons(self) -> list[Comparison]:
        self.state.put(self.start)
        self.noise = self._noise()
        nudged = list(rounding.nudged(self.start, self.unit, self.state.seed, self.state.constants))
        width = 1 if self.state.large else len(nudged)
        for begin in range(0, len(nudged), width):
            self._part(nudged[begin : begin + width], f"perturbed runs from {begin + 1} of {len(nudged)}")
        with closing(self._begun(0, self.start)) as ours, closing(self._begun(1)) as theirs:
            for step, (one, two) in enumerate(zip(ours, theirs, strict=True)):
                self.state.say(f"trajectory, {self.precision}, step {step + 1} of {self.steps}")
                self._compare(step, one, two)
                if LOSS in self.beyond:
                    self.reached = step
                    break
        found = [self._with_growth(name, one) for name, one in self.tightest.items()]
        return sorted(found, key=lambda one: self.steps if one.passed else one.step or 0)

    def _begun(self, number: int, values: Values | None = None) -> Generator[PairStep, None, None]:
        """A side's run, which begins where its first step is asked for, from these values or those of that moment."""
        side = (self.state.first, self.state.second)[number]
        if values is not None:
            side.load(values)
        yield from side.steps(self.batches[number], precision=self.precision, train=self.train)

    def _part(self, nudged: Sequence[Values], words: str) -> None:
        """How far runs from these values are from the one that is compared, step by step."""
        with ExitStack() as stack:
            runs = [stack.enter_context(closing(self._begun(0, values))) for values in (self.start, *nudged)]
            for step, spread in enumerate(self.spreads):
                self.state.say(f"trajectory, {self.precision}, {words}, step {step + 1} of {self.steps}")
                one = self._named(next(runs[0]))
                judged = Computed(one, partial(self._judged, one))
                for run in runs[1:]:
                    other = self._named(next(run))
                    spread.add(judged, Computed(other, partial(self._judged, other)))

    def _noise(self) -> dict[str, np.ndarray]:
        """By the second side's leaves, which elements have no gradient but rounding: steps may divide by it."""
        batch = self.batches[0][0]
        found = self.state.first.gradients(batch.inputs, batch.objective, train=self.train).leaves
        largest = max(map(tolerances.largest, found.values()), default=0.0)
        shapes = {leaf.path: leaf.shape for leaf in self.state.first.leaves}

        def mask(path: str) -> np.ndarray:
            if path not in found:
                return np.zeros(shapes[path], np.float32)
            size = np.abs(found[path])
            limit = max(INVISIBLE * largest, NOISE * self.unit.eps * float(size.max(initial=0.0)))
            return ((size > 0) & (size <= limit)).astype(np.float32)

        masks = Computed(shapes, mask)
        plain = {target: join(_unscaled(link), masks) for target, link in self.state.mapping.links.items()}
        return {target: one == 0 for target, one in plain.items() if one is not None}

    def _compare(self, step: int, ours: PairStep, theirs: PairStep) -> None:
        named = self._named(ours)
        for name in named:
            one = named[name]
            far = max(spread.found.get(name, 0.0) for spread in self.spreads[: step + 1])
            self.sizes[name] = max(self.sizes.get(name, 0.0), tolerances.largest(one))
            keep = self.noise.get(name)
            if name in self.beyond or name in self.state.statistics or (keep is not None and not keep.any()):
                continue
            floor = tolerances.STEP_ROUNDINGS * self.unit.eps * self.sizes[name]
            if CONSTANTS[self.precision] and name in self.last:
                way = float(np.abs(one - self.last[name]).max(initial=0.0))
                self.gone[name] = self.gone.get(name, 0.0) + way
            # What rounded constants do to a step comes back through the gradients, as all else does.
            constants = CONSTANTS[self.precision] * self.gone.get(name, 0.0)
            # Ten times the floor is a third of the size in bfloat16, which says nothing.
            floor = floor if self.unit.eps > rounding.EPS["float32"] else self.unit.factor * floor
            allowed = max(self.unit.factor * max(far, constants), floor)
            if allowed > tolerances.HORIZON * self.sizes[name] and self.sizes[name] > 0:
                self.beyond.add(name)
                continue
            if name == LOSS and self.precision == "float64" and not self.state.pinned:
                cap = tolerances.LOSS_CAP["float64"] * max(self.sizes[name], 1.0)
                allowed = min(allowed, max(cap, FACTOR * far))
            other = np.array([theirs.loss]) if name == LOSS else theirs.values[name]
            found = close(self.place, name, one, other, allowed, keep)
            _keep(self.tightest, name, found, step)
            self._grow(name, step, found, allowed)
        self.last = named

    def _grow(self, name: str, step: int, found: Comparison, allowed: float) -> None:
        """Note how far apart the sides are, and of the loss its values too: for a picture."""
        steps, difference, bound, values = self.grown.setdefault(name, ([], [], [], []))
        steps.append(step)
        difference.append(math.inf if found.difference is None else float(f"{found.difference:.4g}"))
        bound.append(float(f"{allowed:.4g}"))
        if name == LOSS and found.values is not None:
            values.append((float(found.values[0]), float(found.values[1])))

    def _with_growth(self, name: str, found: Comparison) -> Comparison:
        steps, difference, bound, values = self.grown[name]
        first, second = ([pair[side] for pair in values] for side in (0, 1))
        grown = DifferenceGrowth(steps=steps, difference=difference, bound=bound, first=first, second=second)
        return msgspec.structs.replace(found, growth=grown)

    def _named(self, run: PairStep) -> Values:
        pushed = self.state.pushed(run.values)
        return Computed([LOSS, *pushed], lambda name: np.array([run.loss]) if name == LOSS else pushed[name])

    def _judged(self, named: Values, name: str) -> np.ndarray:
        keep = self.noise.get(name)
        return named[name] if keep is None else named[name][keep]


def _unscaled(link: Any) -> Any:
    """The link as one of places alone: where elements go, whatever is done to them."""
    parts = tuple(
        part._replace(pieces=tuple(piece._replace(factor=1.0, offset=0.0) for piece in part.pieces))
        for part in link.parts
    )
    return link._replace(parts=parts)
