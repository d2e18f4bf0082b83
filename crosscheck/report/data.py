"""report.json: everything that a run found, for other programs."""

import math
from typing import Any

import msgspec

from crosscheck.judging.summary import Summary
from spec import text


def render(summary: Summary) -> bytes:
    """The report as JSON. Fields are those of crosscheck.judging.summary.Summary; a number that is not finite is a
    string."""
    entries = msgspec.to_builtins(summary)
    for row, verdict in zip(entries["experiments"], summary.experiments, strict=True):
        row["status"] = verdict.status
        for entry, comparison in zip(row["comparisons"], verdict.comparisons, strict=True):
            entry["headroom"] = comparison.headroom
    entries["comparisons"], entries["elements"] = summary.comparisons, summary.elements
    return encode(entries) + b"\n"


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
            return [plain(item) for item in value]
        case float() if not math.isfinite(value):
            return str(value)
        case str() if not value.isascii():
            return value.encode("utf-8", "backslashreplace").decode()
        case _:
            return value
