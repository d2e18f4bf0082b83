"""Stock recurrent layers of the first side, and where the second keeps their gates: together or apart, in any order."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from crosscheck.mapping.bench import Bench, Target
from crosscheck.mapping.graph import first_uses, uses
from crosscheck.mapping.link import Link, Part, Piece
from spec.pair import Intermediate, RecurrentLayer

Side = Literal["ih", "hh", "both"]


class Kernel(NamedTuple):
    """A matrix of the second side. takes: the input, the state, or both, joined. single: of one gate."""

    target: Target
    takes: Side
    single: bool


class Vector(NamedTuple):
    """A bias, or a row of one that has a row for each product. beside: the product that it is added to. gate: the place
    of a single gate; None: all of them."""

    target: Target
    beside: Side
    gate: int | None
    row: int | None = None


class Window(NamedTuple):
    """What the second side has for a recurrent layer."""

    layer: RecurrentLayer
    kernels: tuple[Kernel, ...]
    vectors: tuple[Vector, ...]


class Reading(NamedTuple):
    """order: the first side's gate at each place of the second's. negated: gates whose sign is turned round, as where
    an update gate is what the other calls one minus it. shifted: gates to which the second adds 1 by itself.
    state_first: whether a joined matrix begins with the state. turned: whether matrices are transposed."""

    order: tuple[int, ...]
    negated: frozenset[int] = frozenset()
    shifted: frozenset[int] = frozenset()
    state_first: bool = False
    turned: bool = True


def windows(bench: Bench) -> list[Window]:
    """For each recurrent layer of the first side the leaves of the second that are used together, in order of use."""
    entries = bench.structure.intermediates
    begun, by_leaf = first_uses(entries), uses(entries)
    shapes = {leaf.path: leaf.shape for leaf in bench.first.leaves}
    ordered = sorted((one for one in bench.targets if one.name in begun), key=lambda one: begun[one.name])
    found, start = [], 0
    for layer in bench.first.recurrent:
        wanted = sum(math.prod(shapes[layer.leaves[name]]) for name in ("weight_ih", "weight_hh"))
        for begin in range(start, len(ordered)):
            stop = _stop(ordered, begin, wanted, bench.roles[1])
            if stop is None or not any(len(by_leaf[one.name]) > 1 for one in ordered[begin:stop]):
                continue
            last = begun[ordered[stop - 1].name]
            while stop < len(ordered) and _belongs(ordered[stop], layer, by_leaf, last[0], begun, bench.roles[1]):
                stop += 1
            window = _classified(layer, ordered[begin:stop], shapes, entries, by_leaf, bench.roles[1])
            if window is not None:
                found.append(window)
                start = stop
                break
    return found


def _is_matrix(target: Target, roles: Mapping[str, str]) -> bool:
    return len(target.shape) > 1 and roles[target.path] != "bias"


def _stop(ordered: Sequence[Target], begin: int, wanted: int, roles: Mapping[str, str]) -> int | None:
    total = 0
    if not _is_matrix(ordered[begin], roles):
        return None
    for place in range(begin, len(ordered)):
        if _is_matrix(ordered[place], roles):
            total += math.prod(ordered[place].shape)
        if total == wanted:
            return place + 1
        if total > wanted:
            return None
    return None


def _belongs(
    target: Target,
    layer: RecurrentLayer,
    by_leaf: Mapping[str, list[int]],
    last: int,
    begun: Mapping[str, tuple[int, int]],
    roles: Mapping[str, str],
) -> bool:
    """Whether a bias that is used after the last matrix is one of the layer's: used at every step as they are."""
    size = math.prod(target.shape)
    fits = len(target.shape) == 1 and size in (layer.hidden, layer.hidden * len(layer.gates))
    fits = fits or (not _is_matrix(target, roles) and _has_rows(target, layer))
    return fits and (len(by_leaf[target.name]) > 1 or begun[target.name][0] <= last)


def _has_rows(target: Target, layer: RecurrentLayer) -> bool:
    """Whether a bias has a row that is added to the input's product, and one that is added to the state's."""
    return target.shape == (2, layer.hidden * len(layer.gates))


def _classified(
    layer: RecurrentLayer,
    targets: Sequence[Target],
    shapes: Mapping[str, tuple[int, ...]],
    entries: Sequence[Intermediate],
    by_leaf: Mapping[str, list[int]],
    roles: Mapping[str, str],
) -> Window | None:
    gates, hidden = len(layer.gates), layer.hidden
    inputs = shapes[layer.leaves["weight_ih"]][1]
    names = {one.name for one in targets}
    kernels: list[Kernel] = []
    matrices = [target for target in targets if _is_matrix(target, roles)]
    # Input and state joined make one matrix, or one for each gate; apart they make 2, gates + 1 or twice the gates.
    # Sizes alone do not tell: (gates - 1) inputs may be the hidden size.
    joined = len(matrices) in (1, gates)
    for target in matrices:
        size = math.prod(target.shape)
        rest = {
            gates * hidden * (inputs + hidden): ("both", gates == 1),
            hidden * (inputs + hidden): ("both", True),
        }
        if joined and size in rest:
            takes, single = rest[size]
        elif size % (hidden * hidden) == 0 or size % (hidden * inputs) == 0:
            fed = _from_state(entries, by_leaf[target.name][-1], names)
            takes = "hh" if fed else "ih"
            width = hidden if fed else inputs
            if size not in (hidden * width, gates * hidden * width):
                return None
            single = size == hidden * width
        else:
            return None
        kernels.append(Kernel(target, takes, single))  # pyright: ignore[reportArgumentType]
    by_name = {kernel.target.name: kernel for kernel in kernels}
    vectors = []
    for target in targets:
        if len(target.shape) == 1:
            vector = _attached(target, by_name, names, entries, by_leaf, layer)
            if vector is None:
                return None
            vectors.append(vector)
        elif not _is_matrix(target, roles):
            if not _has_rows(target, layer):
                return None
            vectors += [Vector(target, "ih", None, 0), Vector(target, "hh", None, 1)]
    return Window(layer, tuple(kernels), tuple(vectors))


def _from_state(entries: Sequence[Intermediate], number: int, names: set[str]) -> bool:
    """Whether what enters an intermediate was itself computed with the layer's leaves."""
    waiting, seen = list(entries[number].operands), set()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        if names.intersection(entries[one].leaves):
            return True
        waiting += entries[one].operands
    return False


def _attached(
    target: Target,
    kernels: Mapping[str, Kernel],
    names: set[str],
    entries: Sequence[Intermediate],
    by_leaf: Mapping[str, list[int]],
    layer: RecurrentLayer,
) -> Vector | None:
    """Which product a vector is added to, found by going back from where it is used."""
    entry = entries[by_leaf[target.name][-1]]
    reached: dict[str, None] = {}
    waiting, seen = [entry.number], set()
    while waiting:
        number = waiting.pop(0)
        if number in seen:
            continue
        seen.add(number)
        here = [path for path in entries[number].leaves if path in kernels]
        reached.update(dict.fromkeys(here))
        if not here:
            waiting += entries[number].operands
    beside = [kernels[path] for path in reached]
    if not beside:
        return None
    siblings = [path for path in entry.leaves if path in names and path not in kernels]
    takes: set[str] = {kernel.takes for kernel in beside}
    gate = None
    if math.prod(target.shape) == layer.hidden and len(layer.gates) > 1:
        ours = [kernel for kernel in kernels.values() if kernel.takes == beside[0].takes]
        if beside[0].single and len(siblings) == len(beside):
            gate = ours.index(beside[siblings.index(target.name)])
        elif beside[0].single:
            gate = ours.index(beside[0])
        else:
            gate = (
                len(layer.gates) - 1
            )  # one vector beside a whole product: the candidate's, which the reset gate parts
    return Vector(target, takes.pop() if len(takes) == 1 else "both", gate)  # pyright: ignore[reportArgumentType]


def readings(window: Window, rare: bool) -> Iterator[Reading]:
    """In which ways the second side may mean what it has. rare: other conventions than the order of gates."""
    gates = len(window.layer.gates)
    for order in itertools.permutations(range(gates)):
        joined = any(kernel.takes == "both" for kernel in window.kernels)
        for state_first in (False, True) if joined else (False,):
            for turned in (True, False):
                plain = Reading(order, state_first=state_first, turned=turned)
                if not rare:
                    yield plain
                elif window.layer.kind == "gru":
                    yield plain._replace(negated=frozenset({1}))
                elif window.layer.kind == "lstm":
                    yield plain._replace(shifted=frozenset({1}))


def links(window: Window, reading: Reading, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Link]:
    """The links of a layer's leaves when they are read in that way."""
    found = {}
    count: dict[str, int] = {}
    for kernel in window.kernels:
        place = count.get(kernel.takes, 0)
        count[kernel.takes] = place + 1
        gates = (reading.order[place],) if kernel.single and len(window.layer.gates) > 1 else reading.order
        link = _matrix(window.layer, kernel, gates, reading, shapes)
        if link is None:
            return {}
        found[kernel.target.name] = link
    rows: dict[str, list[Link]] = {}
    for vector in window.vectors:
        gates = reading.order if vector.gate is None else (reading.order[vector.gate],)
        if (link := _bias(window, vector, gates, reading)) is not None:
            found[vector.target.name] = link
            if vector.row is not None:
                rows.setdefault(vector.target.name, []).append(link)
    return found | {name: _of_rows(name, ones) for name, ones in rows.items()}


def _of_rows(name: str, rows: Sequence[Link]) -> Link:
    """A bias of several rows, each with the same number of parts."""
    parts = tuple(Part((1, *part.shape), part.pieces) for link in rows for part in link.parts)
    width = len(rows[0].parts)
    return Link(name, "concat", parts, axis=1 if width > 1 else 0, stacked=len(rows) if width > 1 else 1)


def _rows(layer: RecurrentLayer, gates: Sequence[int]) -> tuple[tuple[int, int], ...] | None:
    """Blocks of rows of these gates, neighbours merged; None for all, in their own order."""
    merged: list[list[int]] = []
    for gate in gates:
        start, stop = gate * layer.hidden, (gate + 1) * layer.hidden
        if merged and merged[-1][1] == start:
            merged[-1][1] = stop
        else:
            merged.append([start, stop])
    if merged == [[0, layer.hidden * len(layer.gates)]]:
        return None
    return tuple((start, stop) for start, stop in merged)


def _matrix(
    layer: RecurrentLayer, kernel: Kernel, gates: Sequence[int], reading: Reading, shapes: Mapping[str, tuple[int, ...]]
) -> Link | None:
    shape, name = kernel.target.shape, kernel.target.name
    if len(shape) != 2:
        return None
    names = {"ih": ["weight_ih"], "hh": ["weight_hh"], "both": ["weight_ih", "weight_hh"]}[kernel.takes]
    if reading.state_first:
        names.reverse()
    paths = [layer.leaves[one] for one in names]
    width, inward = len(gates) * layer.hidden, sum(shapes[path][1] for path in paths)
    turned = reading.turned if width == inward else shape == (inward, width)
    if shape != ((inward, width) if turned else (width, inward)):
        return None
    axes = (1, 0) if turned else None

    def part(path: str, some: Sequence[int], factor: float = 1.0) -> Part:
        size = len(some) * layer.hidden, shapes[path][1]
        piece = Piece(path, _rows(layer, some), axes=axes, factor=factor)
        return Part(size[::-1] if turned else size, (piece,))

    if len(paths) > 1:
        return Link(name, "concat", tuple(part(path, gates) for path in paths), axis=0 if turned else 1)
    if reading.negated.isdisjoint(gates):
        link = Link(name, "copy", (part(paths[0], gates),))
        return link if len(gates) == len(layer.gates) else link._replace(kind="split")
    parts = tuple(part(paths[0], [gate], -1.0 if gate in reading.negated else 1.0) for gate in gates)
    return Link(name, "concat" if len(parts) > 1 else "split", parts, axis=1 if turned else 0)


def _bias(window: Window, vector: Vector, gates: Sequence[int], reading: Reading) -> Link | None:
    layer = window.layer
    if "bias_ih" not in layer.leaves:
        return None
    parts = []
    for gate in gates:
        names = _summands(window, vector, gate, reading)
        factor = -1.0 if gate in reading.negated else 1.0
        pieces = [Piece(layer.leaves[name], _rows(layer, [gate]), factor=factor) for name in names]
        if gate in reading.shifted:
            pieces[0] = pieces[0]._replace(offset=-1.0)
        parts.append(Part((layer.hidden,), tuple(pieces)))
    merged = [parts[0]]
    for part in parts[1:]:
        joined = _merged(merged[-1], part, layer)
        merged[-1:] = [joined] if joined is not None else [merged[-1], part]
    summed = any(len(part.pieces) > 1 for part in merged)
    whole = len(gates) == len(layer.gates)
    kind = "sum" if summed else ("concat" if len(merged) > 1 else "copy" if whole else "split")
    return Link(vector.target.name, kind, tuple(merged))


def _summands(window: Window, vector: Vector, gate: int, reading: Reading) -> tuple[str, ...]:
    """Which of the two biases of a gate a vector holds."""

    def has(one: Vector) -> bool:
        return one.gate is None or reading.order[one.gate] == gate

    beside = {one.beside for one in window.vectors if has(one)}
    if {"ih", "hh"} <= beside:
        return ("bias_ih",) if vector.beside == "ih" else ("bias_hh",)
    if window.layer.kind == "gru" and gate == 2:
        # The reset gate scales what is on the state's side of the sum.
        return ("bias_hh",) if vector.beside == "hh" else ("bias_ih",)
    if len(beside) == 2 == sum(map(has, window.vectors)):
        # One is added to a product, the other to the sum of both products: two summands of one sum, one for each bias.
        (product,) = beside - {"both"}
        own = product if vector.beside == product else {"ih": "hh", "hh": "ih"}[product]
        return (f"bias_{own}",)
    return ("bias_ih", "bias_hh")


def _merged(before: Part, part: Part, layer: RecurrentLayer) -> Part | None:
    """Two neighbouring parts as one, where all but the rows is the same."""
    if [one._replace(rows=None) for one in before.pieces] != [one._replace(rows=None) for one in part.pieces]:
        return None
    if any(one.offset for one in part.pieces):
        return None
    whole = ((0, layer.hidden * len(layer.gates)),)
    pieces = []
    for one, other in zip(before.pieces, part.pieces, strict=True):
        first, second = one.rows or whole, other.rows or whole
        rows = (*first[:-1], (first[-1][0], second[0][1])) if first[-1][1] == second[0][0] else (*first, *second)
        pieces.append(one._replace(rows=None if rows == whole else rows))
    return Part((before.shape[0] + part.shape[0],), tuple(pieces))
