"""Paths of the parts of a model that keeps no paths itself, but names that count how many of a class were made before.

Such names, "dense_7", are others in every process and for every seed. The paths here are the same for every model that
is made by the same code.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple


class ModelPart(NamedTuple):
    """path: "" of the whole model. holds: the parts directly below, those that are below others too."""

    path: str
    part: Any
    holds: tuple[Any, ...] = ()


class OwnedArray(NamedTuple):
    """owner: the innermost part that has the array."""

    array: Any
    owner: Any


def parts_of(
    root: Any,
    attributes: Callable[[Any], Iterable[tuple[str, Any]]],
    is_part: Callable[[Any], bool],
) -> list[ModelPart]:
    """The model and all parts below it, each once; what holds a part comes before it.

    attributes: names and values of what a part holds. A part's path goes by the attribute's name, followed by the place
    in a list or dictionary, "blocks.0.attention"; where that begins with "_", by the part's own `name`.
    """
    found = [ModelPart("", root)]
    seen = {id(root)}
    for number, (path, whole, _) in enumerate(found):
        named: list[str] = []
        here: list[Any] = []
        held = sorted(attributes(whole), key=lambda one: one[0].startswith("_"))
        below = [one for attribute, value in held for one in _parts(value, attribute, is_part)]
        found[number] = found[number]._replace(holds=tuple(part for _, part in below))
        for name, part in below:
            if id(part) not in seen:
                seen.add(id(part))
                here.append(part)
                named.append(without_count(part.name, type(part).__name__) if name.startswith("_") else name)
        found += [
            ModelPart(f"{path}.{name}" if path else name, part)
            for name, part in zip(distinct(named), here, strict=True)
        ]
    return found


def owned_arrays(parts: Sequence[ModelPart], arrays_of: Callable[[Any], Iterable[Any]]) -> dict[str, OwnedArray]:
    """The arrays of a model by path, in the model's own order: the path of the part that has it, and its own `name`.

    arrays_of: a part's arrays, those of parts below it too.
    """
    owners: dict[int, ModelPart] = {}
    for one in parts:
        below = {id(array) for part in one.holds for array in arrays_of(part)}
        for array in arrays_of(one.part):
            if id(array) not in below:
                owners.setdefault(id(array), one)
    arrays = list(arrays_of(parts[0].part))
    # Of parts that hold each other none is the innermost.
    held_by = [owners.get(id(one), parts[0]) for one in arrays]
    named = distinct(f"{owner.path}.{one.name}".removeprefix(".") for owner, one in zip(held_by, arrays, strict=True))
    return {name: OwnedArray(one, by.part) for name, one, by in zip(named, arrays, held_by, strict=True)}


def without_count(name: str, kind: str) -> str:
    """A name without the number that it ends with, where the rest is that of its class: "dense_7", "Dense" -> "dense".

    A name that somebody chose stays: "block_7", "Dense".
    """
    stem = re.sub(r"_\d+$", "", name)
    return stem if stem.replace("_", "").lower() == kind.lower() else name


def distinct(names: Iterable[str]) -> list[str]:
    """The names in order, numbered from the second of the same on: "dense", "dense_1"."""
    counted: Counter[str] = Counter()
    taken: set[str] = set()
    found = []
    for name in names:
        chosen = name
        while chosen in taken:
            counted[name] += 1
            chosen = f"{name}_{counted[name]}"
        taken.add(chosen)
        found.append(chosen)
    return found


def _parts(value: Any, name: str, is_part: Callable[[Any], bool]) -> Iterator[tuple[str, Any]]:
    if is_part(value):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _parts(item, f"{name}.{key}", is_part)
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _parts(item, f"{name}.{place}", is_part)
