"""report.json: everything that a run found, for other programs."""

import math
from typing import Any

import msgspec

from crosscheck.summary import Summary


def render(summary: Summary) -> bytes:
    """The report as JSON. Fields are those of crosscheck.summary.Summary; a number that is not finite is a string."""
    plain = msgspec.to_builtins(summary)
    for row, verdict in zip(plain["experiments"], summary.experiments, strict=True):
        row["status"] = verdict.status
        for entry, comparison in zip(row["comparisons"], verdict.comparisons, strict=True):
            entry["headroom"] = comparison.headroom
    plain["comparisons"], plain["elements"] = summary.comparisons, summary.elements
    return msgspec.json.encode(finite(plain)) + b"\n"


def finite(value: Any) -> Any:
    """The same with NaN and infinities as strings, since JSON has no numbers for them."""
    match value:
        case dict():
            return {key: finite(item) for key, item in value.items()}
        case list() | tuple():
            return [finite(item) for item in value]
        case float() if not math.isfinite(value):
            return str(value)
        case _:
            return value
