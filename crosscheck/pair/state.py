"""What every check of a pair works with: the sides, the map, and the values at which they are asked."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from crosscheck.comparison import Comparison, Place
from crosscheck.explain.explanation import Budget
from crosscheck.mapping import Map, Report
from crosscheck.mapping.link import join
from crosscheck.mapping.points import draw, roles
from crosscheck.pair import rounding
from crosscheck.pair.given import SIDES
from crosscheck.pair.leafwise import Computed
from crosscheck.pair.result import Difference
from crosscheck.pair.rounding import Unit
from crosscheck.pair.subject import AskedPair
from spec.framework import Precision
from spec.pair import Inputs, Leaf, Objective, Values

PRECISIONS: tuple[Precision, ...] = ("float64", "float32")


class NotChecked(Exception):
    """Why a check was not made. scope: because the pair gives nothing for it, which is no lack."""

    def __init__(self, reason: str, scope: bool) -> None:
        super().__init__(reason)
        self.scope = scope


class Point(NamedTuple):
    """Values of the first side's leaves. name: in the report."""

    name: str
    values: dict[str, np.ndarray]


class Found(NamedTuple):
    """What a check found. text: what was looked at, in a few words."""

    comparisons: list[Comparison]
    differences: list[Difference]
    text: str = ""


class State:
    """made: the first side's values as it was made, or of a checkpoint; second_made: the second's, where no seed makes
    them again.

    pinned: whether constants are held in float32. parted: checks that found something different, after which those
    that build on them say nothing of their own. statistics: leaves of the second side that a call in train mode leaves
    with another value than the first's.
    """

    def __init__(self, pair: AskedPair, seed: int, made: dict[str, np.ndarray], say: Callable[[str], None]) -> None:
        self.pair, self.seed, self.made, self.say = pair, seed, made, say
        self.first, self.second = pair.first, pair.second
        self.seeded = all("seed" in side.can for side in (self.first, self.second))
        self.second_made = {} if self.seeded else self.second.values()
        self.leaves: tuple[Leaf, ...] = (*self.first.leaves, *self.second.leaves)
        self.numbers = sum(int(np.prod(leaf.shape)) for leaf in self.first.leaves)
        self.large = self.numbers > rounding.LARGE
        self.pinned = False
        self.mapping: Map = Map(self.first.leaves, self.second.leaves, {})
        self.report: Report | None = None
        self.notes: list[str] = []
        self.parted: list[str] = []
        self.statistics: set[str] = set()
        self._random: tuple[bool, bool] | None = None
        self._began = time.perf_counter()

    def budget(self) -> Budget:
        """What an explanation may take that begins now."""
        return Budget(time.perf_counter() - self._began)

    def unit(self, precision: Precision) -> Unit:
        return rounding.unit_of(precision, self.leaves, self.pinned, self.computed if precision == "float32" else ())

    @cached_property
    def computed(self) -> tuple[str, ...]:
        """In which dtypes either side computes, where its leaves have their own."""
        sides = zip((self.first, self.second), self.pair.make_inputs(self.random(0)), strict=True)
        return tuple(sorted({dtype for side, inputs in sides for dtype in side.computed_in(inputs)}))

    def perturbed(self, values: Values, unit: Unit, doing: str) -> Iterator[Values]:
        """As rounding.nudged. doing: what it is for; of a large model, whose runs take seconds, each is said."""
        nudged = rounding.nudged(values, unit, self.seed, self.constants)
        for number, one in enumerate(nudged, 1):
            if self.large:
                self.say(f"{doing}, perturbed run {number} of {unit.runs}")
            yield one

    def random(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, *numbers))

    def points(self, drawn: int) -> Iterator[Point]:
        """As the model was made, and at so many random values; what the second side has no place for is zero."""
        yield Point("as made", self._fitting(self.made))
        for number in range(1, drawn + 1):
            values = draw(self.first.leaves, self.made, self.roles, (), self.seed + 1000 + number)
            yield Point(f"random {number}", self._fitting(values))

    def _fitting(self, values: Values) -> dict[str, np.ndarray]:
        found = rounding.rounded(values, self.leaves)
        for one in self.mapping.unlinked:
            if one.kind == "none" and one.proof != "free":
                value = found[one.source] = found[one.source].copy()
                for start, stop in one.rows or ((0, len(value)),):
                    value[start:stop] = 0.0
        return found

    def put(self, values: Values) -> None:
        """Give both sides the same values."""
        self.first.load(values)
        self.second.load(self.pushed(values))

    def pushed(self, values: Values) -> Values:
        """As `Map.push`, each leaf when it is asked for."""
        links = {target: link for target, link in self.mapping.links.items() if link.parts}

        def one(target: str) -> np.ndarray:
            value = join(links[target], values)
            assert value is not None
            return value

        return Computed(links, one)

    def pulled(self, gradients: Values) -> Values:
        """As `Map.pull`, each leaf when it is asked for."""
        leaves = {leaf.path: leaf for leaf in self.mapping.first}
        return Computed(leaves, lambda path: self.mapping.pulled(leaves[path], gradients))

    def place(self, check: str, precision: Precision, case: str) -> Place:
        return Place(self.pair.name, check, precision, case, SIDES, self.seed)

    def objectives(self, inputs: tuple[Inputs, Inputs], random: np.random.Generator) -> tuple[Objective, Objective]:
        """What is differentiated: the pair's loss where both have one, else the distance of outputs to random ones."""
        if all("loss" in side.can for side in (self.first, self.second)):
            return Objective("loss"), Objective("loss")
        outputs = self.first.forward(inputs[0]).outputs
        targets = {link.first: random.standard_normal(outputs[link.first].shape) for link in self.mapping.outputs}
        theirs = {
            link.second: targets[link.first].transpose(link.axes).reshape(link.shape) for link in self.mapping.outputs
        }
        return Objective("squares", targets), Objective("squares", theirs)

    @cached_property
    def roles(self) -> dict[str, str]:
        """What each leaf of the first side is: see crosscheck.mapping.points.roles."""
        self.first.load(self.made)
        ran = self.first.forward(self.pair.make_inputs(self.random(0))[0], record=True)
        return roles(self.first.leaves, self.made, ran.intermediates)

    @property
    def constants(self) -> list[str]:
        """Leaves of the first side that are no parameters and no statistics: tables, which are as they are."""
        return [path for path, role in self.roles.items() if role == "constant"]

    def names_padding(self) -> bool:
        """Whether the pair says which of its inputs holds lengths, or a mask."""
        return bool({"lengths", "mask"} & self.pair.names)

    def random_in_train(self) -> tuple[bool, bool]:
        """Whether each side's train mode is another with another seed."""
        if self._random is None:
            inputs = self.pair.make_inputs(self.random(3))
            found = []
            for side, given in zip((self.first, self.second), inputs, strict=True):
                if "train" not in side.can:
                    found.append(False)
                    continue
                one, two = (side.forward(given, train=True, seed=seed).outputs for seed in (1, 2))
                found.append(any(not np.array_equal(one[name], two[name], equal_nan=True) for name in one))
            self._random = found[0], found[1]
        return self._random


def cast(array: np.ndarray, precision: Precision) -> np.ndarray:
    return np.asarray(array).astype(precision)


def from_comparisons(comparisons: Sequence[Comparison]) -> list[Difference]:
    """A difference for each thing that failed, at its first failure."""
    found: dict[str, Difference] = {}
    for one in comparisons:
        if one.passed:
            continue
        name = f"{one.check}: {one.tensor}"
        if name not in found:
            step = "" if one.step is None else f", step {one.step}"
            apart = (
                f"apart by {one.difference:.3g}, allowed {one.bound:.3g}" if one.difference is not None else one.note
            )
            found[name] = Difference(
                name=name,
                check=one.check,
                text=f"in {one.precision}, {one.case}{step}: {apart}",
                index=one.index,
                values=one.values,
                size=one.difference,
                bound=one.bound,
                precision=one.precision,
                case=one.case,
            )
    return list(found.values())
