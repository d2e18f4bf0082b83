"""What an experiment is made of, as the spec's types say it: which fields there are, and what each may be."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import msgspec
from msgspec import inspect

from spec import typical
from spec.experiment import Experiment
from spec.typical import Typical

Raw = dict[str, Any]
"""An experiment, or a record of one, in plain values, as its TOML file has it."""


@dataclass(frozen=True, eq=False)
class Field:
    """A field, or one of what it may be. typical: see spec.typical; None where nobody says. default: NODEFAULT where a
    value is needed."""

    name: str
    type: inspect.Type
    typical: Typical | None
    default: Any = msgspec.NODEFAULT

    @cached_property
    def choices(self) -> list["Field"]:
        """What it may be, each for itself."""
        kinds = self.type.types if isinstance(self.type, inspect.UnionType) else (self.type,)
        made = [_field(self.name, kind, self.default, self.typical) for kind in kinds]
        first = self.typical.values[0] if self.typical and self.typical.values else None
        # The simplest record first, where somebody says which that is; nothing at all is simpler.
        return sorted(made, key=lambda each: (not isinstance(each.type, inspect.NoneType), each.tag != first))

    @property
    def rare(self) -> bool:
        """Whether it is taken now and then alone."""
        return self.typical is not None and bool(self.typical.rare) and not self.typical.values

    @property
    def tag(self) -> str | None:
        """The name that a record has as one of several."""
        tag = self.type.tag if isinstance(self.type, inspect.StructType) else None
        return str(tag) if tag is not None else None


def item(field: Field) -> Field | None:
    """What the items of a list may be; None where the field is no list."""
    kind = field.type
    return _field(field.name, kind.item_type, said=field.typical) if isinstance(kind, inspect.VarTupleType) else None


def fields(record: inspect.StructType) -> list[Field]:
    """Those of a record that are drawn, in its order."""
    if record.cls not in _known:
        found = [_field(each.encode_name, each.type, each.default) for each in record.fields]
        _known[record.cls] = [each for each in found if each.typical is None or each.typical.drawn]
    return _known[record.cls]


_known: dict[type, list[Field]] = {}
"""The fields of the records that were asked for: a draw asks thousands of times."""


@cache
def experiment() -> inspect.StructType:
    """The record of a whole experiment."""
    kind = inspect.type_info(Experiment)
    assert isinstance(kind, inspect.StructType)
    return kind


def name_of(record: inspect.StructType) -> str:
    """What an experiment's file calls the record; of one that is no choice, its class's name."""
    return str(record.tag) if record.tag is not None else record.cls.__name__


def at(raw: Raw, path: tuple[str, ...]) -> Field | None:
    """The field at a path of keys into an experiment; None where there is none, or none that is drawn."""
    record: inspect.Type = experiment()
    found = None
    value: Any = raw
    for key in path:
        if not isinstance(record, inspect.StructType) or not isinstance(value, dict):
            return None
        found = next((each for each in fields(record) if each.name == key), None)
        if found is None:
            return None
        value = value.get(key)
        record = _record(found, value)
    return found


def records(raw: Raw) -> Iterator[tuple[str, inspect.StructType, Raw]]:
    """Every record of an experiment: its name, its type and its values; the whole first."""

    def inner(record: inspect.StructType, values: Raw) -> Iterator[tuple[str, inspect.StructType, Raw]]:
        yield name_of(record), record, values
        for field in fields(record):
            value = values.get(field.name)
            of_list = [each for choice in field.choices if (each := item(choice)) is not None]
            given = [(field, value)] if not isinstance(value, list | tuple) else [(of_list[0], one) for one in value]
            for each, one in given:
                kind = _record(each, one)
                if isinstance(kind, inspect.StructType) and isinstance(one, dict):
                    yield from inner(kind, one)

    yield from inner(experiment(), raw)


def _record(field: Field, value: Any) -> inspect.Type:
    """Which of what the field may be the value is; the field's own type where that is no record."""
    name = value.get("name") if isinstance(value, dict) else None
    for choice in field.choices:
        if isinstance(choice.type, inspect.StructType) and isinstance(value, dict) and choice.tag in (None, name):
            return choice.type
    return field.type


def _field(name: str, kind: inspect.Type, default: Any = msgspec.NODEFAULT, said: Typical | None = None) -> Field:
    """A field without its annotations: the outermost that says something counts."""
    while isinstance(kind, inspect.Metadata):
        said = typical.of(kind.extra) or said
        kind = kind.type
    return Field(name, kind, said, default)
