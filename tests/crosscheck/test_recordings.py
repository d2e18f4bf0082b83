"""Recordings: of this run and no other, and as good on another day as at once."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosscheck import recording, tolerance
from crosscheck.command import main
from crosscheck.recording import Stale
from crosscheck.request import Request
from crosscheck.rungs import BY_DEFAULT, loss
from spec import parameters
from spec.experiment import load

FAKE = Path(__file__).parent / "fake_framework.py"

Edit = Callable[..., str]


@pytest.fixture
def recorded(tmp_path: Path, experiment: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Path]:
    """Let an implementation leave a directory of recordings."""

    def record(name: str, implementation: str = str(FAKE), *options: str) -> Path:
        directory = tmp_path / name
        assert main(["record", implementation, str(experiment), "--out", str(directory), *options]) == 0
        capsys.readouterr()
        return directory

    return record


def compared(tmp_path: Path, *arguments: object) -> tuple[int, dict[str, Any]]:
    code = main(["compare", *map(str, arguments), "--out", str(tmp_path / "report")])
    return code, json.loads((tmp_path / "report" / "report.json").read_text())


def statuses(report: dict[str, Any]) -> list[str]:
    """Of every rung but train-mode, which has nothing to ask of a model that drops nothing."""
    return [cell["status"] for cell in report["experiments"][0]["cells"] if cell["rung"] != "train-mode"]


def test_two_recordings_are_the_same(tmp_path: Path, recorded: Callable[..., Path]):
    code, report = compared(tmp_path, recorded("one"), recorded("two"))
    assert code == 0
    assert statuses(report) == ["same"] * (len(BY_DEFAULT) - 1)


def test_a_difference_is_found_and_the_command_names_the_directories(
    tmp_path: Path, recorded: Callable[..., Path], fake: Edit, capsys: pytest.CaptureFixture[str]
):
    edit = ("    loss = sum(", "    found['head.bias'] = found['head.bias'] * 2\n    loss = sum(")
    one, two = recorded("one"), recorded("two", fake(edit))
    code, report = compared(tmp_path, one, two, "--rungs", "forward,gradients")
    assert code == 1
    assert [cell["status"] for cell in report["experiments"][0]["cells"]] == ["same", "different"]
    command = f"python -m crosscheck compare {one} {two} --experiments short --rungs gradients --precision float64"
    assert command in capsys.readouterr().out


def test_a_recording_is_not_compared_with_itself(
    tmp_path: Path, recorded: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    one = recorded("one", str(FAKE), "--rungs", "forward")
    link, copy = tmp_path / "link", tmp_path / "copy"
    link.symlink_to(one)
    shutil.copytree(one, copy)
    for other, problem in ((one, "got one twice"), (link, "got one twice"), (copy, "got copies of one's")):
        assert main(["compare", str(one), str(other), "--out", str(tmp_path / "report")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert problem in line


def test_an_experiment_named_twice_is_refused(
    tmp_path: Path, recorded: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    one, two = (recorded(name, str(FAKE), "--rungs", "forward") for name in ("one", "two"))
    arguments = ["compare", str(one), str(two), "--experiments", "short", "short", "--out", str(tmp_path / "report")]
    assert main(arguments) == 2
    assert "--experiments: expected each once, got short 2 times" in capsys.readouterr().err


def test_that_both_sides_are_one_module_is_said(tmp_path: Path, recorded: Callable[..., Path], fake: Edit):
    one, two = (recorded(name, str(FAKE), "--rungs", "forward") for name in ("one", "two"))
    assert compared(tmp_path, one, two)[1]["verdict"].endswith(f"; both sides are {FAKE}")
    three = recorded("three", fake(("1.0", "1.1")), "--rungs", "forward")
    assert "both sides" not in compared(tmp_path, one, three)[1]["verdict"]


def test_bounds_are_of_what_was_drawn(tmp_path: Path, recorded: Callable[..., Path]):
    """Logits of the seed that was recorded, not of another one."""
    options = ("--rungs", "loss", "--precision", "float64", "--seed", "5")
    one, two = (recorded(name, str(FAKE), *options) for name in ("one", "two"))
    found = {c["tensor"]: c["bound"] for c in compared(tmp_path, one, two)[1]["experiments"][0]["comparisons"]}
    short = load(str(tmp_path / "short.toml"))
    envelopes = parameters.load(one / "short.safetensors")[0]
    bounds = {}
    for seed in (0, 5):
        given = loss.draw(short, "every step", Request("float64", "cpu", seed))["huge"]
        entered = tolerance.largest(given.logits, envelopes["float64/loss/every step/huge/loss"])
        envelope = float(np.max(envelopes["float64/loss/every step/envelope/huge/loss"]))
        bounds[seed] = tolerance.allowed("float64", envelope, entered, given.targets.size)
    assert found["loss (huge)"] == bounds[5] != bounds[0]


def test_a_case_that_was_not_recorded(
    tmp_path: Path, recorded: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    one, two = recorded("one"), recorded("two")
    assert main(["compare", str(one), str(two), "--case", "owm", "--out", str(tmp_path / "report")]) == 2
    assert "--case: expected one of " in capsys.readouterr().err


def test_other_inputs_are_not_compared(tmp_path: Path, recorded: Callable[..., Path]):
    one, two = recorded("one"), recorded("two", str(FAKE), "--seed", "1")
    code, report = compared(tmp_path, one, two, "--rungs", "forward")
    notes = {c["note"] for c in report["experiments"][0]["comparisons"]}
    assert code == 1
    assert notes == {"the two sides were not handed the same inputs (seeds 0 and 1)"}


def test_what_one_side_never_recorded_is_a_difference(tmp_path: Path, recorded: Callable[..., Path]):
    one, two = recorded("one"), recorded("two", str(FAKE), "--rungs", "forward")
    code, report = compared(tmp_path, one, two, "--rungs", "forward,gradients")
    assert code == 1
    assert [cell["status"] for cell in report["experiments"][0]["cells"]] == ["same", "different"]
    assert report["experiments"][0]["comparisons"][-1]["note"].startswith("never recorded by")


def test_another_version_of_the_experiment(tmp_path: Path, recorded: Callable[..., Path], experiment: Path):
    one = recorded("one")
    experiment.write_text(experiment.read_text().replace("learning_rate = 0.01", "learning_rate = 0.02"))
    code, report = compared(tmp_path, one, recorded("two"), "--rungs", "forward")
    assert code == 3
    assert "recorded another version of short" in report["experiments"][0]["comparisons"][0]["note"]


def test_an_experiment_that_one_side_lacks(tmp_path: Path, recorded: Callable[..., Path]):
    one, two = recorded("one"), recorded("two")
    (two / "short.json").unlink()
    code, report = compared(tmp_path, one, two, "--rungs", "forward")
    assert code == 3
    assert report["experiments"][0]["status"] == "crashed"


def test_stale_recordings_are_refused(recorded: Callable[..., Path]):
    directory, older = recorded("one"), recorded("two")
    manifest = recording.read_manifest(directory)
    made, arrays = recording.read(directory, "short", manifest.token, manifest.experiments["short"])
    assert made.token == manifest.token
    with pytest.raises(Stale, match="expected run 0123"):
        recording.read(directory, "short", "0123", manifest.experiments["short"])
    with pytest.raises(Stale, match="expected experiment 4567"):
        recording.read(directory, "short", manifest.token, "4567")
    with pytest.raises(Stale, match="none that can be read"):
        recording.read(directory, "missing", manifest.token, "")
    # The arrays of another run beside the right JSON.
    (directory / "short.safetensors").write_bytes((older / "short.safetensors").read_bytes())
    with pytest.raises(Stale, match="expected run of the arrays"):
        recording.read(directory, "short", manifest.token, manifest.experiments["short"])
    parameters.save(directory / "short.safetensors", {"x": np.ones(1)}, {"token": manifest.token})
    assert recording.read(directory, "short", manifest.token, manifest.experiments["short"])[1].keys() == {"x"}
    assert len(arrays) > 1


def test_arrays_that_are_not_there_are_a_difference(tmp_path: Path, recorded: Callable[..., Path]):
    one, two = recorded("one"), recorded("two")
    token = recording.read_manifest(two).token
    parameters.save(two / "short.safetensors", {}, {"token": token})
    code, report = compared(tmp_path, one, two)
    assert code == 1
    assert set(statuses(report)) == {"different"}
    parameters.save(one / "short.safetensors", {}, {"token": recording.read_manifest(one).token})
    code, report = compared(tmp_path, one, two)
    assert code == 1
    assert set(statuses(report)) == {"different"}


def test_recordings_are_not_put_among_others(
    tmp_path: Path, recorded: Callable[..., Path], experiment: Path, capsys: pytest.CaptureFixture[str]
):
    directory = recorded("one")
    assert main(["record", str(FAKE), str(experiment), "--out", str(directory)]) == 2
    assert capsys.readouterr().err.startswith("error: --out: expected a new or an empty directory, got ")


def test_what_is_not_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["compare", str(tmp_path), str(tmp_path), "--out", str(tmp_path / "report")]) == 2
    assert "expected a directory of recordings (with manifest.json)" in capsys.readouterr().err
