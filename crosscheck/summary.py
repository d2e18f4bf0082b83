"""A whole run in one record: what the report's formats are made from, and what the exit code says."""

from collections.abc import Sequence

import msgspec

from crosscheck.comparison import Comparison
from crosscheck.verdict import Verdict
from spec import text
from spec.convergence import CONVERGENCE
from spec.framework import Recurrence, Settings

SCHEMA_VERSION = 1
"""Of report.json; raised when a field changes its meaning or goes away."""

DEFAULT_IMPLEMENTATIONS = ("torch_impl", "flax_impl")
"""The first is what the other is compared with; neither is assumed to be right."""


class SideSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One implementation. implementation: what was asked for. seconds: spent in its workers, all together.

    overhead: seconds by kind that did not go into computing: "starting" beside `seconds`, others among them.
    reused: recordings of earlier runs that stand for this one's; no seconds of theirs are in the others.
    """

    name: str
    implementation: str
    describe: dict[str, str]
    machine: dict[str, str]
    seconds: float
    overhead: dict[str, float] = {}
    reused: int = 0


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A run. directories: of the recordings, where it compared two and recorded nothing itself.

    comparing: seconds of `seconds` in which recordings were read and compared, while workers went on.
    thorough: whether all cases were asked for. seeds: members a side of the ensembles that were asked for.
    """

    schema_version: int
    sides: list[SideSummary]
    rungs: list[str]
    precisions: list[str]
    seed: int
    device: str
    seconds: float
    exit_code: int
    verdict: str
    experiments: list[Verdict]
    directories: list[str] = []
    thorough: bool = False
    seeds: int = CONVERGENCE.seeds
    recurrence: Recurrence = Settings().recurrence
    compiled: bool = Settings().compiled
    comparing: float = 0.0

    def reproduce(self, verdict: Verdict, comparison: Comparison) -> str:
        """The one command that makes this comparison again, with the others of its case and no more."""
        which = ["--rungs", comparison.rung, "--precision", comparison.precision]
        if comparison.case:
            which += ["--case", comparison.case]
        if self.directories:
            words = ["compare", *self.directories, "--experiments", verdict.experiment, *which]
            return text.command(["python", "-m", "crosscheck", *words])
        words = [verdict.argument, *which]
        names = tuple(side.implementation for side in self.sides)
        if names != DEFAULT_IMPLEMENTATIONS:
            words += ["--implementations", *names]
        if self.seed:
            words += ["--seed", str(self.seed)]
        if self.thorough and not comparison.case:
            # Whatever case it was that ended the process; a case that has a name needs no more.
            words.append("--thorough")
        if self.seeds != CONVERGENCE.seeds:
            words += ["--seeds", str(self.seeds)]
        if self.recurrence != Settings().recurrence:
            words += ["--recurrence", self.recurrence]
        if self.compiled:
            words.append("--compile")
        if self.device != "cpu":
            words += ["--device", self.device]
        return text.command(["python", "-m", "crosscheck", *words])

    @property
    def comparisons(self) -> int:
        """How many comparisons were made."""
        return sum(len(verdict.comparisons) for verdict in self.experiments)

    @property
    def elements(self) -> int:
        """How many values were compared."""
        return sum(c.elements for verdict in self.experiments for c in verdict.comparisons)


def conclude(verdicts: Sequence[Verdict]) -> tuple[int, str]:
    """The exit code and the verdict line."""
    total = f"{len(verdicts)} experiment{'s' if len(verdicts) != 1 else ''}"
    made = sum(len(verdict.comparisons) for verdict in verdicts)
    unchecked = sum(cell.status == "not checked" for verdict in verdicts for cell in verdict.cells)
    left = f", {unchecked} rung{'s' if unchecked != 1 else ''} not checked" if unchecked else ""
    for status, exit_code, word in (
        ("different", 1, "DIFFERENT"),
        ("crashed", 3, "COULD NOT RUN"),
        ("underpowered", 4, "UNDERPOWERED"),
    ):
        found = [verdict.experiment for verdict in verdicts if verdict.status == status]
        if found:
            names = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
            return exit_code, f"{word}: {len(found)} of {total} ({names}){left}{_enough(verdicts, status)}"
    if not made:
        return 3, f"COULD NOT RUN: nothing was checked in {total}{left}"
    return 0, f"THE SAME: {total}, {made} comparisons{left}"


def _enough(verdicts: Sequence[Verdict], status: str) -> str:
    """How many seeds would settle what is open, where that is what keeps the run from a verdict."""
    cells = [cell for verdict in verdicts for cell in verdict.cells if cell.status == status == "underpowered"]
    if not cells:
        return ""
    needed = max(cell.needed for cell in cells)
    return f"; --seeds {needed} would do for alike sides" if needed else "; differences seen are about the margins"
