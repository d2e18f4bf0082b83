"""Kill a run at every one of its writes to the disk, resume it, and hold the result against an uninterrupted run.

    python tests/spec/kill_everywhere.py [--stride 1]

Each run is a process of its own, forked, since a process can be killed but once: before the n-th call that changes
something on the disk, for every n that there is, and in the midst of each write, half of it being done. Prints a line
for each kind of operation with how often it was cut short; exit code 1 where a resumption fails or gives other bits.
"""

import argparse
import io
import json
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

import fake_impl  # noqa: E402

from spec import parameters  # noqa: E402
from spec.command import main, session  # noqa: E402

ARGUMENTS = ["ragged-lstm", "--epochs", "2", "--seed", "3", "--checkpoint-steps", "4", "--keep", "3", "--patience", "9"]
"""Ten steps an epoch: checkpoints stand within epochs and at their ends."""

OPERATIONS = ("replace", "link", "unlink", "fsync", "mkdir", "write_bytes", "open")
"""What changes a disk, or waits for it."""

Operation = Callable[..., Any]


def count_and_kill(at: int, count: list[str]) -> None:
    """Have this process killed before operation number `at`; -1 for never. count: the operations so far."""

    def deadly(name: str, real: Operation, writes: bool) -> Operation:
        def operation(*arguments: Any, **options: Any) -> Any:
            if name == "open" and (len(arguments) < 2 or "a" not in arguments[1]):
                return real(*arguments, **options)
            count.append(name)
            if len(count) - 1 == at:
                if writes:
                    path, content = arguments
                    real(path, content[: len(content) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return operation

    for name in OPERATIONS:
        owner: Any = Path if name in ("unlink", "mkdir", "write_bytes", "open") else os
        setattr(owner, name, deadly(name, getattr(owner, name), name == "write_bytes"))


def execute(arguments: list[str], at: int = -1) -> tuple[int, list[str], str]:
    """The command in a process of its own: its exit code (-9 where it was killed), operations, and stderr."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        count: list[str] = []
        session.loss_plot = lambda *_: b"a plot"
        sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
        count_and_kill(at, count)
        code = main("fake_impl", arguments)
        with os.fdopen(writer, "w") as answer:
            json.dump([count, sys.stderr.getvalue()], answer)
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    count, said = json.loads(text) if text else ([], "")
    return code, count, said


def result(directory: Path) -> dict[str, Any]:
    """What a finished run is compared by."""
    found: dict[str, Any] = {}
    for file in sorted(directory.rglob("*.safetensors")):
        arrays, metadata = parameters.load(file)
        found[str(file.relative_to(directory))] = ({n: a.tobytes() for n, a in arrays.items()}, metadata)
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    found["metrics"] = [line for line in lines if line["event"] in ("epoch", "end")]
    found["files"] = sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))
    return found


def run_all(arguments: list[str], stride: int = 1) -> int:
    """Kill at each operation, or each of that stride, and say what became of it."""
    fake_impl.behaviour.solves_at_step = None
    wrong, tally = 0, Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        # Here, for all that are forked: what is imported when it is first needed.
        with redirect_stdout(io.StringIO()):
            main("fake_impl", [*arguments, "--out", "first"])
        code, operations, said = execute([*arguments, "--out", "whole"])
        assert code in (0, 1), said
        expected = result(Path("whole"))
        for at, operation in list(enumerate(operations))[::stride]:
            shutil.rmtree("run", ignore_errors=True)
            code, _, said = execute([*arguments, "--out", "run"], at)
            assert code == -signal.SIGKILL, (at, operation, code, said)
            begun = Path("run/checkpoint.safetensors").exists()
            code, _, said = execute(["--resume", "--out", "run"] if begun else [*arguments, "--out", "run"])
            if code not in (0, 1) or said:
                wrong += 1
                print(f"WRONG: killed at operation {at}, {operation}: going on exits {code}: {said}")
            elif result(Path("run")) != expected:
                wrong += 1
                print(f"WRONG: killed at operation {at}, {operation}: not the bits of the uninterrupted run")
            tally[operation] += 1
        os.chdir("/")
    print(", ".join(f"{count} {name}" for name, count in sorted(tally.items())))
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--stride", type=int, default=1, help="kill at every N-th operation")
    sys.exit(run_all(ARGUMENTS, parser.parse_args().stride))
