"""How the intermediates of a side hang together: which use which leaf, where sides part, which leaves are twins."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from spec.pair import Forward, Intermediate

COMMUTATIVE = ("add", "add_", "mul", "mul_", "max", "maximum", "min", "minimum", "logaddexp")
ROUNDS = 60
"""Of refining colors, at most: as far as a difference is carried through the graph."""


def first_uses(entries: Iterable[Intermediate]) -> dict[str, tuple[int, int]]:
    """Path of a leaf -> the first intermediate that it enters, and its place among the leaves that enter there."""
    found: dict[str, tuple[int, int]] = {}
    for entry in entries:
        for place, path in enumerate(entry.leaves):
            found.setdefault(path, (entry.number, place))
    return found


def uses(entries: Iterable[Intermediate]) -> dict[str, list[int]]:
    """Path of a leaf -> every intermediate that it enters directly."""
    found: dict[str, list[int]] = {}
    for entry in entries:
        for path in entry.leaves:
            found.setdefault(path, []).append(entry.number)
    return found


def living(forward: Forward) -> list[Intermediate]:
    """The intermediates that an output depends on, in order: what is computed and let go stands for nothing.

    All of them where it is not known of every output what it is a view of.
    """
    entries = forward.intermediates
    if any(name not in forward.sources or value.size < 2 for name, value in forward.outputs.items()):
        return list(entries)
    seen: set[int] = set()
    waiting = list(forward.sources.values())
    while waiting:
        number = waiting.pop()
        if number not in seen:
            seen.add(number)
            waiting += entries[number].operands
    return [entry for entry in entries if entry.number in seen]


def frontier(entries: Sequence[Intermediate], ends: Iterable[int], found: Collection[int]) -> list[int]:
    """Where a side parts from the other: what is not found there although all that enters it is, in order.

    Only what the ends (the outputs) depend on through values that are not found either: what is computed in other steps
    on the other side, and comes out the same, is no difference. Nor is what only moves values, which the other side may
    do elsewhere, unless nothing but that is left.
    """
    known = set(found)
    moved = []
    for entry in entries:
        if entry.number not in known and entry.view and known.issuperset(entry.operands):
            known.add(entry.number)
            moved.append(entry.number)
    ends = list(ends)
    places = _frontier(entries, ends, known)
    return places or [number for number in moved if number in _frontier(entries, ends, found)]


def _frontier(entries: Sequence[Intermediate], ends: Iterable[int], found: Collection[int]) -> list[int]:
    seen: set[int] = set()
    waiting = [end for end in ends if end not in found]
    places = []
    while waiting:
        number = waiting.pop()
        if number in seen:
            continue
        seen.add(number)
        inner = [one for one in entries[number].operands if one not in found]
        if inner:
            waiting += inner
        else:
            places.append(number)
    return sorted(places)


def leaves_before(entries: Sequence[Intermediate], place: int) -> set[str]:
    """The leaves that enter there, or else those that were used last on each way there."""
    waiting, seen = [place], set()
    leaves: set[str] = set()
    while waiting:
        number = waiting.pop()
        if number in seen:
            continue
        seen.add(number)
        leaves.update(entries[number].leaves)
        if not entries[number].leaves:
            waiting += entries[number].operands
    return leaves


def unfound_behind(entries: Sequence[Intermediate], place: int, found: Collection[int], most: int) -> list[int]:
    """The place, and what follows from it without being found: where the same value may stand on the other side."""
    behind = {place}
    ordered = [place]
    for entry in entries[place + 1 :]:
        if len(ordered) >= most:
            break
        if entry.number not in found and not behind.isdisjoint(entry.operands):
            behind.add(entry.number)
            ordered.append(entry.number)
    return ordered


def colors(
    entries: Sequence[Intermediate],
    ends: Mapping[int, str],
    shapes: Mapping[str, tuple[int, ...]],
    marked: Mapping[str, str],
) -> dict[str, int]:
    """Leaves told apart by what is computed with them, never by their names: equal colors, maybe twins.

    ends: outputs by number. marked: leaves that are told apart to begin with.
    """
    users: dict[int, list[int]] = {}
    for entry in entries:
        for operand in entry.operands:
            users.setdefault(operand, []).append(entry.number)
    by_leaf = uses(entries)
    inner = {entry.number: hash((entry.op, entry.value.shape, ends.get(entry.number, ""))) for entry in entries}
    outer = {path: hash((shapes[path], marked.get(path, ""))) for path in by_leaf if path in shapes}
    kinds = 0
    for _ in range(ROUNDS):
        news = {}
        for entry in entries:
            operands = [inner[one] for one in entry.operands]
            if entry.op in COMMUTATIVE:
                operands.sort()
            above = tuple(sorted(inner[one] for one in users.get(entry.number, ())))
            leaves = tuple(outer.get(path, 0) for path in entry.leaves)
            news[entry.number] = hash((inner[entry.number], tuple(operands), above, leaves))
        inner = news
        outer = {
            path: hash((color, tuple(sorted((inner[one], entries[one].leaves.index(path)) for one in by_leaf[path]))))
            for path, color in outer.items()
        }
        if len({*inner.values(), *outer.values()}) == kinds:
            break
        kinds = len({*inner.values(), *outer.values()})
    return outer
