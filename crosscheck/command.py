"""The command line of crosscheck.

What only some commands need is imported where they begin to work: help, lists and mistakes are answered at once.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from crosscheck.exit_codes import TABLE
from crosscheck.options import add_implementations, add_report, clear
from crosscheck.rungs import BY_DEFAULT, LADDER, ON_REQUEST
from crosscheck.summary import Summary
from crosscheck.verdict import Selection
from spec import cache, text
from spec import experiment as experiments
from spec.arguments import Parser, seed
from spec.convergence import CONVERGENCE
from spec.errors import OhlolError, UsageError
from spec.exit_codes import COULD_NOT_RUN, INTERRUPTED, epilog
from spec.experiment import Experiment
from spec.framework import Device, Precision, Recurrence, Settings

if TYPE_CHECKING:
    from crosscheck.run import Plan

FILES = ("report.md", "report.json")
"""What a comparison leaves in its directory."""

LATER = ",".join(rung.NAME for rung in ON_REQUEST)

EPILOG = epilog(TABLE)


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    text.any_encoding()
    command = arguments[0] if arguments and arguments[0] in COMMANDS else ""
    parser, carry_out = COMMANDS[command]
    options = parser().parse_args(arguments[1:] if command else arguments)
    try:
        return carry_out(options)
    except OhlolError as error:
        print(f"error: {text.admit(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _check(options: argparse.Namespace) -> int:
    if options.list:
        return _list()
    plan = _plan(options)
    from crosscheck import run
    from crosscheck.progress import Progress

    plan = plan._replace(keep=cache.wanted(), fresh=options.fresh)
    clear(options.out, FILES)
    first, second = options.implementations
    with Progress(run.labels((first, second)), len(plan.experiments), options.json) as progress:
        summary = run.run(plan, (first, second), progress)
    return _report(summary, options)


def _record(options: argparse.Namespace) -> int:
    plan = _plan(options)
    from crosscheck import run
    from crosscheck.progress import Progress

    with Progress([options.implementation], len(plan.experiments)) as progress:
        manifest = run.record(plan, options.implementation, options.out, progress)
    made = len(manifest.experiments) - len(manifest.lost)
    print(f"{made} of {len(manifest.experiments)} recorded in {text.visible(str(options.out))}")
    return COULD_NOT_RUN if manifest.lost else 0


def _compare(options: argparse.Namespace) -> int:
    from crosscheck import run
    from crosscheck.progress import Progress

    clear(options.out, FILES)
    directories = tuple(options.directories)
    with Progress([], 0, quiet=True) as progress:
        rungs = _rungs(options.rungs) if options.rungs else None
        summary = run.compare(directories, options.experiments, rungs, options.precision, options.case, progress)
    return _report(summary, options)


def _faults(options: argparse.Namespace) -> int:
    from crosscheck.faults import command as faults

    return faults.carry_out(options, _rungs(options.rungs) if options.rungs else faults.RUNGS)


def _bench_parser() -> argparse.ArgumentParser:
    from crosscheck.benchmark import command

    return command.parser()


def _bench(options: argparse.Namespace) -> int:
    from crosscheck.benchmark import command

    return command.carry_out(options)


def _list() -> int:
    """The experiments that come with ohlol, and the rungs."""
    asked = " (only where named in --rungs, or with --thorough)"
    for title, rows in (
        ("experiments:", [(name, experiments.load(name).description) for name in experiments.shipped()]),
        ("rungs, from the ground up:", [(r.NAME, r.QUESTION + (asked if r in ON_REQUEST else "")) for r in LADDER]),
    ):
        print(title)
        for lines in text.table([("  " + name, words) for name, words in rows], text.width()):
            print("\n".join(lines))
    print(experiments.COURSE_ROWS)
    return 0


def _plan(options: argparse.Namespace) -> "Plan":
    chosen: dict[str, Experiment] = {}
    for argument in options.experiments or experiments.shipped():
        experiment = experiments.load(argument)
        if any(experiment.name == other.name for other in chosen.values()):
            raise UsageError(f"{argument}: expected each experiment's name once, got {experiment.name} twice")
        chosen[argument] = experiment
    rungs, precisions = _rungs(options.rungs, options.thorough), options.precision or list(get_args(Precision))
    unable = [rung.NAME for rung in LADDER if rung.NAME in rungs and not set(rung.PRECISIONS) & set(precisions)]
    if options.rungs and unable:
        raise UsageError(f"--rungs: expected rungs that run in {' or '.join(precisions)}, got {', '.join(unable)}")
    rungs = [rung for rung in rungs if rung not in unable]
    wanted = Selection(rungs, precisions, options.thorough, options.case)
    wanted.check_case(chosen.values())
    from crosscheck.run import Plan

    return Plan(
        chosen,
        wanted,
        options.seed,
        options.device,
        options.timeout,
        options.seeds,
        options.recurrence,
        options.compile,
    )


def _rungs(names: str | None, thorough: bool = False) -> list[str]:
    """The rungs that were asked for, from the ground up; where none was named, all that run by default."""
    known = [rung.NAME for rung in LADDER]
    default = [rung.NAME for rung in (LADDER if thorough else BY_DEFAULT)]
    asked = [name.strip() for name in names.split(",")] if names is not None else default
    if unknown := [name for name in asked if name not in known]:
        raise UsageError(f"--rungs: expected some of {','.join(known)}, got {','.join(unknown) or 'none'}")
    return [name for name in known if name in asked]


def _report(summary: Summary, options: argparse.Namespace) -> int:
    from rich.console import Console

    from crosscheck import recording
    from crosscheck.report import data, markdown, terminal

    options.out.mkdir(parents=True, exist_ok=True)
    rendered = data.render(summary)
    recording.write_whole(options.out / "report.json", rendered)
    recording.write_whole(options.out / "report.md", markdown.render(summary).encode())
    if options.json:
        print(rendered.decode())
    else:
        terminal.show(summary, Console())
        print(f"report: {', '.join(text.visible(str(options.out / file)) for file in FILES)}")
    return summary.exit_code


def _check_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m crosscheck",
        description="Do two implementations start, compute, step and converge alike? All experiments by default.",
        epilog="also: python -m crosscheck record --help, ... compare --help, ... faults --help, ... bench --help; "
        + EPILOG,
    )
    _add_plan(parser)
    add_implementations(parser, "; the second is compared with the first")
    parser.add_argument("--list", action="store_true", help="list the experiments and the rungs")
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="record everything anew, also where nothing has changed since an earlier run recorded it",
    )
    add_report(parser, "report.json")
    return parser


def _record_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m crosscheck record",
        description="Let one implementation leave recordings, to be compared elsewhere or later.",
        epilog=EPILOG,
    )
    parser.add_argument("implementation", help="a module, or the path of a package")
    _add_plan(parser)
    parser.add_argument("--out", type=Path, required=True, help="a new or empty directory for the recordings")
    return parser


def _compare_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m crosscheck compare", description="Compare two directories of recordings.", epilog=EPILOG
    )
    parser.add_argument("directories", nargs=2, type=Path, metavar="DIRECTORY")
    parser.add_argument("--experiments", nargs="+", default=[], metavar="NAME", help="only these")
    _add_choice(parser)
    add_report(parser, "report.json")
    return parser


def _faults_parser() -> argparse.ArgumentParser:
    from crosscheck.faults import command as faults

    parser = Parser(prog="python -m crosscheck faults", description=faults.DESCRIPTION, epilog=faults.EPILOG)
    faults.add_options(parser)
    parser.add_argument("--rungs", help=f"comma-separated, of {','.join(faults.RUNGS)} (default all)")
    parser.add_argument("--seed", type=seed, default=0, help="of the recordings; clean runs go on from it (default 0)")
    add_report(parser, "faults.json")
    return parser


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "experiments", nargs="*", metavar="EXPERIMENT", help="a shipped experiment's name, or the path of a .toml file"
    )
    _add_choice(parser)
    parser.add_argument("--thorough", action="store_true", help="all cases of every rung; takes several times as long")
    parser.add_argument("--seed", type=seed, default=0, help="of the parameters, batches and runs (default 0)")
    parser.add_argument(
        "--seeds",
        type=_members,
        default=CONVERGENCE.seeds,
        metavar="N",
        help=f"members of an ensemble, in the rung {LATER} (default {CONVERGENCE.seeds})",
    )
    parser.add_argument("--device", choices=get_args(Device), default="cpu", help="where both compute (default cpu)")
    parser.add_argument(
        "--recurrence",
        choices=get_args(Recurrence),
        default=Settings().recurrence,
        help="how recurrent layers are computed, by an implementation that has a choice (default automatic, by size)",
    )
    parser.add_argument(
        "--compile", action="store_true", help="trainings as `train --compile` has them: much slower to check"
    )
    parser.add_argument(
        "--timeout", type=float, default=600.0, metavar="SECONDS", help="for one experiment on one side (default 600)"
    )


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rungs", help=f"comma-separated, of {','.join(rung.NAME for rung in LADDER)} (default all but {LATER})"
    )
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        type=str,
        action="append",
        help="only this one (default both)",
    )
    parser.add_argument("--case", default="", help="only this case of the rungs, as the report names it")


def _members(given: str) -> int:
    value = int(given)
    if value < 4:
        raise argparse.ArgumentTypeError(f"expected at least 4, two in each half, got {value}")
    return value


COMMANDS: dict[str, Any] = {
    "": (_check_parser, _check),
    "record": (_record_parser, _record),
    "compare": (_compare_parser, _compare),
    "faults": (_faults_parser, _faults),
    "bench": (_bench_parser, _bench),
}
