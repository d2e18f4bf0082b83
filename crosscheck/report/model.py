"""What a run came to, in one record of which every rendering is made: nothing is judged, grouped or counted after it.

`crosscheck.report.experiments.report_of` makes it of a comparison's `Summary`, `crosscheck.pair.report.report_of` of
a `PairResult`: an experiment is a subject there, and a pair the only one. `crosscheck.report.data` writes it as
report.json and reads it again.

What a page shows, and where it stands:

| on the page | here |
|---|---|
| verdict, exit code, the command that runs it again | `RunReport.verdict`, `status`, `exit_code`, `command` |
| environment and versions | `RunReport.sides`: `versions`, `machine`; `RunReport.device`, `seed`, `made` |
| what is wrong, by cause | `RunReport.causes`, in the order in which to read them |
| the matrix of subjects and checks | `RunReport.checks` x `RunReport.subjects`, `ReportSubject.cell(check)` |
| from a cell to its cause | `ReportCell.causes`, places in `RunReport.causes` |
| how a difference grows from stage to stage | `Cause.growth` |
| losses of both sides, differences against bounds over steps | `ReportSubject.growths()`: comparisons with a `growth` |
| parameters x steps | the same: `growth.difference` over `growth.bound`, a row for each tensor |
| ensembles | `RunReport.endpoints`, `RunReport.speeds` |
| a pair's map and what became of it | `RunReport.map` |

All texts are bounded and may hold anything: whoever shows one takes the power out of it for their format.
"""

from collections.abc import Iterator
from typing import Literal

import msgspec

from crosscheck.comparison import Comparison, DifferenceGrowth, StageGrowth, Value
from crosscheck.diagnosis.finding import Blame
from crosscheck.explain.explanation import Explanation
from crosscheck.mapping.words import LinkTold
from crosscheck.request import Options

SCHEMA_VERSION = 4
"""Of report.json; raised when a field changes its meaning or goes away."""

Kind = Literal["experiments", "pair"]

ReportStatus = Literal[
    "same",
    "different",
    "crashed",
    "underpowered",
    "partly checked",
    "not checked",
    "left out",
    "not applicable",
    "not representable",
    "cannot train alike",
    "ambiguous",
    "expected",
    "not asked",
]
"""Of a check, a subject, a cause or a run. The first eight are those of crosscheck.judging.verdict, the others a
pair's: expected: it differs as the pair says it does; not asked: the pair gives nothing for it, or it builds on what
differs, which is no lack."""

FAILING: tuple[ReportStatus, ...] = ("different", "not representable", "cannot train alike", "crashed")
"""What is known to be wrong."""

OPEN: tuple[ReportStatus, ...] = ("underpowered", "ambiguous", "partly checked")
"""What keeps a run from "the same" without being known to be wrong."""


class SourceLine(msgspec.Struct, frozen=True, kw_only=True):
    """A place in somebody's source.

    side: whose. file: relative to the working directory where it is below that, else absolute; of a pair as it was
    written, and empty where it is not known, which no cause's is. line: from 1; 0 where it is not known. name: of the
    class, the function, the module or the operation there.
    """

    side: str
    file: str
    line: int = 0
    name: str = ""

    @property
    def where(self) -> str:
        """As compilers have it."""
        return f"{self.file}:{self.line}" if self.line else self.file


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is known, with its name: "difference", "at fault", "looks like"."""

    name: str
    text: str


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Failures that are one and the same, or one reason why a run is not "the same".

    title: it in a line, such as "every GRU, forward, from rnn.h_l0 on: 4 experiments; LSTM, RNN fine". status: what it
    does to its subjects. check: the lowest that fails. subjects: those that have it, by name, in the report's order.
    families: their kinds of model; whole: those of them of which every subject has it; fine: families that this check
    was asked of too and found nothing in. at_fault: a side's name, "both", "undecided", or empty where nobody was
    asked; reason: how that was found. stage: what of the computation is wrong in itself, or the tensor where nobody
    knows. looks_like: the known variant that it looks like, empty where none does; tried: those that were tried in
    vain. sources: where to look, of the side at fault. example: the subject that `facts`, `comparison`, `traceback`,
    `also` and `reproduce` are of, the smallest. reproduce: the command that makes it again, and no more. failures:
    comparisons that failed, in all subjects. later: checks that fail above this one in them, which may follow from it.
    also: further failures of the example, each in a line; more: how many are not among them. growth: of the difference
    over the stages of the example, where the check goes from one to the next.
    """

    title: str
    status: ReportStatus
    check: str
    subjects: list[str]
    families: list[str] = []
    whole: list[str] = []
    fine: list[str] = []
    at_fault: str = ""
    reason: str = ""
    stage: str = ""
    looks_like: str = ""
    tried: list[str] = []
    sources: list[SourceLine] = []
    example: str = ""
    facts: list[Fact] = []
    comparison: Comparison | None = None
    traceback: str = ""
    reproduce: str = ""
    failures: int = 0
    later: list[str] = []
    also: list[str] = []
    more: int = 0
    growth: StageGrowth | None = None


class ReportCell(msgspec.Struct, frozen=True, kw_only=True):
    """One check on one subject. ratio: the largest difference in units of its bound.

    comparisons, elements: how many were made, of how many values. reason: why it is not the same, or what was looked
    at. note: what a status does not say by itself, such as an "ok" beside failures. seconds: of either side's
    recording; the first alone where only the whole is known. shown: whether "same" was shown by tests of equivalence.
    needed: members a side that would do, where it is underpowered. causes: places in `RunReport.causes` of what is
    wrong here.
    """

    check: str
    status: ReportStatus
    ratio: float | None = None
    comparisons: int = 0
    elements: int = 0
    reason: str = ""
    note: str = ""
    seconds: tuple[float, float] = (0.0, 0.0)
    shown: bool = False
    needed: int = 0
    causes: list[int] = []


class ReportSubject(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment, or the pair. family: its kind of model, such as "GRU"; empty where nobody says.

    cells: a check each, in the order of `RunReport.checks`. argument: what names it on a command line. failures:
    comparisons that failed; blame and explanation: of the first. causes: places in `RunReport.causes`. batches: by
    precision the hash of what both sides were trained on, of the first `steps` steps; none where it is not known to be
    the same. comparisons: all that were made, or those that a pair keeps; in files, those of report-details.json.gz.
    """

    name: str
    status: ReportStatus
    cells: list[ReportCell]
    family: str = ""
    hash: str = ""
    argument: str = ""
    failures: int = 0
    blame: Blame | None = None
    explanation: Explanation | None = None
    causes: list[int] = []
    batches: dict[str, str] = {}
    steps: int = 0
    comparisons: list[Comparison] = []

    def cell(self, check: str) -> ReportCell | None:
        """That check's."""
        return next((cell for cell in self.cells if cell.check == check), None)

    def growths(self) -> Iterator[tuple[Comparison, DifferenceGrowth]]:
        """Comparisons over optimizer steps, with how they went. The losses are those of tensor "loss"."""
        yield from ((each, each.growth) for each in self.comparisons if each.growth is not None)


class ReportSide(msgspec.Struct, frozen=True, kw_only=True):
    """One side. given: what was asked for, a module, a path or a kind of model. versions, machine: what it runs on.

    seconds: in its workers; overhead: by kind, of what was no computing. compilations: functions that were compiled
    there. reused: recordings of an earlier run.
    leaves, numbers: of a pair's side, how many it has.
    """

    name: str
    given: str
    versions: dict[str, str]
    machine: dict[str, str] = {}
    seconds: float = 0.0
    overhead: dict[str, float] = {}
    compilations: int = 0
    reused: int = 0
    leaves: int = 0
    numbers: int = 0


class Unchecked(msgspec.Struct, frozen=True, kw_only=True):
    """What was left out for one reason: checks of a subject."""

    subject: str
    checks: list[str]
    reason: str


class PairDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not the same on a pair's two sides. See crosscheck.pair.result.Difference.

    name: as `expected` in a pair file may have it. reason: the one that the pair gives for it; empty where it gives
    none. cause: its place in `RunReport.causes`; None where it is expected.
    """

    name: str
    check: str
    text: str
    status: ReportStatus
    reason: str = ""
    cause: int | None = None
    sources: list[SourceLine] = []
    index: tuple[int, ...] = ()
    values: tuple[Value, Value] | None = None
    size: float | None = None
    bound: float | None = None
    precision: str = ""
    case: str = ""
    looks_like: str = ""


class Headroom(msgspec.Struct, frozen=True, kw_only=True):
    """Where a check comes nearest to its bound. times: so often the difference fits into it."""

    check: str
    precision: str
    times: float
    subject: str
    tensor: str
    step: int | None = None


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An ensemble's endpoint. first, second: both samples' values, with their intervals, in words.

    same, different: p-values, see crosscheck.comparison.Evidence. members: of each sample. word: SAME, DIFFERENT, ...
    """

    subject: str
    endpoint: str
    sides: tuple[str, str]
    first: str
    second: str
    difference: float
    margin: float
    same: float
    different: float
    members: list[int]
    word: str


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Trainings per second of either side, starting up and compiling included."""

    subject: str
    first: float
    second: float


class Envelopes(msgspec.Struct, frozen=True, kw_only=True):
    """How far apart losses are in units of what one changed bit of the start does, over `count` trajectories."""

    precision: str
    median: float
    largest: float
    count: int


class MapTold(msgspec.Struct, frozen=True, kw_only=True):
    """A pair's map. file: what became of it. links: how many of each kind. rows: a leaf each."""

    file: str
    links: dict[str, int]
    rows: list[LinkTold] = []


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """A run. title: what was compared with what. status: of the whole. command: what runs it again; empty where that
    is not a command, as of `crosscheck.pair.check`.

    made: when, UTC, as ISO 8601. comparing: of `seconds`, those in which recordings were compared. questions: what the
    checks ask, of those that say so. legend: what words and figures in cells mean. notes: what else has to be said,
    each in a line. comparisons, elements: how many were made, of how many values. subjects: all. causes: what keeps the
    run from "the same", the ones that concern most first; empty where nothing does. differences: a pair's, in the order
    in which they were found.
    """

    schema_version: int
    kind: Kind
    title: str
    verdict: str
    status: ReportStatus
    exit_code: int
    command: str
    sides: tuple[ReportSide, ReportSide]
    checks: list[str]
    precisions: list[str]
    subjects: list[ReportSubject]
    causes: list[Cause]
    seed: int = 0
    seeds: int = 0
    device: str = ""
    thorough: bool = False
    options: Options = Options()
    seconds: float = 0.0
    comparing: float = 0.0
    made: str = ""
    comparisons: int = 0
    elements: int = 0
    legend: list[str] = []
    notes: list[str] = []
    unchecked: list[Unchecked] = []
    differences: list[PairDifference] = []
    questions: dict[str, str] = {}
    headroom: list[Headroom] = []
    endpoints: list[Endpoint] = []
    speeds: list[Speed] = []
    envelopes: list[Envelopes] = []
    map: MapTold | None = None

    @property
    def expected(self) -> list[PairDifference]:
        """Differences that the pair says it has."""
        return [one for one in self.differences if one.reason]

    @property
    def remarks(self) -> dict[str, list[str]]:
        """What is said of cells beside their status, and of which checks."""
        found: dict[str, dict[str, None]] = {}
        for subject in self.subjects:
            for cell in subject.cells:
                if cell.note:
                    found.setdefault(cell.note, {})[cell.check] = None
        return {said: list(checks) for said, checks in found.items()}

    @property
    def counts(self) -> dict[ReportStatus, int]:
        """Subjects by status."""
        found: dict[ReportStatus, int] = {}
        for subject in self.subjects:
            found[subject.status] = found.get(subject.status, 0) + 1
        return found

    def of(self, name: str) -> ReportSubject:
        """The subject of that name. Raises StopIteration where there is none."""
        return next(subject for subject in self.subjects if subject.name == name)
