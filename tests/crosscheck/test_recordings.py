"""Recordings: of this run and no other, and as good on another day as at once."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from crosscheck.bounds import rounding_spread, tolerances
from crosscheck.checks import BY_DEFAULT, Check, loss
from crosscheck.cli.command import main
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.judging import verdict
from crosscheck.recording import recording
from crosscheck.recording.recording import Stale
from crosscheck.request import Request
from crosscheck.subject import Subject
from spec import parameters
from spec.errors import UsageError
from spec.experiment import load
from spec.lock import locked
from tests import reports

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
    return code, reports.load(tmp_path / "report")


def statuses(report: dict[str, Any]) -> list[str]:
    """Of every check but three: nothing is dropped, nothing is written, and a batch has one sequence."""
    unasked = ("dropout", "generation", "devices")
    return [cell["status"] for cell in report["experiments"][0]["cells"] if cell["check"] not in unasked]


def test_two_recordings_are_the_same(tmp_path: Path, recorded: Callable[..., Path]):
    code, report = compared(tmp_path, recorded("one"), recorded("two"))
    assert code == 0
    assert statuses(report) == ["same"] * (len(BY_DEFAULT) - 3)


def test_a_difference_is_found_and_the_command_names_the_directories(
    tmp_path: Path, recorded: Callable[..., Path], fake: Edit, capsys: pytest.CaptureFixture[str]
):
    edit = ("    loss = sum(", "    found['head.bias'] = found['head.bias'] * 2\n    loss = sum(")
    one, two = recorded("one"), recorded("two", fake(edit))
    code, report = compared(tmp_path, one, two, "--checks", "forward,gradients")
    assert code == 1
    assert [cell["status"] for cell in report["experiments"][0]["cells"]] == ["same", "different"]
    command = f"python -m crosscheck compare {one} {two} --experiments short --checks gradients --precision float64"
    assert command in capsys.readouterr().out


def test_a_recording_is_not_compared_with_itself(
    tmp_path: Path, recorded: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    one = recorded("one", str(FAKE), "--checks", "forward")
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
    one, two = (recorded(name, str(FAKE), "--checks", "forward") for name in ("one", "two"))
    arguments = ["compare", str(one), str(two), "--experiments", "short", "short", "--out", str(tmp_path / "report")]
    assert main(arguments) == 2
    assert "--experiments: expected each once, got short 2 times" in capsys.readouterr().err


def test_that_both_sides_are_one_module_is_said(tmp_path: Path, recorded: Callable[..., Path], fake: Edit):
    one, two = (recorded(name, str(FAKE), "--checks", "forward") for name in ("one", "two"))
    assert compared(tmp_path, one, two)[1]["verdict"].endswith(f"; both sides are {FAKE}")
    three = recorded("three", fake(("1.0", "1.1")), "--checks", "forward")
    assert "both sides" not in compared(tmp_path, one, three)[1]["verdict"]


@pytest.mark.long
def test_an_array_that_is_not_there_is_no_crash_wherever_it_is_missing(
    tmp_path: Path, recorded: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    """Each array of the first side in turn, then all of them. What trains keeps more than it compares."""
    one, two = recorded("one"), recorded("two")
    judged: list[tuple[Check, Subject, Place, Arrays, Arrays]] = []

    def watched(check: Check) -> SimpleNamespace:
        def compare(subject: Subject, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
            judged.append((check, subject, place, first, second))
            return check.compare(subject, place, first, second)

        return SimpleNamespace(**vars(check) | {"compare": compare})

    monkeypatch.setattr(verdict, "LADDER", [watched(check) for check in verdict.LADDER])
    assert compared(tmp_path, one, two, "--precision", "float64")[0] == 0
    unseen = set()
    for check, subject, place, first, second in judged:
        assert any(comparison.failed for comparison in check.compare(subject, place, {}, second)), place
        for name in first:
            rest = {other: array for other, array in first.items() if other != name}
            found = check.compare(subject, place, rest, second)
            # Without an envelope a bound is at its least.
            if not name.startswith(rounding_spread.PREFIX) and not any(comparison.failed for comparison in found):
                unseen.add(check.NAME)
    assert unseen == {"layouts", "members", "shipped-path", "trajectory"}
    assert len(judged) > 10


def test_bounds_are_of_what_was_drawn(tmp_path: Path, recorded: Callable[..., Path]):
    """Logits of the seed that was recorded, not of another one."""
    options = ("--checks", "loss", "--precision", "float64", "--seed", "5")
    one, two = (recorded(name, str(FAKE), *options) for name in ("one", "two"))
    found = {c["tensor"]: c["bound"] for c in compared(tmp_path, one, two)[1]["experiments"][0]["comparisons"]}
    short = load(str(tmp_path / "short.toml"))
    envelopes = parameters.load(one / "short.safetensors")[0]
    bounds = {}
    for seed in (0, 5):
        given = loss.draw(short, "every step", Request("float64", "cpu", seed))["huge"]
        entered = tolerances.largest(given.logits, envelopes["float64/loss/every step/huge/loss"])
        envelope = float(np.max(envelopes["float64/loss/every step/envelope/huge/loss"]))
        bounds[seed] = tolerances.allowed("float64", envelope, entered, given.targets.size)
    assert found["loss (huge)"] == bounds[5] != bounds[0]


def test_a_case_that_was_not_recorded(
    tmp_path: Path, recorded: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    one, two = recorded("one"), recorded("two")
    assert main(["compare", str(one), str(two), "--case", "owm", "--out", str(tmp_path / "report")]) == 2
    assert "--case: expected one of " in capsys.readouterr().err


def test_other_inputs_are_not_compared(tmp_path: Path, recorded: Callable[..., Path]):
    one, two = recorded("one"), recorded("two", str(FAKE), "--seed", "1")
    code, report = compared(tmp_path, one, two, "--checks", "forward")
    notes = {c["note"] for c in report["experiments"][0]["comparisons"]}
    assert code == 1
    assert notes == {"the two sides were not handed the same inputs (seeds 0 and 1)"}


def test_what_one_side_never_recorded_is_a_difference(tmp_path: Path, recorded: Callable[..., Path]):
    one, two = recorded("one"), recorded("two", str(FAKE), "--checks", "forward")
    code, report = compared(tmp_path, one, two, "--checks", "forward,gradients")
    assert code == 1
    assert [cell["status"] for cell in report["experiments"][0]["cells"]] == ["same", "different"]
    assert report["experiments"][0]["comparisons"][-1]["note"].startswith("never recorded by")


def test_another_version_of_the_experiment(tmp_path: Path, recorded: Callable[..., Path], experiment: Path):
    one = recorded("one")
    experiment.write_text(experiment.read_text().replace("learning_rate = 0.01", "learning_rate = 0.02"))
    code, report = compared(tmp_path, one, recorded("two"), "--checks", "forward")
    assert code == 3
    assert "recorded another version of short" in report["experiments"][0]["comparisons"][0]["note"]


def test_an_experiment_that_one_side_lacks(tmp_path: Path, recorded: Callable[..., Path]):
    one, two = recorded("one"), recorded("two")
    (two / "short.safetensors").unlink()
    code, report = compared(tmp_path, one, two, "--checks", "forward")
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
    # Another run's, under the right name.
    path = recording.file(directory, "short")
    path.write_bytes(recording.file(older, "short").read_bytes())
    with pytest.raises(Stale, match="expected run"):
        recording.read(directory, "short", manifest.token, manifest.experiments["short"])
    parameters.save(path, arrays, {"token": manifest.token})
    with pytest.raises(Stale, match="expected a recording, got other arrays"):
        recording.read(directory, "short", manifest.token, manifest.experiments["short"])


def test_an_experiment_that_is_not_what_its_hash_says(recorded: Callable[..., Path]):
    directory = recorded("one")
    path = recording.file(directory, "short")
    made, arrays, _ = recording.load(path)
    other = msgspec.structs.replace(made, experiment={**made.experiment, "seeds": 4})
    recording.write(path, other, arrays)
    with pytest.raises(Stale, match="expected an experiment with the hash"):
        recording.load(path)
    recording.write(path, msgspec.structs.replace(made, format=recording.FORMAT - 1), arrays)
    with pytest.raises(Stale, match=f"expected format {recording.FORMAT}, got {recording.FORMAT - 1}"):
        recording.load(path)


def test_any_changed_bit_is_refused(recorded: Callable[..., Path]):
    directory = recorded("one")
    path = recording.file(directory, "short")
    made, arrays, _ = recording.load(path)
    # A few arrays, so that every bit of the file can be tried.
    recording.write(path, made, dict(sorted(arrays.items())[:3]))
    whole = path.read_bytes()
    begin = int.from_bytes(whole[:8], "little") + 8
    generator = np.random.default_rng(0)
    places = [*range(8), *range(8, begin, 7), *range(begin, len(whole), 5), len(whole) - 1]
    assert len(whole) > begin > 1000
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(changed)
        with pytest.raises(Stale):
            recording.load(path)
    for length in (0, 7, 8, begin - 1, begin, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(Stale):
            recording.load(path)
    path.write_bytes(whole)
    recording.load(path)


def test_any_changed_letter_of_the_manifest_is_refused(recorded: Callable[..., Path]):
    directory = recorded("one")
    path = directory / recording.MANIFEST
    whole = path.read_bytes()
    read = recording.read_manifest(directory)
    for place in range(len(whole)):
        if whole[place : place + 1].isspace():
            continue
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(UsageError):
            recording.read_manifest(directory)
    path.write_bytes(whole)
    assert recording.read_manifest(directory) == read


def test_arrays_that_are_not_there_are_a_difference(tmp_path: Path, recorded: Callable[..., Path]):
    one, two = recorded("one"), recorded("two")
    for directories in ((two,), (one, two)):
        for directory in directories:
            path = recording.file(directory, "short")
            recording.write(path, recording.load(path)[0], {})
        code, report = compared(tmp_path, one, two)
        assert code == 1
        assert set(statuses(report)) == {"different"}


def test_an_experiment_that_both_sides_lost_leaves_the_others(tmp_path: Path, experiment: Path):
    other = experiment.with_name("other.toml")
    other.write_text(experiment.read_text())
    one, two = tmp_path / "one", tmp_path / "two"
    for directory in (one, two):
        assert main(["record", str(FAKE), str(experiment), str(other), "--out", str(directory)]) == 0
        recording.file(directory, "other").write_bytes(b"damaged")
    code, report = compared(tmp_path, one, two, "--checks", "forward,gradients")
    assert code == 3
    found = {entry["experiment"]: entry["status"] for entry in report["experiments"]}
    assert found == {"other": "crashed", "short": "same"}
    assert report["verdict"].startswith("COULD NOT RUN: 1 of 2 experiments (other); both sides are ")
    for directory in (one, two):
        recording.file(directory, "short").unlink()
    code, report = compared(tmp_path, one, two)
    assert code == 3
    assert [entry["status"] for entry in report["experiments"]] == ["crashed", "crashed"]


def test_recordings_are_not_put_among_others(
    tmp_path: Path, recorded: Callable[..., Path], experiment: Path, capsys: pytest.CaptureFixture[str]
):
    directory = recorded("one")
    assert main(["record", str(FAKE), str(experiment), "--out", str(directory)]) == 2
    assert capsys.readouterr().err.startswith("error: --out: expected a new or an empty directory, got ")


def test_what_a_killed_run_left_is_no_obstacle(tmp_path: Path, recorded: Callable[..., Path]):
    directory = recorded("one")
    (directory / recording.MANIFEST).unlink()
    assert recorded("one") == directory
    assert recording.read_manifest(directory).experiments.keys() == {"short"}
    (directory / recording.MANIFEST).unlink()
    (directory / "mine").write_text("kept")
    assert main(["record", str(FAKE), "hello-rnn", "--out", str(directory)]) == 2
    assert {path.name for path in directory.iterdir()} == {"mine", "short.safetensors"}


def test_a_directory_is_for_one_run_at_a_time(
    tmp_path: Path, experiment: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    directory = tmp_path / "one"
    directory.mkdir()
    with locked(directory):
        assert main(["record", str(FAKE), str(experiment), "--out", str(directory)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {directory}: expected a directory that nobody uses, got one in use by process ")
    assert list(directory.iterdir()) == []


def test_a_side_that_refuses_leaves_no_directory(tmp_path: Path, experiment: Path, fake: Edit):
    broken = fake(("import numpy as np\n", "import no_such_framework\n"))
    assert main(["record", broken, str(experiment), "--out", str(tmp_path / "new" / "one")]) == 3
    assert not (tmp_path / "new" / "one").exists()


def test_what_is_not_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["compare", str(tmp_path), str(tmp_path), "--out", str(tmp_path / "report")]) == 2
    assert "expected a directory of recordings (with manifest.json)" in capsys.readouterr().err
