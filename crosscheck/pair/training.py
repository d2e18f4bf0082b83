"""The checks of training: the optimizer on given gradients, and trajectories from the same start."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from crosscheck.bounds import tolerances
from crosscheck.bounds.rounding_spread import FACTOR
from crosscheck.comparison import Comparison
from crosscheck.explain import optimizers
from crosscheck.explain.explanation import Explanation
from crosscheck.pair import rounding
from crosscheck.pair.rounding import Deviations, Unit
from crosscheck.pair.state import PRECISIONS, Found, NotChecked, State, cast, from_comparisons
from spec.framework import Precision
from spec.pair import PairBatch, PairStep

REPLAYED, REPLAYED_LARGE = 30, 4
"""Steps of the optimizer, and of a large model's."""

STEPS, STEPS_LARGE = 10, 5
"""Steps of a trajectory."""

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


def optimizer(state: State) -> Found:
    """Both optimizers on the same gradients, drawn for the second side's leaves and brought over by the map."""
    if not all("optimizer" in side.can for side in (state.first, state.second)):
        raise NotChecked("the pair gives no optimizers", scope=True)
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
    until = state.until()
    start = next(state.points(0)).values
    state.put(start)
    drawn = [_drawn(state, step, compared, "float64") for step in range(steps)]
    before = state.mapping.push(start)
    ours = [state.mapping.push(start | dict(one)) for one in state.first.replay(list(map(state.mapping.pull, drawn)))]
    theirs = list(state.second.replay(drawn))
    state.put(start)
    one, two = (optimizers.moves(before, drawn, side, compared) for side in (ours, theirs))
    return optimizers.explain(one, two, until)


def _replayed(state: State, precision: Precision, compared: Sequence[str], steps: int) -> list[Comparison]:
    start = next(state.points(0)).values
    state.put(start)
    drawn = [_drawn(state, step, compared, precision) for step in range(steps)]
    ours = state.first.replay(list(map(state.mapping.pull, drawn)), precision=precision)
    theirs = state.second.replay(drawn, precision=precision)
    before = state.mapping.push(start)
    gone = {path: np.zeros(np.shape(before[path])) for path in compared}
    tightest: dict[str, Comparison] = {}
    last = before
    place = state.place("optimizer", precision, "replay")
    for step, (one, two) in enumerate(zip(ours, theirs, strict=True)):
        now = state.mapping.push(start | dict(one))
        for path in compared:
            gone[path] = gone[path] + np.abs(now[path] - last[path])
            size = tolerances.largest(now[path], before[path])
            moved = float(np.abs(now[path] - last[path]).max(initial=0.0))
            unit = float(np.finfo(precision).eps) / 2
            count = ROUNDINGS * (step + 1) * unit * max(size, moved)
            if rounding.unit_of(precision, state.leaves, False).eps > np.finfo(precision).eps:
                count *= rounding.unit_of(precision, state.leaves, False).eps / float(np.finfo(precision).eps)
            allowed = count + CONSTANTS[precision] * gone[path]
            found = place.close(
                path,
                cast(now[path], precision)[None],
                cast(two[path], precision)[None],
                allowed=allowed[None],
                stepwise=True,
            )
            _keep(tightest, path, found, step)
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


def _drawn(state: State, step: int, compared: Sequence[str], precision: Precision) -> dict[str, np.ndarray]:
    """A step's gradients by the second side's leaves: of all sizes, some zero; zero where nothing is compared."""
    found = {}
    for number, leaf in enumerate(state.second.leaves):
        if not leaf.trainable:
            continue
        kind = state.random(6, number).choice(3, size=leaf.shape, p=(0.1, 0.3, 0.6))
        random = state.random(7, number, step)
        largest = np.where(kind == 1, TINY, FAINT if step % 3 == 2 else 0.0)
        sizes = 10.0 ** random.uniform(SMALLEST, largest, leaf.shape)
        signs = random.choice((-1.0, 1.0), size=leaf.shape)
        zero = (kind == 0) | (step % 10 == 3) | (leaf.path not in compared)
        found[leaf.path] = np.where(zero, 0.0, sizes * signs).astype(precision).astype(np.float64)
    return found


def trajectory(state: State) -> Found:
    """Both trained from the same start on the same batches, against the first side's own perturbed runs."""
    if not all("optimizer" in side.can for side in (state.first, state.second)):
        raise NotChecked("the pair gives no optimizers", scope=True)
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
    text = f"{steps} steps in {mode} mode, {runs} perturbed runs" + "".join(f"; {one}" for one in words)
    text += f"; without {', '.join(sorted(state.statistics))}, which differ in train mode" if state.statistics else ""
    return Found(comparisons, from_comparisons(comparisons), text)


class _Trajectory:
    """All runs, step by step beside each other; no step is kept."""

    def __init__(self, state: State, precision: Precision, steps: int, train: bool) -> None:
        self.state, self.steps, self.train = state, steps, train
        self.precision: Precision = precision
        self.unit: Unit = state.unit(precision)
        self.place = state.place("trajectory", precision, "eval mode" if not train else "train mode")
        self.spread = Deviations()
        self.sizes: dict[str, float] = {}
        self.gone: dict[str, float] = {}
        self.last: dict[str, np.ndarray] = state.mapping.push(next(state.points(0)).values)
        self.tightest: dict[str, Comparison] = {}
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
        start = next(self.state.points(0)).values
        self.state.put(start)
        self.noise = self._noise()
        runs: list[Iterator[PairStep]] = []

        def begun() -> Iterator[PairStep]:
            nudged = rounding.nudged(start, self.unit, self.state.seed, self.state.constants)
            for values in itertools.chain([start], nudged):
                # A run begins where its first step is asked for, from the values of that moment.
                self.state.first.load(values)
                runs.append(iter(self.state.first.steps(self.batches[0], precision=self.precision, train=self.train)))
                yield next(runs[-1])

        theirs = self.state.second.steps(self.batches[1], precision=self.precision, train=self.train)
        for step in range(self.steps):
            self.state.say(f"trajectory, {self.precision}, step {step + 1} of {self.steps}")
            # Of a large model each of these is a gigabyte: one run after another.
            ours = (next(run) for run in runs) if runs else begun()
            self._compare(step, ours, theirs)
            if "loss" in self.beyond:
                self.reached = step
                break
        for run in runs:
            run.close()  # pyright: ignore[reportAttributeAccessIssue]
        theirs.close()  # pyright: ignore[reportAttributeAccessIssue]
        return sorted(self.tightest.values(), key=lambda one: self.steps if one.passed else one.step or 0)

    def _noise(self) -> dict[str, np.ndarray]:
        """By the second side's leaves, which elements have no gradient but rounding: steps may divide by it."""
        batch = self.batches[0][0]
        found = self.state.first.gradients(batch.inputs, batch.objective, train=self.train).leaves
        largest = tolerances.largest(*found.values())
        eps = self.unit.eps
        masks = {leaf.path: np.zeros(leaf.shape) for leaf in self.state.first.leaves}
        for path, one in found.items():
            size = np.abs(one)
            limit = max(INVISIBLE * largest, NOISE * eps * float(size.max(initial=0.0)))
            masks[path] = ((size > 0) & (size <= limit)).astype(np.float64)
        plain = self.state.mapping._replace(links={k: _unscaled(v) for k, v in self.state.mapping.links.items()})
        return {path: mask == 0 for path, mask in plain.push(masks).items()}

    def _compare(self, step: int, ours: Iterator[PairStep], theirs: Iterator[PairStep]) -> None:
        named = self._named(next(ours))
        judged = {name: self._judged(name, value) for name, value in named.items()}
        for run in ours:
            pushed = self._named(run)
            self.spread.add(judged, {name: self._judged(name, pushed[name]) for name in named})
            del run, pushed
        second = next(theirs)
        others = {"loss": np.array([second.loss]), **second.values}
        for name, one in named.items():
            self.sizes[name] = max(self.sizes.get(name, 0.0), tolerances.largest(one))
            keep = self.noise.get(name)
            if name in self.beyond or name in self.state.statistics or (keep is not None and not keep.any()):
                continue
            floor = tolerances.STEP_ROUNDINGS * self.unit.eps * self.sizes[name]
            if name in self.last:
                way = float(np.abs(one - self.last[name]).max(initial=0.0))
                self.gone[name] = self.gone.get(name, 0.0) + way
            # What rounded constants do to a step comes back through the gradients, as all else does.
            constants = CONSTANTS[self.precision] * self.gone.get(name, 0.0)
            allowed = self.unit.factor * max(self.spread.found.get(name, 0.0), floor, constants)
            if allowed > tolerances.HORIZON * self.sizes[name] and self.sizes[name] > 0:
                self.beyond.add(name)
                continue
            if name == "loss" and self.precision == "float64" and not self.state.pinned:
                cap = tolerances.LOSS_CAP["float64"] * max(self.sizes[name], 1.0)
                allowed = min(allowed, max(cap, FACTOR * self.spread.found.get(name, 0.0)))
            pair = cast(one, self.precision)[None], cast(others[name], self.precision)[None]
            found = self.place.close(name, *pair, allowed=np.array([allowed]), stepwise=True, keep=keep)
            _keep(self.tightest, name, found, step)
        self.last = named

    def _named(self, run: PairStep) -> dict[str, np.ndarray]:
        return {"loss": np.array([run.loss]), **self.state.mapping.push(run.values)}

    def _judged(self, name: str, value: np.ndarray) -> np.ndarray:
        keep = self.noise.get(name)
        return value if keep is None else value[keep]


def _unscaled(link: Any) -> Any:
    """The link as one of places alone: where elements go, whatever is done to them."""
    parts = tuple(
        part._replace(pieces=tuple(piece._replace(factor=1.0, offset=0.0) for piece in part.pieces))
        for part in link.parts
    )
    return link._replace(parts=parts)
