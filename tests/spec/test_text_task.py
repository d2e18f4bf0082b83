"""The task Text: which bytes a batch has, what is never trained on, and what is said of files that cannot be used."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest

from spec import parameters
from spec.errors import SpecError, UsageError
from spec.experiment import LONG, SHIPPED, drawn, load, named_in, parse, shipped
from spec.tasks import IGNORED, STEPS_DRAWN_TOGETHER, Batch, Text, map_arrays
from spec.tasks.text import SHIPPED as TEXTS

Run = Callable[..., Any]
"""See the fixture `run` in conftest.py."""

TOML = (SHIPPED / "text-lstm.toml").read_text()


def numbered(count: int, first: int = 0) -> bytes:
    """Bytes of which any two that follow each other say where they stand, for up to 65,536 of them."""
    return np.arange(first, first + count, dtype=">u2").tobytes()


def task(path: Path | str = "", **options: Any) -> Text:
    return Text(**{"path": str(path), "length": 4, "batch_size": 3, **options})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "text.bin"
    path.write_bytes(numbered(500))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three documents; the names are in another order than they were made in, and one is in a folder of its own."""
    path = tmp_path / "documents"
    (path / "m").mkdir(parents=True)
    for name, first in (("z", 2000), ("a", 0), ("m/b", 1000)):
        (path / name).write_bytes(numbered(50, first))
    (path / ".hidden").write_bytes(b"never read")
    return path


def test_targets_are_the_bytes_that_follow(file: Path) -> None:
    content = file.read_bytes()
    batch = task(file).batches(0, range(40), "float32")
    assert (batch.inputs.dtype, batch.targets.dtype, batch.inputs.shape) == (np.int64, np.int64, (40, 3, 4))
    assert (batch.lengths, batch.decoder_inputs, batch.initial) == (None, None, None)
    for inputs, targets in zip(batch.inputs.reshape(-1, 4), batch.targets.reshape(-1, 4), strict=True):
        assert bytes([*inputs.tolist(), int(targets[-1])]) in content
        assert inputs[1:].tolist() == targets[:-1].tolist()


def test_batches_are_a_function_of_seed_and_step(file: Path) -> None:
    whole = task(file).batches(7, range(95, 105), "float32")
    for index, step in enumerate(range(95, 105)):
        assert np.array_equal(task(file).batch(7, step, "float64").inputs, whole.inputs[index])
    streams = {task(file).batch(seed, step, "float32").inputs.tobytes() for seed in range(4) for step in range(6)}
    assert len(streams) == 24


def windows(batch: Batch) -> set[bytes]:
    whole = np.concatenate([batch.inputs, batch.targets[..., -1:]], -1)
    return {bytes(row.tolist()) for row in whole.reshape(-1, whole.shape[-1])}


def test_every_window_of_the_rest_is_trained_on_and_none_of_what_is_kept_back(file: Path) -> None:
    content = file.read_bytes()
    expected = {content[at : at + 5] for at in range(900 - 4)}
    assert len(expected) == 896
    found: set[bytes] = set()
    counts = []
    for block in range(60):
        batch = task(file).batches(
            0, range(block * STEPS_DRAWN_TOGETHER, (block + 1) * STEPS_DRAWN_TOGETHER), "float32"
        )
        found |= windows(batch)
        counts.append(len(found))
    assert found == expected
    # Of 18,000 uniform draws of 896, about 300 leave a share of e^(-300/896) unseen.
    assert abs(counts[0] - 896 * (1 - np.exp(-300 / 896))) < 40


def test_it_is_judged_on_what_is_kept_back_at_equal_distances(file: Path) -> None:
    content = file.read_bytes()
    batch = task(file, evaluated=8).evaluation_batch("float32")
    assert windows(batch) == {content[900 + n * 96 // 8 :][:5] for n in range(8)}
    assert len(task(file, evaluated=10**6).evaluation_batch("float32").inputs) == 96  # No window twice.


def test_a_folder_is_read_in_the_order_of_names_and_no_window_crosses_documents(folder: Path) -> None:
    found = task(folder).documents
    assert [document.name for document in found.files] == ["a", "m/b", "z"]
    trained = windows(task(folder).batches(0, range(2000), "float32"))
    parts = [(folder / name).read_bytes() for name in ("a", "m/b", "z")]
    assert trained == {part[at : at + 5] for part in parts for at in range(90 - 4)}
    judged = windows(task(folder, evaluated=1000).evaluation_batch("float32"))
    assert judged == {part[at : at + 5] for part in parts for at in range(90, 100 - 4)}


def test_the_digest_is_what_sha256sum_says_and_part_of_the_hash(file: Path, folder: Path) -> None:
    assert task(file).digest == hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    lines = "".join(
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in ("a", "m/b", "z")
    )
    assert task(folder).digest == hashlib.sha256(lines.encode()).hexdigest()[:16]
    text = TOML.replace('name = "Text"', 'name = "Text"\npath = "text.bin"')
    before = parse(text, "mine", str(file.with_name("mine.toml")))
    assert before.task.path == str(file)  # type: ignore[union-attr]
    elsewhere = file.parent / "elsewhere"
    elsewhere.mkdir()
    file.rename(elsewhere / file.name)
    assert parse(text, "mine", str(elsewhere / "mine.toml")).hash == before.hash
    changed = bytearray((elsewhere / file.name).read_bytes())
    changed[-1] ^= 1
    (elsewhere / file.name).write_bytes(changed)
    assert parse(text, "mine", str(elsewhere / "mine.toml")).hash != before.hash


def test_a_text_that_changes_meanwhile_is_not_read(file: Path) -> None:
    made = task(file)
    made.batch(0, 0, "float32")
    os.truncate(file, 100)
    with pytest.raises(UsageError, match=r"text\.bin: expected the file as it was at the beginning, got one that has"):
        made.batch(0, 1, "float32")
    file.unlink()
    with pytest.raises(UsageError, match="has changed since"):
        made.evaluation_batch("float32")


def test_the_texts_that_come_with_it_have_all_kinds_of_bytes() -> None:
    content = b"".join(path.read_bytes() for path in sorted(Path(TEXTS).iterdir()))
    assert len(content) > 50_000
    assert max(content) > 127  # What takes indices for signed bytes is seen.
    assert load("text-lstm").task.documents.size == len(content)  # type: ignore[union-attr]


def test_bits_per_byte() -> None:
    batch = Batch(np.zeros((1, 3), np.int64), np.array([[0, 1, IGNORED]]))
    logits = np.log2(np.array([[[0.5, 0.25, 0.25], [0.25, 0.125, 0.625], [1, 1, 1]]])) * np.log(2) + 100
    assert task().bits_per_byte(logits, batch) == pytest.approx((1 + 3) / 2)
    uniform = np.zeros((2, 5, 256), np.float32)
    assert task().bits_per_byte(uniform, Batch(np.zeros((2, 5)), np.zeros((2, 5), np.int64))) == pytest.approx(8)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, r"task\.path: expected what can be read, got .*there: No such file or directory"),
        (lambda path: path.mkdir(), r"task\.path: expected a folder with files in it, got none in .*there"),
        (lambda path: path.write_bytes(b""), r"task\.path: expected a file of at least one byte, got an empty one: .*"),
        (
            lambda path: path.write_bytes(b"x" * 100),
            r"task\.length: expected at most 9, since a sequence needs one byte more and .*there has 10 bytes to "
            r"validate on, got 12",
        ),
        (
            lambda path: path.write_bytes(b"x" * 9),
            r"task\.length: expected at most 2, since a sequence times stream = 3 needs .*there has 8 bytes to train "
            r"on, got 12",
        ),
        (lambda path: os.mkfifo(path), r"task\.path: expected a file or a folder, got neither: .*there"),
    ],
    ids=["missing", "empty folder", "empty", "short validation", "short", "fifo"],
)
def test_what_cannot_be_used_is_named(make: Callable[[Path], Any], said: str, tmp_path: Path) -> None:
    make(tmp_path / "there")
    text = TOML.replace('name = "Text"', 'name = "Text"\npath = "there"')
    with pytest.raises(SpecError, match=said):
        parse(text, "mine", str(tmp_path / "mine.toml"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read_is_named(file: Path) -> None:
    file.chmod(0)
    with pytest.raises(ValueError, match=r"path: expected what can be read, got .*text\.bin: Permission denied"):
        task(file)


def test_one_empty_document_is_named(folder: Path) -> None:
    (folder / "empty").write_bytes(b"")
    with pytest.raises(ValueError, match=r"expected a file of at least one byte, got an empty one: .*/empty$"):
        task(folder)


def test_one_command_trains_on_a_file_of_ones_own(run: Run, fake: ModuleType, file: Path) -> None:
    outcome = run("text-lstm", "--data", os.path.relpath(file), "--out", "here")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"data {file}: 1000 bytes, SHA-256 {task(file).digest}" in outcome.out
    lines = [json.loads(line) for line in Path("here/metrics.jsonl").read_text().splitlines()]
    assert lines[0]["data"].startswith(str(file))
    assert all(line["bits_per_byte"] > 0 for line in lines[1:-1])
    assert "bits per byte, Accuracy" in outcome.out
    experiment = msgspec.json.decode(Path("here/experiment.json").read_bytes())
    assert experiment["task"]["digest"] == task(file).digest


def test_only_a_text_takes_data(run: Run, file: Path) -> None:
    outcome = run("hello-gru", "--data", str(file))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == (
        "error: --data: expected an experiment whose task is Text or Table, got hello-gru, whose task is Spelling\n"
    )


def test_a_run_does_not_go_on_with_other_data(run: Run, fake: ModuleType, file: Path) -> None:
    fake.behaviour.interrupted_at_step = 17
    assert run("text-lstm", "--data", str(file), "--out", "here").code == 130
    fake.behaviour.interrupted_at_step = None
    before = {path.name: path.read_bytes() for path in Path("here").rglob("*") if path.is_file()}
    old = task(file).digest
    file.write_bytes(b"!" + file.read_bytes()[1:])
    outcome = run("--resume", "--out", "here")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == (
        f"error: here/experiment.json: task.digest: expected {task(file).digest}, that of {file}, got {old}: "
        "the text is not the one that it was, or another\n"
    )
    other = run("--resume", "--out", "here", "--data", str(file))
    assert other.code == 2
    assert {path.name: path.read_bytes() for path in Path("here").rglob("*") if path.is_file()} == before


def test_streams_go_on_where_they_were_and_begin_anew_in_turn(folder: Path) -> None:
    made = task(folder, stream=3, batch_size=4)
    steps = range(40)
    batch, goes_on = made.batches(5, steps, "float32"), made.goes_on(steps)
    assert goes_on is not None
    assert goes_on.shape == (40, 4)
    # Sequences of a batch begin anew at different steps, each at every third.
    assert [np.flatnonzero(~goes_on[:, row]).tolist()[1:4] for row in range(4)] == [
        [3, 6, 9],
        [2, 5, 8],
        [1, 4, 7],
        [3, 6, 9],
    ]
    assert not goes_on[0].any()
    parts = [(folder / name).read_bytes() for name in ("a", "m/b", "z")]
    followed, jumped = 0, 0
    for step in steps[1:]:
        for row in range(4):
            before, here = batch.targets[step - 1, row], batch.inputs[step, row]
            if goes_on[step, row]:
                both = bytes([*batch.inputs[step - 1, row].tolist(), int(before[-1]), *here[1:].tolist()])
                assert here[0] == before[-1]
                assert any(both in part[:90] for part in parts)
                followed += 1
            else:
                jumped += int(here[0] != before[-1])
    assert followed > 80
    assert jumped > 20
    for step in (0, 7, 39):
        assert np.array_equal(made.batch(5, step, "float32").inputs, batch.inputs[step])
        assert np.array_equal(made.goes_on(range(step, step + 1)), goes_on[step : step + 1])  # type: ignore[arg-type]
    assert made.batch(6, 9, "float32").inputs.tobytes() != batch.inputs[9].tobytes()
    assert task(folder).goes_on(steps) is None


def test_a_document_needs_room_for_a_stream(file: Path) -> None:
    assert task(file, stream=224).batch(0, 0, "float32").inputs.shape == (3, 4)
    with pytest.raises(ValueError, match=r"length: expected at most 3, since a sequence times stream = 225 needs one"):
        task(file, stream=225)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ('name = "LSTM"\nbidirectional = true', "LSTM that has no state to go on from, or reads from the end as well"),
        (
            'name = "SelfAttention"\npositions = "none"',
            "SelfAttention that has no state to go on from, or reads from the end as well",
        ),
    ],
)
def test_only_a_model_with_a_state_to_go_on_from_reads_streams(model: str, said: str) -> None:
    with pytest.raises(SpecError, match=rf"task\.stream: expected 1 for a {said}, got 3"):
        parse(TOML.replace('name = "LSTM"', model), "mine")
    parse(TOML.replace('name = "LSTM"', model).replace("stream = 3", "stream = 1"), "mine")


@pytest.mark.parametrize("name", named_in(LONG))
def test_long_experiments_are_trained_by_name_and_compared_by_nobody_who_does_not_ask(name: str) -> None:
    assert load(name) == load(str(LONG / f"{name}.toml"))
    assert name not in [*shipped(), *drawn()]


def test_there_is_a_long_one() -> None:
    assert "text-lstm-long" in named_in(LONG)


@pytest.fixture
def stopped(run: Run, fake: ModuleType, file: Path) -> str:
    """A run on a file that has moved since, and stands at "moved.bin"."""
    fake.behaviour.interrupted_at_step = 16
    assert run("text-lstm", "--data", str(file), "--checkpoint-steps", 3, "--out", "here").code == 130
    fake.behaviour.interrupted_at_step = None
    file.rename("moved.bin")
    return "here"


def test_a_run_goes_on_where_its_data_stand_now(run: Run, fake: ModuleType, stopped: str) -> None:
    assert "task.path: expected what can be read" in run("--resume", "--out", stopped).err
    outcome = run("--resume", "--out", stopped, "--data", "moved.bin")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"data {os.path.abspath('moved.bin')}: 1000 bytes" in outcome.out
    assert "resumed after step 15" in outcome.out
    # From then on it knows the place by itself.
    assert run("--resume", "--out", stopped).code == 0
    assert run("text-lstm", "--data", "moved.bin", "--checkpoint-steps", 3, "--out", "whole").code == 0
    one, whole = (parameters.load(Path(name, "parameters.safetensors"))[0] for name in (stopped, "whole"))
    assert {name: array.tobytes() for name, array in one.items()} == {n: a.tobytes() for n, a in whole.items()}


def test_it_may_be_prolonged_there(run: Run, fake: ModuleType, stopped: str) -> None:
    assert run("--resume", "--out", stopped, "--data", "moved.bin", "--epochs", 7).code == 0
    assert run("--resume", "--out", stopped).code == 0
    lines = [json.loads(line) for line in Path(stopped, "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["event"] == "epoch"] == list(range(1, 8))


def test_it_does_not_go_on_with_other_data_wherever_they_stand(run: Run, fake: ModuleType, stopped: str) -> None:
    was = task(Path("moved.bin")).digest
    Path("other.bin").write_bytes(b"!" + Path("moved.bin").read_bytes()[1:])
    Path("short.bin").write_bytes(b"!")
    before = {path: path.read_bytes() for path in Path(stopped).rglob("*") if path.is_file()}
    fake.calls.clear()
    for name in ("other.bin", "short.bin"):
        outcome = run("--resume", "--out", stopped, "--data", name)
        found = hashlib.sha256(Path(name).read_bytes()).hexdigest()[:16]
        expected = f"error: --data {name}: expected the data of here, SHA-256 {was}, got others, {found}\n"
        assert (outcome.code, outcome.err) == (2, expected)
    outcome = run("--resume", "--out", stopped, "--data", "none.bin")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert outcome.err.startswith("error: --data none.bin: expected what can be read, got ")
    assert {path: path.read_bytes() for path in Path(stopped).rglob("*") if path.is_file()} == before
    assert not [call for call in fake.calls if call[0] == "train"]


def test_its_parameters_are_looked_at_with_any_data(
    run: Run, fake: ModuleType, monkeypatch: pytest.MonkeyPatch, stopped: str
) -> None:
    monkeypatch.setattr(fake, "predict", lambda e, p, b, s: np.eye(256)[b.targets], raising=False)
    Path("other.bin").write_bytes(bytes(range(250)) * 4)
    figures = []
    for name in ("moved.bin", "other.bin"):
        outcome = run("--evaluate", "--out", stopped, "--data", name, "--json")
        assert outcome.code == 0, outcome.err
        figures.append(outcome.events[0]["hash"])
    assert figures[0] != figures[1]


def test_an_ensemble_goes_on_where_its_data_stand_now(run: Run, fake: ModuleType, file: Path) -> None:
    fake.behaviour.interrupted_at_step = 17
    assert run("text-lstm", "--data", str(file), "--seeds", 3, "--out", "here").code == 130
    fake.behaviour.interrupted_at_step = None
    file.rename("moved.bin")
    assert run("--resume", "--out", "here").code == 2
    assert run("--resume", "--out", "here", "--data", "moved.bin").code == 0
    assert run("--resume", "--out", "here").code == 0


def test_a_sequence_may_reach_from_one_document_into_the_next(folder: Path) -> None:
    """Each batch against the documents' own bytes, one behind the other, and where each of them begins."""
    (folder / "b").write_bytes(b"x")  # Shorter than any sequence; all of it is kept back.
    made = task(folder, length=30, stream=2, across=True, validation=0.2)
    names = ("a", "b", "m/b", "z")
    contents = [(folder / name).read_bytes() for name in names]
    kept = [int(np.ceil(len(content) * 0.2)) for content in contents]
    trained = [content[: len(content) - k] for content, k in zip(contents, kept, strict=True)]
    held = [content[len(content) - k :] for content, k in zip(contents, kept, strict=True)]
    batch = made.batches(0, range(60), "float32")
    assert batch.resets is not None
    assert_across(batch, trained)
    assert batch.resets.any(axis=-1).mean() > 0.3
    assert (batch.targets == IGNORED).sum() > 0
    assert_across(stacked(made.evaluation_batch("float32")), held)
    every = [stacked(one) for one in made.validation_batches("float32")]
    assert sum(one.inputs.size for one in every) == (sum(kept) - 1) // 30 * 30
    for one in every:
        assert_across(one, held)
    with pytest.raises(ValueError, match=r"length: expected at most 120, since a sequence .*documents has 121 bytes"):
        task(folder, length=121, across=True, validation=0.4)


def stacked(batch: Batch) -> Batch:
    return map_arrays(lambda array: array[None], batch)


def assert_across(batch: Batch, parts: list[bytes]) -> None:
    content, begins = b"".join(parts), np.cumsum([0, *map(len, parts)]).tolist()
    assert batch.resets is not None
    for index in np.ndindex(batch.inputs.shape[:2]):
        inputs, targets = bytes(batch.inputs[index].tolist()), batch.targets[index]
        places = [at for at in range(len(content)) if content.startswith(inputs, at)]
        assert len(places) == 1, places
        steps = places[0] + np.arange(len(inputs))
        assert batch.resets[index].tolist() == [int(step) in begins for step in steps]
        expected = [IGNORED if int(step) + 1 in begins else content[step + 1] for step in steps]
        assert targets.tolist() == expected


def test_streams_reach_across_too_and_are_set_back_there(folder: Path) -> None:
    made = task(folder, length=7, stream=9, batch_size=2, across=True)
    batches, goes_on = made.batches(1, range(900), "float32"), made.goes_on(range(900))
    assert goes_on is not None
    assert batches.resets is not None
    # One that goes on where a document begins does so from zero.
    assert (batches.resets[..., 0] & goes_on).any()
    assert (batches.resets[..., 1:]).any()
