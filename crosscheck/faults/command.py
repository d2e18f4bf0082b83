"""`python -m crosscheck faults`: its options, and what it leaves behind.

What planting needs is imported where that begins: help, the list and mistakes are answered at once.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import msgspec

from crosscheck.checks import BY_DEFAULT, LADDER
from crosscheck.cli import output
from crosscheck.cli.options import seconds
from crosscheck.faults import ensembles, given, plant
from crosscheck.faults.fault import Fault, Implementation
from crosscheck.faults.table import FAULTS, NOT_APPLICABLE
from spec import experiment as experiments
from spec import text
from spec.arguments import at_least
from spec.errors import UsageError

if TYPE_CHECKING:
    from crosscheck.faults.findings import Findings

DESCRIPTION = """\
Does crosscheck see what it is for? Plants real porting bugs, one at a time, in a copy of either implementation, and
compares the copy with the other one, unedited. Then compares the two unedited ones many times over.
"""

EPILOG = """\
exit codes: 0 every fault is caught where the table says and there is no false alarm, 1 not so, 2 usage, or a fault
that cannot be planted, 3 could not run
"""

CHECKS = tuple(check.NAME for check in LADDER if check.NAME != "outcome")
"""The outcome is left out: it takes long, judges many runs together, and what it sees a check below has seen."""

CLIMBED = frozenset(check.NAME for check in BY_DEFAULT)
"""The others are only for the faults that they should see."""

CLEAN = 70
"""Clean runs by default: each experiment with two seeds."""

QUICK = 12
"""So many faults at most are planted by --quick."""

PLOT = "faults-power.png"


def add_options(parser: argparse.ArgumentParser) -> None:
    """All options but --checks, --out, --json and --seed, which other commands have too."""
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="names, or patterns of names such as 'gru-*'")
    parser.add_argument("--list", action="store_true", help="list the faults, and the bugs that do not apply")
    parser.add_argument("--implementation", choices=get_args(Implementation), help="only faults in this one")
    parser.add_argument("--first", action="store_true", help="climb no higher than the check that should see the fault")
    parser.add_argument("--quick", action="store_true", help=f"at most {QUICK} faults, --first, no clean runs")
    parser.add_argument(
        "--clean",
        type=at_least(0),
        metavar="N",
        help=f"clean runs, over all experiments and as many seeds (default {CLEAN}; 0 where faults are named)",
    )
    parser.add_argument("--only-clean", action="store_true", help="plant no faults; clean runs alone")
    parser.add_argument(
        "--timeout", type=seconds, default=300.0, metavar="SECONDS", help="for one recording (default 300)"
    )


def carry_out(
    options: argparse.Namespace,
    checks: Sequence[str],
    faults: Sequence[Fault] = FAULTS,
    sources: Mapping[str, Path] | None = None,
) -> int:
    """Run the command; returns its exit code. sources: the packages to plant in, where not the installed ones."""
    if unable := [check for check in checks if check not in CHECKS]:
        raise UsageError(f"--checks: expected some of {','.join(CHECKS)}, got {','.join(unable)}")
    plant.verify(faults)
    chosen = [
        fault
        for fault in plant.choose(faults, options.faults)
        if options.implementation in (None, fault.implementation) and fault.check in checks
    ]
    if options.list:
        return _list(chosen)
    if options.only_clean:
        if options.faults or options.quick or options.implementation:
            raise UsageError("--only-clean: expected no names of faults, no --quick and no --implementation beside it")
        chosen = []
    elif options.quick:
        chosen = quick(chosen)
    clean = options.clean
    if clean is None:
        clean = 0 if options.faults or options.implementation or options.quick else CLEAN
    if not CLIMBED & set(checks):
        clean = 0
    if not chosen and not clean:
        raise UsageError("faults: expected something to do, got no fault and no clean run")
    from crosscheck.cli.progress import Progress
    from crosscheck.faults import campaign, report

    plan = campaign.Campaign(
        faults=chosen,
        clean=clean,
        experiments=experiments.shipped(),
        seed=options.seed,
        checks=checks,
        first=options.first or options.quick,
        sources=sources or {name: plant.source(name) for name in get_args(Implementation)},
        timeout=options.timeout,
    )
    with (
        output.reports(options.out, ("faults.md", "faults.json", PLOT)),
        Progress(["faults"], campaign.recordings(plan), options.json) as progress,
    ):
        findings = campaign.carry_out(
            plan,
            told=lambda *result: progress.recorded("faults", *result),
            judged=lambda trial: progress.concluded(report.concluded(trial), as_expected=trial.outcome == "caught"),
        )
    return _report(findings, options)


def quick(faults: Sequence[Fault]) -> list[Fault]:
    """A few faults: for each check that should see one, and in either side, the one on the smallest training.

    None of those that ensembles should see: each takes as long as all others together.
    """
    places: dict[tuple[str, str], list[Fault]] = {}
    for fault in faults:
        if ensembles.seen(fault):
            continue
        places.setdefault((fault.check, fault.implementation), []).append(fault)
    chosen = {plant.label(min(found, key=_size)) for found in places.values()}
    return [fault for fault in faults if plant.label(fault) in chosen][:QUICK]


def _size(fault: Fault) -> int:
    """How many numbers the whole training moves."""
    experiment = given.load(fault.experiment)
    steps = experiment.training.epochs * experiment.training.steps_per_epoch
    return max(steps, 1) * experiment.model.parameter_count


def _list(faults: Sequence[Fault]) -> int:
    """The table."""
    columns = text.width()
    for fault in faults:
        entries = f" ({', '.join(fault.entries)})" if fault.entries else ""
        place = f"{fault.experiment}, {fault.precision}: {fault.check}, {fault.tensor}"
        for line in (f"{plant.label(fault)}{entries}", f"  {fault.what}", f"  {place}"):
            print("\n".join(text.fold(line, columns)))
    print()
    print("\n".join(text.fold(f"{len(faults)} faults. Of the catalogue of porting bugs, these do not apply:", columns)))
    for lines in text.table([(f"  {entry}", reason) for entry, reason in sorted(NOT_APPLICABLE.items())], columns):
        print("\n".join(lines))
    return 0


def _report(findings: "Findings", options: argparse.Namespace) -> int:
    from crosscheck.faults import report
    from crosscheck.faults.power_plot import power_plot
    from crosscheck.report import data

    plain = msgspec.to_builtins(findings)
    plain["exit_code"], plain["verdict"] = findings.exit_code, report.verdict(findings)
    plain["detection"] = msgspec.to_builtins(findings.detection())
    plain["false_alarms"] = msgspec.to_builtins(findings.false_alarms())
    plain["ensemble_alarms"] = msgspec.to_builtins(findings.ensemble_alarms())
    rendered = data.encode(plain, indent=2) + b"\n"
    contents = {"faults.md": lambda: report.markdown(findings).encode(), "faults.json": lambda: rendered}
    if any(trial.power for trial in findings.trials):
        contents[PLOT] = lambda: power_plot(findings.trials)
    output.conclude(options, rendered, lambda console: report.show(findings, console), contents)
    return findings.exit_code
