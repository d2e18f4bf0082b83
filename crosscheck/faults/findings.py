"""What became of each planted fault and of each clean run, and what that says about crosscheck."""

from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from crosscheck.judging.verdict import Status
from spec.framework import Precision

SCHEMA_VERSION = 1
"""Of faults.json; raised when a field changes its meaning or goes away."""

CONFIDENCE = 0.95
"""Of the one-sided bounds on rates."""

Outcome = Literal["caught", "caught elsewhere", "wrong side blamed", "survived", "could not run"]

Told = Literal["named", "wrong", "not named", "not in the catalogue"]
"""What an explanation makes of a fault: its cause, another one, or none; the last where nobody knows such a variant."""

BAD: tuple[Outcome, ...] = ("survived", "wrong side blamed", "caught elsewhere")
"""What makes the exit code 1, the worst first. The table says where a fault is caught, and that must be true."""


class DetectedShare(msgspec.Struct, frozen=True, kw_only=True):
    """Of so many draws of so many members a side, in how many a fault was DIFFERENT.

    low, high: the exact (Clopper-Pearson) interval of that share, two-sided.
    """

    members: int
    detected: int
    draws: int
    low: float
    high: float


class Power(msgspec.Struct, frozen=True, kw_only=True):
    """What a fault does to an ensemble, and how many members it takes to see that.

    effect: the mean log loss-AUC with the fault, less the one without it, in units of the standard deviation from one
    run to the next, the smaller one of both ensembles'. solved, solved_clean: rates with the fault and without it.
    """

    effect: float
    solved: float
    solved_clean: float
    points: list[DetectedShare]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One planted fault. checks: each one's status. first_check, tensor, point, case, note: of the first failure.

    blamed: which side departs from the equations, where that is known. blamed_stage, blamed_tensors: what of this side
    is wrong in itself, and not only downstream. seconds: of recording the patched copy. power: of a fault that
    ensembles should see.
    looks_like: what the difference is said to look like. told: see Told. share: of the seconds of both recordings, what
    the explanation took.
    """

    name: str
    implementation: str
    what: str
    entries: tuple[str, ...]
    experiment: str
    precision: Precision
    expected_check: str
    expected_tensor: str
    outcome: Outcome
    checks: dict[str, Status]
    first_check: str = ""
    tensor: str = ""
    point: str = ""
    case: str = ""
    note: str = ""
    blamed: str = ""
    blamed_stage: str = ""
    blamed_tensors: list[str] = []
    seconds: float = 0.0
    power: Power | None = None
    looks_like: str = ""
    told: Told = "not in the catalogue"
    share: float = 0.0

    @property
    def detected(self) -> bool:
        """Whether any check fired."""
        return bool(self.first_check)

    @property
    def blamed_as_stated(self) -> bool:
        """Whether the tensor that the table states is among what the blame holds wrong in itself."""
        # A blame names tensors without the point at which they were looked at.
        ends = ("", f" ({self.point})") if self.point else ("",)
        found = [name + end for name in (self.blamed_stage, *self.blamed_tensors) for end in ends]
        return any(name == self.expected_tensor or fnmatchcase(name, self.expected_tensor) for name in found)


class CleanRun(msgspec.Struct, frozen=True, kw_only=True):
    """Both unedited implementations on one experiment with one seed.

    counted: whether it is one of the clean control's, and not only what planted faults are compared with.
    alarms: the failures, each in a line. lost: why it could not run.
    """

    experiment: str
    seed: int
    counted: bool
    comparisons: int
    alarms: list[str] = []
    lost: str = ""


class CleanEnsembles(msgspec.Struct, frozen=True, kw_only=True):
    """Two ensembles without a fault: of both implementations, or of one with two seeds.

    word: SAME, DIFFERENT or UNDERPOWERED with the figure that belongs to it. alarms, lost: as a CleanRun's.
    """

    experiment: str
    sides: tuple[str, str]
    word: str
    alarms: list[str] = []
    lost: str = ""


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """Count of `of`, with the exact (Clopper-Pearson) one-sided bound: lower of a detection, upper of an alarm."""

    what: str
    count: int
    of: int
    bound: float


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """A whole campaign."""

    schema_version: int
    checks: list[str]
    seed: int
    seconds: float
    trials: list[Trial]
    clean: list[CleanRun]
    ensembles: list[CleanEnsembles] = []

    @property
    def without_fault(self) -> list[CleanRun | CleanEnsembles]:
        """Everything in which nothing may differ."""
        return [*self.clean, *self.ensembles]

    @property
    def exit_code(self) -> int:
        """1: crosscheck missed something or cried wolf; 3: something could not run; 0: neither."""
        if any(trial.outcome in BAD or trial.told == "wrong" for trial in self.trials):
            return 1
        if any(run.alarms for run in self.without_fault):
            return 1
        if any(trial.outcome == "could not run" for trial in self.trials) or any(
            run.lost for run in self.without_fault
        ):
            return 3
        return 0

    def detection(self) -> list[Rate]:
        """The share of planted faults that any check saw: of all, by side, by the check that should see them."""
        ran = [trial for trial in self.trials if trial.outcome != "could not run"]
        kinds = {"all": ran}
        for trial in ran:
            kinds.setdefault(f"in {trial.implementation}", []).append(trial)
        for check in self.checks:
            kinds[f"of {check}"] = [trial for trial in ran if trial.expected_check == check]
        return [
            rate(what, sum(trial.detected for trial in trials), len(trials), lower=True)
            for what, trials in kinds.items()
            if trials
        ]

    def explained(self) -> Rate:
        """The share of faults with a variant in the catalogue, and that ran, whose cause is named."""
        known = [trial for trial in self.trials if trial.told in ("named", "not named") and trial.detected]
        return rate("in the catalogue", sum(trial.told == "named" for trial in known), len(known), lower=True)

    def false_alarms(self) -> Rate:
        """The share of clean runs in which something was compared and something failed."""
        ran = [run for run in self.clean if run.counted and run.comparisons and not run.lost]
        return rate("clean runs", sum(bool(run.alarms) for run in ran), len(ran), lower=False)

    def ensemble_alarms(self) -> Rate:
        """The share of pairs of clean ensembles that were DIFFERENT."""
        ran = [pair for pair in self.ensembles if not pair.lost]
        return rate("clean ensembles", sum(bool(pair.alarms) for pair in ran), len(ran), lower=False)


def rate(what: str, count: int, of: int, *, lower: bool) -> Rate:
    """A rate with its bound; without trials it may be anything."""
    # Not at the top: SciPy takes long to import.
    from scipy.stats import binomtest

    if not of:
        return Rate(what=what, count=0, of=0, bound=0.0 if lower else 1.0)
    interval = binomtest(count, of, alternative="greater" if lower else "less").proportion_ci(CONFIDENCE, "exact")
    return Rate(what=what, count=count, of=of, bound=float(interval.low if lower else interval.high))
