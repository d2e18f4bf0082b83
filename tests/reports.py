"""What a run left in its directory, as plain values."""

from pathlib import Path
from typing import Any

import msgspec

from crosscheck.report import data


def load(directory: Path) -> dict[str, Any]:
    """The report with its details: `experiments` are its subjects, with their comparisons, and `cells` those of a pair;
    empty where there is none."""
    if not (directory / data.NAME).exists():
        return {}
    found = _lists(msgspec.to_builtins(data.read(directory)))
    found["experiments"] = [{**one, "experiment": one["name"]} for one in found["subjects"]]
    if found["kind"] == "pair":
        found["cells"] = found["subjects"][0]["cells"]
    return found


def _lists(value: Any) -> Any:
    """The same as JSON has it, where every sequence is a list."""
    match value:
        case dict():
            return {key: _lists(item) for key, item in value.items()}
        case list() | tuple():
            return [_lists(item) for item in value]
        case _:
            return value
