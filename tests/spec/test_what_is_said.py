"""What the train command says to people: true, whole on a terminal of any width, and harmless whatever it quotes."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from spec.exit_codes import MISSED, REACHED, UNDERPOWERED
from spec.experiment import SHIPPED
from tests.hostile import HOSTILE, problems

Run = Callable[..., Any]
"""See the fixture `run` in conftest.py."""


def test_a_walk_says_why_another_framework_s_is_another(run: Run) -> None:
    assert "own generator draws from the seed" in run("hello-gru", "--trace").out
    assert run("hello-gru", "--trace", "--export-weights", "start.safetensors").code == 0
    outcome = run("hello-gru", "--trace", "--init-weights", "start.safetensors")
    assert outcome.code == 0
    assert "own generator draws from the seed" not in outcome.out


def test_an_experiment_without_an_outcome_says_what_was_reached(run: Run, fake: ModuleType) -> None:
    text = (SHIPPED / "hello-gru.toml").read_text()
    Path("mine.toml").write_text(text[: text.index("[outcome]")])
    said = run("mine.toml")
    assert said.code == 0
    assert said.out.splitlines()[-1].startswith("Trained: everything is predicted right, evaluation loss ")
    fake.behaviour.solves_at_step = None
    said = run("mine.toml")
    assert said.code == 0
    assert said.out.splitlines()[-1].startswith("Trained: not everything is predicted right, evaluation loss ")
    assert said.out.endswith("The experiment states no outcome.\n")
    many = run("mine.toml", "--seeds", 4)
    assert many.code == 0
    assert many.out.splitlines()[-1].startswith("Trained: ")
    assert run("mine.toml", "--json").events[-1] == {"event": "end", "reached": True, "exit_code": 0}


@pytest.mark.parametrize("options", [(), ("--epochs", "59"), ("--learning-rate", "0.04")])
def test_only_the_recipe_that_was_measured_is_credited_with_its_rate(run: Run, options: tuple[str, ...]) -> None:
    Path("hello-gru.toml").write_text((SHIPPED / "hello-gru.toml").read_text() + "\n# unchanged\n")
    for name in ("hello-gru", "./hello-gru.toml"):
        assert ("% of seeds do" in run(name, *options).out) == (not options)
    Path("mine.toml").write_text((SHIPPED / "hello-gru.toml").read_text())
    said = run("mine.toml", *options).out
    assert "% of seeds do" not in said
    assert "How many seeds learn it under this recipe was not measured: --seeds N does that." in said


COMMANDS = [
    ["hello-gru"],
    ["hello-transformer-no-positions"],
    ["hello-gru", "--trace"],
    ["course-rnn", "--seeds", "8"],
    ["--list"],
    ["hello-gru", "--dry-run"],
]

PROGRAM = """
import json, sys
from spec.command import main
for arguments in json.loads(sys.argv[1]):
    main('fake_impl', arguments)
    print(chr(7))
"""


def on_a_terminal(columns: int, directory: Path) -> list[str]:
    """What each command prints where stdout is a terminal of that width; stderr is none, so there is no bar."""
    ours, theirs = pty.openpty()
    paths = [str(Path(__file__).parent), *sys.path]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": str(columns)}
    command = [sys.executable, "-c", PROGRAM, json.dumps(COMMANDS)]
    directory.mkdir()
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, env=variables, cwd=directory) as process:
        os.close(theirs)
        output = b""
        try:
            while chunk := os.read(ours, 65536):
                output += chunk
        except OSError:
            pass  # Linux says so where others say that there is no more.
        os.close(ours)
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 0
    return output.decode().replace("\r\n", "\n").split(chr(7))[:-1]


@pytest.mark.long
def test_everything_is_whole_on_a_terminal_of_any_width(tmp_path: Path) -> None:
    wide = on_a_terminal(400, tmp_path / "wide")
    for columns in (40, 80):
        narrow = on_a_terminal(columns, tmp_path / str(columns))
        assert len(narrow) == len(wide) == len(COMMANDS)
        for arguments, said, whole in zip(COMMANDS, narrow, wide, strict=True):
            # What is longer than a line without a space in it, and JSON, are the terminal's to break.
            assert [x for x in said.splitlines() if len(x) > columns and " " in x.strip() and '"' not in x] == []
            assert columns > 40 or said.count("\n") > whole.count("\n")
            if arguments[-1] not in ("--trace", "8"):  # Arrays are laid out anew; the speed is another.
                assert said.split() == whole.split()
        assert "Reached: everything is predicted right" in " ".join(narrow[0].split())
        assert "Missed: " in " ".join(narrow[1].split()) or "Reached: " in " ".join(narrow[1].split())


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_of_any_content_commands_nothing(run: Run, name: str) -> None:
    hostile = HOSTILE[name]
    if "\ud800" in hostile or "\x00" in hostile:
        return  # No TOML file holds them.
    quoted = "".join(c if c.isalnum() or c in " :#[]|`<>" else f"\\u{ord(c):04x}" for c in hostile)
    text = (SHIPPED / "hello-gru.toml").read_text()
    described = text.replace(text.splitlines()[0], f'description = "{quoted}"', 1)
    Path("mine.toml").write_text(described)
    for options in (("--dry-run",), ("--epochs", "1"), ("--json", "--epochs", "1"), ("--dry-run", "--json")):
        said = run("mine.toml", *options)
        assert said.code in (REACHED, MISSED, UNDERPOWERED)
        assert problems(said.out + said.err) == []
    wrong = described.replace("[model]", f'[model]\n"{quoted}" = "{quoted}"').replace(
        "seeds = 6", f'seeds = "{quoted}"'
    )
    Path("mine.toml").write_text(wrong)
    said = run("mine.toml")
    assert said.code == 2
    assert problems(said.out + said.err) == []
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("name", HOSTILE)
def test_an_argument_of_any_content_commands_nothing(run: Run, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = HOSTILE[name].replace("\ud800", "\udcff")  # As the system hands over bytes that are no UTF-8.
    if "\x00" in hostile or not hostile.strip():
        return
    for arguments in ((hostile,), ("hello-gru", "--out", f"x/{hostile}", "--resume"), ("--init-weights", hostile)):
        said = run(*arguments)
        assert said.code == 2
        assert problems(said.out + said.err) == []
        assert len(said.err.splitlines()) == 1
    with pytest.raises(SystemExit):
        run("hello-gru", f"--no-such-flag={hostile}")
    said = capsys.readouterr()
    assert problems(said.out + said.err) == []


@pytest.mark.by_default(
    "an entity",
    "bidirectional overrides",
    "NUL",
    "a carriage return",
    "a lone surrogate",
    "colours",
    "HTML",
    "a workflow command",
    "cells",
)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_version_of_any_content_commands_nothing(run: Run, fake: ModuleType, name: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(fake, "describe", lambda settings: {HOSTILE[name]: HOSTILE[name]})
    for options in ((), ("--trace",), ("--seeds", "2"), ("--json",)):
        said = run("hello-gru", *options, "--epochs", 1)
        assert said.code in (REACHED, MISSED, UNDERPOWERED)
        assert problems(said.out + said.err) == []


def test_a_terminal_that_knows_no_other_letters(tmp_path: Path) -> None:
    text = (SHIPPED / "hello-gru.toml").read_text()
    described = text.replace(text.splitlines()[0], 'description = "größer ± 1 µs"', 1)
    (tmp_path / "größer.toml").write_text(described)
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    program = "import sys; from spec.command import main; sys.exit(main('fake_impl', sys.argv[1:]))"
    for options, code in ((["--dry-run"], 0), (["--epochs", "1"], 0), (["--epochs", "x"], 2), (["--epochs", "-1"], 2)):
        done = subprocess.run(
            [sys.executable, "-c", program, "größer.toml", *options],
            env={**os.environ, "PYTHONPATH": paths, "PYTHONIOENCODING": "ascii"},
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr
        (done.stdout + done.stderr).decode("ascii")
        assert code == 2 or b"gr\\xf6\\xdfer" in done.stdout
