"""What a map is worth: proven by value at two points, every leaf accounted for, or where the sides part under it."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from crosscheck.mapping.bench import Bench, Seen
from crosscheck.mapping.forcing import Forced, Forcing
from crosscheck.mapping.graph import colors, living
from crosscheck.mapping.layouts import bounded
from crosscheck.mapping.link import Link, Map, Piece, share, taken
from crosscheck.mapping.links_of_rows import by_row
from crosscheck.mapping.parts import of_outputs, parts
from crosscheck.mapping.profile import profile
from crosscheck.mapping.results import (
    Ambiguity,
    Divergence,
    Location,
    MakeInputs,
    Obstacle,
    OperationPart,
    Report,
    Stage,
)
from spec.pair import Forward, Intermediate, PairSide

INVISIBLE = 1e-11
"""Gradient, in units of the largest of any leaf, below which no output depends on a leaf: what rounding leaves of a
zero is near 1e-16, and what a leaf that matters has at a random point is far above."""
MOST = 64
"""Differences that are gone past in one run."""
MOST_TWINS = 200
"""Pairs of leaves that are tried for twins, at most."""


def verify(
    mapping: Map,
    first: PairSide,
    second: PairSide,
    make_inputs: MakeInputs,
    seed: int = 0,
    called: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Map, Report]:
    """The map with its proofs, and how far it got. The sides are left at the values of the second point.

    called: see `Bench`.

    What has no place on the second side and is a bias is zero at both points, so that the rest can be compared.
    """
    bench = Bench(first, second, make_inputs, seed, called)
    bench.zeroed = tuple(one for one in mapping.unlinked if one.kind == "none" and one.zero)
    links = by_row(mapping, bench.targets)
    divergences: tuple[Divergence, ...] = ()
    stages: tuple[Stage, ...] = ()
    distances: list[float] = []
    for point in (1, 2):
        bench.stage(point=point)
        seen = bench.ask(links)
        far = _distances(mapping, bench, seen)
        distances += far
        if not divergences and max(far) > bench.tolerance:
            divergences, stages = differences(mapping, bench, links)
    moves = _moves(bench)
    proven = _proven(mapping, moves, agree=not divergences)
    if not divergences:
        proven = _eliminated(proven, bench, seen)
    obstacles = tuple(_obstacles(proven))
    ambiguities = () if divergences else tuple(_ambiguities(proven, bench))
    left = [one for one in proven.unlinked if one.kind == "none" and one.proof != "free" and not one.zero]
    missing = [link.target for link in proven.links.values() if link.kind == "none"]
    standing = "proven"
    if divergences or max(distances) > bench.tolerance:
        standing = "different"
    elif left or any(_outputs_move(bench, target) for target in missing):
        standing = "unfinished"
    elif ambiguities:
        standing = "ambiguous"
    report = Report(
        standing,
        divergences,
        obstacles,
        ambiguities,
        tuple(distances),
        bench.tolerance,
        bench.runs,
        tuple(_notes(bench)),
        stages,
    )
    return proven, report


def divergences(
    mapping: Map, first: PairSide, second: PairSide, make_inputs: MakeInputs, seed: int = 0
) -> tuple[Divergence, ...]:
    """Every place where the sides part under a map, in one go: after each, the first's value is put in."""
    bench = Bench(first, second, make_inputs, seed)
    bench.zeroed = tuple(one for one in mapping.unlinked if one.kind == "none" and one.zero)
    bench.stage(point=1)
    return differences(mapping, bench, by_row(mapping, bench.targets))[0]


def differences(
    mapping: Map, bench: Bench, links: Mapping[str, Link]
) -> tuple[tuple[Divergence, ...], tuple[Stage, ...]]:
    """At the bench's present point, and how the difference grows over the stages.

    Steps of a loop that part at the same lines are one place, the largest of them.
    """
    forcing = Forcing(bench)
    plain = seen = forcing.ask(links)
    lost: dict[int, None] = {}
    for _ in range(MOST):
        places = [place for place in bench.places(seen) if place not in lost]
        if not places:
            break
        past = forcing.past(places, seen, links)
        if past is None:
            lost.update(dict.fromkeys(places))
            break
        seen = past
    told = tuple(_told(mapping, bench, links, forcing, seen, list(lost)))
    return told, profile(bench, plain, seen, forcing.forced) if told else ()


def _told(
    mapping: Map, bench: Bench, links: Mapping[str, Link], forcing: Forcing, seen: Seen, lost: Sequence[int]
) -> Iterator[Divergence]:
    """What was gone past, where no way on was found, and outputs that are no intermediate."""
    entries = bench.forward.intermediates
    found: dict[tuple[str, str, str], Divergence] = {}
    operations: dict[tuple[str, str, str], tuple[OperationPart, ...]] = {}
    for one in forcing.forced:
        divergence = _divergence(one, entries)
        key = (divergence.first.module, divergence.first.source, divergence.second.source if divergence.second else "")
        operations[key] = (*operations.get(key, ()), *parts(one, bench, links))
        if key not in found or found[key].size < divergence.size:
            found[key] = divergence
    yield from (one._replace(parts=operations[key]) for key, one in found.items())
    for place in lost:
        entry = entries[place]
        nothing = (0,) * entry.value.ndim
        yield Divergence(_place(entry), None, nothing, (float(entry.value[nothing]), np.nan), np.inf, False)
    if not lost:
        yield from _of_outputs(mapping, bench, seen)


def _divergence(one: Forced, entries: Sequence[Intermediate]) -> Divergence:
    theirs = one.other.value.reshape([one.value.value.shape[axis] for axis in one.axes])
    theirs = theirs.transpose(np.argsort(one.axes))
    apart = np.abs(bounded(theirs) - bounded(one.value.value))
    index = np.unravel_index(int(np.argmax(np.where(np.isnan(apart), np.inf, apart))), apart.shape)
    position = tuple(int(number) for number in index)
    size = float(apart[index]) / max(float(np.abs(bounded(one.value.value)).max()), 1e-300)
    values = float(one.value.value[index]), float(theirs[index])
    place = one.moved if one.moved is not None else entries[one.place]
    return Divergence(_place(place), _place(one.other), position, values, size, True)


def _place(entry: Intermediate) -> Location:
    return Location(entry.module, entry.op, entry.source)


def _of_outputs(mapping: Map, bench: Bench, seen: Seen) -> Iterator[Divergence]:
    """Outputs that hold the same numbers in another order, or that are no intermediate of any kind."""
    for link in mapping.outputs:
        ours, theirs = bench.forward.outputs[link.first], seen.forward.outputs[link.second]
        moved = ours.transpose(link.axes).reshape(link.shape)
        apart = np.abs(moved - theirs)
        if apart.max() > bench.tolerance * max(float(np.abs(ours).max()), 1e-300):
            index = np.unravel_index(int(np.argmax(apart)), apart.shape)
            size = float(apart[index]) / max(float(np.abs(ours).max()), 1e-300)
            place = _source(bench.forward, link.first), _source(seen.forward, link.second)
            position = tuple(int(number) for number in index)
            known = of_outputs(moved, theirs, bench.tolerance)
            yield Divergence(*place, position, (float(moved[index]), float(theirs[index])), size, False, known)


def _source(forward: Forward, name: str) -> Location:
    """Where an output comes from."""
    if name not in forward.sources:
        return Location("", f"output {name}", "")
    entry = forward.intermediates[forward.sources[name]]
    return _place(entry)._replace(op=f"output {name}")


def _distances(mapping: Map, bench: Bench, seen: Seen) -> list[float]:
    found = []
    for link in mapping.outputs:
        ours = bench.forward.outputs[link.first].transpose(link.axes).reshape(link.shape)
        theirs = seen.forward.outputs[link.second]
        scale = max(float(np.abs(ours).max(initial=0.0)), 1e-300)
        far = float(np.abs(ours - theirs).max(initial=0.0)) / scale
        found.append(far if np.isfinite(far) else np.inf)
    return found or [np.inf]


def _moves(bench: Bench) -> dict[str, np.ndarray]:
    """Of each number of the first side's leaves, whether an output depends on it at the present point."""
    gradients = bench.gradients()
    largest = max((float(np.abs(one).max(initial=0.0)) for one in gradients.values()), default=0.0)
    found = {path: np.abs(one) > INVISIBLE * largest for path, one in gradients.items()}
    for leaf in bench.first.leaves:
        if leaf.path not in found and bench.roles[0][leaf.path] != "constant":
            moved = _perturbed(bench, bench.first, leaf.path, bench.values[leaf.path])
            found[leaf.path] = np.full(leaf.shape, moved)
    return found


def _perturbed(bench: Bench, side: PairSide, path: str, value: np.ndarray) -> bool:
    inputs = bench.inputs[0] if side is bench.first else bench.inputs[1]
    before = side.forward(inputs).outputs
    side.load({path: value * 1.1 + 0.05})
    after = side.forward(inputs).outputs
    side.load({path: value})
    bench.runs += 2
    return any(not np.allclose(before[name], after[name], rtol=1e-10, atol=1e-12) for name in before)


def _outputs_move(bench: Bench, path: str) -> bool:
    """Whether an output of the second side depends on a leaf without counterpart."""
    return _perturbed(bench, bench.second, path, bench.second.values()[path])


def _proven(mapping: Map, moves: Mapping[str, np.ndarray], agree: bool) -> Map:
    links = {}
    for target, link in mapping.links.items():
        seen = [
            any(piece.source in moves and bool(taken(piece, moves[piece.source]).any()) for piece in part.pieces)
            for part in link.parts
        ]
        proof = "none" if not seen else "free" if not any(seen) else "value" if agree else "none"
        links[target] = link._replace(proof=proof)
    unlinked = []
    for one in mapping.unlinked:
        if one.kind == "none":
            moved = one.source in moves and bool(taken(Piece(one.source, one.rows), moves[one.source]).any())
            one = one._replace(proof="value" if moved else "free")
        unlinked.append(one)
    return mapping._replace(links=links, unlinked=tuple(unlinked))


def _eliminated(mapping: Map, bench: Bench, seen: Seen) -> Map:
    """With leaves that nothing was computed with, on neither side, by elimination: one that is the last of its shape.

    What is computed with, and shows in no output all the same, stays free. How the axes of a square leaf stand, nothing
    tells.
    """
    used = [
        {path.partition("[")[0] for entry in living(forward) for path in entry.leaves}
        for forward in (bench.forward, seen.forward)
    ]
    shapes = {leaf.path: tuple(sorted(leaf.shape)) for leaf in mapping.first}
    unused = [path for path in shapes if path not in used[0]]
    left = [tuple(sorted(leaf.shape)) for leaf in mapping.second if leaf.path not in used[1]]
    links = dict(mapping.links)
    for target, link in links.items():
        pieces = [piece for part in link.parts for piece in part.pieces]
        if link.proof != "free" or len(pieces) != 1 or pieces[0].rows is not None or target in used[1]:
            continue
        source = pieces[0].source
        shape = shapes[source]
        if source in unused and [shapes[path] for path in unused].count(shape) == left.count(shape) == 1:
            turned = len(set(shape)) < len(shape)
            note = "the last of its shape, and nothing is computed with it"
            note += "; how its axes stand is not shown" if turned else ""
            links[target] = link._replace(proof="elimination", note=note)
    return mapping._replace(links=links)


def _obstacles(mapping: Map) -> Iterator[Obstacle]:
    """Why values or trainings of the first side cannot be the second's."""
    trainable = [{leaf.path: leaf.trainable for leaf in leaves} for leaves in (mapping.first, mapping.second)]
    for one in mapping.unlinked:
        if one.kind == "none" and one.proof != "free":
            rows = "" if one.rows is None else f" rows {', '.join(f'{low}:{high}' for low, high in one.rows)}"
            reason = f"{one.source}{rows} has no place on the second side, and outputs depend on it"
            yield Obstacle("not representable", (one.source,), reason)
    users: dict[str, list[tuple[str, Piece]]] = {}
    sums: dict[tuple[str, ...], list[str]] = {}
    for target, link in mapping.links.items():
        for part in link.parts:
            if not part.pieces and trainable[1][target]:
                reason = f"a part of {target} is trained, and has no counterpart on the first side"
                yield Obstacle("cannot train alike", (target,), reason)
            for piece in part.pieces:
                users.setdefault(piece.source, []).append((target, piece))
            if len(part.pieces) > 1 and trainable[1][target]:
                held = sums.setdefault(tuple(piece.source for piece in part.pieces), [])
                held += [target] if target not in held else []
        if link.kind == "none" and trainable[1][target]:
            reason = f"{target} is trained, and has no counterpart on the first side"
            yield Obstacle("cannot train alike", (target,), reason)
    for sources, targets in sums.items():
        reason = f"{', '.join(targets)}: the sum of {' and '.join(sources)}, of which the first side trains each"
        yield Obstacle("cannot train alike", (*sources, *targets), reason)
    for source, held in users.items():
        targets = tuple(dict.fromkeys(target for target, _ in held))
        twice = any(share(one, other) for i, (_, one) in enumerate(held) for _, other in held[:i])
        if twice and len(targets) > 1 and trainable[0][source]:
            apart = " and ".join(targets)
            reason = f"{source} is one array on the first side, and trained apart in {apart} on the second side"
            yield Obstacle("cannot train alike", (source, *targets), reason)
        for target in targets:
            if trainable[0][source] != trainable[1][target]:
                which = "first" if trainable[0][source] else "second"
                reason = f"{source} and {target}: trained on the {which} side alone"
                yield Obstacle("cannot train alike", (source, target), reason)


def _ambiguities(mapping: Map, bench: Bench) -> Iterator[Ambiguity]:
    """Leaves of the first side that can change places with others, all at once, with no output to show it.

    Candidates are told by what is computed with them (`graph.colors`), and tried: their values change places, and the
    outputs stay. Where the names on both sides agree on one of the ways and not on the other, that is no ambiguity.
    """
    entries = bench.forward.intermediates
    shapes = {leaf.path: leaf.shape for leaf in bench.first.leaves}
    ends = {bench.forward.sources[name]: name for name, _ in bench.outputs if name in bench.forward.sources}
    plain = colors(entries, ends, shapes, {})
    paths = list(plain)
    seen: set[frozenset[tuple[str, str]]] = set()
    pairs = [(a, b) for i, a in enumerate(paths) for b in paths[i + 1 :] if plain[a] == plain[b]]
    for one, other in pairs[:MOST_TWINS]:
        left, right = (colors(entries, ends, shapes, {marked: "this"}) for marked in (one, other))
        swap = _exchange(left, right)
        if swap is None:
            continue
        moved = frozenset((path, to) for path, to in swap.items() if path != to)
        if not moved or moved in seen:
            continue
        seen.add(moved)
        if _unseen(bench, swap) and not _named_apart(mapping, dict(moved), bench.called):
            groups = tuple(tuple(sorted(group)) for group in {frozenset(pair) for pair in moved})
            yield Ambiguity(tuple(sorted(groups)), "the outputs stay the same when these change places")


def _exchange(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, str] | None:
    """The leaf that takes each one's place when one pair is exchanged, where colors leave one choice alone."""
    by_color: dict[int, list[str]] = {}
    for path, color in right.items():
        by_color.setdefault(color, []).append(path)
    found = {}
    for path, color in left.items():
        others = by_color.get(color, [])
        if not others:
            return None
        found[path] = path if path in others else others[0]
    return found if len(set(found.values())) == len(found) else None


def _unseen(bench: Bench, swap: Mapping[str, str]) -> bool:
    values = {path: bench.values[other] for path, other in swap.items()}
    bench.first.load(values)
    outputs = bench.first.forward(bench.inputs[0]).outputs
    bench.runs += 1
    bench.first.load(bench.values)
    before = bench.forward.outputs
    return all(
        np.abs(outputs[name] - before[name]).max(initial=0.0) <= bench.tolerance * np.abs(before[name]).max(initial=0.0)
        for name, _ in bench.outputs
    )


def _named_apart(mapping: Map, moved: Mapping[str, str], called: Mapping[str, str]) -> bool:
    """Whether the leaves' names speak for where they are, against changing places."""
    from crosscheck.mapping.names import distance

    as_is = changed = 0.0
    for target, link in mapping.links.items():
        for part in link.parts:
            for piece in part.pieces:
                if piece.source in moved:
                    as_is += distance(piece.source, called[target])
                    changed += distance(moved[piece.source], called[target])
    return as_is < changed - 1e-9


def _notes(bench: Bench) -> Iterator[str]:
    for side, which in ((bench.first, "first"), (bench.second, "second")):
        if lines := side.pinned():
            places = (f"read at {line}" if ":" in line else f"in {line}" for line in lines[:3])
            yield f"the {which} side holds constants in float32, {', '.join(places)}"
    names = {name for name, _ in bench.outputs}
    if left := [name for name in bench.forward.outputs if name not in names]:
        yield f"outputs of the first side without counterpart: {', '.join(left)}"
