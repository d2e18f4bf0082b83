"""Counts over planted faults what explanations name: rightly, wrongly, not at all: make test-explain.

As a command: python tests/explained_faults.py [FAULT ...], names or patterns as in `python -m crosscheck faults`.
Each fault is recorded by the check that should see it alone, in the one precision that the table states, and compared
with one recording of the other side, which all faults on an experiment share. That is less than half of what `python -m
crosscheck faults --first` takes. Left out are faults that ensembles should see, of which nothing is explained.

Exits with 1 where a cause is named wrongly, or less than MUST_NAME of those whose variant is in the catalogue.
"""

import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from crosscheck.checks import LADDER
from crosscheck.faults import ensembles, plant
from crosscheck.faults.campaign import Campaign, carry_out
from crosscheck.faults.findings import Trial
from crosscheck.faults.table import FAULTS
from crosscheck.faults.table.explained import EXPLAINED
from crosscheck.request import DEFAULT_IMPLEMENTATIONS

MUST_NAME = 0.6
"""Of the faults whose variant is in the catalogue, the share whose cause is named at least."""


def processor_seconds() -> float:
    """Of this process and of all that it has waited for."""
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in spent)


def trials(patterns: list[str]) -> list[Trial]:
    """Check by check, so that nothing is recorded but what sees the fault."""
    chosen = [fault for fault in plant.choose(FAULTS, patterns) if not ensembles.seen(fault)]
    found: list[Trial] = []
    for check in LADDER:
        faults = [fault for fault in chosen if fault.check == check.NAME]
        if not faults:
            continue
        campaign = Campaign(
            faults=faults,
            clean=0,
            experiments=[],
            seed=0,
            checks=(check.NAME,),
            first=True,
            sources={name: plant.source(name) for name in DEFAULT_IMPLEMENTATIONS},
            timeout=600.0,
        )
        made = carry_out(campaign, lambda *_: None).trials
        found += made
        for one in made:
            print(line(one), flush=True)
        counted(check.NAME, made)
    return found


def line(one: Trial) -> str:
    """A fault in a line."""
    told = one.told if one.detected else one.outcome
    return f"{told:20} {one.share:4.0%}  {one.implementation}/{one.name}" + (
        f": {one.looks_like}" if one.looks_like else ""
    )


def counted(what: str, made: list[Trial]) -> tuple[int, int, int]:
    """How many are named, of how many whose variant is in the catalogue, and how many wrongly; printed too."""
    known = [one for one in made if f"{one.implementation}/{one.name}" in EXPLAINED]
    named, wrong = (sum(one.told == told for one in made) for told in ("named", "wrong"))
    longest = max((one.share for one in made), default=0.0)
    print(
        f"== {what}: {named} of {len(known)} named, {wrong} of {len(made)} wrongly; at most {longest:.0%} of the run; "
        f"{processor_seconds():.0f} s of processor time so far",
        flush=True,
    )
    return named, len(known), wrong


def main() -> int:
    named, known, wrong = counted("all", trials(sys.argv[1:]))
    return 0 if not wrong and named >= MUST_NAME * known else 1


if __name__ == "__main__":
    sys.exit(main())
