"""The command line of crosscheck.

What only some commands need is imported where they begin to work: help, lists and mistakes are answered at once.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

from crosscheck.checks import BY_DEFAULT, LADDER, ON_REQUEST
from crosscheck.checks.wanted import Wanted
from crosscheck.cli import output
from crosscheck.cli.options import PAGE, add_html, add_implementations, add_report, seconds, whole
from crosscheck.exit_codes import TABLE
from crosscheck.judging.summary import Summary
from crosscheck.request import Options, owner
from spec import cache, crash, signals, text
from spec import experiment as experiments
from spec.arguments import Parser, path_argument, seed
from spec.command.progress import complain, silence
from spec.convergence import CONVERGENCE
from spec.errors import OhlolError, UsageError, shorten
from spec.exit_codes import COULD_NOT_RUN, INTERRUPTED, SIGNALS, epilog
from spec.experiment import Experiment, Named
from spec.framework import Device, Precision
from spec.limits import LARGEST_RUNS

if TYPE_CHECKING:
    from crosscheck.cli.run import Plan
    from crosscheck.report.observed import Observed

FILES = ("report.json", "report.md", "report-details.json.gz", "junit.xml", PAGE)
"""What a comparison leaves in its directory, see crosscheck.report.files."""

ENDED = {row.code: row.word for row in SIGNALS}
"""What is said of the signal that ended a command, by the exit code that it gives."""

LATER = ",".join(check.NAME for check in ON_REQUEST)

EPILOG = epilog(TABLE)


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code. However it ends, it leaves no process and no temporary directory."""
    text.any_encoding()
    with signals.noticed():
        try:
            code = _carry_out(arguments)
            # A signal's exception that something below has swallowed.
            signals.check()
        except OhlolError as error:
            code, told = error.exit_code, f"error: {error}"
        # argparse's, for --help and mistakes.
        except SystemExit:
            output.flush()
            raise
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) or signals.received():
                signals.wind_down()
                code = signals.exit_code()
                told = ENDED.get(code, ENDED[INTERRUPTED])
            else:
                # Python would leave with 1, which means here that something differs.
                code, told = crash.EXIT_CODE, f"error: {crash.tell(error)}"
        else:
            told = ""
        finally:
            signals.wind_down()
            _leave_nothing()
    if told:
        complain(told)
    output.flush()
    return code


def _carry_out(arguments: Sequence[str]) -> int:
    command = arguments[0] if arguments and arguments[0] in COMMANDS else ""
    parser, carry_out = COMMANDS[command]
    options = parser().parse_args(arguments[1:] if command else arguments)
    try:
        code = carry_out(options)
        if getattr(options, "list", False):
            sys.stdout.flush()
    except BrokenPipeError:
        if not getattr(options, "list", False):
            raise
        # Who reads no further has seen what they wanted.
        silence(sys.stdout)
        return 0
    return code


def _leave_nothing() -> None:
    """End what a signal may have kept from ending itself: it can come between any two lines."""
    # What was never imported has started nothing.
    if "crosscheck.recording.worker_pool" in sys.modules:
        from crosscheck.recording.worker_pool import stop_all

        stop_all()
    if "crosscheck.recording.temporary" in sys.modules:
        from crosscheck.recording.temporary import remove_all

        remove_all()


def _check(options: argparse.Namespace) -> int:
    if options.list:
        return _list()
    plan = _plan(options)
    from crosscheck.cli import run
    from crosscheck.cli.progress import Progress

    plan = plan._replace(keep=cache.wanted(), fresh=options.fresh)
    first, second = options.implementations
    with (
        output.reports(options.out, FILES),
        Progress(run.labels((first, second)), len(plan.experiments), options.json) as progress,
    ):
        observed: dict[str, Observed] | None = {} if options.html else None
        summary = run.run(plan, (first, second), progress, observed)
    return _report(summary, options, observed)


def _record(options: argparse.Namespace) -> int:
    plan = _plan(options)
    from crosscheck.cli import run
    from crosscheck.cli.progress import Progress

    with Progress([options.implementation], len(plan.experiments)) as progress:
        manifest = run.record(plan, options.implementation, options.out, progress)
    made = len(manifest.experiments) - len(manifest.lost)
    output.say(f"{made} of {len(manifest.experiments)} recorded in {text.visible(str(options.out))}")
    return COULD_NOT_RUN if manifest.lost else 0


def _compare(options: argparse.Namespace) -> int:
    from crosscheck.cli import run
    from crosscheck.cli.progress import Progress

    directories = tuple(options.directories)
    with output.reports(options.out, FILES), Progress([], 0, quiet=True) as progress:
        checks = _checks(options.checks) if options.checks else None
        observed: dict[str, Observed] | None = {} if options.html else None
        asked = (checks, options.precision, options.case)
        summary = run.compare(directories, options.experiments, *asked, progress, observed)
    return _report(summary, options, observed)


def _faults(options: argparse.Namespace) -> int:
    from crosscheck.faults import command as faults

    return faults.carry_out(options, _checks(options.checks) if options.checks else faults.CHECKS)


def _explore(options: argparse.Namespace) -> int:
    from crosscheck.explore import command as explore

    checks = _checks(options.checks) if options.checks else [check.NAME for check in BY_DEFAULT]
    wanted = Wanted(checks, options.precision or list(get_args(Precision)))
    return explore.carry_out(options, options.implementations, wanted)


def _explore_parser() -> argparse.ArgumentParser:
    from crosscheck.explore import command as explore

    parser = Parser(prog="python -m crosscheck explore", description=explore.DESCRIPTION, epilog=EPILOG)
    explore.add_options(parser)
    add_implementations(parser, "; the second is compared with the first")
    names = ",".join(check.NAME for check in BY_DEFAULT)
    parser.add_argument("--checks", help=f"comma-separated, of {names} (default all)")
    parser.add_argument(
        "--precision", choices=get_args(Precision), type=str, action="append", help="only this one (default both)"
    )
    parser.add_argument("--seed", type=seed, default=0, help="of the draw and of the recordings (default 0)")
    add_report(parser, "explore.json")
    return parser


def _cache_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m crosscheck cache",
        description="What is kept between runs: recordings, and what JAX has compiled. Where it is, and how much.",
        epilog="exit codes: 0, or 2 where it cannot be deleted",
    )
    parser.add_argument("--clean", action="store_true", help="delete all of it")
    return parser


def _cache(options: argparse.Namespace) -> int:
    place = cache.root()
    if place is None:
        output.say("nothing is kept: there is no home directory, and XDG_CACHE_HOME names no other")
        return 0
    found = cache.clean() if options.clean else cache.parts()
    for part in found:
        output.say(f"{part.path}: {part.files} files, {part.size / 1e6:.1f} MB")
    total = f"{sum(part.files for part in found)} files, {sum(part.size for part in found) / 1e6:.1f} MB"
    limit = f"each directory is pruned to {cache.LARGEST // 2 / 1e6:.0f} MB at {cache.LARGEST / 1e6:.0f} MB"
    output.say(f"{place}: {total}{' deleted' if options.clean else f'; {limit}'}")
    return 0


def _bench_parser() -> argparse.ArgumentParser:
    from crosscheck.benchmark import command

    return command.parser()


def _bench(options: argparse.Namespace) -> int:
    from crosscheck.benchmark import command

    return command.carry_out(options)


def _pair_parser() -> argparse.ArgumentParser:
    from crosscheck.pair import command

    return command.parser()


def _pair(options: argparse.Namespace) -> int:
    from crosscheck.pair import command

    return command.carry_out(options)


def _report_parser() -> argparse.ArgumentParser:
    from crosscheck.cli import reports

    return reports.Chosen()


def _made_report(options: argparse.Namespace) -> int:
    from crosscheck.cli import reports

    return reports.carry_out(options)


def _doctor_parser() -> argparse.ArgumentParser:
    from crosscheck.cli.doctor import command

    return command.parser()


def _doctor(options: argparse.Namespace) -> int:
    from crosscheck.cli.doctor import command

    return command.carry_out(options)


def _list() -> int:
    """The experiments that come with ohlol, and the checks."""
    asked = " (only where named in --checks, or with --thorough)"
    for title, rows in (
        ("experiments:", [(name, experiments.load(name).description) for name in experiments.shipped()]),
        ("drawn by explore:", [(name, experiments.load(name).description) for name in experiments.drawn()]),
        ("long, compared where they are named:", [(n, experiments.load(n).description) for n in experiments.long()]),
        ("checks, from the ground up:", [(r.NAME, r.QUESTION + (asked if r in ON_REQUEST else "")) for r in LADDER]),
    ):
        print(title)
        for lines in text.table([("  " + name, words) for name, words in rows], text.width()):
            print("\n".join(lines))
    print("\n".join(text.fold(experiments.COURSE_ROWS, text.width())))
    return 0


def _plan(options: argparse.Namespace) -> "Plan":
    chosen: dict[str, Experiment] = {}
    for argument in options.experiments or [*experiments.shipped(), *experiments.drawn()]:
        experiment = experiments.load(argument)
        if any(experiment.name == other.name for other in chosen.values()):
            raise UsageError(f"{argument}: expected each experiment's name once, got {experiment.name} twice")
        chosen[argument] = Named.of(experiment) if options.experiments else experiment
    checks, precisions = _checks(options.checks, options.thorough), options.precision or list(get_args(Precision))
    unable = [check.NAME for check in LADDER if check.NAME in checks and not set(check.PRECISIONS) & set(precisions)]
    if options.checks and unable:
        raise UsageError(f"--checks: expected checks that run in {' or '.join(precisions)}, got {', '.join(unable)}")
    checks = [check for check in checks if check not in unable]
    wanted = Wanted(checks, precisions, options.thorough, options.case)
    wanted.check_case(chosen.values())
    from crosscheck.cli.run import Plan

    return Plan(
        chosen,
        wanted,
        options.seed,
        options.device,
        options.timeout,
        options.seeds,
        _options(options),
        asked=tuple(options.experiments),
    )


def _options(options: argparse.Namespace) -> Options:
    sides = options.implementations if "implementations" in options else [options.implementation]
    owners = dict.fromkeys(map(owner, sides))
    chosen: dict[str, str] = {}
    for given in options.choice:
        choice, _, value = given.partition("=")
        whose, _, name = choice.rpartition(".")
        if whose not in owners or not name or not value:
            expected = " or ".join(f"{each}.NAME=VALUE" for each in owners)
            raise UsageError(f"--choice: expected {expected}, got {shorten(given)!r}")
        if choice in chosen:
            raise UsageError(f"--choice: expected {choice} once, got it twice")
        chosen[choice] = value
    return Options(compiled=options.compile, choices=chosen)


def _checks(names: str | None, thorough: bool = False) -> list[str]:
    """The checks that were asked for, from the ground up; where none was named, all that run by default."""
    known = [check.NAME for check in LADDER]
    default = [check.NAME for check in (LADDER if thorough else BY_DEFAULT)]
    asked = [name.strip() for name in names.split(",")] if names is not None else default
    if unknown := [name for name in asked if name not in known]:
        raise UsageError(f"--checks: expected some of {','.join(known)}, got {','.join(unknown) or 'none'}")
    return [name for name in known if name in asked]


def _report(summary: Summary, options: argparse.Namespace, observed: "dict[str, Observed] | None") -> int:
    from crosscheck.report import data, files, terminal
    from crosscheck.report.experiments import report_of

    report = report_of(summary)
    rendered = data.render(report)
    contents = files.contents(report, rendered, options.out if options.html else None, observed)
    if not options.html:
        output.aside(options.out, PAGE)
    output.conclude(options, rendered, lambda console: terminal.show(report, console), contents)
    return summary.exit_code


def _check_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m crosscheck",
        description="Do two implementations start, compute, step and converge alike? All experiments by default.",
        epilog=f"also: {', '.join(f'python -m crosscheck {name} --help' for name in COMMANDS if name)}; {EPILOG}",
    )
    _add_plan(parser)
    add_implementations(parser, "; the second is compared with the first")
    parser.add_argument("--list", action="store_true", help="list the experiments and the checks")
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="record everything anew, also where nothing has changed since an earlier run recorded it",
    )
    add_report(parser, "report.json")
    add_html(parser)
    return parser


def _record_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m crosscheck record",
        description="Let one implementation leave recordings, to be compared elsewhere or later.",
        epilog=EPILOG,
    )
    parser.add_argument("implementation", help="a module, or the path of a package")
    _add_plan(parser)
    parser.add_argument("--out", type=path_argument, required=True, help="a new or empty directory for the recordings")
    return parser


def _compare_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m crosscheck compare", description="Compare two directories of recordings.", epilog=EPILOG
    )
    parser.add_argument("directories", nargs=2, type=path_argument, metavar="DIRECTORY")
    parser.add_argument("--experiments", nargs="+", default=[], metavar="NAME", help="only these")
    _add_choice(parser)
    add_report(parser, "report.json")
    add_html(parser)
    return parser


def _faults_parser() -> argparse.ArgumentParser:
    from crosscheck.faults import command as faults

    parser = Parser(prog="python -m crosscheck faults", description=faults.DESCRIPTION, epilog=faults.EPILOG)
    faults.add_options(parser)
    parser.add_argument("--checks", help=f"comma-separated, of {','.join(faults.CHECKS)} (default all)")
    parser.add_argument("--seed", type=seed, default=0, help="of the recordings; clean runs go on from it (default 0)")
    add_report(parser, "faults.json")
    return parser


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "experiments", nargs="*", metavar="EXPERIMENT", help="a shipped experiment's name, or the path of a .toml file"
    )
    _add_choice(parser)
    parser.add_argument("--thorough", action="store_true", help="all cases of every check; takes several times as long")
    parser.add_argument("--seed", type=seed, default=0, help="of the parameters, batches and runs (default 0)")
    parser.add_argument(
        "--seeds",
        type=_members,
        default=CONVERGENCE.seeds,
        metavar="N",
        help=f"members of an ensemble, in the check {LATER} (default {CONVERGENCE.seeds})",
    )
    parser.add_argument("--device", choices=get_args(Device), default="cpu", help="where both compute (default cpu)")
    parser.add_argument("--compile", action="store_true", help="trainings as `train --compile` has them: much slower")
    parser.add_argument(
        "--choice",
        action="append",
        default=[],
        metavar="IMPLEMENTATION.NAME=VALUE",
        help="how one of them computes what it declares a choice of, such as flax_impl.recurrence=fused",
    )
    parser.add_argument(
        "--timeout", type=seconds, default=600.0, metavar="SECONDS", help="for one experiment on one side (default 600)"
    )


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checks", help=f"comma-separated, of {','.join(check.NAME for check in LADDER)} (default all but {LATER})"
    )
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        type=str,
        action="append",
        help="only this one (default both)",
    )
    parser.add_argument("--case", default="", help="only this case of the checks, as the report names it")


def _members(given: str) -> int:
    value = whole(given)
    if not 4 <= value <= LARGEST_RUNS:
        raise argparse.ArgumentTypeError(f"expected 4 (two in each half) to {LARGEST_RUNS}, got {shorten(given)}")
    return value


COMMANDS: dict[str, Any] = {
    "": (_check_parser, _check),
    "pair": (_pair_parser, _pair),
    "record": (_record_parser, _record),
    "compare": (_compare_parser, _compare),
    "explore": (_explore_parser, _explore),
    "faults": (_faults_parser, _faults),
    "cache": (_cache_parser, _cache),
    "bench": (_bench_parser, _bench),
    "report": (_report_parser, _made_report),
    "doctor": (_doctor_parser, _doctor),
}
