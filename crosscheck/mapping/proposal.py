"""The map, found: leaves assigned by name, role and order of use, tried, and repaired where the sides part.

First with biases at 0 and scales at 1, so that matrices alone are looked for; then with scales, then with everything.
What cannot be repaired is left as it is: the first side's value is put in there, and the search goes on behind it.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from scipy.optimize import linear_sum_assignment

from crosscheck.mapping import names, recurrent
from crosscheck.mapping.bench import Bench, Seen, Target
from crosscheck.mapping.forcing import Forcing
from crosscheck.mapping.graph import first_uses, leaves_before, unfound_behind
from crosscheck.mapping.inversion import inverted
from crosscheck.mapping.layouts import aligned, alike, fits
from crosscheck.mapping.link import Link, Map, OutputLink, Part, Piece, Unlinked, blocks
from crosscheck.mapping.links_of_rows import by_row
from crosscheck.mapping.placements import (
    Atom,
    atoms_of,
    copies,
    groups,
    inner_shapes,
    joins,
    numbered,
    on_an_axis,
    reshaped,
)
from crosscheck.mapping.results import MakeInputs
from crosscheck.mapping.sums import repeated, with_summands
from spec.pair import Inputs, PairSide

STAGES: tuple[tuple[str, ...], ...] = (("bias", "mean", "scale", "variance"), ("bias", "mean"), ())
"""Roles that are neutral while others are looked for."""
OWN = "not trained; each side keeps its own"
IMPOSSIBLE = 1e3
TRIALS = 120
"""Other placements that are tried at one place, at most."""
BEHIND = 12
"""Intermediates behind a place, of which one has to come out right for a repair to count."""


def propose(
    first: PairSide,
    second: PairSide,
    make_inputs: MakeInputs,
    seed: int = 0,
    called: Mapping[str, str] = MappingProxyType({}),
) -> Map:
    """The map between two sides, from nothing. Its proofs are left to `verify`. called: see `Bench`.

    Raises OhlolError where the sides have no output in common. Afterwards the sides hold the values of some point.
    """
    bench = Bench(first, second, make_inputs, seed, called)
    same = _same_names(bench)
    if same is not None:
        return same
    # Where the second side alone knows its layers' gates and parts, it is the first side's leaves that are cut.
    first, second = bench.first, bench.second
    known = (second.recurrent and not first.recurrent) or (second.packed and not first.packed)
    behind = _from_behind(bench) if known else None
    if behind is not None and _agree(bench, behind):
        return behind
    found = _searched(bench)
    whole = all(link.kind != "none" for link in found.links.values())
    if behind is None and not known and not whole and len(first.leaves) < len(second.leaves):
        behind = _from_behind(bench)
    return found if behind is None else _better(bench, found, behind)


def _searched(bench: Bench) -> Map:
    """The map as it is found at once, or as it is found where biases that are added up count as one."""
    found = _Search(bench).map()
    if _agree(bench, found):
        return found
    added = repeated(bench)
    return _better(bench, found, _Search(bench, added).map()) if added else found


def _agree(bench: Bench, found: Map) -> bool:
    """Whether the sides part nowhere under a map, where what has no place is zero."""
    return not bench.places(_seen(bench, found))


def _seen(bench: Bench, found: Map) -> Seen:
    bench.zeroed = tuple(one for one in found.unlinked if one.kind == "none" and one.zero)
    bench.stage()
    return bench.ask(by_row(found, bench.targets))


def _from_behind(bench: Bench) -> Map | None:
    """The map that is found from the second side to the first, turned round; None where it cannot be."""
    for side, values in zip((bench.first, bench.second), bench.made, strict=True):
        side.load(values)

    def make_inputs(random: np.random.Generator) -> tuple[Inputs, Inputs]:
        ours, theirs = bench.make_inputs(random)
        return theirs, ours

    named = {name: path for path, name in bench.called.items()}
    called = {leaf.path: named[leaf.path] for leaf in bench.first.leaves if leaf.path in named}
    other = Bench(bench.second, bench.first, make_inputs, bench.seed, called)
    found = _searched(other)
    constants = {path: OWN for path, role in bench.roles[1].items() if role == "constant"}
    links = inverted(found, constants)
    for side, values in zip((bench.first, bench.second), bench.made, strict=True):
        side.load(values)
    bench.stage()
    if links is None:
        return None
    found = Map(bench.first.leaves, bench.second.leaves, links, bench.unlinked(links))
    seen = bench.ask(by_row(found, bench.targets))
    return found._replace(outputs=tuple(outputs_of(bench, seen)))


def _better(bench: Bench, found: Map, other: Map) -> Map:
    """Of two maps that under which more of the first side's values are found, the first where that is the same."""
    scores = [_seen(bench, one).score() for one in (found, other)]
    return other if scores[1] > scores[0] else found


def _same_names(bench: Bench) -> Map | None:
    """Each leaf as the one of its name, where both sides have the same ones and nothing parts under that.

    Before and after a refactoring, eager and compiled. `verify` proves it as it does every map.
    """
    ours = {leaf.path: leaf.shape for leaf in bench.first.leaves}
    theirs = {bench.called[leaf.path]: leaf.shape for leaf in bench.second.leaves}
    if ours != theirs or any(target.row is not None for target in bench.targets):
        return None
    links = {}
    for path, shape, *_ in bench.second.leaves:
        copied = Link(path, "copy", (Part(shape, (Piece(bench.called[path]),)),))
        links[path] = Link(path, "constant", note=OWN) if bench.roles[1][path] == "constant" else copied
    bench.stage(())
    seen = bench.ask(links)
    if bench.places(seen):
        return None
    outputs = tuple(outputs_of(bench, seen))
    return Map(bench.first.leaves, bench.second.leaves, links, bench.unlinked(links), outputs)


class _Search:
    """summands: rows of biases (bool) that are zero, since others are added to them."""

    def __init__(self, bench: Bench, summands: Mapping[str, np.ndarray] = MappingProxyType({})) -> None:
        self.bench = bench
        self.summands = summands
        self.links: dict[str, Link] = {}
        self.notes: dict[str, str] = {}
        self.shapes = {leaf.path: leaf.shape for leaf in bench.first.leaves}
        self.second_roles = bench.roles[1]
        bench.zeroed = ()
        bench.stage(STAGES[0])
        self.windows = recurrent.windows(bench)
        inside = {one.target.name for window in self.windows for one in (*window.kernels, *window.vectors)}
        layers = {path for window in self.windows for path in window.layer.leaves.values()}
        self.targets = [one for one in bench.targets if one.name not in inside and not self._constant(one)]
        self.begun = first_uses(bench.structure.intermediates)
        self.atoms = atoms_of(bench, layers, summands, self._has)
        self.by_target: dict[str, Atom] = {}
        self.joined: dict[str, list[Atom]] = {}
        self.inner = inner_shapes((*bench.forward.intermediates, *bench.structure.intermediates))
        self._join()
        self._assign()

    def _constant(self, target: Target) -> bool:
        return self.second_roles[target.path] == "constant"

    def _has(self, shape: tuple[int, ...], role: str) -> bool:
        return any(fits(shape, one.shape) and _alike(role, self._role(one)) for one in self.targets)

    def map(self) -> Map:
        bench = self.bench
        for number, neutral in enumerate(STAGES):
            bench.stage(neutral)
            if number == 0:
                for window in self.windows:
                    self._read(window)
            if number == len(STAGES) - 1:
                bench.zeroed = self._without_place()
                bench.stage(neutral)
            self._solve()
        links = {leaf.path: self._whole(leaf.path) for leaf in bench.second.leaves}
        found = Map(bench.first.leaves, bench.second.leaves, links, bench.unlinked(links), self._outputs())
        links = with_summands(bench, found)
        return found._replace(links=links, unlinked=bench.unlinked(links))

    # What is cut or joined

    def _join(self) -> None:
        """Targets as large as several neighbouring atoms together; atoms as large as several neighbouring targets."""
        never = (len(self.bench.structure.intermediates), 0)
        self.targets.sort(key=lambda one: self.begun.get(one.name, never))
        # Where there are as many atoms as targets of a kind, none of these targets is several atoms.
        for target in sorted(self.targets, key=self._strangeness, reverse=True):
            ours = [atom for atom in self.atoms if self._fit(atom, target)]
            theirs = [one for one in self.targets if any(self._fit(atom, one) for atom in ours)] if ours else [target]
            if len(ours) >= len(theirs) or any(self._only(atom, target) for atom in self.atoms):
                continue
            role = self._role(target)
            of = (self.atoms, lambda atom, role=role: _alike(atom.role, role), math.prod(target.shape))
            # Where layers go through a loop, a row is one layer's: their number alone does not make them an axis.
            ways = [(on_an_axis, group) for group in numbered(*of)] + [(joins, group) for group in groups(*of)]
            for way, group in ways:
                found = next(way(group, target), None)
                if found is not None:
                    self.links[target.name] = found
                    self.joined[target.name] = group
                    self.atoms = [atom for atom in self.atoms if atom not in group]
                    self.targets.remove(target)
                    break
        for atom in list(self.atoms):
            if not atom.shape or any(self._fit(atom, target) for target in self.targets):
                continue
            if parts := self._parts(atom, math.prod(atom.shape)):
                place = self.atoms.index(atom)
                self.atoms[place : place + 1] = parts

    def _fit(self, atom: Atom, target: Target) -> bool:
        same = math.prod(atom.shape) == math.prod(target.shape)
        return same and _alike(atom.role, self._role(target)) and bool(fits(atom.shape, target.shape))

    def _only(self, atom: Atom, target: Target) -> bool:
        """Whether there is no place of an atom's kind, and this one has its shape: it is used in another way here."""
        return atom.shape == target.shape and not any(self._fit(atom, one) for one in self.targets)

    def _strangeness(self, target: Target) -> float:
        """How far the names of all atoms of a target's kind are from its own."""
        fitting = [names.distance(atom.name, target.called) for atom in self.atoms if self._fit(atom, target)]
        return min(fitting, default=1.0)

    def _parts(self, atom: Atom, size: int) -> list[Atom]:
        """An atom cut into blocks of rows as large as neighbouring targets of its kind, or as the next ones of one
        shape, where a cell's products with its input have those with its state in between. Those that are fed by one
        value come first: what is one product here has one input there."""
        inward = size // atom.shape[0]
        ours = [one for one in self.targets if _alike(atom.role, self._role(one))]
        runs = [ours[start:] for start in range(len(ours))]
        runs += [[one for one in run if one.shape == run[0].shape] for run in runs]
        cuts: list[tuple[bool, list[int]]] = []
        for run in runs:
            widths: list[int] = []
            for target in run:
                number = math.prod(target.shape)
                if number % inward:
                    break
                widths.append(number // inward)
                if sum(widths) >= atom.shape[0]:
                    break
            if sum(widths) == atom.shape[0] and len(widths) > 1:
                cuts.append((len({self._fed(one) for one in run[: len(widths)]}) > 1, widths))
        if not cuts:
            return []
        _, widths = min(cuts, key=lambda cut: cut[0])
        return [
            atom._replace(
                name=f"{atom.name}[{low}:{high}]",
                rows=((low, high),),
                shape=(high - low, *atom.shape[1:]),
                used=(*atom.used[:2], number),
            )
            for number, (low, high) in enumerate(itertools.pairwise(np.cumsum([0, *widths]).tolist()))
        ]

    def _fed(self, target: Target) -> tuple[int, ...]:
        """The intermediates that enter a target's first use beside it."""
        begun = self.begun.get(target.name)
        return () if begun is None else self.bench.structure.intermediates[begun[0]].operands

    # Who is whom, at first

    def _assign(self) -> None:
        self.costs = np.full((len(self.atoms), len(self.targets)), IMPOSSIBLE)
        ranks = [_ranks([math.prod(one.shape) for one in ones]) for ones in (self.atoms, self.targets)]
        for row, atom in enumerate(self.atoms):
            for column, target in enumerate(self.targets):
                if math.prod(atom.shape) == math.prod(target.shape) and copies(atom, target, True):
                    order = abs(ranks[0][row] - ranks[1][column])
                    overall = abs(row / len(self.atoms) - column / len(self.targets))
                    role = not _alike(atom.role, self._role(target))
                    name = names.distance(atom.name, target.called)
                    self.costs[row, column] = 2.0 * name + order + 0.3 * overall + 2.0 * role
        for row, column in zip(*linear_sum_assignment(self.costs), strict=True):
            if self.costs[row, column] < IMPOSSIBLE:
                self._place(self.atoms[row], self.targets[column])

    def _role(self, target: Target) -> str:
        return self.second_roles[target.path] if target.row is None or len(target.shape) < 2 else ""

    def _turned(self, atom: Atom, target: Target) -> bool:
        """Whether the target is likely to have its axes the other way round: both sides' words for it differ."""
        role = self._role(target)
        return atom.role != "embedding" and not (atom.role == role and role in ("weight", "kernel"))

    def _place(self, atom: Atom, target: Target, layout: int = 0) -> bool:
        options = copies(atom, target, self._turned(atom, target))
        if layout >= len(options):
            return False
        self.links[target.name] = options[layout]
        self.by_target[target.name] = atom
        return True

    # Recurrent layers

    def _read(self, window: recurrent.Window) -> None:
        """Try every way to read a layer, and keep the one under which most of the first side's values are found."""
        best: tuple[int, dict[str, Link]] = (-1, {})
        tried: list[dict[str, Link]] = []
        for rare in (False, True):
            for reading in recurrent.readings(window, rare):
                links = recurrent.links(window, reading, self.shapes)
                if not links or links in tried:
                    continue
                tried.append(links)
                seen = self.bench.ask(self.links | links)
                if seen.score() > best[0]:
                    best = seen.score(), links
                if not any(_in(window, self.bench, place) for place in self.bench.places(seen)):
                    self.links |= links
                    return
        self.links |= best[1]

    def _without_place(self) -> tuple[Unlinked, ...]:
        """Rows of recurrent biases that go nowhere, and summands: zero from here on, so that all else is comparable."""
        links = {leaf.path: self._whole(leaf.path) for leaf in self.bench.second.leaves}
        inside = {path for window in self.windows for path in window.layer.leaves.values()}
        found = [one for one in self.bench.unlinked(links) if one.source in inside and one.kind == "none"]
        found += [Unlinked(path, blocks(rows), "none", zero=True) for path, rows in self.summands.items()]
        return tuple(found)

    # Looking, and repairing where the sides part

    def _solve(self) -> None:
        forcing = Forcing(self.bench)
        seen = forcing.ask(self.links)
        hopeless: set[int] = set()
        while True:
            places = [place for place in self.bench.places(seen) if place not in hopeless]
            if not places:
                return
            repaired = None
            for place in places:
                repaired = self._repair(place, seen, forcing)
                if repaired is not None:
                    break
            if repaired is not None:
                seen = repaired
                continue
            forced = forcing.past(places, seen, self.links)
            hopeless.update(places)
            if forced is None:
                return
            seen = forced

    def _repair(self, place: int, seen: Seen, forcing: Forcing) -> Seen | None:
        entries = self.bench.forward.intermediates
        behind = unfound_behind(entries, place, seen.found, BEHIND)
        before = {number for number, one in seen.found.items() if one is not None}
        # A product of two that changed places holds the same numbers, transposed: it is the next step that parts.
        sources = set(entries[place].leaves) or leaves_before(entries, place)
        for number, change in enumerate(self._changes(sources)):
            if number >= TRIALS:
                break
            trial = forcing.ask(self.links | {name: link for name, (link, _) in change.items()})
            now = {number for number, one in trial.found.items() if one is not None}
            if before <= now and any(one in now for one in behind):
                for name, (link, atom) in change.items():
                    self.links[name] = link
                    if atom is not None:
                        self.by_target[name] = atom
                return trial
        return None

    def _changes(self, sources: set[str]) -> Iterator[dict[str, tuple[Link, Atom | None]]]:
        """Other placements of what these leaves of the first side are placed at, the likeliest first."""
        by_name = {one.name: one for one in (*self.targets, *self.bench.targets)}
        ours = [(name, atom) for name, atom in self.by_target.items() if atom.source in sources]
        for name, atom in ours:
            for link in copies(atom, by_name[name], self._turned(atom, by_name[name]))[1:]:
                yield {name: (link, atom)}
            for link in reshaped(atom, by_name[name], self.inner):
                yield {name: (link, atom)}
        for name, atoms in self.joined.items():
            if any(atom.source in sources for atom in atoms):
                for link in joins(atoms, by_name[name]):
                    yield {name: (link, None)}
        suspects = [(atom, name) for name, atom in ours]
        placed = set(self.by_target.values())
        suspects += [(atom, "") for atom in self.atoms if atom.source in sources and atom not in placed]
        for atom, name in suspects:
            row = self.atoms.index(atom)
            for column in np.argsort(self.costs[row], kind="stable"):
                other = self.targets[column]
                if self.costs[row, column] >= IMPOSSIBLE or other.name == name:
                    continue
                moved = self.by_target.get(other.name)
                back = copies(moved, by_name[name], self._turned(moved, by_name[name])) if moved and name else []
                if moved is not None and name and not back:
                    continue
                for link in copies(atom, other, self._turned(atom, other)):
                    change: dict[str, tuple[Link, Atom | None]] = {other.name: (link, atom)}
                    if back:
                        yield change | {name: (back[0], moved)}
                    else:
                        yield change

    # The map

    def _whole(self, path: str) -> Link:
        """A leaf's link, put together from those of its rows where it is stacked."""
        rows = [one for one in self.bench.targets if one.path == path]
        if self.second_roles[path] == "constant":
            return Link(path, "constant", note=OWN)
        if rows[0].row is None:
            return self._named(self.links.get(path, Link(path, "none")))
        links = [self.links.get(row.name) for row in rows]
        known = [link for link in links if link is not None]
        counts = {(len(link.parts), link.axis if len(link.parts) > 1 else -1) for link in known}
        if len(known) < len(links) or len(counts) > 1:
            return Link(path, "none", note="its rows have no counterpart, or each another one")
        parts = tuple(Part((1, *part.shape), part.pieces) for link in known for part in link.parts)
        (count, axis), *_ = counts
        return Link(path, "concat", parts, axis + 1, stacked=len(known) if count > 1 else 1)

    def _named(self, link: Link) -> Link:
        atom = self.by_target.get(link.target)
        if atom is not None and atom.name in {other for leaf in self.bench.first.leaves for other in leaf.tied}:
            return link._replace(kind="tied")
        return link

    def _outputs(self) -> tuple[OutputLink, ...]:
        seen = self.bench.ask(self.links)
        return tuple(outputs_of(self.bench, seen))


def _in(window: recurrent.Window, bench: Bench, place: int) -> bool:
    """Whether a place is in that layer: of all leaves, its are used last on the way there."""
    return not leaves_before(bench.forward.intermediates, place).isdisjoint(window.layer.leaves.values())


def _ranks(sizes: Sequence[int]) -> list[float]:
    """Each one's place among those of its size, from 0 to 1."""
    found: list[float] = []
    for place, size in enumerate(sizes):
        found.append(sizes[:place].count(size) / sizes.count(size))
    return found


def _alike(first: str, second: str) -> bool:
    matrices = ("", "weight", "kernel", "embedding")
    return first == second or (first in matrices and second in matrices)


def outputs_of(bench: Bench, seen: Seen) -> Iterator[OutputLink]:
    """Which axes of an output are which, where the values show it; else as they stand."""
    for name, other in bench.outputs:
        ours, theirs = bench.forward.outputs[name], seen.forward.outputs[other]
        axes = aligned(ours, theirs, bench.tolerance)
        if axes is None and ours.shape == theirs.shape:
            axes = tuple(range(ours.ndim))
        if axes is None:
            likely = alike(ours, theirs)
            axes = likely[0][1] if likely else tuple(range(ours.ndim))
        yield OutputLink(name, other, axes, theirs.shape)
