"""Stop `python -m crosscheck` at random moments: nothing is left, and a run after it is as if nothing had been.

    python tests/stop_crosscheck.py [--times 25] [--seed 0] [EXPERIMENT ...]

Half of the stops are SIGTERM: the command is to exit with 143 after one line, or with its verdict if it came too late,
and to leave no process and no temporary directory. Half are SIGKILL: its processes are to end by themselves, and the
directory is to be gone after the next run. After every stop the same command is to come to its verdict, from the very
recordings of an uninterrupted run where it keeps them. Takes minutes, so it is no part of the test suite: `make
test-signals`. Exit code 0 if all held.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MARK = "CROSSCHECK_THAT_IS_STOPPED"
PATIENCE = 5.0
"""Seconds in which everything is to end."""


def left(mark: str) -> list[str]:
    """The commands of the processes that bear the mark and have not ended."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            marked = process.name.isdigit() and f"{MARK}={mark}".encode() in (process / "environ").read_bytes()
            if marked and b") Z" not in (process / "stat").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


class Place:
    """A directory with a cache, temporary files and reports of its own."""

    def __init__(self, path: Path, experiments: list[str]):
        self.path, self.experiments = path, experiments
        self.temporary = path / "temporary"
        self.temporary.mkdir()
        self.number = 0

    def start(self, *options: str) -> tuple[subprocess.Popen[str], str]:
        """The command, in a process of its own, and its mark."""
        self.number += 1
        mark = f"{os.getpid()}-{self.number}"
        command = [sys.executable, "-m", "crosscheck", *self.experiments, *options, "--out", str(self.path / "report")]
        environment = {MARK: mark, "TMPDIR": str(self.temporary), "XDG_CACHE_HOME": str(self.path / "cache")}
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return process, mark

    def finish(self) -> str:
        """Run to the end; what is wrong with that."""
        process, mark = self.start()
        _, errors = process.communicate(timeout=600)
        if process.returncode != 0 or "Traceback" in errors:
            return f"a run after it exits {process.returncode}: {errors[-500:]}"
        if left(mark) or list(self.temporary.iterdir()):
            return f"a run after it leaves {left(mark)}, {list(self.temporary.iterdir())}"
        report = json.loads((self.path / "report" / "report.json").read_text())
        return "" if report["exit_code"] == 0 else f"a run after it finds {report['verdict']}"

    def stop(self, number: signal.Signals, after: float) -> str:
        """One moment: what became of it, or what went wrong."""
        process, mark = self.start("--fresh")
        time.sleep(after)
        process.send_signal(number)
        sent = time.monotonic()
        _, errors = process.communicate(timeout=600)
        took, code = time.monotonic() - sent, process.returncode
        when = f"WRONG: {number.name} after {after:.2f} s"
        while (found := left(mark)) and time.monotonic() < sent + PATIENCE:
            time.sleep(0.05)
        if found:
            return f"{when} leaves {found}"
        if "Traceback" in errors:
            return f"{when} says {errors}"
        if number == signal.SIGTERM:
            # Before the command could say a word, the system ends it.
            quiet = code == -number and not errors
            if code not in (0, 143) and not quiet:
                return f"{when} exits {code}: {errors}"
            if code == 143 and errors.splitlines()[-1] != "terminated":
                return f"{when} says {errors}"
            if list(self.temporary.iterdir()):
                return f"{when} leaves {list(self.temporary.iterdir())}"
            if took > PATIENCE:
                return f"{when} ends after {took:.1f} s"
        if wrong := self.finish():
            return f"{when}: {wrong}"
        return "had come to its end" if code == 0 else "stopped"


def main() -> int:
    """Do all of it, and say what became of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("experiments", nargs="*", default=["hello-rnn", "hello-gru"], metavar="EXPERIMENT")
    parser.add_argument("--times", type=int, default=25, help="moments of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    wrong = 0
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        place = Place(Path(name), options.experiments)
        for _ in range(2):  # The second has what the first compiled, as all that follow.
            began = time.monotonic()
            process, _ = place.start("--fresh")
            process.communicate()
            duration = time.monotonic() - began
        for number in (signal.SIGTERM, signal.SIGKILL):
            tally: Counter[str] = Counter()
            for _ in range(options.times):
                how = place.stop(number, moments.uniform(0, duration))
                if how.startswith("WRONG"):
                    wrong += 1
                    print(how, flush=True)
                tally[how.partition(":")[0]] += 1
            counts = ", ".join(f"{count} {how}" for how, count in sorted(tally.items()))
            print(f"{options.times} times {number.name} in {duration:.1f} s: {counts}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
