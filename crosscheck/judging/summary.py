"""A whole run in one record: what the report's formats are made from, and what the exit code says."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import get_args

import msgspec

from crosscheck.checks import BY_DEFAULT
from crosscheck.checks.wanted import Wanted
from crosscheck.comparison import Comparison
from crosscheck.exit_codes import DIFFERENT, PARTLY_CHECKED, SAME, UNDERPOWERED
from crosscheck.judging.verdict import Verdict
from crosscheck.request import DEFAULT_IMPLEMENTATIONS, Options
from spec import experiment as experiments
from spec import text
from spec.convergence import CONVERGENCE
from spec.exit_codes import COULD_NOT_RUN
from spec.framework import Precision


class SideSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One implementation. implementation: what was asked for. seconds: spent in its workers, all together.

    overhead: seconds by kind that did not go into computing: "starting" beside `seconds`, others among them.
    compilations: functions that were compiled there.
    reused: recordings of earlier runs that stand for this one's; no seconds of theirs are in the others.
    """

    name: str
    implementation: str
    describe: dict[str, str]
    machine: dict[str, str]
    seconds: float
    overhead: dict[str, float] = {}
    compilations: int = 0
    reused: int = 0


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A run. directories: of the recordings, where it compared two and recorded nothing itself.

    comparing: seconds of `seconds` in which recordings were read and compared, while workers went on.
    asked: the experiments that were named on the command line; none for all that there are.
    thorough: whether all cases were asked for. seeds: members a side of the ensembles that were asked for.
    """

    sides: list[SideSummary]
    checks: list[str]
    precisions: list[str]
    seed: int
    device: str
    seconds: float
    exit_code: int
    verdict: str
    experiments: list[Verdict]
    directories: list[str] = []
    asked: list[str] = []
    thorough: bool = False
    seeds: int = CONVERGENCE.seeds
    options: Options = Options()
    comparing: float = 0.0

    def reproduce(self, verdict: Verdict, comparison: Comparison) -> str:
        """The one command that makes this comparison again, with the others of its case and no more."""
        which = ["--checks", comparison.check, "--precision", comparison.precision]
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
        words += self.options.words()
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


def conclude(verdicts: Sequence[Verdict], narrowed: bool = False) -> tuple[int, str]:
    """The exit code and the verdict line. narrowed: whether not everything was asked for, see `narrows`."""
    total = _experiments(len(verdicts))
    made = sum(len(verdict.comparisons) for verdict in verdicts)
    left = _left_out(verdicts)
    for status, exit_code, word in (
        ("different", DIFFERENT, "DIFFERENT"),
        ("crashed", COULD_NOT_RUN, "COULD NOT RUN"),
        ("underpowered", UNDERPOWERED, "UNDERPOWERED"),
        ("partly checked", PARTLY_CHECKED, "PARTLY CHECKED"),
    ):
        found = [verdict for verdict in verdicts if verdict.status == status]
        if found:
            names = ", ".join(verdict.experiment for verdict in found[:5]) + (", ..." if len(found) > 5 else "")
            why = _enough(verdicts, status) if status != "partly checked" else f": {_listed(found)}"
            return exit_code, f"{word}: {len(found)} of {total} ({names}){left}{why}"
    same = sum(verdict.status == "same" for verdict in verdicts)
    if not same:
        return PARTLY_CHECKED, f"PARTLY CHECKED: nothing was compared in {total}{left}"
    compared = total if same == len(verdicts) else f"{same} of {total}, nothing to compare in the others"
    return SAME, f"THE SAME{' in what was asked' if narrowed else ''}: {compared}, {made} comparisons{left}"


def narrows(wanted: Wanted, names: Iterable[str]) -> bool:
    """Whether less was asked for than everything: checks, precisions, a case, or experiments. names: of the latter."""
    everything = (
        {check.NAME for check in BY_DEFAULT} <= set(wanted.checks)
        and set(get_args(Precision)) <= set(wanted.precisions)
        and not wanted.case
        and set(experiments.shipped()) <= set(names)
    )
    return not everything


def _experiments(count: int) -> str:
    return f"{count} experiment{'s' if count != 1 else ''}"


def _listed(partly: Sequence[Verdict]) -> str:
    """Why experiments are checked in part only, each reason once."""
    return "; ".join(dict.fromkeys(verdict.lacking for verdict in partly))


def _left_out(verdicts: Sequence[Verdict]) -> str:
    """What sides left out, for the end of the verdict."""
    cells = [cell for verdict in verdicts for cell in verdict.cells]
    unchecked = sum(cell.status == "not checked" for cell in cells)
    said = [f"{unchecked} check{'s' if unchecked != 1 else ''} not checked"] if unchecked else []
    declared = [dict.fromkeys(said for cell in verdict.cells for said in cell.declared) for verdict in verdicts]
    for what, count in Counter(what for each in declared for what in each).items():
        whose = f"{count} experiments'" if count != 1 else "1 experiment's"
        said.append(f"{whose} training left out by {what}")
    return "".join(f", {part}" for part in said)


def _enough(verdicts: Sequence[Verdict], status: str) -> str:
    """How many seeds would settle what is open, where that is what keeps the run from a verdict."""
    cells = [cell for verdict in verdicts for cell in verdict.cells if cell.status == status == "underpowered"]
    if not cells:
        return ""
    if few := [cell.reason for cell in cells if not cell.shown]:
        return f"; {few[0]}"
    needed = max(cell.needed for cell in cells)
    return f"; --seeds {needed} would do for alike sides" if needed else "; differences seen are about the margins"
