"""The first two checks: the map between the leaves, with what stands in its way, and values that go there and back."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from crosscheck import mapping as maps
from crosscheck.comparison import Comparison
from crosscheck.libraries import recognised
from crosscheck.mapping import Map, bench
from crosscheck.pair.given import SIDES
from crosscheck.pair.leafwise import Computed
from crosscheck.pair.result import Difference
from crosscheck.pair.rounding import EPS
from crosscheck.pair.state import Found, State, cast, from_comparisons
from spec import parameters
from spec.errors import ParameterMismatch, UsageError
from spec.pair import Values
from spec.parameters import Constant, Parameter
from spec.weights import fitting

NOTHING_PROVEN = (
    "no leaf's place in the map is proven: under a wrong map equal models part as well; "
    "name leaves alike (rename), or write the map by hand"
)


def find_map(state: State, file: Path | None) -> str:
    """Read the map or propose it, and verify it; returns what is to be said of it."""
    # Masks of minus infinity, or of the least number that there is, are values like others.
    with np.errstate(over="ignore", invalid="ignore"):
        return _find_map(state, file)


def _find_map(state: State, file: Path | None) -> str:
    pair = state.pair
    if file is not None and file.exists():
        state.say(f"map, read from {file.name}")
        found, said = maps.read(file, pair.first.leaves, pair.second.leaves), "read"
    else:
        state.say("map, proposed")
        found, said = maps.propose(pair.first, pair.second, pair.make_inputs, state.seed, pair.called), "proposed"
    state.say("map, verified")
    state.mapping, state.report = maps.verify(found, pair.first, pair.second, pair.make_inputs, state.seed, pair.called)
    state.pinned = state.report.tolerance > bench.EXACT
    if state.pinned:
        state.notes.append("constants are held in float32: bounds in float64 are those of a unit of float32")
    if narrow := [dtype for dtype in state.computed if EPS.get(dtype, 0.0) > EPS["float32"]]:
        words = f"computed in {' and '.join(narrow)}: what is run is held to units of that"
        state.notes.append(f"{words}; formulas are compared in float64, where all of it is widened")
    state.notes += [_named(one) for one in state.report.notes]
    return said


def _named(note: str) -> str:
    """The mapping's words for the sides, by their names here."""
    return note.replace("first side", SIDES[0]).replace("second side", SIDES[1])


def _known(state: State, paths: Sequence[str]) -> Iterator[str]:
    """What the table of other people's layers says of those that are in the way, and of their counterparts."""
    mapping = state.mapping
    for leaves, linked in ((mapping.first, paths), (mapping.second, [*paths, *_beside(mapping, paths)])):
        shapes = {leaf.path: leaf.shape for leaf in leaves}
        yield from recognised.facts(shapes, [path for path in linked if path in shapes])


def _beside(mapping: Map, paths: Sequence[str]) -> list[str]:
    """Leaves of the second side that hold what stands in the first side's module of one of the paths."""
    modules = {path.rpartition(".")[0] for path in paths}
    return [
        target
        for target, link in mapping.links.items()
        for part in link.parts
        if any(piece.source.rpartition(".")[0] in modules for piece in part.pieces)
    ]


def structure(state: State) -> Found:
    """Every leaf of both sides accounted for; and why they may not be trained alike all the same."""
    report, mapping = state.report, state.mapping
    assert report is not None
    known = [list(_known(state, one.leaves)) for one in report.obstacles]
    differences = [
        Difference(
            name=f"structure: {' + '.join(one.leaves)}",
            check="structure",
            kind=one.verdict,
            text="; ".join([_named(one.reason), *known[number]]),
        )
        for number, one in enumerate(report.obstacles)
    ]
    for one in report.ambiguities:
        groups = "; ".join(" <-> ".join(group) for group in one.groups)
        differences.append(
            Difference(
                name=f"structure: {one.groups[0][0] if one.groups else 'ambiguous'}",
                check="structure",
                kind="ambiguous",
                text=f"{groups}: {_named(one.reason)}",
            )
        )
    differences += list(_dtypes(state))
    if report.standing == "unfinished" and not differences:
        missing = [link.target for link in mapping.links.values() if link.kind == "none"]
        differences.append(
            Difference(
                name=f"structure: {' + '.join(missing)}",
                check="structure",
                text=f"no counterpart was found for {', '.join(missing) or 'some leaves'}",
            )
        )
    proofs = Counter(link.proof for link in mapping.links.values() if link.parts)
    linked = sum(proofs.values())
    by = ", ".join(f"{proofs[proof]} by {proof}" for proof in ("value", "elimination") if proofs[proof])
    by += f"{', ' if by else ''}{proofs['none']} not proven" if proofs["none"] else ""
    if linked > 1 and proofs["none"] == linked:
        state.notes.append(NOTHING_PROVEN)
    free = f"{proofs['free']} free (no output shows them)" if proofs["free"] else ""
    text = f"{linked} of {len(mapping.links)} leaves of {SIDES[1]} linked"
    text += f": {', '.join(one for one in (by, free) if one)}" if by or free else ""
    return Found([], differences, text)


def _dtypes(state: State) -> Iterator[Difference]:
    held = {leaf.path: leaf.dtype for leaf in state.first.leaves}
    for leaf in state.second.leaves:
        link = state.mapping.links.get(leaf.path)
        sources = {held[piece.source] for part in link.parts for piece in part.pieces} if link else set()
        if sources and sources != {leaf.dtype}:
            others = " and ".join(sorted(sources))
            text = f"{leaf.path} is {leaf.dtype} in {SIDES[1]}, {others} in {SIDES[0]}"
            yield Difference(name=f"structure: {leaf.path}", check="structure", text=text)


def round_trip(state: State) -> Found:
    """Values that are given to a side are read back to the bit; the map in a file, and the converter, are the map."""
    point = next(state.points(0)).values
    pushed = state.pushed(point)
    comparisons: list[Comparison] = []
    place = state.place("round trip", "float64", "values")
    for side, values, name in ((state.first, point, SIDES[0]), (state.second, pushed, SIDES[1])):
        side.load(values)
        held = side.values()
        for path, value in values.items():
            comparisons.append(
                place._replace(sides=(name, f"{name}, read back")).identical(
                    f"{path} of {name}", cast(value, "float64"), cast(held[path], "float64")
                )
            )
    place = state.place("round trip", "float64", "converter")
    wide = Computed(point, lambda path: cast(point[path], "float64"))
    for path, value in converted(state.mapping, wide).items():
        expected = cast(pushed[path], "float64") if path in pushed else None
        comparisons.append(
            place._replace(sides=("map", "converter")).identical(f"{path}, converted", expected, cast(value, "float64"))
        )
    state.put(next(state.points(0)).values)
    return Found(comparisons, from_comparisons(comparisons), "values read back, the converter against the map")


def converted(mapping: maps.Map, values: Values) -> dict[str, np.ndarray]:
    """What the emitted converter makes of values."""
    names: dict[str, object] = {"__name__": "converter"}
    # Our own text, made of a map whose names it writes as Python's own literals.
    exec(compile(maps.emitted(mapping), "convert.py", "exec"), names)
    convert = names["convert"]
    assert callable(convert)
    return convert(values)  # pyright: ignore[reportReturnType]


def load_weights(state: State, arrays: Mapping[str, np.ndarray], file: Path) -> tuple[str, ...]:
    """Give the first side a checkpoint's values; returns what was done to them.

    Raises UsageError or ParameterMismatch for names or shapes that are not its own, or values that it cannot hold.
    """
    names = {name: leaf.path for leaf in state.first.leaves for name in (leaf.path, *leaf.tied)}
    shapes = {leaf.path: leaf.shape for leaf in state.first.leaves if leaf.trainable}
    floating = {name: array for name, array in arrays.items() if array.dtype.kind == "f"}
    fitted = fitting.by_name(shapes, floating, str(file))
    if fitted is None:
        fitted = _by_modules(shapes, floating, names, file)
    if extra := sorted(fitted.parameters.keys() - names.keys()):
        raise UsageError(f"{file}: expected names of {SIDES[0]}, got {extra[0]!r} ({len(extra)} in all)")
    found = {names[name]: array for name, array in fitted.parameters.items()}
    for leaf in state.first.leaves:
        if leaf.path not in found:
            continue
        if found[leaf.path].shape != leaf.shape:
            raise UsageError(f"{file}: {leaf.path}: expected shape {leaf.shape}, got {found[leaf.path].shape}")
        # What NumPy has no type for has float32's range.
        dtype = leaf.dtype if leaf.dtype in ("float16", "float64") else "float32"
        parameters.cast(found[leaf.path], dtype, f"{file}: {leaf.path}")
    state.first.load(found)
    state.made = state.first.values()
    return fitted.said


def _by_modules(
    shapes: Mapping[str, tuple[int, ...]], arrays: Mapping[str, np.ndarray], names: Mapping[str, str], file: Path
) -> fitting.Fitted:
    """Where the file has other names: by kinds of modules and shapes. Raises UsageError."""
    # The law is nobody's: these are a stranger's parameters.
    table = [Parameter(name, shape, Constant(0.0)) for name, shape in shapes.items()]
    try:
        return fitting.fit(table, arrays, str(file))
    except ParameterMismatch as error:
        if extra := sorted(arrays.keys() - names.keys()):
            raise UsageError(f"{file}: expected names of {SIDES[0]}, got {extra[0]!r} ({len(extra)} in all)") from error
        needed = next(name for name in shapes if name not in arrays)
        raise UsageError(f"{file}: expected every parameter of {SIDES[0]}, got none for {needed!r}") from error
