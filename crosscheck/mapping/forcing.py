"""Past a difference: the first side's value is put in on the second, so that all that follows can be compared too."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from crosscheck.mapping.bench import Bench, Seen
from crosscheck.mapping.graph import living, unfound_behind
from crosscheck.mapping.layouts import Shape, aligned, alike, bounded
from crosscheck.mapping.link import Link
from spec.pair import Forward, Intermediate

BEHIND = 10
"""Values behind a place, of which each may be the one that both sides have."""
CANDIDATES = 5
"""Values of the second side that are tried for one of the first's."""


class Forced(NamedTuple):
    """place: of the first side. value: of the first side, that was put in. other: the second's intermediate as it was.
    axes: how the first's stands there. moved: what brings other values there than on the second side, or None.
    before: the second side's run as it was when the place was come to, without anything put in there."""

    place: int
    value: Intermediate
    other: Intermediate
    axes: Shape
    moved: Intermediate | None
    before: Forward


class Forcing:
    """The values that are put in, and what they answer to."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.replaced: dict[int, np.ndarray] = {}
        self.forced: list[Forced] = []
        self._begun: dict[int, Forward] = {}

    def ask(self, links: Mapping[str, Link]) -> Seen:
        return self.bench.ask(links, self.replaced)

    def past(self, places: Sequence[int], seen: Seen, links: Mapping[str, Link]) -> Seen | None:
        """Go past one of the places: the sides run on with the first's value, and something behind it agrees then.

        None where no value of the second side can be taken for one at or behind these places.
        """
        entries = self.bench.forward.intermediates
        ends = set(self.bench.ends())
        before = {number for number, one in seen.found.items() if one is not None}
        for place in places:
            for number in unfound_behind(entries, place, seen.found, BEHIND):
                near: tuple[float, Forced, np.ndarray, Seen] | None = None
                for other, axes in self._candidates(entries[number], seen):
                    value = entries[number].value.transpose(axes).reshape(other.value.shape)
                    trial = self.bench.ask(links, self.replaced | {other.number: value})
                    now = {one for one, held in trial.found.items() if held is not None}
                    if not before <= now:
                        continue
                    forced = Forced(
                        place,
                        entries[number],
                        other,
                        axes,
                        self._moved(place, other, seen),
                        self._begun.setdefault(place, seen.forward),
                    )
                    if any(one > number for one in now - before) or (number in ends and number in now):
                        return self._taken(forced, value, trial)
                    far = float(np.abs(bounded(value) - bounded(other.value)).max())
                    if np.isfinite(far) and (near is None or far < near[0]) and self._nearest(far, forced, seen):
                        near = far, forced, value, trial
                if near is not None:
                    # What follows parts by itself too: this one is told by what else is as near, namely nothing.
                    return self._taken(*near[1:])
        return None

    def _nearest(self, far: float, forced: Forced, seen: Seen) -> bool:
        """Whether the two are nearer to each other than either is to any other value of its own side.

        far: the largest difference between them. What is the same value again, handed on, is no other.
        """
        for one, others in (
            (bounded(forced.value.value), self.bench.forward.intermediates),
            (bounded(forced.other.value), living(seen.forward)),
        ):
            same = self.bench.tolerance * float(np.abs(one).max())
            for other in others:
                if other.value.shape == one.shape and same < float(np.abs(bounded(other.value) - one).max()) <= far:
                    return False
        return True

    def _taken(self, forced: Forced, value: np.ndarray, seen: Seen) -> Seen:
        self.replaced[forced.other.number] = value
        self.forced.append(forced)
        return seen

    def _candidates(self, entry: Intermediate, seen: Seen) -> list[tuple[Intermediate, Shape]]:
        """Values of the second side that may be this one, gone wrong: of its size, found nowhere, the most alike."""
        theirs = {one.number for one in seen.found.values() if one is not None}
        scored = []
        for other in living(seen.forward):
            if other.value.size != entry.value.size or other.number in theirs or other.number in self.replaced:
                continue
            known = self._neighbours(entry, other, seen)
            for cosine, axes in alike(entry.value, other.value)[:2]:
                scored.append((cosine + 0.5 * (axes == known), other, axes))
            if known is not None and known not in [axes for _, axes in alike(entry.value, other.value)[:2]]:
                scored.append((0.25, other, known))
        scored.sort(key=lambda one: (-round(one[0], 6), one[1].number))
        return [(other, axes) for _, other, axes in scored[:CANDIDATES]]

    def _moved(self, place: int, other: Intermediate, seen: Seen) -> Intermediate | None:
        """A slice, or the like, before the place, where the second side has another one that the first has not."""
        entries = self.bench.forward.intermediates
        ours = [entries[one] for one in entries[place].operands if one not in seen.found and entries[one].view]
        theirs = {one.number for one in seen.found.values() if one is not None}
        waiting, depth = list(other.operands), 4
        while waiting and depth and ours:
            before = [seen.forward.intermediates[one] for one in waiting if one not in theirs]
            if any(one.view for one in before):
                return ours[0]
            waiting, depth = [one for entry in before for one in entry.operands], depth - 1
        return None

    def _neighbours(self, entry: Intermediate, other: Intermediate, seen: Seen) -> Shape | None:
        """How the axes stand in what enters both: a layout that an operation keeps."""
        for operand in entry.operands:
            held = seen.found.get(operand)
            ours = self.bench.forward.intermediates[operand].value
            if held is not None and ours.shape == entry.value.shape and held.value.shape == other.value.shape:
                return aligned(ours, held.value, self.bench.tolerance)
        return None
