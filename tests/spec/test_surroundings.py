"""The command where something is missing or broken around it: a framework, streams, a home, a disk."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bad_input import check_message

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
FAKE = "import sys; from spec.command import main; sys.exit(main('fake_impl'))"
QUICK = ("hello-gru", "--epochs", "3", "--out", "a")


def execute(
    program: str, *arguments: str, cwd: Path, path: str = "", **options: object
) -> "subprocess.CompletedProcess[str]":
    """A Python program, with the fake implementation at hand; `path` comes before all else that it may import."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{path}:{ROOT}:{HERE}", "TMPDIR": str(cwd)}
    environment["PYTHONDONTWRITEBYTECODE"] = (
        "1"  # Where little may be written, Python cuts its own files short, and keeps them.
    )
    given: dict = {"env": environment, "capture_output": True, **options}
    given["env"] = {**environment, **given["env"]}
    return subprocess.run([sys.executable, "-c", program, *arguments], cwd=cwd, text=True, timeout=60, **given)


BROKEN = [
    ("raise AttributeError(\"module 'x' has no attribute 'y'\")", "AttributeError: module 'x' has no attribute 'y'"),
    ("raise OSError('libcuda.so.1: cannot open shared object file')", "OSError: libcuda.so.1: cannot open shared"),
    ("raise SystemExit(0)", "SystemExit: 0"),
    ("raise RuntimeError('compiled against ABI version 1')", "RuntimeError: compiled against ABI version 1"),
    ("raise ImportError('undefined symbol: foo')", "ImportError: undefined symbol: foo"),
    ("raise ImportError('first\\nsecond\\x1b[31m')", "ImportError: first second\\x1b[31m"),
    ("1 / 0", "ZeroDivisionError: division by zero"),
    ("", "ImportError: cannot import name"),
]


@pytest.mark.parametrize(("code", "words"), BROKEN)
@pytest.mark.parametrize("implementation", ["torch_impl", "flax_impl"])
def test_a_framework_that_is_broken_says_so_in_its_own_words(
    implementation: str, code: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "place").mkdir()
    for name in ("torch", "jax", "flax"):
        (tmp_path / "broken" / name).mkdir(parents=True)
        (tmp_path / "broken" / name / "__init__.py").write_text(code + "\n")
    program = f"import sys; from spec.command import main; sys.exit(main({implementation!r}))"
    done = execute(program, cwd=tmp_path / "place", path=str(tmp_path / "broken"), env={"BLOCKED": ""})
    check_message(done.stderr, f"{implementation}: what it imports is installed and fails: {words}")
    assert (done.returncode, done.stdout) == (3, "")
    (kept,) = (tmp_path / "place").iterdir()
    assert re.search(r"its traceback is kept in (.*)\)$", done.stderr.strip())[1] == str(kept)
    assert "Traceback (most recent call last)" in kept.read_text()


def test_a_traceback_for_which_there_is_no_place(tmp_path: Path) -> None:
    program = f"import tempfile; tempfile.mkstemp = lambda **_: open('/no/where', 'w'); {FAKE}"
    program = program.replace("sys.exit", "import fake_impl; fake_impl.behaviour.crash = RuntimeError('oh'); sys.exit")
    done = execute(program, "--out", "a", cwd=tmp_path)
    assert done.returncode == 3
    check_message(done.stderr, "RuntimeError: oh (an error that was not foreseen; its traceback is kept in no file")


def test_no_home_and_letters_that_the_terminal_lacks(tmp_path: Path) -> None:
    for home in ({"HOME": "/nonexistent"}, {"HOME": str(tmp_path / "file")}):
        (tmp_path / "file").touch()
        surroundings = {**home, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
        done = execute(FAKE, *QUICK[:-1], f"ü{len(home['HOME'])}", cwd=tmp_path, env=surroundings)
        assert done.returncode == 0, done.stderr
        assert "run directory \\xfc" in done.stdout


def test_a_backend_that_there_is_not_costs_the_picture(tmp_path: Path) -> None:
    done = execute(FAKE, *QUICK, cwd=tmp_path, env={"MPLBACKEND": "foo"})
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("Reached: ")
    assert done.stderr.startswith("warning: no a/loss.png: ValueError: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_streams_that_are_closed(closed: tuple[int, ...], tmp_path: Path) -> None:
    close = "import os; " + "".join(f"os.close({number}); " for number in closed)
    wrapped = f"{close} os.execv({sys.executable!r}, [{sys.executable!r}, '-c', {FAKE!r}, *{QUICK!r}])"
    done = execute(wrapped, cwd=tmp_path, capture_output=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        *("best.safetensors", "checkpoint.safetensors", "checkpoints", "experiment.json", "loss.png", "metrics.jsonl"),
        "parameters.safetensors",
    ]
    if 1 not in closed:
        assert done.stdout.splitlines()[-1].startswith("Reached: ")


def test_an_output_that_is_full_does_not_cost_the_run(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = execute(FAKE, *QUICK, cwd=tmp_path, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 0
    assert done.stderr == "warning: the output cannot be written: No space left on device; what follows is lost\n"
    assert (tmp_path / "a/loss.png").exists()


@pytest.mark.parametrize("arguments", [("--list",), ("--dry-run",), ("--list", "--json"), ("--help",)])
def test_a_reader_that_leaves_a_list_leaves_no_words(arguments: tuple[str, ...], tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = execute(FAKE, *arguments, cwd=tmp_path, capture_output=False, stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_leaves_at_the_end_costs_neither_files_nor_verdict(tmp_path: Path) -> None:
    program = f"import os, spec.command.session as s; s.loss_plot = lambda *_: os.dup2({{}}, 1) and b'' or b'x'; {FAKE}"
    ours, theirs = os.pipe()
    os.close(ours)
    done = execute(program.format(theirs), *QUICK, cwd=tmp_path, pass_fds=(theirs,))
    os.close(theirs)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"reached":true' in (tmp_path / "a/metrics.jsonl").read_text()


@pytest.mark.parametrize(("bytes_at_most", "left"), [(500, set()), (5000, {"experiment.json", "metrics.jsonl"})])
def test_a_disk_that_fills_up(bytes_at_most: int, left: set[str], tmp_path: Path) -> None:
    program = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes_at_most}, {bytes_at_most})); {FAKE}"
    done = execute(program, *QUICK, cwd=tmp_path)
    assert done.returncode == 2
    check_message(done.stderr, "cannot be written: File too large")
    assert {path.name for path in (tmp_path / "a").iterdir()} == left
    assert execute(FAKE, *QUICK, cwd=tmp_path).returncode == 0


def test_a_path_of_bytes_that_are_no_characters(tmp_path: Path) -> None:
    out = os.fsdecode(b"a\xff")
    for arguments in (("hello-gru", "--epochs", "3"), ("--resume", "--json")):
        done = execute(FAKE, *arguments, "--out", out, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "a\\" in done.stdout
    (tmp_path / "file").touch()
    done = execute(FAKE, "--out", "file", "--init-weights", out, cwd=tmp_path)
    check_message(done.stderr, "--out file: expected a new or empty directory")
    check_message(
        execute(FAKE, f"{out}.toml", cwd=tmp_path).stderr, "a\\udcff.toml: file: expected a readable TOML file"
    )
