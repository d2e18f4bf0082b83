"""`python -m crosscheck report`: on reports and recordings that runs have left."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crosscheck.cli.command import main

FAKE = Path(__file__).parent / "fake_framework.py"
PLANTED = ("    loss = sum(", "    found['head.bias'] = found['head.bias'] * 2\n    loss = sum(")

RunCrosscheck = Callable[..., Any]
Edit = Callable[..., str]
Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """The exit code of a command, and what it said."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def reports(run_crosscheck: RunCrosscheck, fake: Edit, tmp_path: Path) -> tuple[Path, Path]:
    """Directories of a run that was the same, and of one that is not."""
    assert run_crosscheck(str(FAKE), "--checks", "gradients").exit_code == 0
    shutil.copytree(tmp_path / "report", tmp_path / "old")
    assert run_crosscheck(fake(PLANTED), "--checks", "gradients").exit_code == 1
    return tmp_path / "old", tmp_path / "report"


def test_a_verdict_that_got_worse_is_exit_code_1(reports: tuple[Path, Path], said: Said) -> None:
    old, new = reports
    code, out, err = said("report", old, new)
    assert (code, err) == (1, "")
    assert "  all of it: same, now different (worse)" in out.splitlines()
    assert "  short gradients: same, now different (worse)" in out.splitlines()
    code, out, _ = said("report", new, old / "report.json", "--json")
    assert code == 0
    found = json.loads(out)
    assert {flip["sense"] for flip in found["flips"]} == {"better"}
    code, out, _ = said("report", old, old, "--markdown")
    assert code == 0
    assert "**nothing changed**" in out


def test_causes_are_annotations(reports: tuple[Path, Path], said: Said) -> None:
    old, new = reports
    assert said("report", "annotations", old) == (0, "", "")
    code, out, err = said("report", "annotations", new)
    assert (code, err) == (0, "")
    assert out.startswith("::error ")
    assert "reproduce: python -m crosscheck" in out


def test_a_history_is_added_to_shown_and_drawn(reports: tuple[Path, Path], said: Said, tmp_path: Path) -> None:
    old, new = reports
    file, pictures = tmp_path / "history.jsonl", tmp_path / "pictures"
    assert said("report", "history", file, "--add", old, "--commit", "aaaa")[0] == 0
    code, out, err = said("report", "history", file, "--add", new, "--commit", "bbbb", "--out", pictures)
    assert (code, err) == (0, "")
    assert [line.split()[1:3] for line in out.splitlines() if " aaaa" in line or " bbbb" in line]
    assert out.index("aaaa") < out.index("bbbb")
    assert {path.name for path in pictures.iterdir()} == {"history.svg", "badge.svg", "badge.json"}
    assert json.loads((pictures / "badge.json").read_text())["message"] == "different"
    code, out, _ = said("report", "history", file, "--json")
    assert [run["commit"] for run in json.loads(out)["runs"]] == ["aaaa", "bbbb"]


@pytest.fixture
def recordings(experiment: Path, tmp_path: Path) -> Callable[[str, str], Path]:
    def record(implementation: str, name: str) -> Path:
        words = ["record", implementation, str(experiment), "--checks", "gradients", "--out", str(tmp_path / name)]
        assert main(words) == 0
        return tmp_path / name

    return record


def test_recordings_are_compared(recordings: Callable[[str, str], Path], fake: Edit, said: Said) -> None:
    old, new = recordings(str(FAKE), "old"), recordings(str(FAKE), "new")
    code, out, err = said("report", old, new)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "nothing changed"
    code, out, err = said("report", old, recordings(fake(PLANTED), "changed"))
    assert (code, err) == (1, "")
    assert "  short gradients: same, now different (worse)" in out.splitlines()


def test_mistakes_are_one_line(
    reports: tuple[Path, Path], recordings: Callable[[str, str], Path], said: Said, tmp_path: Path
) -> None:
    old, _ = reports
    (tmp_path / "not-json").write_text("{")
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary").write_bytes(b"\0\1\n\2")
    (tmp_path / "of-a-pair").write_text(
        (old / "report.json").read_text().replace('"kind":"experiments"', '"kind":"pair"')
    )
    for words, message in (
        (("report", old, tmp_path / "nowhere"), "nowhere"),
        (("report", old, tmp_path / "not-json"), "expected a report"),
        (("report", old, tmp_path / "empty"), "report.json"),
        (("report", old, recordings(str(FAKE), "recorded")), "expected two reports or two directories of recordings"),
        (("report", "annotations", tmp_path / "empty"), "report.json"),
        (("report", "history", tmp_path / "nowhere"), "cannot be read"),
        (("report", "history", tmp_path / "h", "--add", tmp_path / "not-json"), "expected a report"),
        (("report", "history", tmp_path / "empty", "--add", old), "expected a file, got a directory"),
        (("report", "history", tmp_path / "binary", "--add", old), "expected a history, a run in each line"),
        (("report", old, tmp_path / "of-a-pair"), "of one kind, got experiments and a pair"),
    ):
        code, out, err = said(*words)
        assert (code, out) == (2, ""), words
        assert err.count("\n") == 1
        assert err.startswith("error: ")
        assert message in err
    assert not (tmp_path / "h").exists()
    assert (tmp_path / "binary").read_bytes() == b"\0\1\n\2"


@pytest.mark.parametrize("words", [("report",), ("report", "annotations"), ("report", "history")])
def test_help_says_what_it_is(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    assert f"python -m crosscheck {' '.join(words)}" in capsys.readouterr().out
