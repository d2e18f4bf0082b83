"""What a run of explore found, in one record: what its reports are made from, and what the exit code says."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from crosscheck.exit_codes import DIFFERENT, PARTLY_CHECKED, SAME
from crosscheck.explore.coverage import Coverage
from crosscheck.judging.summary import Summary
from crosscheck.judging.verdict import Status, Verdict
from spec.exit_codes import COULD_NOT_RUN

SCHEMA_VERSION = 2
"""Of explore.json; raised when a field changes its meaning or goes away."""

LISTED = 5
"""So many names stand in the verdict, at most."""


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment that both sides were asked about.

    number: its place in the draw of the seed; -1 of one that an earlier run had found failing. nearest: the largest
    difference in units of its bound. left_out: what a side leaves out, and why.
    """

    number: int
    name: str
    hash: str
    status: Status
    seconds: float
    comparisons: int
    elements: int
    nearest: float | None
    left_out: list[str]


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """What was found once or more. experiments: names of all that fail in this way, the one that was shrunk first.

    file: the smallest experiment's. tried: how many experiments shrinking asked about. sizes: choices that the first
    one and the smallest came of.
    """

    check: str
    experiments: list[str]
    smallest: str
    file: str
    toml: str
    tried: int
    sizes: tuple[int, int]


class Explored(msgspec.Struct, frozen=True, kw_only=True):
    """A run. summary: of the smallest experiments that fail, as a comparison has it, with the run's verdict.

    interrupted: whether it was ended before its time.
    """

    schema_version: int
    seed: int
    seconds: float
    exit_code: int
    verdict: str
    interrupted: bool
    looked: list[Looked]
    failures: list[Failure]
    coverage: Coverage
    summary: Summary


def looked(number: int, verdict: Verdict, seconds: float) -> Looked:
    """What is remembered of an experiment."""
    return Looked(
        number=number,
        name=verdict.experiment,
        hash=verdict.hash,
        status=verdict.status,
        seconds=seconds,
        comparisons=len(verdict.comparisons),
        elements=sum(comparison.elements for comparison in verdict.comparisons),
        nearest=max((cell.ratio for cell in verdict.cells if cell.ratio is not None), default=None),
        left_out=list(
            dict.fromkeys(cell.reason for cell in verdict.cells if cell.status in ("not checked", "left out"))
        ),
    )


def conclude(found: Sequence[Looked]) -> tuple[int, str]:
    """The exit code and the verdict. What a side leaves out is no failure."""
    total = f"{len(found)} experiment{'s' if len(found) != 1 else ''}"
    partly = sum(bool(one.left_out) for one in found)
    left = f", {partly} of them in part: see what is left out" if partly else ""
    for status, exit_code, word in (("different", DIFFERENT, "DIFFERENT"), ("crashed", COULD_NOT_RUN, "COULD NOT RUN")):
        names = [one.name for one in found if one.status == status]
        if names:
            listed = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
            return exit_code, f"{word}: {len(names)} of {total} ({listed}){left}"
    if not any(one.status == "same" for one in found):
        return PARTLY_CHECKED, f"PARTLY CHECKED: nothing was compared in full in {total}{left}"
    made = sum(one.comparisons for one in found)
    return SAME, f"THE SAME in what was drawn: {total}, {made} comparisons{left}"


def left_out(found: Sequence[Looked]) -> list[tuple[str, int]]:
    """What sides leave out, and in how many experiments; what is left out most first."""
    return Counter(reason for one in found for reason in one.left_out).most_common()
