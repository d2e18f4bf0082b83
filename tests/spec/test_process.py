"""The command as a process of its own: what it imports, signals, pipes, and a terminal."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spec import requirements
from spec.command.run_directory import RunDirectory

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
# A process in the background may have been told to ignore Ctrl-C, and hands that on.
HANDLED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
SLOW = (
    "import fake_impl, spec.command.session; fake_impl.behaviour.seconds_per_epoch = 0.02; "
    "spec.command.session.loss_plot = lambda *_: b'a plot'; "
)
"""Before the command: what gives a test the time to interfere, and spares it the drawing."""


def python(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", f"import sys; sys.path[:0] = {[str(ROOT), str(HERE)]!r}; {program}", *arguments]


def command(before: str = "", implementation: str = "fake_impl") -> str:
    return f"{before}from spec.command import main; sys.exit(main({implementation!r}))"


def execute(program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(python(program, *arguments), cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


HEAVY = ["torch", "jax", "flax", "optax", "rich", "matplotlib", "jaxtyping", "fake_impl"]


@pytest.mark.parametrize(
    ("implementation", "arguments", "code"),
    [
        ("torch_impl", ["--help"], 0),
        ("flax_impl", ["--list"], 0),
        ("torch_impl", ["--dry-run"], 0),
        ("flax_impl", ["no-such-experiment"], 2),
        ("torch_impl", ["--epochs", "-1"], 2),
    ],
)
def test_what_needs_no_framework_imports_nothing_heavy(
    implementation: str, arguments: list[str], code: int, tmp_path: Path
) -> None:
    program = (
        "import runpy, atexit; "
        f"atexit.register(lambda: print('heavy:', [m for m in {HEAVY} if m in sys.modules], file=sys.stderr)); "
        f"sys.argv[0] = '{implementation}.train'; "
        f"runpy.run_module('{implementation}.train', run_name='__main__', alter_sys=False)"
    )
    done = execute(program, *arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stderr.splitlines()[-1] == "heavy: []"


def test_the_list_of_what_is_heavy_would_notice(tmp_path: Path) -> None:
    program = f"import fake_impl, matplotlib; print([m for m in {HEAVY} if m in sys.modules])"
    assert execute(program, cwd=tmp_path).stdout == "['matplotlib', 'fake_impl']\n"


@pytest.mark.parametrize(("implementation", "extra"), [("torch_impl", "torch"), ("flax_impl", "flax")])
def test_without_its_framework_an_implementation_says_what_to_install(
    implementation: str, extra: str, tmp_path: Path
) -> None:
    done = execute(command(implementation=implementation), cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith(f"error: {implementation}: No module named ")
    assert done.stderr.endswith(f"; {requirements.hint(extra)}\n")
    assert list(tmp_path.iterdir()) == []


def test_the_entry_points_are_the_shared_command(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for implementation in ("torch_impl", "flax_impl"):
        done = subprocess.run(
            [sys.executable, "-m", f"{implementation}.train", "hello-gru", "--dry-run", "--json"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert '"name":"hello-gru"' in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_a_checkpoint_and_says_how_to_go_on(number: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        python(command(HANDLED + SLOW), "hello-gru", "--epochs", "100", "--log-every", "1", "--out", "a b"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while "epoch 10/100" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    directory = RunDirectory(tmp_path / "a b")
    saved = directory.load_checkpoint(directory.experiment()).origin.epochs
    assert saved in range(10, 100, 10)
    assert err == (
        f"interrupted; epoch {saved} of 100 is saved, go on with: python -m fake_impl.train --resume --out 'a b'\n"
    )


def test_a_signal_within_text_that_is_executed_has_its_own_exit_code(tmp_path: Path) -> None:
    """Python itself would end the process by SIGINT then, although the exception was dealt with."""
    program = (
        "import os, runpy, signal, sys\nfrom spec.command import entry\n"
        "def executing(*_): exec('os.kill(os.getpid(), signal.SIGTERM)\\nsignal.pause()')\n"
        "entry.run = executing\nsys.argv = ['train']\n"
        "runpy.run_module('torch_impl.train', run_name='__main__', alter_sys=True)\n"
    )
    (tmp_path / "started.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "started"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (143, "interrupted before anything was trained: SIGTERM\n")


def test_a_reader_that_leaves_ends_the_run_without_a_traceback(tmp_path: Path) -> None:
    process = subprocess.Popen(
        python(command(SLOW), "hello-gru", "--json", "--out", "a"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=30) == 130
    assert err.startswith("interrupted; epoch ")
    assert err.count("\n") == 1
    process.stderr.close()


def on_a_terminal(arguments: list[str], cwd: Path, **environment: str) -> str:
    """What a terminal shows on which the command runs."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        python(command(SLOW), *arguments),
        cwd=cwd,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", **environment},
    )
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # What Linux makes of the end of a terminal.
                break
            if not piece:
                break
            shown += piece
    os.close(ours)
    assert process.wait(timeout=30) == 0
    return shown.decode()


def test_a_terminal_gets_a_bar_and_whole_lines(tmp_path: Path) -> None:
    shown = on_a_terminal(["hello-gru", "--epochs", "20", "--log-every", "5"], tmp_path, NO_COLOR="")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n")
    for number in (5, 10, 15, 20):
        assert f"\nPredicted string: ohlol, epoch {number}/20, loss {1 / number:.4f}" in plain
    assert re.search(r"epoch +20/20 ━+ loss 0\.0500 0:00:\d\d", plain)
    assert "\x1b[?25l" in shown  # The cursor is hidden while the bar is there ...
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # ... and shown again.
    assert re.search(r"\x1b\[[0-9;]*3\d", shown)  # Colours.


def test_no_color_is_respected(tmp_path: Path) -> None:
    shown = on_a_terminal(["hello-gru", "--epochs", "10"], tmp_path, NO_COLOR="1")
    assert "━" in shown
    assert not re.search(r"\x1b\[[0-9;]*(3\d|9\d|38;)m", shown)


def test_a_finished_process_has_drawn_without_a_display(tmp_path: Path) -> None:
    program = (
        "from spec.command import main; code = main('fake_impl', ['hello-gru', '--epochs', '2', '--out', 'a']); "
        "print('matplotlib.figure' in sys.modules, 'matplotlib.pyplot' in sys.modules, 'rich' in sys.modules)"
    )
    done = execute(program, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "True False False"
    assert (tmp_path / "a" / "loss.png").read_bytes().startswith(b"\x89PNG")
