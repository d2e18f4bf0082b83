"""The verdict comes first, and neither a full disk, a closed pipe nor an error of crosscheck's own takes it away."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crosscheck.cli import output, run
from crosscheck.cli.command import FILES, main
from spec import files
from spec.errors import UsageError

FAKE = Path(__file__).parent / "fake_framework.py"
ROOT = Path(__file__).parents[2]

RunCrosscheck = Callable[..., Any]
Edit = Callable[..., str]


def executed(redirected: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a shell, with its exit code whatever the pipe's."""
    words = " ".join(f"'{word}'" for word in (sys.executable, "-m", "crosscheck", *arguments))
    program = f"{words} {redirected}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(["bash", "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def words(experiment: Path, tmp_path: Path) -> Callable[..., tuple[str, ...]]:
    """Arguments that compare an implementation with the fake one."""

    def make(second: str = str(FAKE), *options: str) -> tuple[str, ...]:
        sides = ("--implementations", str(FAKE), second)
        return (str(experiment), "--checks", "gradients", *sides, "--out", str(tmp_path / "report"), *options)

    return make


@pytest.mark.by_default("True-options1", "False-options1")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize("wrong", [False, True])
def test_a_full_disk_leaves_the_exit_code(
    options: tuple[str, ...], wrong: bool, words: Callable[..., Any], fake: Edit, tmp_path: Path
):
    planted = ("    loss = sum(", "    found['head.bias'] = found['head.bias'] * 2\n    loss = sum(")
    done = executed("> /dev/full", *words(fake(planted) if wrong else str(FAKE), *options))
    assert done.returncode == int(wrong)
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: standard output cannot be written: [Errno 28] No space left on device") == 1
    assert (tmp_path / "report" / "report.json").exists()


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_reader_that_has_read_enough(options: tuple[str, ...], words: Callable[..., Any], tmp_path: Path):
    done = executed("| true", *words(str(FAKE), *options))
    assert done.returncode == 0
    assert "error" not in done.stderr.lower()
    assert (tmp_path / "report" / "report.md").exists()


def test_a_list_whose_reader_has_read_enough():
    done = executed("| head -1", "--list")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_progress_that_cannot_be_shown_costs_nothing(words: Callable[..., Any]):
    done = executed("2> /dev/full", *words())
    assert done.returncode == 0
    assert "THE SAME in what was asked: 1 experiment" in done.stdout


@pytest.mark.parametrize("wrong", [False, True])
def test_reports_that_cannot_be_written_cost_no_verdict(
    run_crosscheck: RunCrosscheck, fake: Edit, monkeypatch: pytest.MonkeyPatch, wrong: bool
):
    planted = ("    loss = sum(", "    found['head.bias'] = found['head.bias'] * 2\n    loss = sum(")

    def full(path: Path, content: bytes, lasting: bool = True) -> None:
        raise UsageError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr(files, "write", full)
    outcome = run_crosscheck(fake(planted) if wrong else str(FAKE), "--checks", "gradients")
    assert outcome.exit_code == int(wrong)
    assert ("DIFFERENT" if wrong else "THE SAME") in outcome.output
    lost = [line for line in outcome.errors.splitlines() if line.startswith("error: ")]
    # The page is written where it is asked for.
    assert len(lost) == len(FILES) - 1
    assert all("the report is lost" in line and "No space left on device" in line for line in lost)


def test_the_verdict_is_printed_before_reports_are_written(
    run_crosscheck: RunCrosscheck, monkeypatch: pytest.MonkeyPatch
):
    order: list[str] = []
    said, written = output.say, files.write
    monkeypatch.setattr(output, "say", lambda text: (order.append(text), said(text)))

    def write(path: Path, content: bytes, lasting: bool = True) -> None:
        # Beside reports, how long checks take is kept for the next run.
        if path.name in FILES:
            order.append(path.name)
        written(path, content, lasting=lasting)

    monkeypatch.setattr(files, "write", write)
    assert run_crosscheck(str(FAKE), "--checks", "forward").exit_code == 0
    assert "THE SAME" in order[0]
    assert order[1:3] == ["report.json", "report.md"]


def test_a_picture_that_cannot_be_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def draw() -> bytes:
        raise ModuleNotFoundError("No module named 'matplotlib'")

    output.leave(tmp_path / "new", {"plot.png": draw, "report.md": lambda: b"text"})
    captured = capsys.readouterr()
    assert captured.err == ("error: the report plot.png is lost: ModuleNotFoundError: No module named 'matplotlib'\n")
    assert captured.out == f"report: {tmp_path / 'new' / 'report.md'}\n"


def test_an_error_of_its_own_is_one_line_and_keeps_its_traceback(
    run_crosscheck: RunCrosscheck, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("planted\nin two lines")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(run, "run", broken)
    outcome = run_crosscheck()
    assert outcome.exit_code == 3
    (line,) = outcome.errors.splitlines()
    assert line.startswith("error: ZeroDivisionError: planted in two lines (an error that was not foreseen; ")
    (kept,) = tmp_path.glob("*traceback*")
    assert str(kept) in line
    assert "Traceback (most recent call last)" in kept.read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_that_is_swallowed_ends_the_run_all_the_same(
    run_crosscheck: RunCrosscheck, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
):
    honest = run.run

    def swallowing(*arguments: Any) -> Any:
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        except KeyboardInterrupt:
            pass
        return honest(*arguments)

    # Under nohup one of them is ignored, and stays so.
    before = {each: signal.signal(each, signal.default_int_handler) for each in (signal.SIGINT, number)}
    try:
        monkeypatch.setattr(run, "run", swallowing)
        assert run_crosscheck(str(FAKE), "--checks", "forward").exit_code == code
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_older_reports_are_moved_aside_by_a_run_without_a_verdict(
    run_crosscheck: RunCrosscheck, fake: Edit, tmp_path: Path
):
    report = tmp_path / "report"
    report.mkdir()
    (report / "report.md").write_text("of my own")
    # A mistake of the user's touches nothing.
    assert run_crosscheck("no_such_module").exit_code == 2
    assert (report / "report.md").read_text() == "of my own"
    assert run_crosscheck(fake(("import numpy as np\n", "raise ValueError\nimport numpy as np\n"))).exit_code == 3
    assert {path.name: path.read_text() for path in report.iterdir()} == {"report.md.previous": "of my own"}


def test_reports_are_as_the_umask_says(run_crosscheck: RunCrosscheck, tmp_path: Path):
    before = os.umask(0o027)
    try:
        assert run_crosscheck(str(FAKE), "--checks", "forward").exit_code == 0
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "report").iterdir()} == {0o640}
    assert main(["--list"]) == 0


def test_a_signal_within_text_that_is_executed_has_its_own_exit_code(tmp_path: Path):
    """Python itself would end the process by SIGINT then, although the exception was dealt with."""
    program = (
        "import os, runpy, signal, sys\nfrom crosscheck.cli import command\n"
        "def executing(arguments): exec('os.kill(os.getpid(), signal.SIGTERM)\\nsignal.pause()')\n"
        "command._carry_out = executing\nsys.argv = ['crosscheck']\n"
        "runpy.run_module('crosscheck', run_name='__main__', alter_sys=True)\n"
    )
    (tmp_path / "started.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "started"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (143, "terminated\n")
