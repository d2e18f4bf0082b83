"""What came of a pair: a cell for each check, the differences with their places, and the verdict."""

import fnmatch
from typing import Any, Literal, NamedTuple

import msgspec

from crosscheck.comparison import Comparison, StageGrowth
from crosscheck.exit_codes import COULD_NOT_RUN, DIFFERENT, PARTLY_CHECKED, SAME
from crosscheck.explain.explanation import Explanation
from crosscheck.mapping.words import LinkTold

SCHEMA_VERSION = 1

Status = Literal[
    "same",
    "different",
    "expected",
    "not representable",
    "cannot train alike",
    "ambiguous",
    "partly",
    "crashed",
    "not checked",
]


class SourcePlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where on a side: "model.py:31", the module's path and the operation; empty where unknown."""

    source: str = ""
    module: str = ""
    op: str = ""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not the same.

    name: of it, as `expected` in a pair file may have it. check: that found it. text: it in a sentence. kind: the
    status that it gives its cell. first, second: where on both sides, where that is known. index, values: of the
    largest difference, in the first side's layout. size: that, in units of the largest value. expected: the reason that
    the pair gives for it, or empty. explanation: what it looks like; None where nothing was tried.
    """

    name: str
    check: str
    text: str
    kind: Status = "different"
    first: SourcePlace | None = None
    second: SourcePlace | None = None
    index: tuple[int, ...] = ()
    values: tuple[Any, Any] | None = None
    size: float | None = None
    bound: float | None = None
    precision: str = ""
    case: str = ""
    expected: str = ""
    explanation: Explanation | None = None


class CheckCell(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a check.

    ratio: its largest difference in units of the bound. text: what was looked at, or why not. scope: whether it was
    left out because the pair gives nothing for it, which is no lack.
    """

    check: str
    status: Status
    text: str = ""
    ratio: float | None = None
    comparisons: int = 0
    elements: int = 0
    seconds: float = 0.0
    scope: bool = False


class SideTold(msgspec.Struct, frozen=True, kw_only=True):
    """A side in the report."""

    name: str
    kind: str
    leaves: int
    numbers: int
    versions: dict[str, str]


class PairResult(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a run found. See docs/check_your_port.md.

    links: the map, a leaf each. stages: of a forward pass in which the sides part.
    """

    schema_version: int
    pair: str
    sides: tuple[SideTold, SideTold]
    cells: list[CheckCell]
    differences: list[Difference]
    notes: list[str]
    map: dict[str, int]
    map_file: str
    unused: list[str]
    seed: int
    seconds: float
    verdict: str
    exit_code: int
    compared: list[Comparison] = []
    links: list[LinkTold] = []
    stages: StageGrowth | None = None


class PairVerdict(NamedTuple):
    """In words, and as an exit code."""

    words: str
    code: int


def conclude(cells: list[CheckCell], differences: list[Difference], alone: bool) -> PairVerdict:
    """The first that applies: different, could not run, partly checked, the same."""
    found = [one for one in differences if not one.expected and one.kind != "ambiguous"]
    numeric = list(dict.fromkeys(one.check for one in found if one.kind == "different"))
    kinds = [kind for kind in ("not representable", "cannot train alike") if any(one.kind == kind for one in found)]
    if numeric:
        words = f"DIFFERENT in {', '.join(numeric)}" + "".join(f"; {kind}" for kind in kinds)
        return PairVerdict(words, DIFFERENT)
    if kinds:
        computes = any(cell.check == "forward" and cell.status in ("same", "expected") for cell in cells)
        before = "computes alike, " if computes else ""
        return PairVerdict((before + " and ".join(kinds)).upper(), DIFFERENT)
    if crashed := [cell.check for cell in cells if cell.status == "crashed"]:
        return PairVerdict(f"COULD NOT RUN {', '.join(crashed)}", COULD_NOT_RUN)
    if any(one.kind == "ambiguous" and not one.expected for one in differences):
        return PairVerdict(
            "AMBIGUOUS: all that was compared is the same, and would be under another map", PARTLY_CHECKED
        )
    if partly := [
        cell.check for cell in cells if cell.status == "partly" or (cell.status == "not checked" and not cell.scope)
    ]:
        return PairVerdict(f"PARTLY CHECKED: not {', '.join(partly)}", PARTLY_CHECKED)
    asked = sum(cell.status in ("same", "expected") for cell in cells)
    left = [cell.check for cell in cells if cell.scope]
    words = f"THE SAME in {asked} checks"
    known = sum(bool(one.expected) for one in differences)
    words += f", but for {known} expected difference{'s' if known > 1 else ''}" if known else ""
    words += f"; not asked: {', '.join(left)}" if left else ""
    return PairVerdict(words, SAME)


def matched(difference: Difference, expected: dict[str, str]) -> str:
    """The entry of `expected` that a difference answers to: its name, a pattern of it, or its check; or nothing."""
    for entry in expected:
        if entry in (difference.name, difference.check) or fnmatch.fnmatchcase(difference.name, entry):
            return entry
    return ""
