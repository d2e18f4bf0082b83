"""What experiments have been looked at: which option took which values, which options met, which sizes coincided."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

import msgspec
from msgspec import inspect

from crosscheck.explore import fields
from crosscheck.explore.fields import Field, Raw
from spec.experiment import Experiment


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """Of so many experiments. Options are named by their record: "GRU.num_layers".

    values: of each option, every value and how many experiments have it. pairs: of each two settings, how many have
    both; a setting is an option at another value than its default, a choice by name, or a number that is not the
    simplest. coincidences: the same of two sizes that are equal, and of a size that is 1.
    never: pairs of settings that occur and have not met although no record excludes it.
    """

    experiments: int
    values: dict[str, dict[str, int]]
    pairs: list[tuple[str, str, int]]
    coincidences: dict[str, int]
    never: list[tuple[str, str]]


def covered(chosen: Iterable[Experiment]) -> Coverage:
    """What these experiments cover."""
    values: dict[str, Counter[str]] = {name: Counter() for name in options()}
    pairs: Counter[tuple[str, str]] = Counter()
    coincidences: Counter[str] = Counter()
    occurring: Counter[str] = Counter()
    count = 0
    for experiment in chosen:
        count += 1
        for name, value in taken(experiment):
            values.setdefault(name, Counter())[value] += 1
        found = sorted(settings(experiment))
        occurring.update(found)
        pairs.update(combinations(found, 2))
        coincidences.update(sizes_that_coincide(experiment))
    never = [
        (one, two)
        for one, two in combinations(sorted(occurring), 2)
        if (one, two) not in pairs and not _exclude(one, two)
    ]
    return Coverage(
        experiments=count,
        values={name: dict(sorted(found.items(), key=lambda item: _order(item[0]))) for name, found in values.items()},
        pairs=[(*pair, number) for pair, number in sorted(pairs.items())],
        coincidences=dict(coincidences.most_common()),
        never=never,
    )


def options() -> list[str]:
    """Every option of the spec that is drawn."""
    return list(dict.fromkeys(f"{record}.{field.name}" for record, field, _ in _everything()))


def taken(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Each option that the experiment has, and the value that it takes; of a record its name."""
    for name, field, value in _fields(experiment):
        if isinstance(value, dict) and "name" not in value:
            yield f"{name}.{field.name}", "given"
        elif isinstance(value, list | tuple):
            yield f"{name}.{field.name}", f"{len(value)} given"
        else:
            yield f"{name}.{field.name}", _text(value)


def settings(experiment: Experiment) -> set[str]:
    """What distinguishes the experiment from one with every option at its default or its simplest value."""
    found = set()
    for name, field, value in _fields(experiment):
        option = f"{name}.{field.name}"
        if isinstance(value, dict):
            found.add(f"{option} = {value['name']}" if "name" in value else option)
        elif value is None or value == _plainest(field):
            continue
        elif any(isinstance(choice.type, inspect.LiteralType | inspect.BoolType) for choice in field.choices):
            found.add(f"{option} = {_text(value)}")
        elif not isinstance(value, str):
            found.add(option)
    return found


def sizes_that_coincide(experiment: Experiment) -> set[str]:
    """Names of two sizes that are equal, "steps = GRU.hidden_size", and of sizes that are 1."""
    task = experiment.task
    sizes = {
        "steps": task.length,
        "batch_size": task.batch_size,
        "input_size": task.input_size,
        "classes": task.classes,
    }
    known = set(sizes)
    for name, field, value in _fields(experiment):
        of_model = name not in ("Training", msgspec.to_builtins(task)["name"]) and field.name not in known
        if of_model and isinstance(value, int) and not isinstance(value, bool) and field.name != "padding_idx":
            sizes[f"{name}.{field.name}"] = value
    found = {f"{one} = {two}" for one, two in combinations(sizes, 2) if sizes[one] == sizes[two] > 1}
    return found | {f"{name} = 1" for name, size in sizes.items() if size == 1}


def _fields(experiment: Experiment) -> Iterator[tuple[str, Field, Any]]:
    """Every field of every record that the experiment has: the record's name, the field, and its value."""
    raw: Raw = msgspec.to_builtins(experiment)
    for name, record, values in fields.records(raw):
        for field in fields.fields(record):
            yield name, field, values[field.name]


def _everything() -> Iterator[tuple[str, Field, tuple[str, ...]]]:
    """Every field that any experiment may have: its record's name, itself, and the records that it may be."""
    waiting = [fields.experiment()]
    seen = set()
    while waiting:
        record = waiting.pop(0)
        if record.cls in seen:
            continue
        seen.add(record.cls)
        for field in fields.fields(record):
            parts = [fields.item(choice) or choice for choice in field.choices]
            inner = [part.type for part in parts if isinstance(part.type, inspect.StructType)]
            yield fields.name_of(record), field, tuple(fields.name_of(kind) for kind in inner)
            waiting += inner


def _exclude(one: str, two: str) -> bool:
    """Whether two settings belong to records, or are choices, of which an experiment has only one."""
    return any(
        _under(one, first) and _under(two, second) and first != second
        for alternatives in _alternatives()
        for first in alternatives
        for second in alternatives
    ) or (" = " in one and " = " in two and one.partition(" = ")[0] == two.partition(" = ")[0])


def _alternatives() -> list[tuple[str, ...]]:
    return [records for _, _, records in _everything() if len(records) > 1]


def _under(setting: str, record: str) -> bool:
    return setting.startswith(f"{record}.") or setting.endswith(f" = {record}")


def _plainest(field: Field) -> Any:
    """The value of a field that says nothing about an experiment."""
    if field.default is not msgspec.NODEFAULT:
        return field.default
    if field.typical and field.typical.values:
        return field.typical.values[0]
    first = field.choices[0].type
    return first.values[0] if isinstance(first, inspect.LiteralType) else False


def _text(value: Any) -> str:
    return (
        str(value["name"]) if isinstance(value, dict) else str(value).lower() if value in (True, False) else str(value)
    )


def _order(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text
