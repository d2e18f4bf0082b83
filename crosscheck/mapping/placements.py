"""Atoms: the first side's leaves, or the parts of them that the second keeps apart; and the ways to place them."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from crosscheck.mapping.bench import Bench, Target
from crosscheck.mapping.graph import first_uses
from crosscheck.mapping.layouts import Shape, fits, usual
from crosscheck.mapping.link import Link, Part, Piece, blocks
from spec.pair import Intermediate

MOST_JOINED = 8
"""Leaves of the first side that may be one of the second, beside those that are stacked for a loop."""
MOST_ORDERS = 24


class Atom(NamedTuple):
    """name: the path, with the part's name where it is one. used: the first use, the place there and that of the part.
    fed: the intermediates that enter it there too."""

    name: str
    source: str
    rows: tuple[tuple[int, int], ...] | None
    shape: Shape
    role: str
    used: tuple[int, int, int]
    fed: tuple[int, ...] = ()

    def piece(self, axes: Shape | None, split: Shape | None = None) -> Piece:
        same = axes is None or axes == tuple(range(len(axes)))
        return Piece(self.source, self.rows, split, None if same else axes)


def atoms_of(
    bench: Bench, without: set[str], summands: Mapping[str, np.ndarray], has: Callable[[Shape, str], bool]
) -> list[Atom]:
    """Every leaf of the first side but constants and those without, in order of use.

    A packed one is cut where the second side has the parts. summands: rows of leaves (bool) that are left out. has:
    whether there is a target for a shape and role.
    """
    begun = first_uses(bench.forward.intermediates)
    packed = {one.path: one.parts for one in bench.first.packed}
    never = (len(bench.forward.intermediates), 0)
    found = []
    for place, leaf in enumerate(bench.first.leaves):
        role = bench.roles[0][leaf.path]
        if role == "constant" or leaf.path in without:
            continue
        used = (*begun.get(leaf.path, never), 0 if leaf.path in begun else place)
        fed = bench.forward.intermediates[used[0]].operands if leaf.path in begun else ()
        parts = packed.get(leaf.path, ())
        width = leaf.shape[0] // len(parts) if parts else 0
        if parts and not has(leaf.shape, role) and has((width, *leaf.shape[1:]), role):
            for number, part in enumerate(parts):
                rows = ((number * width, (number + 1) * width),)
                shape = (width, *leaf.shape[1:])
                found.append(Atom(f"{leaf.path}.{part}", leaf.path, rows, shape, role, (*used[:2], number), fed))
        elif leaf.path in summands:
            for start, stop in blocks(~summands[leaf.path]):
                shape = (stop - start, *leaf.shape[1:])
                name = f"{leaf.path}[{start}:{stop}]"
                found.append(Atom(name, leaf.path, ((start, stop),), shape, role, (*used[:2], start), fed))
        else:
            found.append(Atom(leaf.path, leaf.path, None, leaf.shape, role, used, fed))
            for other in leaf.tied:
                found.append(Atom(other, leaf.path, None, leaf.shape, role, (*never, place)))
    return sorted(found, key=lambda atom: atom.used)


def copies(atom: Atom, target: Target, turned: bool) -> list[Link]:
    """The atom as the target, in every layout; the likeliest first."""
    kind = "copy" if atom.rows is None else "split"
    return [
        Link(target.name, kind, (Part(target.shape, (atom.piece(axes),)),))
        for axes in usual(fits(atom.shape, target.shape), atom.shape, turned)
    ]


def reshaped(atom: Atom, target: Target, shapes: Sequence[Shape]) -> list[Link]:
    """The atom with an axis that hides several (a flattened image, heads) parted, and those in another order.

    shapes: those that intermediates have, in which the hidden axes are looked for; and in the target's own axes, which
    may be in another order: heads in groups, of which one side counts the groups first and the other the heads.
    """
    found = []
    ours = [shape for part in _neighbours(target.shape) for shape in dict.fromkeys(itertools.permutations(part))]
    for axis, size in enumerate(atom.shape):
        for inner in dict.fromkeys([*shapes, *ours]):
            if math.prod(inner) != size:
                continue
            split = (*atom.shape[:axis], *inner, *atom.shape[axis + 1 :])
            if len(split) > 5:
                continue
            for axes in fits(split, target.shape):
                moved = [one for one in axes if axis <= one < axis + len(inner)]
                if moved == sorted(moved):
                    continue
                kind = "copy" if atom.rows is None else "split"
                found.append(Link(target.name, kind, (Part(target.shape, (atom.piece(axes, split),)),)))
    return found


def joins(atoms: Sequence[Atom], target: Target) -> Iterator[Link]:
    """Several atoms as one target: side by side along an axis, in any order, or block by block in turns.

    First those on an axis that has a place for each atom.
    """
    yield from on_an_axis(atoms, target)
    widths = [atom.shape[0] for atom in atoms]
    for order in itertools.islice(itertools.permutations(range(len(atoms))), MOST_ORDERS):
        chosen = [atoms[one] for one in order]
        for axis in reversed(range(len(target.shape))):
            for turns in _divisors(math.gcd(*widths)):
                parts = []
                for block in range(turns):
                    for atom in chosen:
                        part = _block(atom, target, axis, block, turns, sum(widths))
                        if part is not None:
                            parts.append(part)
                if len(parts) == turns * len(chosen) and sum(one.shape[axis] for one in parts) == target.shape[axis]:
                    yield Link(target.name, "concat", tuple(parts), axis)


def on_an_axis(atoms: Sequence[Atom], target: Target) -> Iterator[Link]:
    """Several atoms of one shape on an axis that has a place for each: what a list of modules is, of which the other
    side has one with an axis more (vmapped experts, members, heads)."""
    if len({atom.shape for atom in atoms}) == 1:
        width = sum(atom.shape[0] for atom in atoms)
        for axis in [axis for axis, size in enumerate(target.shape) if size == len(atoms)]:
            parts = [_block(atom, target, axis, 0, 1, width) for atom in atoms]
            known = [part for part in parts if part is not None]
            if len(known) == len(atoms):
                yield Link(target.name, "concat", tuple(known), axis)


def _divisors(size: int) -> list[int]:
    return [one for one in range(1, min(size, 64) + 1) if size % one == 0]


def _block(atom: Atom, target: Target, axis: int, block: int, blocks: int, total: int) -> Part | None:
    width = atom.shape[0] // blocks
    share = target.shape[axis] * atom.shape[0]
    if share % (total * blocks):
        return None
    shape = (*target.shape[:axis], share // (total * blocks), *target.shape[axis + 1 :])
    cut = (width, *atom.shape[1:])
    layouts = usual(fits(cut, shape), cut, axis == len(target.shape) - 1 and len(cut) > 1)
    if not layouts:
        return None
    start = atom.rows[0][0] if atom.rows is not None else 0
    rows = ((start + block * width, start + (block + 1) * width),)
    whole = blocks == 1 and atom.rows is None
    piece = atom._replace(rows=None if whole else rows).piece(layouts[0])
    return Part(shape, (piece,))


def groups(atoms: Sequence[Atom], like: Callable[[Atom], bool], size: int) -> list[list[Atom]]:
    """Neighbours in order of use with that many numbers together, alike but for their first axis.

    like: which atoms are of the kind in question. Those that are fed by the same value come first: what is one
    product on one side and several on the other has one input.
    """
    found = []
    kinds: dict[Shape, list[Atom]] = {}
    for atom in atoms:
        if atom.shape and like(atom):
            kinds.setdefault(atom.shape[1:], []).append(atom)
    for ones in kinds.values():
        for start in range(len(ones)):
            total = 0
            for stop in range(start, min(start + MOST_JOINED, len(ones))):
                total += math.prod(ones[stop].shape)
                if total == size and stop > start:
                    found.append(ones[start : stop + 1])
                if total >= size:
                    break
    return sorted(found, key=lambda group: len({atom.fed for atom in group}))


def numbered(atoms: Sequence[Atom], like: Callable[[Atom], bool], size: int) -> list[list[Atom]]:
    """Atoms of one shape, with that many numbers together, whose names are one but for a number that counts from 0."""
    lists: dict[tuple[str, ...], dict[int, Atom]] = {}
    for atom in filter(like, atoms):
        parts = atom.name.split(".")
        for place, part in enumerate(parts):
            if part.isdecimal():
                lists.setdefault((*parts[:place], "", *parts[place + 1 :]), {})[int(part)] = atom
    found = [[ones[number] for number in sorted(ones)] for ones in lists.values() if set(ones) == set(range(len(ones)))]
    return [
        group
        for group in found
        if len(group) > 1
        and len({atom.shape for atom in group}) == 1
        and sum(math.prod(atom.shape) for atom in group) == size
    ]


def inner_shapes(entries: Sequence[Intermediate]) -> list[Shape]:
    """Shapes of neighbouring axes of intermediates: what an axis may hide."""
    found: dict[Shape, None] = {}
    for entry in entries:
        found |= dict.fromkeys(_neighbours(entry.value.shape))
    return list(found)


def _neighbours(shape: Shape) -> Iterator[Shape]:
    """Two or three neighbouring axes of a shape, none of them of length 1."""
    for start in range(len(shape)):
        for stop in range(start + 2, min(start + 3, len(shape)) + 1):
            if 1 not in shape[start:stop]:
                yield shape[start:stop]
