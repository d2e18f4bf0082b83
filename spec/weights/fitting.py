"""Weights of a file as a model's parameters: where exactly one way is right, which is said; otherwise refused."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from spec.errors import ParameterMismatch, UsageError, shorten
from spec.parameters import Parameter, Parameters, check
from spec.weights.units import OPTIMIZER, Leaves, Path, Unit, parts, role, units

LISTED = 4
"""Modules or names that a message lists."""

LONGEST = 600
"""Characters of a list in a message."""


class Ambiguous(UsageError):
    """Several ways that fit: never one of them by luck."""


class Fitted(NamedTuple):
    """Parameters under canonical names, and what was done to make them, a sentence each."""

    parameters: Parameters
    said: tuple[str, ...]


def fit(table: Sequence[Parameter], arrays: Mapping[str, np.ndarray], file: str) -> Fitted:
    """The model's parameters out of a file's arrays: by their names, else by kinds of modules and shapes.

    Raises ParameterMismatch where they do not fit, or in more than one way.
    """
    named = by_name({parameter.name: parameter.shape for parameter in table}, arrays, file)
    if named is not None:
        check(table, named.parameters, file)
        return named
    try:
        return _by_modules(table, arrays)
    except Ambiguous as error:
        raise ParameterMismatch(f"{file}: {error}") from None
    except UsageError as error:
        names = {parameter.name for parameter in table}
        if 2 * len(names & arrays.keys()) > len(names):
            # Meant to be the model's own: which names are amiss says more than what kinds of modules are.
            check(table, arrays, file)
        raise ParameterMismatch(f"{file}: {error}") from None


def by_name(wanted: Mapping[str, tuple[int, ...]], arrays: Mapping[str, np.ndarray], file: str) -> Fitted | None:
    """The arrays whose names are the wanted ones, under one prefix or none; None where some are in no such place.

    Other arrays under that prefix come too, so that they can be refused; without a prefix all do. Raises
    ParameterMismatch where several prefixes have them all, with other values.
    """
    if wanted.keys() == arrays.keys():
        return Fitted({name: arrays[name] for name in wanted}, ())
    paths = {parts(name): name for name in arrays}
    if len(paths) < len(arrays):
        return None
    names = {parts(name): name for name in wanted}
    first = next(iter(names))
    prefixes = [path[: len(path) - len(first)] for path in paths if path[len(path) - len(first) :] == first]
    whole = [prefix for prefix in prefixes if all((*prefix, *path) in paths for path in names)]
    if not whole:
        return None
    found = [_under(prefix, paths, names, arrays) for prefix in whole]
    for prefix, other in zip(whole[1:], found[1:], strict=True):
        if any(not np.array_equal(found[0][name], other[name], equal_nan=True) for name in wanted):
            raise ParameterMismatch(
                f"{file}: expected one set of the model's weights, got several: {_dotted(whole[0])} and "
                f"{_dotted(prefix)}: save the one that is meant alone"
            )
    prefix, chosen = whole[0], found[0]
    said = []
    if wrapped := sorted({name for path, name in paths.items() if ".".join(path) != name.replace("/", ".")}):
        said.append(f"names without what wrappers put into them, as in {wrapped[0]}")
    if prefix:
        said.append(f"prefix {_dotted(prefix)} removed")
        others = [name for path, name in paths.items() if path[: len(prefix)] != prefix]
        said += _left_out(others)
    elif optimizer := [name for name in chosen if name not in wanted and OPTIMIZER.fullmatch(parts(name)[0])]:
        said += _left_out(optimizer)
        chosen = {name: array for name, array in chosen.items() if name not in optimizer}
    return Fitted(chosen, tuple(said))


def _under(
    prefix: Path, paths: Mapping[Path, str], names: Mapping[Path, str], arrays: Mapping[str, np.ndarray]
) -> Parameters:
    """What has that prefix: under the wanted names first, in their order, then whatever else there is."""
    length = len(prefix)
    inside = {path[length:]: name for path, name in paths.items() if path[:length] == prefix}
    found = {name: arrays[inside[path]] for path, name in names.items()}
    return found | {".".join(path): arrays[name] for path, name in inside.items() if path not in names}


def _left_out(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    tops = sorted({parts(name)[0] for name in names})
    return [f"left out: {len(names)} other arrays ({_listed(tops)})"]


def _by_modules(table: Sequence[Parameter], arrays: Mapping[str, np.ndarray]) -> Fitted:
    """Raises UsageError."""
    floating = {name: array for name, array in arrays.items() if array.dtype.kind == "f"}
    strange = [name for name in floating if len(parts(name)) > 1 and OPTIMIZER.fullmatch(parts(name)[0])]
    said = _left_out(strange)
    sources = units({name: array for name, array in floating.items() if name not in strange})
    if prefix := _common([source.path for source in sources]):
        said.append(f"prefix {_dotted(prefix)} removed")
        sources = [source._replace(path=source.path[len(prefix) :]) for source in sources]
    # Shapes alone count for a target; a view of one zero takes no memory.
    targets = units({one.name: np.broadcast_to(np.float32(0), one.shape) for one in table})
    if {_canonical_name(target, leaf) for target in targets for leaf in target.leaves} != {one.name for one in table}:
        raise UsageError("expected the model's own names, got others")
    sources = _packed(_directed(sources, targets), targets)
    pairs = _paired(sources, targets)
    parameters: Parameters = {}
    for target, source in pairs:
        for leaf, array in source.leaves.items():
            parameters[_canonical_name(target, leaf)] = array
        done = f": {'; '.join(source.said)}" if source.said else ""
        if done or source.path != target.path:
            way = f"{source.name} is {target.name}" + (" backward" if target.direction else "")
            said.append(way + done)
    return Fitted({one.name: np.ascontiguousarray(parameters[one.name]) for one in table}, tuple(said))


def _common(paths: Sequence[Path]) -> Path:
    """What all paths begin with, short of a whole one."""
    shared: list[str] = []
    for step in zip(*(path[:-1] for path in paths), strict=False):
        if len(set(step)) > 1:
            break
        shared.append(step[0])
    return tuple(shared) if len(paths) > 1 else ()


def _canonical_name(target: Unit, leaf: str) -> str:
    path = target.path
    recurrent = re.fullmatch(r"l\d+", path[-1]) if path else None
    if recurrent and leaf in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        path, leaf = path[:-1], f"{leaf}_{recurrent[0]}{'_reverse' if target.direction else ''}"
    return ".".join((*path, leaf))


def _directed(sources: list[Unit], targets: list[Unit]) -> list[Unit]:
    """Cells that are numbered by layer and direction together, by the two apart."""
    if not any(target.direction for target in targets):
        return sources
    found = []
    for unit in sources:
        if unit.kind == "counted" and unit.path[-1].isdecimal():
            layer, direction = divmod(int(unit.path[-1]), 2)
            unit = unit._replace(path=(*unit.path[:-1], f"{layer}"), direction=direction)
        found.append(unit)
    return found


def _packed(sources: list[Unit], targets: list[Unit]) -> list[Unit]:
    """Queries, keys and values in one where the model has them in one, and apart where it has them apart."""
    wants = any("in_proj_weight" in target.leaves for target in targets)
    if not wants:
        return [part for unit in sources for part in _apart(unit)]
    projections: dict[Path, dict[str, Unit]] = {}
    for unit in sources:
        if unit.path and (called := role(unit.path[-1])) in ("query", "key", "value") and "weight" in unit.leaves:
            projections.setdefault(unit.path[:-1], {})[called] = unit
    kept = list(sources)
    for path, found in projections.items():
        if len(found) < 3:
            continue
        three = [found[name] for name in ("query", "key", "value")]
        if len({one.leaves.keys() == three[0].leaves.keys() and one.shapes for one in three}) > 1:
            continue
        leaves: Leaves = {
            f"in_proj_{leaf}": np.concatenate([one.leaves[leaf] for one in three]) for leaf in three[0].leaves
        }
        said = tuple(dict.fromkeys(sentence for one in three for sentence in one.said))
        joined = Unit(path, leaves, said=(*said, "queries, keys and values joined"))
        kept = [unit for unit in kept if all(unit is not one for one in three)] + [joined]
    return kept


def _apart(unit: Unit) -> Iterable[Unit]:
    if "in_proj_weight" not in unit.leaves:
        return [unit]
    found = []
    for number, name in enumerate(("query", "key", "value")):
        leaves = {leaf.removeprefix("in_proj_"): np.split(array, 3)[number] for leaf, array in unit.leaves.items()}
        said = (*unit.said, f"{name} taken out of the packed projections")
        found.append(Unit((*unit.path, name), leaves, "linear", said=said))
    return found


def _paired(sources: list[Unit], targets: list[Unit]) -> list[tuple[Unit, Unit]]:
    """Each target with its source: where exactly one fits, or names and numbers say which. Raises UsageError."""
    pairs = []
    left = list(sources)
    for shapes in dict.fromkeys(target.shapes for target in targets):
        wanted = [target for target in targets if target.shapes == shapes]
        fitting = [source for source in left if source.shapes == shapes]
        tables = [target for target in wanted if _is_table(target)]
        if tables and len(tables) < len(wanted):
            # A table and a linear map without a bias may have one shape; what was a kernel or a table is told.
            pairs += _ordered([one for one in fitting if one.kind == "table"], tables)
            fitting = [one for one in fitting if one.kind != "table"]
            wanted = [target for target in wanted if not _is_table(target)]
        pairs += _ordered(fitting, wanted, left)
        left = [source for source in left if all(source is not used for _, used in pairs)]
    if left:
        raise UsageError(f"expected the model's modules alone, got others beside: {_described(left)}")
    return pairs


def _is_table(target: Unit) -> bool:
    return any(role(part) == "embedding" for part in target.path)


def _ordered(sources: list[Unit], targets: list[Unit], left: Sequence[Unit] = ()) -> list[tuple[Unit, Unit]]:
    """Units of one shape: as many as there are targets, in the one order that names and numbers tell."""
    if len(sources) != len(targets):
        got = _names(sources) if sources else f"none, but {_described(left)}" if left else "none"
        raise UsageError(f"expected {len(targets)} of {_shape(targets[0])}, for {_names(targets)}, got {got}")
    if len(targets) == 1:
        return [(targets[0], sources[0])]
    pairs = []
    keys = next(
        (
            (ours, theirs)
            for evidence in (_last, _roles, _direction)
            if Counter(ours := evidence(targets)) == Counter(theirs := evidence(sources))
        ),
        None,
    )
    if keys is None:
        raise _ambiguous(sources, targets)
    for key in dict.fromkeys(keys[0]):
        wanted = [target for target, its in zip(targets, keys[0], strict=True) if its == key]
        fitting = [source for source, its in zip(sources, keys[1], strict=True) if its == key]
        pairs += [(wanted[0], fitting[0])] if len(wanted) == 1 else _numbered(fitting, wanted)
    return pairs


def _direction(found: Sequence[Unit]) -> list[object]:
    return [unit.direction for unit in found]


def _roles(found: Sequence[Unit]) -> list[object]:
    """Directions, and roles of the parts of paths that not all of them have."""
    each = [{role(part) for part in unit.path} - {""} for unit in found]
    common = set.intersection(*each)
    return [(unit.direction, frozenset(roles - common)) for unit, roles in zip(found, each, strict=True)]


def _last(found: Sequence[Unit]) -> list[object]:
    """The same, and what the last part of a path says without its numbers."""
    names = [role(unit.path[-1]) or _stem(unit.path[-1]) if unit.path else "" for unit in found]
    return list(zip(_roles(found), names, strict=True))


def _stem(part: str) -> str:
    return re.sub(r"_?\d+", "", part.lower())


def _numbered(sources: list[Unit], targets: list[Unit]) -> list[tuple[Unit, Unit]]:
    """In the order of their numbers, where the two differ in numbers alone, in equally many places."""
    grids = []
    for found in (targets, sources):
        if len({tuple(map(_stem, unit.path)) for unit in found}) > 1:
            raise _ambiguous(sources, targets)
        numbers = [tuple(int("0" + "".join(re.findall(r"\d+", part))[:9]) for part in unit.path) for unit in found]
        varying = [place for place in range(len(numbers[0])) if len({row[place] for row in numbers}) > 1]
        rows = [tuple(row[place] for place in varying) for row in numbers]
        grids.append((rows, [len({row[place] for row in rows}) for place in range(len(varying))]))
    if grids[0][1] != grids[1][1] or any(len(set(rows)) < len(rows) for rows, _ in grids):
        raise _ambiguous(sources, targets)
    by_number = [
        [unit for _, unit in sorted(zip(rows, found, strict=True), key=lambda one: one[0])]
        for found, (rows, _) in zip((targets, sources), grids, strict=True)
    ]
    return list(zip(*by_number, strict=True))


def _ambiguous(sources: Sequence[Unit], targets: Sequence[Unit]) -> Ambiguous:
    return Ambiguous(
        f"expected names that tell which of {_names(sources)} is which of {_names(targets)}, all of one shape "
        f"({_shape(targets[0])}), got several ways that fit"
    )


def _described(found: Sequence[Unit]) -> str:
    return _listed([f"{_names([unit])} ({_shape(unit)})" for unit in found])


def _names(found: Sequence[Unit]) -> str:
    return _listed([unit.name + (" backward" if unit.direction else "") for unit in found])


def _shape(unit: Unit) -> str:
    return " + ".join(f"{name} {list(shape)}" for name, shape in unit.shapes)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return shorten(", ".join(names[:LISTED]), LONGEST) + more


def _dotted(prefix: Path) -> str:
    return repr("".join(f"{part}." for part in prefix)) if prefix else "none"
