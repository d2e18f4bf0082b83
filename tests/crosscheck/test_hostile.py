"""Implementations that fork, hang, flood or end their process: the run goes on in time, and nothing of them is left."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from bad_input import prepared

from crosscheck.recording import keeper, temporary
from spec import cache

FAKE = Path(__file__).parent / "fake_framework.py"
ROOT = Path(__file__).parents[2]

MARK = "CROSSCHECK_TEST_OF_HOSTILES"
"""In the environment of a run and of all that it starts, so that what is left can be told from everything else."""

IN_TIME = 5.0
"""Seconds past the deadline within which all must have ended."""

Edit = Callable[..., str]

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="what is left is looked for in /proc")


def left(mark: str) -> list[str]:
    """The commands of the processes that bear the mark and have not ended."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if (
                process.name.isdigit()
                and f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0")
                and b") Z" not in (process / "stat").read_bytes()
            ):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@pytest.fixture
def scratch_directory(tmp_path: Path) -> Path:
    """Where a run has its temporary directories; a short path, as the system's."""
    path = tmp_path / "t"
    path.mkdir()
    return path


started: list["Run"] = []


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """A test that fails leaves nothing running either."""
    yield
    for run in started:
        run.process.kill()
        run.process.communicate()
    started.clear()


class Run:
    """crosscheck as a process of its own, marked."""

    def __init__(self, place: Path, temporary: Path, *arguments: str):
        started.append(self)
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self.temporary = temporary
        self.process = subprocess.Popen(
            # A process in the background may have been told to ignore Ctrl-C, and hands that on.
            prepared(
                "signal.signal(signal.SIGINT, signal.SIG_DFL)",
                [sys.executable, "-m", "crosscheck", *arguments, "--out", str(place / "report")],
            ),
            cwd=ROOT,
            env={**os.environ, MARK: self.mark, "TMPDIR": str(temporary), **cache.NOTHING_KEPT},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def processes(self, number: int) -> None:
        """Wait until so many processes are there, its own included."""
        end = time.monotonic() + 30
        while len(left(self.mark)) < number:
            assert time.monotonic() < end
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)

    def end(self, within: float) -> tuple[int, str, str]:
        """Wait for the end; returns the exit code and both outputs. Nothing may be left."""
        try:
            output, errors = self.process.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise AssertionError(f"still running after {within} s: {left(self.mark)}") from None
        self.nothing_left(0.0)
        return self.process.returncode, output, errors

    def nothing_left(self, within: float) -> None:
        """No process, and no temporary directory unless the run was killed."""
        end = time.monotonic() + within
        while (found := left(self.mark)) and time.monotonic() < end:
            time.sleep(0.02)
        assert found == []
        if self.process.returncode != -signal.SIGKILL:
            assert list(self.temporary.iterdir()) == []


FORKS = "import os, time\nfor _ in range(3):\n    if os.fork() == 0:\n        time.sleep(60)\n        os._exit(0)\n"
SETSID = (
    "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(60)\n"
    "    os._exit(0)\nos.wait()\n"
)
DEAF = "import signal\nfor n in (1, 2, 3, 10, 12, 13, 14, 15): signal.signal(n, signal.SIG_IGN)\n"
HANGS = "import time\ntime.sleep(60)\n"
CLEARS = "import subprocess\nsubprocess.Popen(['sleep', '60'], start_new_session=True)\n"
RESPAWNS = (
    "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', '''import os, signal, subprocess, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.setsid() if os.getpgrp() != os.getpid() else None\n"
    'while True: subprocess.Popen(["sleep", "60"]).wait(); time.sleep(0.01)\'\'\'])\n'
)

ENDINGS = {
    # What it does: (at its import, or in `forward`; what it does; what is said of it).
    "hangs in import": ("import", HANGS, "no answer within 3 s"),
    "hangs in describe": ("describe", HANGS, "no answer within 3 s"),
    "hangs in forward": ("forward", HANGS, "no answer within 3 s"),
    "hangs in native code": ("forward", "import re\nre.match('(a+)+$', 'a' * 60 + 'b')\n", "no answer within 3 s"),
    "is deaf and hangs": ("forward", DEAF + HANGS, "no answer within 3 s"),
    "forks, and its children keep the pipes": ("forward", FORKS + HANGS, "no answer within 3 s"),
    "forks and ends": ("forward", FORKS + "os._exit(0)\n", "ended with exit code 0"),
    "forks by native code": (
        "forward",
        "import ctypes, os, time\nif ctypes.CDLL(None).fork() == 0:\n    time.sleep(60)\nos._exit(5)\n",
        "ended with exit code 5",
    ),
    "leaves a child in a session of its own": ("forward", SETSID + "os._exit(3)\n", "ended with exit code 3"),
    "leaves a child that restarts what is killed": ("forward", RESPAWNS + HANGS, "no answer within 3 s"),
    "ends its process": ("forward", "import os\nos._exit(0)\n", "ended with exit code 0"),
    "is killed": ("forward", "import os\nos.kill(os.getpid(), 9)\n", "was killed by SIGKILL"),
    "aborts": ("forward", "import os\nos.abort()\n", "was killed by SIGABRT"),
    "kills its keeper": ("forward", "import os\nos.kill(os.getppid(), 9)\n" + HANGS, "was killed by SIGKILL"),
    "stops its keeper": ("forward", "import os\nos.kill(os.getppid(), 19)\n" + HANGS, "no answer within 3 s"),
    "stops itself": ("forward", "import os\nos.kill(os.getpid(), 19)\n", "no answer within 3 s"),
    "closes all handles": ("forward", "import os\nos.closerange(0, 4096)\n" + HANGS, "closed the pipe"),
    "floods the answers": (
        "forward",
        "import os, stat\nwhile True:\n    for n in range(3, 100):\n        try:\n"
        "            if not stat.S_ISFIFO(os.fstat(n).st_mode): continue\n"
        # A pipe that nobody empties is not to keep it from the one that answers go through.
        "            os.set_blocking(n, False)\n            os.write(n, b'x' * 60000)\n        except OSError: pass\n",
        "where an answer is expected",
    ),
    "answers for its worker": (
        "forward",
        "import os\nfor n in range(3, 100):\n    try: os.write(n, b'garbage\\n')\n    except OSError: pass\n",
        "sent b'garbage' where an answer is expected",
    ),
    "raises SystemExit": ("forward", "raise SystemExit(0)\n", "SystemExit: 0"),
    "raises KeyboardInterrupt": ("forward", "raise KeyboardInterrupt\n", "KeyboardInterrupt"),
    "recurs for ever": ("forward", "def f(): f()\nf()\n", "RecursionError"),
    "takes all memory": (
        "forward",
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\nx = bytearray(2**33)\n",
        "MemoryError",
    ),
    "exits in import": ("import", "raise SystemExit(0)\n", "import: SystemExit: 0"),
    "lacks a library": (
        "import",
        "raise OSError('libcudart.so.12: cannot open')\n",
        "import: OSError: libcudart.so.12",
    ),
    "is broken": (
        "import",
        "import numpy\nnumpy.no_such_thing\n",
        "import: AttributeError: module 'numpy' has no attr",
    ),
    "says more than a message holds": ("forward", "raise ValueError('x' * 30_000_000)\n", "of 30,000,012 characters]"),
}


def hostile(fake: Edit, where: str, what: str) -> str:
    """The fake implementation, which does that as well."""
    if where == "import":
        return fake(("import numpy as np\n", f"import numpy as np\n{what}"))
    begin = {"describe": '    return {"fake"', "forward": "    inputs = batch.inputs.astype"}[where]
    inside = "".join(f"    {line}\n" for line in what.splitlines())
    # Text within a string is not indented.
    inside = inside if "'''" not in what else f"    exec({what!r})\n"
    return fake((begin, f"{inside}{begin}"))


@pytest.mark.by_default(
    "hangs in forward",
    "leaves a child in a session of its own",
    "raises SystemExit",
    "is killed",
    "floods the answers",
    "exits in import",
    "lacks a library",
)
@pytest.mark.parametrize("ending", ENDINGS)
def test_it_ends_in_time_and_leaves_nothing(
    ending: str, fake: Edit, experiment: Path, tmp_path: Path, scratch_directory: Path
):
    where, what, said = ENDINGS[ending]
    second = hostile(fake, where, what)
    begin = time.monotonic()
    run = Run(
        tmp_path,
        scratch_directory,
        *(str(experiment), "--checks", "forward", "--precision", "float64"),
        *("--timeout", "3" if said.endswith("within 3 s") else "30", "--implementations", str(FAKE), second),
    )
    code, output, errors = run.end(45)
    assert code == 3, errors
    assert said in output + errors
    assert "Traceback" not in output + errors
    report = tmp_path / "report" / "report.json"
    # One deadline, with what it takes to start two interpreters on a busy machine.
    if report.exists() and "within 3 s" in said:
        assert json.loads(report.read_text())["seconds"] < 3 + IN_TIME
    assert time.monotonic() - begin < 3 + 2 * IN_TIME + 15


def test_what_it_prints_is_kept_at_its_end_alone(fake: Edit, experiment: Path, tmp_path: Path, scratch_directory: Path):
    """Gigabytes on standard error: neither a disk nor the memory is filled, and the last words are there."""
    what = (
        "import os, sys\nline = b'x' * 99999 + b'\\n'\nfor _ in range(20000): os.write(2, line)\n"
        "print('printed'); sys.stdout.flush(); print('last words', file=sys.stderr); os._exit(1)\n"
    )
    second = hostile(fake, "forward", what)
    run = Run(
        tmp_path,
        scratch_directory,
        *(str(experiment), "--checks", "forward", "--precision", "float64"),
        *("--implementations", str(FAKE), second),
    )
    largest = 0
    while run.process.poll() is None:
        # Not rglob, which raises where a directory goes away while it is read.
        for folder, _, names in os.walk(scratch_directory):
            for name in names:
                with suppress(OSError):
                    largest = max(largest, os.stat(os.path.join(folder, name)).st_size)
        time.sleep(0.01)
    code, output, _ = run.end(5)
    assert code == 3
    assert "ended with exit code 1: last words" in output
    assert largest <= 2 * keeper.TAIL


ALL = 1 + 2 * (2 + 3 + 1 + 1)
"""Processes of a run of two `busy` sides: a keeper and a worker each, forks, a session of its own, a command."""


@pytest.fixture
def busy(fake: Edit) -> str:
    """An implementation that hangs, deaf, with children inside and outside of its process group."""
    return hostile(fake, "forward", DEAF + FORKS + SETSID + CLEARS + HANGS)


INTERRUPTED = (signal.SIGINT, 130, "interrupted")
TERMINATED = (signal.SIGTERM, 143, "terminated")
HUNG_UP = (signal.SIGHUP, 129, "hung up")


@pytest.mark.by_default("check-2-*", "faults-1-*", "record-1-*")
@pytest.mark.parametrize(
    ("command", "number", "code", "said"),
    [
        *(("check", *one) for one in (INTERRUPTED, TERMINATED, HUNG_UP)),
        # What a signal does is decided in one place for all commands.
        ("record", *HUNG_UP),
        *(pytest.param("bench", *one, marks=pytest.mark.needs("torch", "flax")) for one in (INTERRUPTED, TERMINATED)),
        *(("faults", *one) for one in (INTERRUPTED, HUNG_UP)),
    ],
)
def test_a_signal_ends_everything(
    command: str,
    number: signal.Signals,
    code: int,
    said: str,
    busy: str,
    experiment: Path,
    tmp_path: Path,
    scratch_directory: Path,
):
    checks = ("--checks", "forward", "--precision", "float64")
    arguments = {
        "check": (str(experiment), *checks, "--implementations", busy, busy),
        "record": ("record", busy, str(experiment), *checks),
        "bench": ("bench", "--quick", "--workloads", "gru-*"),
        "faults": ("faults", "--only-clean", "--clean", "4"),
    }[command]
    run = Run(tmp_path, scratch_directory, *arguments)
    run.processes({"check": ALL, "record": 1 + (ALL - 1) // 2, "faults": 5, "bench": 5}[command])
    begin = time.monotonic()
    run.process.send_signal(number)
    time.sleep(0.05)
    # Who presses Ctrl-C twice disturbs no tidying.
    run.process.send_signal(signal.SIGINT)
    found, _, errors = run.end(30)
    assert time.monotonic() - begin < IN_TIME
    assert found == code
    assert errors.splitlines()[-1] == said
    assert "Traceback" not in errors
    assert not list(tmp_path.glob("report/*"))


def test_workers_end_with_a_run_that_is_killed(busy: str, experiment: Path, tmp_path: Path, scratch_directory: Path):
    arguments = (str(experiment), "--checks", "forward", "--precision", "float64", "--implementations")
    run = Run(tmp_path, scratch_directory, *arguments, busy, busy)
    run.processes(ALL)
    run.process.kill()
    run.process.communicate()
    run.nothing_left(IN_TIME)
    assert len(list(scratch_directory.iterdir())) == 1
    # The next run tidies up after it, however soon it begins.
    again = Run(tmp_path, scratch_directory, *arguments, str(FAKE), str(FAKE))
    assert again.end(60)[0] == 0


def test_directories_of_runs_that_go_on_are_left_alone(scratch_directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(scratch_directory))
    program = (
        "import sys, time, tempfile\nfrom crosscheck.recording import temporary\n"
        "with temporary.directory() as place:\n    print(place, flush=True)\n    time.sleep(60)\n"
    )
    environment = {**os.environ, "TMPDIR": str(scratch_directory), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        theirs = Path(other.stdout.readline().strip())
        (theirs / "log").write_text("")
        with temporary.directory() as mine:
            assert mine.is_dir()
            assert theirs.is_dir()
        assert not mine.exists()
        assert theirs.is_dir()
        other.kill()
    with temporary.directory():
        assert not theirs.exists()


def test_a_directory_is_marked_when_it_is_locked(scratch_directory: Path, monkeypatch: pytest.MonkeyPatch):
    """Else another run, which begins at the same moment, would take it for one of a run that was killed."""
    monkeypatch.setattr(tempfile, "tempdir", str(scratch_directory))
    seen: list[list[str]] = []
    lock = temporary._lock

    def look(path: Path) -> int | None:
        seen.append([child.name for child in path.parent.iterdir()])
        return lock(path)

    monkeypatch.setattr(temporary, "_lock", look)
    with temporary.directory() as mine:
        assert (mine / temporary.LOCK).exists()
    assert seen
    assert all(temporary.LOCK not in names for names in seen)


def test_what_is_somebody_elses_is_left_alone(scratch_directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(scratch_directory))
    theirs = scratch_directory / f"{temporary.PREFIX}results"
    theirs.mkdir()
    (theirs / "figures.csv").write_text("1")
    with temporary.directory():
        pass
    assert (theirs / "figures.csv").read_text() == "1"


def test_what_is_done_undisturbed_is_done():
    done: list[int] = []

    def work() -> None:
        for step in range(20):
            time.sleep(0.01)
            done.append(step)

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            temporary.undisturbed(work)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert done == list(range(20))
