"""One implementation in a process of its own: reads jobs from its standard input, leaves a recording of each.

Started by crosscheck.recording.worker_pool as `python -m crosscheck.recording.worker IMPLEMENTATION`; both ways, a
message is a line of JSON.
"""

import gc
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from crosscheck.bounds import rounding_spread
from crosscheck.checks import LADDER, Check
from crosscheck.checks.wanted import Wanted
from crosscheck.probes.determinism import Repeats
from crosscheck.probes.witness import Witness
from crosscheck.recording import channel, implementation, recording
from crosscheck.recording.implementation import CannotStart
from crosscheck.recording.recording import Answer, Recording, key_of
from crosscheck.recording.sources import Sources, Unfit, Watch
from crosscheck.request import DEFAULT_IMPLEMENTATIONS, Options, Request, owner
from spec import choices, options, sizes, text
from spec.convergence import CONVERGENCE
from spec.errors import DeviceMissing, FrameworkMissing, OhlolError, Unsupported, UsageError
from spec.experiment import Experiment, Named
from spec.framework import Device, Framework, Precision, Settings
from spec.tasks.python import allow_imports


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One experiment to record, and where to. envelope, seeds, options: see Request; the rest: Wanted.

    named: whether somebody named it, see spec.experiment.Named.
    implementation: a copy that stands in for the worker's implementation, by its path; empty for that itself.
    """

    directory: str
    token: str
    experiment: Experiment
    named: bool = False
    checks: list[str]
    precisions: list[Precision]
    device: Device
    seed: int
    envelope: bool = False
    thorough: bool = False
    case: str = ""
    seeds: int = CONVERGENCE.seeds
    options: Options = Options()
    implementation: str = ""


class Done(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The experiment's recording is written. sources: what it was made from; unfit: why nobody can say that."""

    experiment: str
    seconds: float
    sources: Sources | None = None
    unfit: str = ""


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """This implementation cannot run at all: wrong name, framework missing, device missing."""

    message: str
    exit_code: int


class Broken(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The job's copy of the implementation cannot run at all; the worker can take other jobs."""

    message: str


Message = Done | Refused | Broken

YOUNG = 7_000
"""Objects that are made, less those that are gone, between two searches for garbage; Python's own number is 700."""


WITHOUT_FRAMEWORK = "spec.reference"
"""The implementation that runs where no framework is installed, in float64 alone."""


def main(name: str) -> int:
    """Serve jobs until standard input ends."""
    allow_imports()
    with channel.opened() as (jobs, answers):
        try:
            begin = time.perf_counter()
            watch = Watch(name)
            loaded, framework = name, _load(name)
            _collect_less()
            starting = time.perf_counter() - begin
            for line in jobs:
                job = msgspec.json.decode(line, type=Job)
                wanted = job.implementation or name
                try:
                    if wanted != loaded:
                        # What an import that fails leaves behind is neither the one nor the other.
                        loaded = ""
                        loaded, framework = wanted, implementation.load_afresh(wanted)
                    message = _serve(name, framework, job, starting)
                    if isinstance(message, Done) and not job.implementation:
                        message = _with_sources(message, watch)
                    starting = 0.0
                # Also what ends a process, such as SystemExit: it is the copy's failure, not the worker's.
                except BaseException as error:
                    if not job.implementation:
                        raise
                    message = Broken(message=text.exception(error))
                _send(answers, message)
        except OhlolError as error:
            _send(answers, Refused(message=text.admit(str(error)), exit_code=error.exit_code))
    return 0


def _collect_less() -> None:
    """Leave what is loaded by now out of the search for garbage, and search a tenth as often.

    A framework is some 500,000 objects that stay, and tracing a function makes many that go at once, so that the search
    was 4 % of a recording's CPU time.
    """
    gc.freeze()
    gc.set_threshold(YOUNG)


def _load(name: str) -> Framework:
    try:
        return implementation.load(name)
    except FrameworkMissing as error:
        if name not in DEFAULT_IMPLEMENTATIONS:
            raise
        (other,) = (each for each in DEFAULT_IMPLEMENTATIONS if each != name)
        instead = f"--implementations {other} {WITHOUT_FRAMEWORK} --precision float64"
        raise FrameworkMissing(f"{error}; or, without it: {instead}") from None


def _with_sources(message: Done, watch: Watch) -> Done:
    try:
        return msgspec.structs.replace(message, sources=watch.found())
    except Unfit as reason:
        return msgspec.structs.replace(message, unfit=str(reason))


def _send(answers: BinaryIO, message: Message) -> None:
    answers.write(msgspec.json.encode(message) + b"\n")
    answers.flush()


def _serve(name: str, framework: Framework, job: Job, starting: float) -> Done | Broken:
    """Record one experiment. starting: seconds that the process took to import the framework, of its first job."""
    begin = time.perf_counter()
    experiment = Named.of(job.experiment) if job.named else job.experiment
    settings = Request(job.precisions[0], job.device, job.seed, options=job.options).settings
    choices.check(owner(name), framework, settings)
    sizes.check(name, framework)
    before, compiled = _spent(framework, experiment, settings), _compiled(framework, experiment, settings)
    answers: list[Answer] = []
    kept: dict[str, np.ndarray] = {}
    try:
        described = framework.describe(settings)
    except OhlolError:
        raise
    except BaseException as error:
        raise CannotStart(f"{name}: describe: {text.exception(error)}") from error
    declared, follows_spec = options.leaves_out(name, framework), options.follows_spec(name, framework)
    wanted = Wanted(job.checks, job.precisions, job.thorough, job.case)
    repeats = Repeats(framework)
    for check in LADDER:
        if check.NAME not in job.checks or check.inapplicable(experiment):
            continue
        for precision in check.PRECISIONS:
            if precision in job.precisions:
                request = Request(precision, job.device, job.seed, job.envelope, job.seeds, job.options)
                for case in wanted.cases(experiment, check, precision):
                    answer, arrays = ask(framework, check, experiment, case, request, repeats)
                    answers.append(answer)
                    kept |= {answer.key + key: array for key, array in arrays.items()}
    repeats.finish()
    answers = [msgspec.structs.replace(a, unsteady=repeats.found.get(a.key, [])) for a in answers]
    kept |= _without_envelopes(answers, kept)
    seconds = time.perf_counter() - begin
    spent = {kind: after - before.get(kind, 0.0) for kind, after in _spent(framework, experiment, settings).items()}
    made = Recording(
        format=recording.FORMAT,
        token=job.token,
        implementation=name,
        experiment=msgspec.to_builtins(experiment),
        experiment_hash=experiment.hash,
        seed=job.seed,
        device=job.device,
        describe=text.descriptions(described) | ({} if follows_spec else {"equations": "its own"}),
        machine={"python": platform.python_version(), "numpy": np.__version__, "system": platform.platform()},
        answers=answers,
        seconds=seconds,
        overhead={"starting": starting, **spent},
        compilations=_compiled(framework, experiment, settings) - compiled,
        leaves_out=declared,
        follows_spec=follows_spec,
        options=job.options,
    )
    try:
        recording.write(recording.file(Path(job.directory), experiment.name), made, kept)
    except UsageError as error:
        # A full disk, for one: of this experiment there is nothing then.
        return Broken(message=str(error))
    return Done(experiment=experiment.name, seconds=seconds)


def _without_envelopes(answers: Sequence[Answer], kept: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Envelopes of zero for the answers that are not deterministic: chance is no rounding, and widens no bound."""
    keys = tuple(answer.key + rounding_spread.PREFIX for answer in answers if answer.unsteady)
    return {name: np.zeros_like(array) for name, array in kept.items() if name.startswith(keys)}


def _spent(framework: Framework, experiment: Experiment, settings: Settings) -> dict[str, float]:
    """What the implementation says of itself, if it does; where it fails, that is for others to find."""
    try:
        return {str(kind): float(seconds) for kind, seconds in framework.open(experiment, settings).spent.items()}
    except (Exception, SystemExit):
        return {}


def _compiled(framework: Framework, experiment: Experiment, settings: Settings) -> int:
    """How many functions were compiled for this process, where the implementation counts them."""
    try:
        return int(framework.open(experiment, settings).counts.get("compilations", 0))
    except (Exception, SystemExit):
        return 0


def ask(
    framework: Framework,
    check: Check,
    experiment: Experiment,
    case: str,
    request: Request,
    repeats: Repeats | None = None,
) -> tuple[Answer, dict[str, np.ndarray]]:
    """One request and what became of it. Only a missing framework or device is raised, since it ends everything.

    repeats: who asks the implementation again.
    """
    begin = time.perf_counter()
    witness = Witness(framework, repeats)
    if repeats:
        repeats.begin(key_of(request.precision, check.NAME, case), request.precision)

    def answer(status: Any, **fields: Any) -> Answer:
        return Answer(
            check=check.NAME,
            precision=request.precision,
            case=case,
            status=status,
            seconds=time.perf_counter() - begin,
            inputs=witness.digest,
            **fields,
        )

    try:
        recorded = check.record(witness, experiment, case, request)
        # Also the names of arrays: those that are not the spec's may be anything.
        arrays = {text.admit(key, text.NAME): _numeric(key, array) for key, array in recorded.items()}
    except (DeviceMissing, FrameworkMissing):
        raise
    except Unsupported as error:
        return answer("unsupported", reason=text.admit(str(error))), {}
    # Whatever it is, SystemExit too, it is this side's answer: the other checks and experiments are still to be asked.
    except BaseException as error:
        return answer("failed", reason=text.exception(error), traceback=text.trace(error)), {}
    return answer("recorded"), arrays


def _numeric(name: str, array: Any) -> np.ndarray:
    """The array, where it is one that can be written down."""
    found = np.asarray(array)
    if found.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected a NumPy array of numbers, got {type(array).__name__} ({found.dtype})")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
