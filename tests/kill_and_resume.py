"""Stop both train commands at random moments, resume them, and hold the result against an uninterrupted run.

    python tests/kill_and_resume.py [--times 25] [--seed 0] [--implementations torch_impl flax_impl]
                                    [--kinds gentle SIGKILL] [--long]

--long: of a run that saves within its epochs, has batches of several lengths that differ from step to step, and ends
when its patience does.

Half of the gentle stops are SIGTERM, half Ctrl-C: each is to exit with its code (143, 130) after one line, with no
temporary file left; or with the verdict, if it came too late. As many processes are killed. Whatever happened, resuming
(or starting again, where nothing was trained yet) is to give the very bits of the uninterrupted run. Takes minutes, so
it is no part of the test suite: `make test-signals`. Exit code 0 if all held.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from spec import parameters  # noqa: E402

EXPERIMENT = ("hello-stacked-lstm-dropout", "--epochs", "300", "--seed", "3")
"""With dropout, whose own masks must go on where they stopped."""

LONG = (
    *("ragged-lstm", "--epochs", "60", "--seed", "3", "--learning-rate", "0.05"),
    *("--checkpoint-steps", "4", "--keep", "3", "--patience", "5"),
)

KINDS = {"gentle": (signal.SIGTERM, signal.SIGINT), "SIGKILL": (signal.SIGKILL,)}
"""The signals of each kind of stop, in turn."""

LATE = "had come to its end"
"""What became of a moment at which the training was over already, and resuming it changed nothing."""

PATIENCE = 5.0
"""Seconds in which a gentle stop is to be over, on a machine that others use as well."""

TRIES = 4
"""For a moment before the end; the next is earlier than one that came too late."""


def command(implementation: str, *arguments: str) -> list[str]:
    """A train command as users start it: Python ends one by -m in another way than one by -c."""
    return [sys.executable, "-m", f"{implementation}.train", *arguments]


def start(implementation: str, cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command, in a process of its own."""
    return subprocess.Popen(
        command(implementation, *arguments),
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(directory: Path) -> dict[str, Any]:
    """What a finished run is compared by: every array's bytes, and every epoch."""
    found: dict[str, Any] = {}
    for name in ("checkpoint.safetensors", "parameters.safetensors", "best.safetensors"):
        arrays, metadata = parameters.load(directory / name)
        found[name] = ({key: array.tobytes() for key, array in arrays.items()}, metadata)
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    found["epochs"] = [line for line in lines if line["event"] == "epoch"]
    return found


def finish(implementation: str, cwd: Path, experiment: tuple[str, ...]) -> str:
    """Resume a run that was stopped, or start it where nothing was trained; how, or what went wrong."""
    begun = (cwd / "run" / "checkpoint.safetensors").exists()
    arguments = ("--resume",) if begun else experiment
    process = start(implementation, cwd, *arguments, "--out", "run")
    _, err = process.communicate(timeout=300)
    if process.returncode not in (0, 1) or err:
        return f"WRONG: {' '.join(arguments)} exits {process.returncode}: {err}"
    return "resumed" if begun else "started again"


def stop(
    implementation: str,
    experiment: tuple[str, ...],
    number: signal.Signals,
    after: float,
    expected: dict[str, Any],
    cwd: Path,
) -> str:
    """One moment: what became of it, or what went wrong."""
    process = start(implementation, cwd, *experiment, "--out", "run")
    time.sleep(after)
    process.send_signal(number)
    sent = time.monotonic()
    _, err = process.communicate(timeout=300)
    took, code = time.monotonic() - sent, process.returncode
    if number != signal.SIGKILL and code not in (0, 1):
        # Before the command could say a word, and after its last one, the system ends it.
        quiet = code == -number and not err
        if not quiet and code != 128 + number:
            return f"WRONG: {number.name} after {after:.2f} s exits {code}: {err}"
        if not quiet and not (err.startswith("interrupted") and err.count("\n") == 1):
            return f"WRONG: {number.name} after {after:.2f} s says: {err}"
        if left := [path.name for path in cwd.rglob(".*")]:
            return f"WRONG: {number.name} after {after:.2f} s leaves {left}"
        if took > PATIENCE:
            return f"WRONG: {number.name} after {after:.2f} s ends after {took:.1f} s"
    how = finish(implementation, cwd, experiment)
    if not how.startswith("WRONG") and result(cwd / "run") != expected:
        return f"WRONG: {number.name} after {after:.2f} s: {how}, and not the bits of the uninterrupted run"
    return how if code not in (0, 1) else LATE


def main() -> int:
    """Do all of it, and say what became of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=25, help="moments of each kind and implementation")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--implementations", nargs="+", default=["torch_impl", "flax_impl"])
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--long", action="store_true", help="stop a run that has what long ones have")
    options = parser.parse_args()
    experiment = LONG if options.long else EXPERIMENT
    # A process in the background may have been told to ignore Ctrl-C, and hands that on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    wrong = 0
    for implementation in options.implementations:
        with tempfile.TemporaryDirectory() as name:
            place, duration = Path(name), 0.0
            for _ in range(2):  # The second has what the first compiled, as all that follow.
                shutil.rmtree(place / "run", ignore_errors=True)
                began = time.monotonic()
                process = start(implementation, place, *experiment, "--out", "run")
                process.communicate()
                duration = time.monotonic() - began
            expected = result(place / "run")
            for kind in options.kinds:
                numbers = KINDS[kind]
                moments = random.Random(f"{options.seed} {implementation} {kind}")
                tally: Counter[str] = Counter()
                for index in range(options.times):
                    how, tries = LATE, 0
                    # On a machine that others use as well, the next run may be faster than the one that was timed.
                    while how == LATE and tries < TRIES:
                        cwd = place / f"{kind}-{index}-{tries}"
                        cwd.mkdir()
                        after = moments.uniform(0, duration)
                        how = stop(implementation, experiment, numbers[index % len(numbers)], after, expected, cwd)
                        shutil.rmtree(cwd)
                        tries += 1
                        if how == LATE:
                            duration = after
                    if how.startswith("WRONG"):
                        wrong += 1
                        print(how, flush=True)
                    tally[how.partition(":")[0]] += 1
                counts = ", ".join(f"{count} {how}" for how, count in sorted(tally.items()))
                print(f"{implementation}, {options.times} {kind} stops in {duration:.1f} s: {counts}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
