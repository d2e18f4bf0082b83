"""What of the ladder is wanted."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from crosscheck.checks import LADDER, Rung
from spec.errors import UsageError
from spec.experiment import Experiment
from spec.framework import Precision


class Selection(NamedTuple):
    """What of the ladder is wanted. thorough: also the cases that take minutes. case: only that one, of all of them."""

    rungs: Sequence[str]
    precisions: Sequence[Precision]
    thorough: bool = False
    case: str = ""

    def cases(self, experiment: Experiment, rung: Rung, precision: Precision) -> list[str]:
        """The cases of a rung that are recorded and compared."""
        known = rung.cases(experiment, precision, self.thorough or bool(self.case))
        return [case for case in known if self.case in ("", case)]

    def check_case(self, chosen: Iterable[Experiment]) -> None:
        """Raise UsageError where a case is named that none of the rungs has for any of the experiments."""
        known = dict.fromkeys(
            case
            for experiment in chosen
            for rung in LADDER
            if rung.NAME in self.rungs and not rung.inapplicable(experiment)
            for precision in rung.PRECISIONS
            if precision in self.precisions
            for case in rung.cases(experiment, precision, True)
        )
        if self.case and self.case not in known:
            raise UsageError(f"--case: expected one of {', '.join(map(repr, known)) or 'none'}, got {self.case!r}")
