"""report.json and report-details.json.gz: everything that a run found, for other programs. See docs/report.md.

Rows that are many are written as columns, with an entry for each row. The types of both files are made of the report's
own, so that a field stands in one place alone.
"""

import functools
import gzip
import inspect
import itertools
import math
import operator
import types
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import msgspec

from crosscheck.comparison import Comparison, DifferenceGrowth, Evidence
from crosscheck.report.model import SCHEMA_VERSION, Cause, ReportCell, ReportSubject, RunReport
from spec import files, text
from spec.errors import UsageError

NAME = "report.json"

DETAILS = "report-details.json.gz"
"""Beside it: every comparison."""

SHOWN = 20
"""Failures of a subject that report.json has; the others are among the details."""

LARGEST = 10**9
"""Bytes of a file that is read, packed and unpacked."""

SHORT = 80
"""Characters of what stands in the place of a version."""

LEVEL = 3
"""Of compression, of 9: the highest makes a tenth less of it, and takes six times as long."""

Number = float | str
"""A float as JSON has it: one that is not finite is "inf", "-inf" or "nan"."""


@functools.cache
def _of_file(kind: Any) -> Any:
    """The type as files have it."""
    if kind is float:
        return Number
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _record(kind.__name__, kind)
    origin = get_origin(kind)
    inner = tuple(map(_of_file, get_args(kind)))
    if origin is not None and origin in (list, dict, tuple):
        made: Any = origin
        return made[inner]
    return functools.reduce(operator.or_, inner) if origin in (Union, types.UnionType) else kind


def _record(name: str, rows: type[msgspec.Struct], replaced: Mapping[str, Any] | None = None) -> Any:
    """The same record as files have it. replaced: other types, and further fields; None to leave one out.

    What has a default may be missing where a file is read, which an earlier version wrote; each that is written has it.
    """
    fields: dict[str, Any] = {
        field.name: (_of_file(field.type), *_default(field)) for field in msgspec.structs.fields(rows)
    }
    fields |= {name: (kind,) if kind is not None else None for name, kind in (replaced or {}).items()}
    kept = [(name, *known) for name, known in fields.items() if known is not None]
    return _defined(name, kept, _words(rows))


def _default(field: msgspec.structs.FieldInfo) -> tuple[Any, ...]:
    """What stands for a field that is missing, if anything does."""
    if field.required:
        return ()
    return (None,) if field.default is msgspec.NODEFAULT else (field.default,)


def _columns(name: str, rows: type[msgspec.Struct], first: Mapping[str, Any], *without: str) -> Any:
    """Such rows as columns. first: those that come before. without: fields that are no column."""
    fields = [
        (f.name, list[_of_file(f.type)], *([] if f.required else [msgspec.field(default_factory=list)]))
        for f in msgspec.structs.fields(rows)
        if f.name not in without
    ]
    own = [(key, list[kind]) for key, kind in first.items()]
    kept = [*own, *(field for field in fields if field[0] not in first)]
    return _defined(name, kept, f"Columns, an entry for each row. {_words(rows)}")


def _words(rows: type[msgspec.Struct]) -> str:
    """What a schema says of a record: of the report's own all, of others where that stands."""
    if rows.__module__ in (RunReport.__module__, Comparison.__module__):
        return inspect.cleandoc(rows.__doc__ or "")
    return f"See {rows.__module__}.{rows.__name__}."


def _defined(name: str, fields: Sequence[tuple[Any, ...]], words: str) -> Any:
    return msgspec.defstruct(name, fields, frozen=True, kw_only=True, namespace={"__doc__": words})


APART = ("experiment", "growth", "evidence", "traceback")
"""Of a comparison: the subject stands for the first, few have the others."""

SubjectColumns = _columns("Subjects", ReportSubject, {}, "cells", "comparisons")
CellColumns = _columns("Cells", ReportCell, {"subject": int})
ComparisonColumns = _columns("Comparisons", Comparison, {"subject": int}, *APART)
GrowthColumns = _columns("Growths", DifferenceGrowth, {"comparison": int})
EvidenceColumns = _columns("Evidence", Evidence, {"comparison": int})

CauseOfFile = _record("Cause", Cause, {"comparison": None, "failure": int | None})

ReportFile = _record(
    "Report",
    RunReport,
    {
        "subjects": SubjectColumns,
        "cells": CellColumns,
        "causes": list[CauseOfFile],
        "failures": ComparisonColumns,
    },
)
"""report.json. `subject` and `failure` are places in `subjects` and in `failures`, from 0."""

DetailsFile = _defined(
    "Details",
    [
        ("schema_version", int),
        ("made", str),
        ("comparisons", ComparisonColumns),
        ("growths", GrowthColumns),
        ("evidence", EvidenceColumns),
        ("tracebacks", _defined("Tracebacks", [("comparison", list[int]), ("traceback", list[str])], "Columns.")),
    ],
    "Every comparison of the run of that time, as columns. `comparison` is a place among them, from 0.",
)
"""report-details.json.gz, unpacked."""


def render(report: RunReport) -> bytes:
    """report.json."""
    failures: list[tuple[int, Comparison]] = []
    for number, subject in enumerate(report.subjects):
        failed = (comparison for comparison in subject.comparisons if comparison.failed)
        failures += ((number, comparison) for comparison in itertools.islice(failed, SHOWN))
    causes = []
    names = {subject.name: number for number, subject in enumerate(report.subjects)}
    for cause in report.causes:
        place = None
        if cause.comparison is not None:
            place = next((n for n, (_, one) in enumerate(failures) if one is cause.comparison), len(failures))
            if place == len(failures):
                failures.append((names[cause.example], cause.comparison))
        fields = msgspec.to_builtins(msgspec.structs.replace(cause, comparison=None))
        del fields["comparison"]
        causes.append({**fields, "failure": place})
    cells = [(number, cell) for number, subject in enumerate(report.subjects) for cell in subject.cells]
    rest = msgspec.structs.replace(report, subjects=[], causes=[])
    return (
        encode(
            {
                **msgspec.to_builtins(rest),
                "causes": causes,
                "subjects": _put(SubjectColumns, report.subjects),
                "cells": _put(CellColumns, [cell for _, cell in cells], subject=[number for number, _ in cells]),
                "failures": _compared(failures),
            }
        )
        + b"\n"
    )


def details(report: RunReport) -> bytes:
    """report-details.json.gz."""
    rows = [(number, one) for number, subject in enumerate(report.subjects) for one in subject.comparisons]
    apart = {
        name: [(place, getattr(one, name)) for place, (_, one) in enumerate(rows) if getattr(one, name)]
        for name in ("growth", "evidence", "traceback")
    }
    places = {name: [place for place, _ in found] for name, found in apart.items()}
    values = {name: [value for _, value in found] for name, found in apart.items()}
    encoded = encode(
        {
            "schema_version": SCHEMA_VERSION,
            "made": report.made,
            "comparisons": _compared(rows),
            "growths": _put(GrowthColumns, values["growth"], comparison=places["growth"]),
            "evidence": _put(EvidenceColumns, values["evidence"], comparison=places["evidence"]),
            "tracebacks": {"comparison": places["traceback"], "traceback": values["traceback"]},
        }
    )
    return gzip.compress(encoded, LEVEL, mtime=0)


def _compared(rows: Sequence[tuple[int, Comparison]]) -> dict[str, list[Any]]:
    return _put(ComparisonColumns, [one for _, one in rows], subject=[number for number, _ in rows])


def _put(kind: Any, rows: Sequence[Any], **first: list[int]) -> dict[str, list[Any]]:
    """Rows as columns of that type."""
    names = [name for name in kind.__struct_fields__ if name not in first]
    values = zip(*map(operator.attrgetter(*names), rows), strict=True) if rows else ([] for _ in names)
    return {**first, **dict(zip(names, map(list, values), strict=True))}


def read(path: Path) -> RunReport:
    """The report in a file, or in a directory of one; comparisons are those of the details, where these lie beside it.

    Raises UsageError where that is no report, of another version, or where the details are another run's.
    """
    file = path / NAME if path.is_dir() else path
    try:
        return _read(file)
    except (msgspec.MsgspecError, LookupError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{file}: expected a report, got {text.exception(error)}") from None


def _read(file: Path) -> RunReport:
    content = files.read(file, LARGEST)
    if not content.strip():
        raise UsageError(f"{file}: expected a report, got an empty file")
    found = _decoded(file, content, ReportFile)
    names = found["subjects"]["name"]
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise UsageError(f"{file}: expected each subject once, got {text.visible(repeated[0])} again")
    comparisons: list[list[Comparison]] = [[] for _ in names]
    failures = _comparisons(found.pop("failures"), names)
    beside = file.with_name(DETAILS)
    if beside.exists():
        for number, one in _detailed(beside, found):
            comparisons[number].append(one)
    cells: list[list[Any]] = [[] for _ in names]
    for row in _rows(found.pop("cells")):
        _at(cells, row.pop("subject")).append(row)
    found["subjects"] = [{**row, "cells": own} for row, own in zip(_rows(found["subjects"]), cells, strict=True)]
    places = [cause.pop("failure") for cause in found["causes"]]
    report = msgspec.convert(found, RunReport, strict=False)
    of = [_at(failures, place)[1] if place is not None else None for place in places]
    return msgspec.structs.replace(
        report,
        subjects=[
            msgspec.structs.replace(subject, comparisons=own)
            for subject, own in zip(report.subjects, comparisons, strict=True)
        ],
        causes=[msgspec.structs.replace(cause, comparison=one) for cause, one in zip(report.causes, of, strict=True)],
    )


def _detailed(file: Path, report: Mapping[str, Any]) -> list[tuple[int, Comparison]]:
    packed = files.read(file, LARGEST)
    try:
        unpacker = zlib.decompressobj(wbits=31)
        whole = unpacker.decompress(packed, LARGEST)
    except zlib.error as error:
        raise UsageError(f"{file}: expected gzip, got {error}") from None
    if not unpacker.eof:
        raise UsageError(f"{file}: expected gzip of at most {LARGEST:,} bytes, got more, or one that is cut short")
    found = _decoded(file, whole, DetailsFile)
    if found["made"] != report["made"]:
        raise UsageError(f"{file}: expected the details of the run of {report['made']}, got {found['made']}")
    rows = _comparisons(found["comparisons"], report["subjects"]["name"])
    for key, name, kind in (("growths", "growth", DifferenceGrowth), ("evidence", "evidence", Evidence)):
        for row in _rows(found[key]):
            place = row.pop("comparison")
            number, one = _at(rows, place)
            more = {name: msgspec.convert(row, kind, strict=False)}
            rows[place] = (number, msgspec.structs.replace(one, **more))
    for row in _rows(found["tracebacks"]):
        number, one = _at(rows, row["comparison"])
        rows[row["comparison"]] = (number, msgspec.structs.replace(one, traceback=row["traceback"]))
    return rows


def _decoded(file: Path, content: bytes, kind: Any) -> dict[str, Any]:
    """The file's plain values, which are what that type has."""
    found = msgspec.json.decode(content)
    version = found.get("schema_version") if isinstance(found, dict) else None
    if version != SCHEMA_VERSION:
        raise UsageError(
            f"{file}: expected a report of version {SCHEMA_VERSION}, got {text.admit(repr(version), SHORT)}"
        )
    msgspec.convert(found, kind)
    return found


def _at(rows: Sequence[Any], place: int) -> Any:
    """What stands there; from its end nothing is counted."""
    if not 0 <= place < len(rows):
        raise IndexError(f"a place of {place} among {len(rows)}")
    return rows[place]


def _rows(columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _comparisons(columns: Mapping[str, list[Any]], names: Sequence[str]) -> list[tuple[int, Comparison]]:
    found = []
    for row in _rows(columns):
        number = row.pop("subject")
        found.append((number, msgspec.convert({"experiment": _at(names, number), **row}, Comparison, strict=False)))
    return found


def encode(value: Any, indent: int | None = None) -> bytes:
    """Plain values as JSON that may be printed anywhere: no character of it commands a terminal or a CI system."""
    encoded = msgspec.json.encode(plain(value))
    if indent is not None:
        encoded = msgspec.json.format(encoded, indent=indent)
    return text.of_json(encoded.decode()).encode()


def plain(value: Any) -> Any:
    """The same in what JSON has: numbers that are not finite are strings, and a lone surrogate is written out."""
    match value:
        case dict():
            return {key if key.isascii() else plain(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return value if _is_plain(value) else [plain(item) for item in value]
        case float() if not math.isfinite(value):
            return str(value)
        case str() if not value.isascii():
            return value.encode("utf-8", "backslashreplace").decode()
        case msgspec.Struct():
            return plain(msgspec.to_builtins(value))
        case _:
            return value


def _is_plain(values: Sequence[Any]) -> bool:
    """Whether that can be told of all without looking at each by itself: a column has 90,000 of them."""
    kinds = set(map(type, values)) - {int, bool, types.NoneType}
    if kinds <= {float, str}:
        # A column has few texts, and one number that is not finite makes the sum so.
        texts = {value for value in values if type(value) is str} if str in kinds else ()
        return "".join(texts).isascii() and math.isfinite(sum(value for value in values if type(value) is float))
    if kinds <= {list, tuple}:
        return _is_plain(list(itertools.chain.from_iterable(value for value in values if type(value) in kinds)))
    return False
