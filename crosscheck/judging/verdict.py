"""From two sides' recordings to a verdict on an experiment."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from crosscheck.checks import ESSENTIAL, LADDER, ON_REQUEST, TRAINING, Check, structure
from crosscheck.checks.wanted import Wanted
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.diagnosis import vote
from crosscheck.diagnosis.finding import Blame
from crosscheck.explain import experiments as explain
from crosscheck.explain.explanation import Explanation
from crosscheck.probes.equations import EXACT
from crosscheck.recording.recording import Answer, Recording
from crosscheck.subject import Subject
from spec.framework import Precision

Status = Literal[
    "same", "different", "crashed", "underpowered", "not checked", "left out", "not applicable", "partly checked"
]
"""Of a check on an experiment, or of a whole experiment. left out: a side declares that it has no such option, see
spec.options; not checked: it left something out without that. partly checked: of a whole experiment only."""

WORST_FIRST: tuple[Status, ...] = ("different", "crashed", "underpowered")
"""Of these, one check's status is the whole experiment's."""


class RecordedSide(NamedTuple):
    """What there is of one side: a recording and its arrays, or the reason why there is none.

    reused: whether the recording is an earlier run's.
    """

    name: str
    recording: Recording | None
    arrays: dict[str, np.ndarray]
    lost: str = ""
    reused: bool = False


Sides = tuple[RecordedSide, RecordedSide]


class LeftOut(NamedTuple):
    """What a side raised Unsupported for. declared: its options of the experiment that cover that, see spec.options."""

    case: str
    reason: str
    declared: list[str]


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One check on one experiment.

    ratio: largest difference in units of its bound. comparisons, elements: how many were made, of how many values.
    seconds: what recording it took on either side. shown: whether "same" was shown by tests of equivalence, and is not
    only the want of a difference. needed: where it is underpowered, the members a side that would do; 0 where none is
    known to. declared: where it is left out, by whom and which options: "flax_impl: sparse embedding gradients".
    """

    check: str
    status: Status
    ratio: float | None = None
    comparisons: int = 0
    elements: int = 0
    reason: str = ""
    seconds: tuple[float, float] = (0.0, 0.0)
    shown: bool = False
    needed: int = 0
    declared: list[str] = []


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One experiment. `failures` begins with the first one of the first check that fails, and `blame` and `explanation`
    are about that. explanation: None where nothing was tried. family: of its model, see crosscheck.subject; empty where
    nobody knows what it was."""

    experiment: str
    hash: str
    argument: str
    cells: list[Cell]
    comparisons: list[Comparison]
    blame: Blame | None = None
    explanation: Explanation | None = None
    family: str = ""

    @property
    def failures(self) -> list[Comparison]:
        """What is not within its bound, from the ground up."""
        return [comparison for comparison in self.comparisons if comparison.failed]

    @property
    def status(self) -> Status:
        """What is known of the experiment. Nothing that a side left out makes it the same."""
        found = {cell.status for cell in self.cells}
        for status in WORST_FIRST:
            if status in found:
                return status
        if self.lacking:
            return "partly checked"
        if any(cell.elements for cell in self.cells):
            return "same"
        return "left out" if "left out" in found else "not applicable"

    @property
    def lacking(self) -> str:
        """Why it counts as checked in part only; empty where it does not. What was not asked for is not lacking."""
        asked = [cell for cell in self.cells if cell.status != "not applicable"]
        compared = {cell.check for cell in asked if cell.elements}
        missing = [cell.check for cell in asked if cell.check in ESSENTIAL and cell.status == "not checked"]
        if missing:
            return f"{', '.join(missing)} not checked"
        if not compared and any(cell.status == "not checked" for cell in asked):
            return "nothing compared"
        if compared == {structure.NAME} and len(asked) > 1:
            return f"{structure.NAME} alone compared"
        return ""


def judge(subject: Subject, argument: str, wanted: Wanted, sides: Sides) -> Verdict:
    """Climb the ladder on one experiment. argument: what names it on a command line."""
    climbs = [_climb(subject, check, wanted, sides) for check in LADDER if check.NAME in wanted.checks]
    comparisons = [comparison for _, found in climbs for comparison in found]
    blame = _blame(subject, comparisons, sides)
    return Verdict(
        experiment=subject.name,
        hash=subject.hash,
        argument=argument,
        cells=[cell for cell, _ in climbs],
        comparisons=comparisons,
        blame=blame,
        explanation=_explanation(subject, comparisons, sides, blame),
        family=subject.family,
    )


def settle(experiments: Sequence[Subject], verdicts: Sequence[Verdict], names: Sequence[str]) -> list[Verdict]:
    """Decide what can be decided only once every experiment has been judged: checks that have a `settle`.

    names: of the two sides.
    """
    settled = list(verdicts)
    for check in ON_REQUEST:
        groups = [[c for c in verdict.comparisons if c.check == check.NAME] for verdict in settled]
        decided = check.settle(groups)
        settled = [
            _with(subject, verdict, check, found, names) if found else verdict
            for subject, verdict, found in zip(experiments, settled, decided, strict=True)
        ]
    return settled


def _with(subject: Subject, verdict: Verdict, check: Check, decided: list[Comparison], names: Sequence[str]) -> Verdict:
    """The verdict with that check's comparisons decided anew."""
    rest = iter(decided)
    comparisons = [next(rest) if comparison.check == check.NAME else comparison for comparison in verdict.comparisons]
    cells = [_decided(cell, decided) if cell.check == check.NAME else cell for cell in verdict.cells]
    failure = next((comparison for comparison in comparisons if comparison.failed), None)
    blame = verdict.blame
    if failure is None or failure.check == check.NAME:
        # Such a check draws its own random numbers: no arrays are needed to tell.
        blame = vote.find(subject, comparisons, {name: {} for name in names}, 0)
    return msgspec.structs.replace(verdict, cells=cells, comparisons=comparisons, blame=blame)


def _blame(subject: Subject, comparisons: list[Comparison], sides: Sides) -> Blame | None:
    """Who is wrong at the first failure."""
    failure = next((comparison for comparison in comparisons if comparison.failed), None)
    if failure is None:
        return None
    key = f"{failure.precision}/{failure.check}/{failure.case}/"
    return vote.find(subject, comparisons, {side.name: _arrays(side, key) for side in sides}, _seed(sides))


def _explanation(
    subject: Subject, comparisons: list[Comparison], sides: Sides, blame: Blame | None
) -> Explanation | None:
    """What the first failure looks like."""
    failure = next((comparison for comparison in comparisons if comparison.failed), None)
    if failure is None or blame is None:
        return None
    seconds = sum(side.recording.seconds for side in sides if side.recording)
    prefix = f"{failure.precision}/{failure.check}/"
    answers = [answer for side in sides if side.recording for answer in side.recording.answers]
    cases = dict.fromkeys(answer.case for answer in answers if answer.key.startswith(prefix))
    recorded = {case: {side.name: _arrays(side, f"{prefix}{case}/") for side in sides} for case in cases}
    return explain.explain(subject, failure, blame, recorded, _seed(sides), seconds)


def _seed(sides: Sides) -> int:
    """Of the recordings; they are held to be handed the same inputs."""
    return next((side.recording.seed for side in sides if side.recording), 0)


def _climb(subject: Subject, check: Check, wanted: Wanted, sides: Sides) -> tuple[Cell, list[Comparison]]:
    """One check."""
    chosen: list[Precision] = [precision for precision in check.PRECISIONS if precision in wanted.precisions]
    reason = check.inapplicable(subject) or ("" if chosen else f"runs in {', '.join(check.PRECISIONS)} only")
    if not reason and not any(wanted.cases(subject, check, precision) for precision in chosen):
        reason = f"has no case {wanted.case!r}" if wanted.case else f"asks nothing in {', '.join(chosen)}"
    if reason:
        return Cell(check=check.NAME, status="not applicable", reason=reason), []
    names = (sides[0].name, sides[1].name)
    comparisons: list[Comparison] = []
    left_out: list[LeftOut] = []
    if any(side.lost for side in sides):
        place = Place(subject.name, check.NAME, chosen[0], "", names)
        comparisons = [place.crashed(side.name, side.lost) for side in sides if side.lost]
    else:
        for precision in chosen:
            for case in wanted.cases(subject, check, precision):
                place = Place(subject.name, check.NAME, precision, case, names, _seed(sides))
                found, unsupported = _compare(subject, check, place, sides)
                comparisons += found
                left_out += unsupported
    return _cell(check.NAME, comparisons, left_out, sides), comparisons


def _compare(subject: Subject, check: Check, place: Place, sides: Sides) -> tuple[list[Comparison], list[LeftOut]]:
    """One case: its comparisons, and what a side leaves out."""
    answers = [_answer(side, place) for side in sides]
    named = list(zip(sides, answers, strict=True))
    if absent := [side.name for side, answer in named if answer is None]:
        return [place.failed("", f"never recorded by {' and '.join(absent)}")], []
    given = [(side, answer) for side, answer in named if answer is not None]
    if broken := [(side, answer) for side, answer in given if answer.status == "failed"]:
        return [place.crashed(side.name, answer.reason, answer.traceback) for side, answer in broken], []
    unsteady = [comparison for side, answer in given for comparison in _unsteady(place, side, answer)]
    if left_out := [
        LeftOut(f"{place.precision}, {place.case}", f"{side.name}: {answer.reason}", _declared(subject, check, side))
        for side, answer in given
        if answer.status == "unsupported"
    ]:
        return unsteady, left_out
    (_, one), (_, two) = given
    if check.SAME_INPUTS and one.inputs != two.inputs:
        seeds = " and ".join(str(side.recording.seed) for side in sides if side.recording)
        return [place.failed("", f"the two sides were not handed the same inputs (seeds {seeds})")], []
    found = check.compare(subject, place, *(_arrays(side, one.key) for side in sides))
    own = {side.name for side in sides if side.recording is not None and not side.recording.follows_spec}
    found = [comparison for comparison in found if not (comparison.other == EXACT and comparison.alone in own)]
    if not sum(comparison.elements for comparison in found) and all(comparison.passed for comparison in found):
        return [*unsteady, place.failed("", "nothing was compared")], []
    return unsteady + found, []


def _unsteady(place: Place, side: RecordedSide, answer: Answer) -> list[Comparison]:
    """Answers that were others when they were asked for again: a failure on a CPU, and elsewhere said."""
    allowed = side.recording is not None and side.recording.device != "cpu"
    return [place.unsteady(side.name, found, allowed) for found in answer.unsteady]


def _declared(subject: Subject, check: Check, side: RecordedSide) -> list[str]:
    """The options of the experiment that the side says it leaves out, where that covers the check."""
    if check.NAME not in TRAINING or side.recording is None:
        return []
    return [f"{side.name}: {option}" for option in subject.options(side.recording.leaves_out)]


def _cell(check: str, comparisons: list[Comparison], left_out: list[LeftOut], sides: Sides) -> Cell:
    """The check's place in the table."""
    cell = Cell(
        check=check,
        status="same",
        comparisons=len(comparisons),
        elements=sum(comparison.elements for comparison in comparisons),
        seconds=(_seconds(sides[0], check), _seconds(sides[1], check)),
    )
    if (left_out or not comparisons) and not any(comparison.failed for comparison in comparisons):
        # Also where the other cases agree: half a check is not a pass.
        covered = bool(left_out) and all(entry.declared for entry in left_out)
        return msgspec.structs.replace(
            cell,
            status="left out" if covered else "not checked",
            reason=_reasons(left_out, bool(comparisons)),
            ratio=_largest(comparisons),
            declared=list(dict.fromkeys(text for entry in left_out for text in entry.declared)) if covered else [],
        )
    return _decided(cell, comparisons)


def _decided(cell: Cell, comparisons: list[Comparison]) -> Cell:
    """The cell with the status that its comparisons give it."""
    failures = [comparison for comparison in comparisons if comparison.failed]
    open_still = [comparison for comparison in comparisons if comparison.underpowered]
    judged = [c for c in comparisons if c.evidence is not None and not c.evidence.control]
    status: Status = "same"
    if failures:
        status = "crashed" if all(comparison.crashed for comparison in failures) else "different"
    elif open_still:
        status = "underpowered"
    needed = [c.evidence.needed for c in open_still if c.evidence is not None]
    return msgspec.structs.replace(
        cell,
        status=status,
        reason=next((comparison.note for comparison in failures or open_still), ""),
        ratio=_largest(judged or comparisons),
        shown=bool(judged),
        needed=max(needed) if needed and all(needed) else 0,
    )


def _largest(comparisons: list[Comparison]) -> float | None:
    return max((comparison.ratio for comparison in comparisons if comparison.ratio is not None), default=None)


def _reasons(left_out: list[LeftOut], partly: bool) -> str:
    """Why cases were left out; which ones, where others were not."""
    reasons = dict.fromkeys(entry.reason for entry in left_out)
    if not partly:
        return "; ".join(reasons)
    cases = {reason: "; ".join(entry.case for entry in left_out if entry.reason == reason) for reason in reasons}
    return "; ".join(f"{reason} ({which})" for reason, which in cases.items())


def _answer(side: RecordedSide, place: Place) -> Answer | None:
    asked = (place.check, place.precision, place.case)
    answers = side.recording.answers if side.recording else []
    return next((a for a in answers if (a.check, a.precision, a.case) == asked), None)


def _arrays(side: RecordedSide, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in side.arrays.items() if name.startswith(prefix)}


def _seconds(side: RecordedSide, check: str) -> float:
    answers = side.recording.answers if side.recording else []
    return sum(answer.seconds for answer in answers if answer.check == check)


def cell_text(cell: Cell) -> str:
    """The cell in a few characters: the largest difference in units of its bound where checks measure one."""
    if cell.shown and cell.status in ("same", "different"):
        return f"{cell.status.upper()} {cell.ratio or 0.0:.1f}"
    if cell.status == "underpowered":
        return f"UNDERPOWERED {cell.needed or ''}".strip()
    if cell.status == "same":
        return f"ok {cell.ratio:.0e}" if cell.ratio else "ok"
    return {"different": "FAIL", "crashed": "CRASH", "not applicable": "-"}.get(cell.status, cell.status)
