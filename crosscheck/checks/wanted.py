"""What of the ladder is wanted."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from crosscheck.checks import LADDER, Check
from crosscheck.subject import Subject
from spec.errors import UsageError
from spec.framework import Precision


class Wanted(NamedTuple):
    """What of the ladder is wanted. thorough: also the cases that take minutes. case: only that one, of all of them."""

    checks: Sequence[str]
    precisions: Sequence[Precision]
    thorough: bool = False
    case: str = ""

    def cases(self, subject: Subject, check: Check, precision: Precision) -> list[str]:
        """The cases of a check that are recorded and compared.

        Who names a single check wants it of this subject, and not of another one that stands for it.
        """
        known = check.cases(subject, precision, self.thorough or bool(self.case))
        if not known and len(self.checks) == 1:
            known = check.cases(subject, precision, True)
        return [case for case in known if self.case in ("", case)]

    def check_case(self, chosen: Iterable[Subject]) -> None:
        """Raise UsageError where a case is named that none of the checks has for any of the experiments."""
        known = dict.fromkeys(
            case
            for subject in chosen
            for check in LADDER
            if check.NAME in self.checks and not check.inapplicable(subject)
            for precision in check.PRECISIONS
            if precision in self.precisions
            for case in check.cases(subject, precision, True)
        )
        if self.case and self.case not in known:
            raise UsageError(f"--case: expected one of {', '.join(map(repr, known)) or 'none'}, got {self.case!r}")
