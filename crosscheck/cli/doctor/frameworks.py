"""What each implementation's framework is like, asked in a process of its own."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from crosscheck.cli.doctor.line import DoctorLine
from crosscheck.cli.doctor.worker import AskedToLook, FrameworkMissed, FrameworkSeen, Sight
from crosscheck.recording import temporary
from crosscheck.recording.worker_pool import Worker
from crosscheck.request import DEFAULT_IMPLEMENTATIONS
from spec import cache, requirements
from spec.environment import LARGEST_PRODUCT_ERROR, DeviceFound
from spec.text import visible

PATIENCE = 120.0
"""Seconds: to import a framework anew takes one or a few; on a network's disk, many."""

MODERATE = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""So that to look at a GPU does not take three quarters of its memory."""


def ask(implementation: str, directory: Path) -> Sight:
    """Have one process look. directory: for its log."""
    log = directory / f"{len(list(directory.iterdir()))}.log"
    worker = Worker(
        implementation,
        log,
        {**MODERATE, **cache.variables()},
        "crosscheck.cli.doctor.worker",
        answers=Sight,
    )
    try:
        found = worker.serve(AskedToLook(), PATIENCE)
    finally:
        worker.stop()
        worker.close()
    return FrameworkMissed(message=f"{implementation}: {found}", installed=True) if isinstance(found, str) else found


def look(implementations: Sequence[str]) -> dict[str, Sight]:
    """What became of each, one after the other: two at once would be two frameworks' memory."""
    with temporary.directory() as directory:
        return {name: ask(name, directory) for name in dict.fromkeys(implementations)}


def lines(found: dict[str, Sight]) -> Iterator[DoctorLine]:
    """A line for each framework that is not there, and for each device of those that are."""
    there = [name for name, sight in found.items() if isinstance(sight, FrameworkSeen)]
    for name, sight in found.items():
        if isinstance(sight, FrameworkMissed):
            yield _missing(name, sight, there)
            continue
        yield from _seen(name, sight)


def _missing(name: str, sight: FrameworkMissed, there: Sequence[str]) -> DoctorLine:
    message = sight.message.removeprefix(f"{name}: ")
    if sight.installed:
        fix = "install it anew" if name not in requirements.EXTRAS else _again(name)
        return DoctorLine(group="frameworks", name=name, status="fail", said=message, fix=fix)
    said, _, hint = message.partition("; to install it: ")
    fix = f"{hint}" if hint else "install it"
    if there and name in DEFAULT_IMPLEMENTATIONS:
        fix += f", or compare {there[0]} alone: --implementations {there[0]} spec.reference --precision float64"
    return DoctorLine(group="frameworks", name=name, status="warn" if there else "fail", said=said, fix=fix)


def _again(name: str) -> str:
    command = requirements.hint(requirements.EXTRAS[name]).partition(": ")[2]
    return command.replace("pip install", "pip install --force-reinstall", 1)


def _seen(name: str, sight: FrameworkSeen) -> Iterator[DoctorLine]:
    environment = sight.environment
    if environment is None:
        for device, described in sight.described.items():
            said = ", ".join(f"{key} {value}" for key, value in described.items())
            yield DoctorLine(group="frameworks", name=f"{name}, {device}", status="ok", said=visible(said))
        return
    for device in environment.devices:
        yield _computes(name, device)
    if environment.floating != "float32":
        yield DoctorLine(
            group="frameworks",
            name=f"{name}, floats",
            status="warn",
            said=f"made {environment.floating} unless told otherwise, expected float32: models of a pair file begin in "
            "another precision than they do elsewhere",
            fix="leave the framework's default precision alone: unset what sets it, in variables or a start-up file",
        )
    yield _flushing(name, sight, environment.keeps_subnormals)


def _computes(name: str, device: DeviceFound) -> DoctorLine:
    what, error = f"{name}, {visible(device.name)}", device.product_error
    kind = visible(device.kind)
    # Also where it is no number.
    if error <= LARGEST_PRODUCT_ERROR:
        return DoctorLine(group="frameworks", name=what, status="ok", said=f"{kind}; products of float32 are float32's")
    return DoctorLine(
        group="frameworks",
        name=what,
        status="warn",
        said=f"{kind}; products of float32 are off by {error:.1e}, expected at most {LARGEST_PRODUCT_ERROR:.1e}: TF32 "
        "or bfloat16",
        fix="in a pair file, ask for the highest precision: torch.set_float32_matmul_precision('highest') and "
        "jax.config.update('jax_default_matmul_precision', 'highest'); experiments ask for it themselves",
    )


def _flushing(name: str, sight: FrameworkSeen, expected: bool) -> DoctorLine:
    """Of the CPU alone: what accelerators do with subnormals is theirs."""
    devices = sight.environment.devices if sight.environment else []
    kept = {device.keeps_subnormals for device in devices if device.name == "cpu"} or {expected}
    what = f"{name}, subnormals"
    if kept == {expected} and sight.keeps_subnormals:
        said = "kept" if expected else "flushed to zero by the framework itself, as ever; kept by NumPy beside it"
        return DoctorLine(group="frameworks", name=what, status="ok", said=said)
    who = "NumPy beside it" if not sight.keeps_subnormals else "the framework"
    did = "keeps" if kept != {expected} and not expected else "flushes"
    return DoctorLine(
        group="frameworks",
        name=what,
        status="warn",
        said=f"{who} {did} numbers below 1.2e-38{' to zero' if did == 'flushes' else ''}, which it did not when this "
        "was tried: something has switched that in the whole process",
        fix="leave out what is preloaded (LD_PRELOAD, a sitecustomize), or was built with -ffast-math",
    )
