"""What a run leaves behind, and what is checked when it is read again."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from spec import parameters
from spec.command.events import End, Epoch, Start, encode
from spec.command.run_directory import (
    Checkpoint,
    RunDirectory,
    chain,
    load_parameters,
    new_run_directory,
    read_experiment,
)
from spec.command.session import Request
from spec.errors import ParameterMismatch, SpecError, UsageError
from spec.experiment import load, override
from spec.framework import Settings
from spec.training import initial_state

GRU = load("hello-gru")
REQUEST = Request("fake_impl", GRU, 5, Settings(precision="float64"), {"fake": "1.0"})


def checkpoint(epochs: int = 0) -> Checkpoint:
    drawn = parameters.draw(GRU.model.parameters(), 1, "float64")
    state = initial_state(GRU.training.optimizer, drawn)
    return REQUEST.checkpoint(state._replace(step=epochs), epochs)


def epoch(number: int) -> Epoch:
    return Epoch(epoch=number, loss=1.0, evaluation_loss=0.5, solved=False, predicted="x")


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    made = new_run_directory(tmp_path / "run", "hello-gru", "fake_impl")
    made.begin(GRU, REQUEST.start(0, made), checkpoint())
    return made


def test_numbers_count_up_and_never_reuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [new_run_directory(None, "hello-gru", "fake_impl").path for _ in range(3)]
    assert [str(path) for path in paths] == [f"runs/hello-gru/fake_impl-{n}" for n in (1, 2, 3)]
    assert all(path.is_dir() for path in paths)
    assert str(new_run_directory(None, "hello-gru", "other_impl").path) == "runs/hello-gru/other_impl-1"


def test_a_file_in_the_way_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").touch()
    with pytest.raises(UsageError, match="--out runs: cannot be made: Not a directory"):
        new_run_directory(None, "hello-gru", "fake_impl")


def test_an_empty_directory_is_free_and_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert new_run_directory(tmp_path / "empty", "e", "i").path == tmp_path / "empty"
    (tmp_path / "empty" / "something").touch()
    with pytest.raises(UsageError, match="expected a new or empty directory, got a directory that is not empty"):
        new_run_directory(tmp_path / "empty", "e", "i")
    with pytest.raises(UsageError, match="expected a new or empty directory, got a file"):
        new_run_directory(tmp_path / "empty" / "something", "e", "i")


def test_the_experiment_comes_back_with_its_hash(directory: RunDirectory) -> None:
    assert directory.experiment() == GRU
    assert directory.experiment().hash == GRU.hash
    assert json.loads(directory.experiment_file.read_text())["training"]["optimizer"]["beta1"] == 0.9


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, UsageError, "cannot be read: No such file"),
        ("{", SpecError, "expected valid JSON"),
        ("[]", SpecError, "file: expected object, got"),
        ('{"name": "x"}', SpecError, "description: expected a value, got nothing"),
    ],
)
def test_a_wrong_experiment_file(tmp_path: Path, content: str | None, error: type[Exception], message: str) -> None:
    file = tmp_path / "experiment.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(error, match=rf"experiment\.json: .*{message}"):
        read_experiment(file)


def test_a_checkpoint_comes_back_bit_for_bit(directory: RunDirectory) -> None:
    saved = checkpoint(7)
    saved.state.slots["head.bias.exp_avg"][:] = [0.1, -0.0, 1e-300, 3.0]
    directory.save_checkpoint(saved)
    loaded = directory.load_checkpoint(GRU)
    assert loaded.origin == saved.origin
    assert loaded.origin.versions == {"fake": "1.0"}
    assert (loaded.origin.epochs, loaded.state.step) == (7, 7)
    for ours, theirs in (
        (saved.state.parameters, loaded.state.parameters),
        (saved.state.slots, loaded.state.slots),
    ):
        assert {n: a.tobytes() for n, a in ours.items()} == {n: a.tobytes() for n, a in theirs.items()}
        assert {a.dtype for a in theirs.values()} == {np.dtype("float64")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head.bias": None}, r"missing \['head.bias'\]"),
        ({"head.bias.exp_avg": None}, "expected the optimizer slots"),
        ({"surplus": np.zeros(1)}, "expected the optimizer slots"),
        ({"head.bias.exp_avg": np.zeros(5)}, "expected the optimizer slots"),
        ({"head.bias": np.zeros(4, np.float32)}, "head.bias: expected float64, got float32"),
    ],
)
def test_a_checkpoint_that_does_not_fit(
    directory: RunDirectory, change: dict[str, np.ndarray | None], message: str
) -> None:
    arrays, metadata = parameters.load(directory.checkpoint_file)
    changed = {name: array for name, array in {**arrays, **change}.items() if array is not None}
    parameters.save(directory.checkpoint_file, changed, metadata)
    with pytest.raises(ParameterMismatch, match=message):
        directory.load_checkpoint(GRU)


def test_weights_are_no_checkpoint(directory: RunDirectory) -> None:
    arrays, _ = parameters.load(directory.checkpoint_file)
    parameters.save(directory.checkpoint_file, arrays, {})
    with pytest.raises(UsageError, match="expected a checkpoint's metadata"):
        directory.load_checkpoint(GRU)


def test_rewinding_drops_what_came_after_the_checkpoint(directory: RunDirectory) -> None:
    directory.append([epoch(1), epoch(2)])
    again = REQUEST.start(2, directory)
    directory.append([again, epoch(3), epoch(4), End(reached=False, exit_code=130)])
    with directory.metrics_file.open("a") as file:
        file.write('{"event":"epoch","epoch":5,"lo')
    directory.rewind(3)
    assert directory.events() == [REQUEST.start(0, directory), epoch(1), epoch(2), again, epoch(3)]
    directory.rewind(2)
    assert directory.events() == [REQUEST.start(0, directory), epoch(1), epoch(2)]
    directory.rewind(0)
    assert directory.events() == []


def test_metrics_with_a_hole_are_refused(directory: RunDirectory) -> None:
    directory.append([epoch(1), epoch(3)])
    before = directory.metrics_file.read_bytes()
    with pytest.raises(UsageError, match=r"expected the epochs 1 to 3 of the checkpoint, got 2 epochs, .* being 3"):
        directory.rewind(3)
    assert directory.metrics_file.read_bytes() == before


def test_rewinding_that_fails_leaves_the_metrics(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.append([epoch(1), epoch(2)])
    before = directory.metrics_file.read_bytes()
    files = sorted(directory.path.iterdir())

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(UsageError, match="No space left on device"):
        directory.rewind(1)
    assert directory.metrics_file.read_bytes() == before
    assert sorted(directory.path.iterdir()) == files


def test_a_changed_bit_of_the_metrics_is_refused_or_changes_nothing(directory: RunDirectory) -> None:
    other = REQUEST._replace(implementation="other_impl").start(1, directory)
    directory.append([epoch(1), other, epoch(2)])
    origin = REQUEST.checkpoint(checkpoint(2).state, 2, chain("", [epoch(1), epoch(2)])).origin
    directory.append([REQUEST.start(2, directory), epoch(3), End(reached=False, exit_code=1)])
    right, kept = directory.metrics_file.read_bytes(), directory.rewound(2)
    directory.check_metrics(origin)
    refused = 0
    # A bit of every byte, each in its turn.
    for number in range(len(right)):
        changed = bytearray(right)
        changed[number] ^= 1 << number % 8
        directory.metrics_file.write_bytes(changed)
        try:
            directory.check_metrics(origin)
        except UsageError:
            refused += 1
        else:
            assert directory.rewound(2) == kept, changed
    # All that stands in the lines that count but the case of an exponent and the like.
    assert refused > 0.95 * sum(len(encode(line)) + 1 for line in kept)


@pytest.mark.parametrize(("stored", "asked"), [("float64", "float32"), ("float16", "float64"), ("float32", "float32")])
def test_given_weights_are_cast(tmp_path: Path, stored: str, asked: str) -> None:
    drawn = {n: a.astype(stored) for n, a in parameters.draw(GRU.model.parameters(), 0, "float64").items()}
    parameters.save(tmp_path / "w", drawn)
    loaded = load_parameters(tmp_path / "w", GRU, asked)  # pyright: ignore[reportArgumentType]
    for name, array in loaded.parameters.items():
        assert array.dtype == asked
        assert np.array_equal(array, drawn[name].astype(asked))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head.bias": None}, r"w: missing \['head.bias'\]"),
        ({"more": np.zeros(1)}, r"w: not in the model \['more'\]"),
        ({"head.bias": np.zeros((4, 1))}, r"w: head.bias: expected shape \(4,\), got \(4, 1\)"),
        ({"head.bias": np.zeros(4, np.int64)}, "w: head.bias: expected a floating dtype, got int64"),
    ],
)
def test_given_weights_that_do_not_fit(tmp_path: Path, change: dict[str, np.ndarray | None], message: str) -> None:
    drawn = {**parameters.draw(GRU.model.parameters(), 0, "float32"), **change}
    parameters.save(tmp_path / "w", {name: array for name, array in drawn.items() if array is not None})
    with pytest.raises(ParameterMismatch, match=message):
        load_parameters(tmp_path / "w", GRU, "float32")


def test_a_start_says_what_a_reader_of_the_metrics_needs(directory: RunDirectory) -> None:
    (start,) = directory.events()
    assert isinstance(start, Start)
    assert start == start.sealed()
    assert msgspec.structs.replace(start, checksum="") == Start(
        experiment="hello-gru",
        hash=GRU.hash,
        implementation="fake_impl",
        versions={"fake": "1.0"},
        device="cpu",
        precision="float64",
        seed=5,
        parameters=GRU.model.parameter_count,
        epochs=60,
        epochs_done=0,
        directory=str(directory.path),
    )
    assert override(GRU, training__epochs=2).hash != GRU.hash
