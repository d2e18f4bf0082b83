"""Both sides, asked for the same: the first at fixed points, the second under one map after another."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from crosscheck.bounds.rounding_spread import FACTOR
from crosscheck.mapping.graph import frontier, living
from crosscheck.mapping.link import Link, Piece, Unlinked, blocks, join, left_over
from crosscheck.mapping.points import draw, roles
from crosscheck.mapping.pools import Fingerprint, Pool, found_in
from crosscheck.mapping.results import MakeInputs
from spec.errors import OhlolError
from spec.pair import Forward, Inputs, Intermediate, Leaf, Objective, PairSide, Values

EXACT = 1e-9
"""Largest difference of equal values in units of their largest number, where all is computed in float64: a few thousand
roundings of 1.1e-16 stay a thousand times below it, and a wrong map or formula is far above."""
PINNED = FACTOR * 2.0**-23
"""The same where a side holds constants in float32. Each side has rounded them by half a unit in the last place, so
that two tables of the same numbers are a unit apart, 2^-23; FACTOR of these is what crosscheck.bounds.rounding_spread
allows where one unit is what perturbed runs show. It covers an exponential of 10, and a sum of numbers ten times its
size. What a table's own making multiplies is a difference, and told as one: the sine of an angle t * f, where one
side's f is a unit of float32 off, is off by t of these."""


class Target(NamedTuple):
    """A leaf of the second side, or a row of one that is stacked for a loop, with the leaf's path and the row.

    called: the name by which it is matched, which is its own unless somebody says otherwise.
    """

    name: str
    shape: tuple[int, ...]
    path: str
    row: int | None
    called: str


class Seen(NamedTuple):
    """A run of the second side beside the first's: what of the first was found where."""

    forward: Forward
    pool: Pool
    found: dict[int, Intermediate | None]

    def score(self) -> int:
        """How many of the first side's values were found."""
        return sum(one is not None for one in self.found.values())


class Bench:
    """stage: roles that are neutral, so that what is looked for is less at once.

    called: by what names leaves of the second side are matched, by their paths; without one, by the path.
    """

    def __init__(
        self,
        first: PairSide,
        second: PairSide,
        make_inputs: MakeInputs,
        seed: int,
        called: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.first, self.second, self.seed = first, second, seed
        self.make_inputs = make_inputs
        self.runs = 0
        self.tolerance = EXACT
        self.made = first.values(), second.values()
        self.zeroed: tuple[Unlinked, ...] = ()
        self.inputs: tuple[Inputs, Inputs] = make_inputs(np.random.default_rng(seed))
        self.outputs: list[tuple[str, str]] = []
        begun = first.forward(self.inputs[0], record=True)
        self.structure = second.forward(self.inputs[1], record=True)
        self.roles = (
            roles(first.leaves, self.made[0], begun.intermediates),
            roles(second.leaves, self.made[1], self.structure.intermediates),
        )
        self.stage()
        self.called = {leaf.path: called.get(leaf.path, leaf.path) for leaf in second.leaves}
        self.targets = _targets(second.leaves, self.structure.intermediates, self.called)
        constants = any("constant" in by_path.values() for by_path in self.roles)
        if constants or first.pinned() or second.pinned():
            self.tolerance = PINNED
        self.outputs = _paired(self.forward, self.structure)

    def stage(self, neutral: Sequence[str] = (), point: int = 0) -> None:
        """Put the first side at a point, and run it."""
        self.inputs = self.make_inputs(np.random.default_rng(self.seed + point))
        self.values = draw(self.first.leaves, self.made[0], self.roles[0], neutral, self.seed + point)
        for one in self.zeroed:
            if one.zero:
                value = self.values[one.source]
                for start, stop in one.rows or ((0, len(value)),):
                    value[start:stop] = 0.0
        self.first.load(self.values)
        self.forward = self.first.forward(self.inputs[0], record=True)
        self.runs += 1
        self.keys = [(Fingerprint(entry.value), entry) for entry in self.forward.intermediates]

    def ask(self, links: Mapping[str, Link], replaced: Mapping[int, np.ndarray] | None = None) -> Seen:
        """Run the second side with the first's values, brought over by these links (of targets)."""
        self.second.load(self.pushed(links))
        forward = self.second.forward(self.inputs[1], record=True, replaced=replaced)
        self.runs += 1
        pool = Pool(living(forward), self.tolerance)
        return Seen(forward, pool, found_in(self.keys, pool))

    def pushed(self, links: Mapping[str, Link]) -> dict[str, np.ndarray]:
        values = dict(self.made[1])
        for target in self.targets:
            value = join(links[target.name], self.values) if target.name in links else None
            if value is None:
                continue
            if target.row is None:
                values[target.path] = value
            else:
                if values[target.path] is self.made[1][target.path]:
                    values[target.path] = values[target.path].copy()
                values[target.path][target.row] = value
        return values

    def gradients(self) -> Values:
        """Of a random combination of the outputs, by the first side's trainable leaves, at the present point."""
        random = np.random.default_rng(self.seed)
        weights = {name: random.standard_normal(self.forward.outputs[name].shape) for name, _ in self.outputs}
        return self.first.gradients(self.inputs[0], Objective("linear", weights)).leaves

    def unlinked(self, links: Mapping[str, Link]) -> tuple[Unlinked, ...]:
        """What of the first side no link takes, leaf by leaf, in blocks of rows."""
        taken: dict[str, list[Piece]] = {leaf.path: [] for leaf in self.first.leaves}
        for piece in (piece for link in links.values() for part in link.parts for piece in part.pieces):
            taken[piece.source].append(piece)
        found = []
        for leaf in self.first.leaves:
            open_still = left_over(leaf.shape, taken[leaf.path])
            if self.roles[0][leaf.path] == "constant":
                if open_still.any():
                    found.append(Unlinked(leaf.path, None, "constant", note="not trained; each side keeps its own"))
                continue
            if open_still.any():
                found.append(
                    Unlinked(
                        leaf.path,
                        None if open_still.all() else blocks(open_still),
                        "none",
                        zero=self.roles[0][leaf.path] == "bias",
                    )
                )
        return tuple(found)

    def ends(self) -> list[int]:
        """The first side's intermediates that are outputs which the second has too."""
        return [self.forward.sources[name] for name, _ in self.outputs if name in self.forward.sources]

    def places(self, seen: Seen) -> list[int]:
        return frontier(self.forward.intermediates, self.ends(), seen.found)


def _targets(leaves: Sequence[Leaf], entries: Sequence[Intermediate], called: Mapping[str, str]) -> list[Target]:
    used = {path for entry in entries for path in entry.leaves}
    found = []
    for leaf in leaves:
        rows = [f"{leaf.path}[{number}]" for number in range(leaf.shape[0])] if leaf.shape else []
        if len(rows) > 1 and used.issuperset(rows) and leaf.path not in used:
            found += [
                Target(name, leaf.shape[1:], leaf.path, row, f"{called[leaf.path]}[{row}]")
                for row, name in enumerate(rows)
            ]
        else:
            found.append(Target(leaf.path, leaf.shape, leaf.path, None, called[leaf.path]))
    return found


def _paired(first: Forward, second: Forward) -> list[tuple[str, str]]:
    """Outputs of both sides: by name, then by size in order."""
    found, left = [], dict(second.outputs)
    for by_name in (True, False):
        for name, value in first.outputs.items():
            if any(name == one for one, _ in found):
                continue
            fits = [other for other, one in left.items() if one.size == value.size and (not by_name or other == name)]
            if fits:
                found.append((name, fits[0]))
                del left[fits[0]]
    if not found:
        sizes = [{name: value.shape for name, value in side.outputs.items()} for side in (first, second)]
        raise OhlolError(f"expected outputs of the same size on both sides, got {sizes[0]} and {sizes[1]}")
    return found
