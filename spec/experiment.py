"""An experiment: a model, a task, a recipe and the expected outcome, read from a strict TOML file."""

import copy
import difflib
import hashlib
import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

import msgspec

from spec import files
from spec.errors import SpecError, UsageError
from spec.limits import (
    DEEPEST,
    LARGEST_ARRAY,
    LARGEST_FILE,
    LARGEST_RUNS,
    LARGEST_STEPS,
    LARGEST_TEXT,
    LONGEST_NAME,
    batch_elements,
)
from spec.models import AnyModel, Embedding
from spec.subject import ExperimentSubject
from spec.tasks import AnyTask
from spec.training import (
    SGD,
    AnyOutcome,
    CrossEntropy,
    ExactMatch,
    Learns,
    LearnsSometimes,
    MeanSquaredError,
    NearLowest,
    NotStated,
    Training,
    Walk,
)
from spec.typical import NOT_DRAWN, typical

SHIPPED = Path(str(resources.files("spec") / "experiments"))
"""Where the experiments that come with ohlol stand."""

DRAWN = SHIPPED / "drawn"
"""Where those stand that `crosscheck explore` drew and every comparison has, with options that the shipped ones never
vary. Files, since what a seed draws changes with every new option of the spec."""

LONG = SHIPPED / "long"
"""Where those stand that train for minutes or hours, and are in no comparison unless they are named."""

COURSE_ROWS = "The course's rows: see the table in docs/experiments.md"
"""Said where descriptions are listed, which name them."""


NAME = re.compile(r"\w[\w +\-.()=,]*")
"""What an experiment may be called."""

RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}
"""Names that Windows keeps for devices, with whatever ending."""

_PART = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')"""
DEEP_KEY = re.compile(rf"(?:^[ \t]*\[{{0,2}}|[{{,])[ \t]*(?:{_PART}[ \t]*\.[ \t]*){{{DEEPEST}}}", re.MULTILINE)
"""A dotted key of too many parts."""


class Experiment(ExperimentSubject, msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that is needed to train one model on one task, and to say whether it worked.

    name: the file's, without its ending. description: one line, for the list. outcome: left out where nobody knows.
    seeds: how many independent runs crosscheck makes on either side to hold the outcome against.
    """

    name: Annotated[str, NOT_DRAWN]
    description: Annotated[str, msgspec.Meta(min_length=1, max_length=LARGEST_TEXT), NOT_DRAWN]
    seeds: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_RUNS), NOT_DRAWN] = 20
    model: Annotated[AnyModel, typical("RNNCell")]
    task: AnyTask
    training: Training
    outcome: Annotated[AnyOutcome, NOT_DRAWN] = NotStated()

    def __post_init__(self) -> None:
        check_name(self.name)
        model, task = self.model, self.task
        if task.indices != isinstance(model.inputs, Embedding):
            expected = "Embedding (the task gives indices)" if task.indices else "Features (the task gives features)"
            raise ValueError(f"model.inputs.name: expected {expected}, got {type(model.inputs).__name__}")
        size = model.inputs.num_embeddings if isinstance(model.inputs, Embedding) else model.inputs.size
        if size != task.input_size:
            key = "num_embeddings" if isinstance(model.inputs, Embedding) else "size"
            raise ValueError(f"model.inputs.{key}: expected {task.input_size}, as the task has, got {size}")
        self._check_targets()
        if model.classes != task.classes:
            raise ValueError(f"model.classes: expected {task.classes}, as the task has, got {model.classes}")
        if model.max_length is not None and model.max_length < task.length:
            raise ValueError(f"model.max_length: expected at least the task's {task.length}, got {model.max_length}")
        if model.reads_once != (task.readout == "last step"):
            raise ValueError(f"model.readout: expected {task.readout!r} for this task, got {model.readout!r}")
        if model.decodes and not task.spells:
            raise ValueError(
                f"task.name: expected {_spelling()} for an {type(model).__name__}, which decodes, "
                f"got {type(task).__name__}"
            )
        if task.transduces and not model.decodes:
            raise ValueError(
                f"model.name: expected one that decodes for {type(task).__name__}, whose targets have lengths of their "
                f"own, got {type(model).__name__}"
            )
        if isinstance(self.outcome, NearLowest) and (not task.has_lowest_loss or self.training.loss not in MEANS):
            raise ValueError(
                f"outcome.name: expected NearLowest for a task that knows its lowest loss, under its mean, got it for "
                f"{type(task).__name__} under {self.training.loss}"
            )
        if task.numeric and type(self.outcome) in (Learns, LearnsSometimes, ExactMatch):
            raise ValueError(
                f"outcome.name: expected LossAtMost, NearLowest or CannotLearn for targets that are numbers, none of "
                f"which is predicted right to the last bit, got {type(self.outcome).__name__}"
            )
        if task.initial_deviation and not model.initial_states(1):
            raise ValueError(
                f"task.initial_deviation: expected 0 for a {type(model).__name__}, which begins with no state, "
                f"got {task.initial_deviation}"
            )
        if task.resets and not model.takes_resets:
            raise ValueError(
                f"model.name: expected one that carries a state from step to step and looks no further, for batches "
                f"within whose sequences something new begins, got {type(model).__name__}"
            )
        if task.streams and not model.hands_on:
            raise ValueError(
                f"task.stream: expected 1 for a {type(model).__name__} that has no state to go on from, or reads from "
                f"the end as well, got {getattr(task, 'stream', None)}"
            )
        if (self.training.epochs == 0) != isinstance(self.outcome, Walk):
            expected = "0 with outcome Walk" if isinstance(self.outcome, Walk) else "at least 1"
            raise ValueError(f"training.epochs: expected {expected}, got {self.training.epochs}")
        self._check_loss()
        self._check_groups()
        self._check_parts()
        self._check_sizes()

    def _check_targets(self) -> None:
        """Raise ValueError for a loss of other targets than the task's."""
        loss, task = self.training.loss, type(self.task).__name__
        if loss.numeric != self.task.numeric:
            expected, targets = ("MeanSquaredError", "numbers") if self.task.numeric else ("CrossEntropy", "classes")
            other = "classes" if self.task.numeric else "numbers"
            asks = f" (task.targets = {other!r} asks for {other})" if hasattr(self.task, "targets") else ""
            raise ValueError(
                f"training.loss.name: expected {expected} for {task}, whose targets are {targets}{asks}, "
                f"got {type(loss).__name__}"
            )

    def _check_loss(self) -> None:
        """Raise ValueError for weights and an ignored class that are not of the model's classes."""
        loss, classes = self.training.loss, self.model.classes
        if not isinstance(loss, CrossEntropy):
            return
        if loss.class_weights is not None and len(loss.class_weights) != classes:
            got = len(loss.class_weights)
            raise ValueError(f"training.loss.class_weights: expected one for each of {classes} classes, got {got}")
        if loss.ignore_index is not None and loss.ignore_index >= classes:
            raise ValueError(f"training.loss.ignore_index: expected a class below {classes}, got {loss.ignore_index}")

    def _check_parts(self) -> None:
        """Raise ValueError for a batch that is not to be cut into the recipe's parts."""
        parts = self.training.accumulate
        if self.task.batch_size % parts:
            raise ValueError(
                f"training.accumulate: expected a divisor of the batch's {self.task.batch_size} sequences, got {parts}"
            )
        if parts > 1 and self.carried:
            raise ValueError(
                f"training.accumulate: expected 1 where states are carried from batch to batch, got {parts}"
            )
        if parts > 1 and self.counts_in_whole_batches:
            raise ValueError(
                f"training.accumulate: expected 1 beside scale_grad_by_freq, which counts in whole batches, got {parts}"
            )

    def _check_groups(self) -> None:
        """Raise ValueError for a group of the recipe that no parameter is in."""
        names = [parameter.name for parameter in self.model.parameters()]
        for group in self.training.groups:
            if not any(self.training.group(name) is group for name in names):
                raise ValueError(
                    f"training.groups: expected patterns that fit a parameter which no group before has "
                    f"({', '.join(names[:3])}, ...), got {group.pattern!r}"
                )

    def _check_sizes(self) -> None:
        """Raise ValueError for products of sizes that are beyond spec.limits."""
        model, task, training = self.model, self.task, self.training
        # A FirstSymbol's are bounded by the task.
        sequences = max(task.batch_size, task.evaluated)
        outputs = sequences * (1 if model.reads_once else task.target_length) * model.classes
        shapes = model.initial_states(task.batch_size).values() if task.initial_deviation else ()
        states = sum(math.prod(shape) for shape in shapes)
        for key, what, got, largest in (
            ("training.epochs", "optimizer steps in all", training.epochs * training.steps_per_epoch, LARGEST_STEPS),
            ("model", "parameters", model.parameter_count, LARGEST_ARRAY),
            ("task.batch_size", "input values in a batch", task.drawn_together * batch_elements(task), LARGEST_ARRAY),
            ("task.batch_size", "values of initial states", task.drawn_together * states, LARGEST_ARRAY),
            ("task.batch_size", "logits of a batch", outputs, LARGEST_ARRAY),
        ):
            if got > largest:
                raise ValueError(f"{key}: expected at most {largest} {what}, got {got}")

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that change with any value of the experiment, and any byte of its data.

        Where the data stand is no matter.
        """
        values = msgspec.to_builtins(self)
        values["task"].pop("path", None)
        return hashlib.sha256(msgspec.json.encode(values, order="sorted")).hexdigest()[:12]

    @property
    def steps_bounded(self) -> bool:
        """Whether a step has a length that no gradient exceeds. Squares have gradients as large as outputs are off, so
        that without a limit SGD may go further astray with every step, up to infinity, whoever computes it."""
        return not (
            self.training.loss.numeric and isinstance(self.training.optimizer, SGD) and self.training.clipping is None
        )

    @property
    def multiplications_per_step(self) -> int:
        """About, of one forward pass over a training batch: each parameter is used once a time step and sequence."""
        return self.task.batch_size * self.task.length * self.model.parameter_count


class Named(Experiment, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An experiment that somebody asked for by its name: nobody else need be there who stands for it."""

    @classmethod
    def of(cls, experiment: Experiment) -> Self:
        return cls(**{field: getattr(experiment, field) for field in experiment.__struct_fields__})

    def stands_for_others(self, kinds: Callable[[Any], Sequence[str]]) -> bool:
        return bool(kinds(self))


MEANS = (CrossEntropy(reduction="mean"), MeanSquaredError(reduction="mean"))
"""The losses of which a task may know the lowest, of classes and of numbers."""


def _spelling() -> str:
    """The tasks that a decoder can learn."""
    return " or ".join(task.__name__ for task in get_args(AnyTask) if task.spells)


def shipped() -> list[str]:
    """Names of the experiments that come with ohlol, in alphabetical order."""
    return named_in(SHIPPED)


def drawn() -> list[str]:
    """Names of the experiments that were drawn, in alphabetical order."""
    return named_in(DRAWN)


def long() -> list[str]:
    """Names of those that train for minutes or hours, in alphabetical order. No comparison takes them unasked."""
    return named_in(LONG)


def named_in(folder: Path) -> list[str]:
    """Names of the experiments of a folder, in alphabetical order."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def load(name: str, beside: Path | None = None) -> Experiment:
    """Load a shipped, drawn or long experiment by name, or any by the path of its TOML file. Raises SpecError.

    beside: a folder of further experiments that are loaded by name.
    """
    path = Path(name)
    if path.suffix != ".toml" and "/" not in name:
        folders = [folder for folder in (beside, SHIPPED, DRAWN, LONG) if folder and name in named_in(folder)]
        if folders:
            path = folders[0] / f"{name}.toml"
        else:
            close = difflib.get_close_matches(name, [*shipped(), *drawn(), *long()], 3)
            hint = f" (close: {', '.join(close)})" if close else " (see --list)"
            raise SpecError(name, "experiment", f"a shipped name or the path of a .toml file{hint}", repr(name))
    try:
        text = files.read(path, LARGEST_FILE).decode()
    except UnicodeDecodeError as error:
        raise SpecError(str(path), "file", "a readable TOML file", str(error)) from None
    except UsageError as error:
        expected, _, got = str(error).removeprefix(f"{path}: ").rpartition(", got ")
        expected = expected.removeprefix("expected ") or "a readable TOML file"
        got = got.removeprefix("cannot be read: ").lower() if got.startswith("cannot be read: ") else got
        raise SpecError(str(path), "file", expected, got) from None
    return parse(text, path.stem, str(path))


def parse(text: str, name: str, file: str = "<text>") -> Experiment:
    """Build an experiment from TOML text. Raises SpecError naming `file`, the key, what was expected, what came."""
    if len(text) > LARGEST_FILE:
        raise SpecError(file, "file", f"at most {LARGEST_FILE} characters", str(len(text)))
    if DEEP_KEY.search(text):
        raise SpecError(file, "file", f"keys of at most {DEEPEST} parts", "a longer one")
    try:
        raw = tomllib.loads(text)
    except ValueError as error:  # The parser's own error is one; so is an integer of too many digits.
        raise SpecError(file, "file", "valid TOML", str(error)) from None
    except RecursionError:
        raise SpecError(file, "file", "valid TOML", "values that are nested too deeply") from None
    if "name" in raw:
        raise SpecError(file, "name", "no such key (the file's name is the experiment's)", repr(raw["name"]))
    task = raw.get("task")
    if isinstance(task, dict) and isinstance(task.get("path"), str) and task["path"]:
        # From here on it is read in whatever folder a process works.
        task["path"] = os.path.abspath(os.path.join(os.path.dirname(file), task["path"]))
    return convert({"name": name, **raw}, file)


def convert(raw: dict[str, Any], file: str) -> Experiment:
    """Build an experiment from plain values. Raises SpecError."""
    try:
        return msgspec.convert(raw, Experiment)
    except msgspec.ValidationError as error:
        key, expected, got = _explain(str(error), raw)
        raise SpecError(file, key, expected, got) from None
    except RecursionError:
        raise SpecError(file, "file", "values of an experiment", "values that are nested too deeply") from None


def to_toml(experiment: Experiment) -> str:
    """The text of the experiment's file, without what stands at its default; its name is the file's."""
    return "\n".join(_lines((), msgspec.to_builtins(experiment), experiment)) + "\n"


def _lines(path: tuple[str, ...], raw: dict[str, Any], record: msgspec.Struct) -> list[str]:
    """A table's keys, and the tables in it."""
    keys = [f"name = {_toml(raw['name'])}"] if path and "name" in raw else []
    tables: list[str] = []
    for field in msgspec.structs.fields(record):
        value, given = getattr(record, field.name), raw[field.encode_name]
        if (not path and field.name == "name") or value is None or value == field.default:
            continue
        inner = (*path, field.encode_name)
        if isinstance(value, msgspec.Struct):
            tables += ["", f"[{'.'.join(inner)}]", *_lines(inner, given, value)]
        elif isinstance(value, tuple) and value and isinstance(value[0], msgspec.Struct):
            for one, plain in zip(value, given, strict=True):
                tables += ["", f"[[{'.'.join(inner)}]]", *_lines(inner, plain, one)]
        else:
            keys.append(f"{field.encode_name} = {_toml(given)}")
    return keys + tables


def _toml(value: str | float | bool | list[float]) -> str:
    """JSON writes numbers, booleans, texts and lists of them as TOML does, but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def check_name(name: str) -> None:
    """Raise ValueError unless that can be an experiment's name, and so a part of paths on any system."""
    if not NAME.fullmatch(name) or len(name.encode(errors="replace")) > LONGEST_NAME:
        expected = f"letters, digits and any of ' +-._()=,', the first no sign, {LONGEST_NAME} bytes at most"
    elif name.endswith((".", " ")):
        expected = "a name that ends in neither a dot nor a space"
    elif name.partition(".")[0].strip().lower() in RESERVED:
        expected = "a name that no system has for a device"
    else:
        return
    raise ValueError(f"name: expected {expected}, got {name!r}")


def override(experiment: Experiment, **changes: Any) -> Experiment:
    """A copy with other values, checked like a file; keys are dotted paths with "__" for the dot."""
    raw = msgspec.to_builtins(experiment)
    for path, value in changes.items():
        *parents, last = path.split("__")
        table, record = raw, experiment
        for parent in parents:
            table, record = table[parent], getattr(record, parent, None)
        if last == "name" and isinstance(record, msgspec.Struct):
            # Another kind of record need not have what nobody asked for of this one.
            for field in msgspec.structs.fields(record):
                if getattr(record, field.name) == field.default:
                    table.pop(field.encode_name, None)
        table[last] = value
    return convert(raw, experiment.name)


def _explain(message: str, raw: dict[str, Any]) -> tuple[str, str, str]:
    """(key, expected, got) out of msgspec's message, which names a place but not what stands there."""
    message, path = _place(message)
    if ours := OURS.fullmatch(message):
        return ".".join([*path, ours[1]]), ours[2], ours[3]
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", message, re.DOTALL):
        known = [field.encode_name for table in _tables(path, raw) for field in msgspec.structs.fields(table)]
        close = difflib.get_close_matches(unknown[1], known, 1)
        hint = f"{close[0]!r}?" if close else ", ".join(known)
        return ".".join([*path, unknown[1]]), f"a key that exists ({hint})", "an unknown key"
    if missing := re.fullmatch(r"Object missing required field `(.*)`", message):
        return ".".join([*path, missing[1]]), "a value", "nothing"
    got = _lookup(path, raw)
    if message.startswith("Invalid "):
        known = _allowed(path, raw)
        return ".".join(path), f"one of {', '.join(known)}" if known else "a known value", repr(got)
    expected = re.sub(r"^Expected ", "", message).split(", got ")[0].replace("`", "")
    return ".".join(path) or "file", expected, repr(got)


OURS = re.compile(r"([\w.]+): expected (.*), got (.*)", re.DOTALL)
"""What a `__post_init__` says of a key of its table."""


def _place(message: str) -> tuple[str, list[str]]:
    """msgspec's message without the place that it names, and the keys that lead there."""
    message, _, place = message.partition(" - at `$")
    return message, [part for part in re.split(r"[.\[\]]+", place.rstrip("`")) if part and part != "..."]


def _lookup(path: list[str], raw: Any) -> Any:
    for part in path:
        if isinstance(raw, list | tuple):
            raw = raw[int(part)] if part.isdecimal() and int(part) < len(raw) else None
        else:
            raw = raw[part] if isinstance(raw, dict) and part in raw else None
    return raw


def _parts(declared: Any) -> list[Any]:
    """The types that a declared one is made of, without unions and annotations."""
    if isinstance(declared, type) or get_origin(declared) is Literal:
        return [declared]
    inner = get_args(declared)[:1] if get_origin(declared) is Annotated else get_args(declared)
    return [part for each in inner for part in _parts(each)]


def _declared(path: list[str], raw: Any) -> list[Any]:
    """The types of what may stand at `path`: of the one table at each key before it that its name says."""
    if path[-1].isdecimal():
        # One of a list: what its items may be is said where the list is declared.
        return _declared(path[:-1], raw)
    tables = _tables(path[:-1], raw)
    fields = [field for table in tables for field in msgspec.structs.fields(table) if field.encode_name == path[-1]]
    return [part for field in fields for part in _parts(field.type)]


def _tables(path: list[str], raw: Any) -> list[Any]:
    """The tables that may stand at `path`: the one that its name says, all where it says none of them."""
    tables = [t for t in _declared(path, raw) if hasattr(t, "__struct_config__")] if path else [Experiment]
    name = _lookup([*path, "name"], raw)
    return [table for table in tables if table.__struct_config__.tag == name] or tables


def _allowed(path: list[str], raw: dict[str, Any]) -> list[str]:
    """The choices at `path`, a table's `name` or a value, that the rest of the file allows."""
    *before, last = path
    tags = [table.__struct_config__.tag for table in _tables(before, raw)] if last == "name" else []
    choices = sorted(tags) or [choice for part in _declared(path, raw) for choice in get_args(part)]
    return [choice for choice in choices if not _refused(path, raw, choice)] or choices


def _refused(path: list[str], raw: dict[str, Any], choice: str) -> bool:
    """Whether another key forbids this choice."""
    changed = copy.deepcopy(raw)
    _lookup(path[:-1], changed)[path[-1]] = choice
    try:
        msgspec.convert(changed, Experiment)
    except msgspec.ValidationError as error:
        message, place = _place(str(error))
        ours = OURS.fullmatch(message)
        return ours is not None and [*place, *ours[1].split(".")] == path
    return False
