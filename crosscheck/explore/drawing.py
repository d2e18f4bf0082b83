"""An experiment out of a sequence of choices, by the spec's types alone.

Each record is filled field by field. What two fields must be together no type says, but the spec's own errors name the
key that is wrong; it is given another value that the spec accepts there, or else its neighbours, or the record that it
belongs to. So nothing here knows a model, a task or an option by name.
"""

import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from crosscheck.explore import fields
from crosscheck.explore.fields import Field, Raw
from spec import experiment as experiments
from spec.errors import SpecError
from spec.experiment import Experiment

Choose = Callable[[int], int]
"""One of 0, ..., n - 1, given n > 1; 0 is the simplest."""

RARELY = 6
"""One of so many values of a field is a rare one, where it has any."""

ROUNDS = 30
"""So many keys at most are given another value until the spec accepts an experiment."""

ATTEMPTS = 100
"""At drawing an experiment that the spec accepts: three of four come to one."""

DESCRIPTION = "Drawn at random by crosscheck explore"


class Impossible(Exception):
    """Choices that come to no experiment."""


class Drawn(NamedTuple):
    """An experiment, and the choices that it came of."""

    experiment: Experiment
    choices: tuple[int, ...]


def draw(seed: int, number: int) -> Drawn:
    """The experiment of that seed and number, the same on every machine."""
    for attempt in range(ATTEMPTS):
        generator = random.Random(f"{seed} {number} {attempt}")
        made: list[int] = []

        def choose(count: int, generator: random.Random = generator, made: list[int] = made) -> int:
            made.append(generator.randrange(count))
            return made[-1]

        try:
            return Drawn(build(f"explore-{seed}-{number}", choose), tuple(made))
        except Impossible:
            continue
    raise AssertionError(f"expected an experiment in {ATTEMPTS} attempts, got none: seed {seed}, number {number}")


def replay(name: str, choices: Sequence[int]) -> Drawn:
    """The experiment of given choices, also of another version of the spec. Raises Impossible."""
    rest, made = iter(choices), []

    def choose(count: int) -> int:
        made.append(min(next(rest, 0), count - 1))
        return made[-1]

    return Drawn(build(name, choose), tuple(made))


def build(name: str, choose: Choose) -> Experiment:
    """An experiment of that name. Raises Impossible."""
    drawing = _Drawing(choose)
    raw = {"name": name, "description": DESCRIPTION, **drawing.record(fields.experiment())}
    key = None
    for _ in range(ROUNDS):
        key = refused(raw)
        if key is None:
            made = experiments.convert(raw, name)
            if not made.steps_bounded:
                # Where a training is lost in infinities, two sides cannot be told apart.
                raise Impossible("training.clipping")
            return made
        raw = drawing.mended(raw, key)
    raise Impossible(key)


def refused(raw: Raw) -> str | None:
    """The key that the spec says is wrong; None where it accepts the experiment."""
    error = _refusal(raw)
    return None if error is None else error.key


def _refusal(raw: Raw) -> SpecError | None:
    try:
        experiments.convert(raw, "drawn")
    except SpecError as error:
        return error
    return None


def _asked(raw: Raw, path: tuple[str, ...]) -> list[int]:
    """The number that the spec says it expects at that path, where it names one: no field may know of it."""
    error = _refusal(raw)
    named = re.match(r"\d+", error.expected) if error is not None and error.key == ".".join(path) else None
    return [int(named[0])] if named else []


class _Drawing:
    """One experiment on its way. sizes: the whole numbers that it has so far, since sizes that coincide hide errors."""

    def __init__(self, choose: Choose):
        self._choose = choose
        self._sizes: list[int] = []

    def record(self, record: inspect.StructType) -> Raw:
        """A record with every field drawn that is to be."""
        raw: Raw = {record.tag_field: record.tag} if record.tag_field else {}
        for field in fields.fields(record):
            raw[field.name] = self._value(field, raw)
        return raw

    def mended(self, raw: Raw, key: str) -> Raw:
        """The experiment with another value at that key, or where it takes that. Raises Impossible."""
        path = tuple(key.split("."))
        if path[-1] == "name":
            path = path[:-1]
        for options in self._repairs(raw, path, key):
            if options:
                where, value = self._one(options)
                field = fields.at(raw, where)
                chosen = field and next((c for c in field.choices if isinstance(value, dict) and _is(c, value)), None)
                if chosen is not None and isinstance(chosen.type, inspect.StructType):
                    # It was tried in its simplest form; which it takes is drawn.
                    value = self.record(chosen.type)
                if isinstance(value, list):
                    item = next(inner for c in field.choices if (inner := fields.item(c))) if field else None
                    value = [self._value(item, {}) for _ in value] if item else value
                # A vocabulary that the spec asks for is no size that others are to coincide with.
                if isinstance(value, int) and not isinstance(value, bool) and value not in _asked(raw, where):
                    self._sizes.append(value)
                return _with(raw, where, value)
        raise Impossible(key)

    def _repairs(self, raw: Raw, path: tuple[str, ...], key: str) -> Iterator[list[tuple[tuple[str, ...], Any]]]:
        """What may be put where instead, the nearest to the key first."""
        at_key = [(path, value) for value in self._values(raw, path) if refused(_with(raw, path, value)) != key]
        # Or a neighbour, so that dropout also brings a second layer about, and not only one layer an end of dropout.
        if at_key and self._choose(2) == 0:
            yield at_key
        record = _at(raw, path[:-1])
        beside = [(*path[:-1], name) for name in record if name != path[-1]] if isinstance(record, dict) else []
        yield [
            (where, value)
            for where in beside
            for value in self._values(raw, where, often=True)
            if refused(_with(raw, where, value)) != key
        ]
        yield at_key
        for end in range(len(path) - 1, 0, -1):
            where = path[:end]
            yield [
                (where, value)
                for value in self._values(raw, where)
                if self._can_be_mended(_with(raw, where, value), path, key)
            ]

    def _can_be_mended(self, raw: Raw, path: tuple[str, ...], key: str) -> bool:
        """Whether the key is right, or is with another value."""
        return refused(raw) != key or any(refused(_with(raw, path, value)) != key for value in self._values(raw, path))

    def _values(self, raw: Raw, path: tuple[str, ...], often: bool = False) -> list[Any]:
        """What may stand at that path, another than what does: records in their simplest form.

        often: only what is no rare value.
        """
        field = fields.at(raw, path)
        if field is None:
            return []
        simplest = _Drawing(lambda count: 0)
        found: list[Any] = [] if field.default is msgspec.NODEFAULT or _is_record(field) else [field.default]
        for choice in field.choices:
            match choice.type:
                case inspect.StructType():
                    found.append(simplest.record(choice.type))
                case inspect.StrType():
                    # Texts are drawn right at once.
                    pass
                case inspect.VarTupleType():
                    item = fields.item(choice)
                    assert item is not None
                    sizes = {1, *(size for size in self._sizes if size in LENGTHS)}
                    found += [[simplest._value(item, {})] * size for size in sorted(sizes)]
                case _:
                    found += _usual(choice)
                    found += [] if often else [*self._permitted(choice), *_rare(choice)]
                    found += _asked(raw, path) if isinstance(choice.type, inspect.IntType) else []
        standing = _at(raw, path)
        distinct = [value for number, value in enumerate(found) if value not in found[:number]]
        return [value for value in distinct if not _same(value, standing)]

    def _value(self, field: Field, record: Raw) -> Any:
        """A field's value. record: what has been drawn of its record so far."""
        choices = field.choices
        has_default = field.default is not msgspec.NODEFAULT and not _is_record(field)
        one = choices[0] if has_default and len(choices) == 1 else None
        if one and (fields.item(one) or len(_usual(one)) > 1) and self._choose(2) == 0:
            return field.default
        often, seldom = ([each for each in choices if each.rare == rare] for rare in (False, True))
        choice = self._seldom(often, seldom) if often else self._one(seldom)
        match choice.type:
            case inspect.StructType():
                return self.record(choice.type)
            case inspect.StrType():
                return self._text(choice, record)
            case inspect.NoneType():
                return None
            case inspect.VarTupleType():
                return self._list(choice)
        usual = [value for value in _usual(choice) if not (has_default and _same(value, field.default))]
        value = self._seldom([*usual, *self._coincidences(choice)] or [field.default], _rare(choice))
        if isinstance(choice.type, inspect.IntType):
            self._sizes.append(value)
        return value

    def _list(self, field: Field) -> list[Any]:
        """One item or two, or as many as some size that is there already."""
        item = fields.item(field)
        assert item is not None, field.name
        count = self._one([1, 2, *(size for size in self._sizes if size in LENGTHS)])
        return [self._value(item, {}) for _ in range(count)]

    def _text(self, field: Field, record: Raw) -> str:
        said = field.typical
        assert said is not None, field.name
        if not said.letters_of:
            text = str(self._one(said.values))
        elif said.as_long_as:
            text = "".join(self._one(record[said.letters_of]) for _ in record[said.as_long_as])
        else:
            length = self._one([*LENGTHS, *(size for size in self._sizes if size in LENGTHS)])
            text = "".join(self._one(record[said.letters_of]) for _ in range(length))
        self._sizes.append(len(text))
        return text

    def _permitted(self, field: Field) -> list[int]:
        """Every size that is there already: what has to be equal may be rare."""
        return self._sizes if isinstance(field.type, inspect.IntType) else []

    def _coincidences(self, field: Field) -> list[int]:
        """Sizes that are there already and that the field may take too; several times what is there several times."""
        if not isinstance(field.type, inspect.IntType):
            return []
        known = [value for value in _usual(field) if isinstance(value, int)]
        return [size for size in self._sizes if min(known) <= size <= max(known)]

    def _seldom(self, often: Sequence[Any], rare: Sequence[Any]) -> Any:
        """One of the first, or one time in RARELY one of the second: by a single choice, so that none is shorter."""
        if not rare:
            return self._one(often)
        index = self._choose(len(often) * RARELY)
        past = index - len(often) * (RARELY - 1)
        return often[index % len(often)] if past < 0 else rare[past % len(rare)]

    def _one(self, options: Sequence[Any]) -> Any:
        return options[self._choose(len(options))] if len(options) > 1 else options[0]


LENGTHS = range(1, 10)
"""Characters of a text."""


def _usual(field: Field) -> list[Any]:
    """What a field that is no record takes."""
    match field.type:
        case inspect.BoolType():
            return [False, True]
        case inspect.LiteralType(values=values):
            first = field.typical.values if field.typical else ()
            return sorted(values, key=lambda value: value not in first)
        case inspect.NoneType():
            return [None]
        case inspect.IntType() | inspect.FloatType():
            if field.typical is None or not field.typical.values:
                raise TypeError(f"{field.name}: expected typical values beside the field, see spec.typical, got none")
            return list(field.typical.values)
    raise TypeError(f"{field.name}: expected a type that can be drawn, got {field.type}")


def _rare(field: Field) -> list[Any]:
    number = isinstance(field.type, inspect.IntType | inspect.FloatType)
    return list(field.typical.rare) if number and field.typical else []


def _is_record(field: Field) -> bool:
    return any(isinstance(choice.type, inspect.StructType) for choice in field.choices)


def _is(choice: Field, value: Raw) -> bool:
    return isinstance(choice.type, inspect.StructType) and choice.tag in (None, value.get("name"))


def _same(one: Any, two: Any) -> bool:
    """Whether both are the same value; of records, whether they are of one kind."""
    if isinstance(one, dict) and isinstance(two, dict):
        return one.get("name") == two.get("name")
    return type(one) is type(two) and one == two


def _at(raw: Raw, path: Iterable[str]) -> Any:
    value: Any = raw
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _with(raw: Raw, path: Sequence[str], value: Any) -> Raw:
    """A copy with another value at that path."""
    first, *rest = path
    inner = raw.get(first)
    return {**raw, first: _with(inner if isinstance(inner, dict) else {}, rest, value) if rest else value}
