"""What a verdict says about a planted fault."""

from fnmatch import fnmatchcase

from crosscheck.diagnosis.finding import Departure
from crosscheck.faults.fault import Fault
from crosscheck.faults.findings import Outcome, Told, Trial
from crosscheck.faults.plant import label
from crosscheck.faults.table.explained import EXPLAINED
from crosscheck.judging.verdict import Verdict
from crosscheck.report.details import line

FIRED = ("different", "crashed")
"""What a cell says when its check has seen something."""


UNDECIDED = "undecided"
"""What a blame says that falls on neither side."""


def conclude(fault: Fault, verdict: Verdict, spoilt: str, seconds: float) -> Trial:
    """What a verdict says about a planted fault. spoilt: what is wrong there without it."""
    fired = [cell.check for cell in verdict.cells if cell.status in FIRED]
    failure = verdict.failures[0] if verdict.failures else None
    tensor = failure.tensor if failure else ""
    departure = _departure(verdict, fault.implementation)
    blamed = verdict.blame.at_fault if verdict.blame else ""
    # Brackets are a tensor's as well as a pattern's.
    named = tensor == fault.tensor or fnmatchcase(tensor, fault.tensor)
    outcome: Outcome = "caught"
    if spoilt:
        outcome = "could not run"
    elif not fired:
        outcome = "survived"
    elif blamed not in ("", UNDECIDED, fault.implementation):
        outcome = "wrong side blamed"
    elif fired[0] != fault.check or not named:
        outcome = "caught elsewhere"
    return Trial(
        name=fault.name,
        implementation=fault.implementation,
        what=fault.what,
        entries=fault.entries,
        experiment=fault.experiment,
        precision=fault.precision,
        expected_check=fault.check,
        expected_tensor=fault.tensor,
        outcome=outcome,
        checks={cell.check: cell.status for cell in verdict.cells},
        first_check=fired[0] if fired else "",
        tensor=tensor,
        point=failure.point if failure else "",
        case=failure.case if failure else "",
        note=spoilt or (line(failure) if failure else ""),
        blamed=blamed,
        blamed_stage=departure.stage if departure else "",
        blamed_tensors=[departure.tensor, *departure.wrong] if departure else [],
        seconds=seconds,
        looks_like=verdict.explanation.looks_like if verdict.explanation else "",
        told=told(fault, verdict),
        share=verdict.explanation.share if verdict.explanation else 0.0,
    )


def told(fault: Fault, verdict: Verdict) -> Told:
    """Whether the explanation names the cause that the table states."""
    said = verdict.explanation.looks_like if verdict.explanation else ""
    cause = EXPLAINED.get(label(fault))
    if said:
        return "named" if cause is not None and cause in said else "wrong"
    return "not in the catalogue" if cause is None else "not named"


def _departure(verdict: Verdict, implementation: str) -> Departure | None:
    """Where that implementation departs from the equations; None where that is not known."""
    found = verdict.blame.departures if verdict.blame else []
    return next((departure for departure in found if departure.side == implementation), None)
