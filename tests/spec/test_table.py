"""Tables of one's own: what is read, what is refused and in which words, the split, the passes and the buckets."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from spec.errors import SpecError
from spec.experiment import Experiment, load, to_toml
from spec.tasks import IGNORED, Table
from spec.tasks.buckets import widths

GOOD = "sequence,a,b,target\nx,1,2,0\nx,3,4,2\ny,5,6,1\nz,7,8,\nz,9,10,1\nz,11,12,0\n"


def made(path: str, **task: Any) -> str:
    """An experiment's file on a table."""
    values = {"path": path, "batch_size": 2, "validation": 0.3, **task}
    kind, size = ("Embedding", "num_embeddings") if task.get("inputs") == "index" else ("Features", "size")
    wide = "\nembedding_dim = 3" if kind == "Embedding" else ""
    readout = f'\nreadout = "{task["readout"]}"' if "readout" in task else ""
    lines = "\n".join(f"{key} = {msgspec.json.encode(value).decode()}" for key, value in values.items())
    return f"""description = "made"
[model]
name = "GRU"
classes = 3
hidden_size = 3{readout}
[model.inputs]
name = "{kind}"
{size} = 2{wide}
[task]
name = "Table"
{lines}
[training]
epochs = 1
loss = {{ name = "CrossEntropy", reduction = "mean" }}
optimizer = {{ name = "Adam", learning_rate = 0.01 }}
"""


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[..., Experiment]:
    """The experiment on a table with that content, which stands beside its file."""

    def load_it(content: bytes | str | dict[str, Any], name: str = "", **task: Any) -> Experiment:
        name = name or ("data.npz" if isinstance(content, dict) else "data.csv")
        if isinstance(content, dict):
            np.savez(tmp_path / name, **content)
        else:
            (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        (tmp_path / "mine.toml").write_text(made(name, **task))
        return load(str(tmp_path / "mine.toml"))

    return load_it


def sequences(task: Table) -> list[tuple[Any, Any]]:
    """Inputs and targets of all sequences, in the order of the file."""
    everything = msgspec.structs.replace(task, batch_size=100)
    batches = [everything.evaluation_batch("float64"), everything.batch(0, 0, "float64")]
    found = []
    for batch in batches:
        assert batch.lengths is not None
        found += [
            (x[:n].tolist(), y[:n].tolist())
            for x, y, n in zip(batch.inputs, batch.targets, batch.lengths, strict=False)
            if n
        ]
    return sorted(found)


def test_a_csv_and_an_npz_of_the_same(loaded: Callable[..., Experiment]) -> None:
    arrays = {
        "inputs": np.array(
            [[[1, 2], [3, 4], [np.nan] * 2], [[5, 6], [0, 0], [0, 0]], [[7, 8], [9, 10], [11, 12]]], "f4"
        ),
        "targets": np.array([[0, 2, 9], [1, 0, 0], [IGNORED, 1, 0]]),
        "lengths": np.array([2, 1, 3]),
    }
    table, archive = loaded(GOOD).task, loaded(arrays).task
    assert isinstance(table, Table)
    assert isinstance(archive, Table)
    assert sequences(table) == sequences(archive)
    assert sequences(table) == [
        ([[1, 2], [3, 4]], [0, 2]),
        ([[5, 6]], [1]),
        ([[7, 8], [9, 10], [11, 12]], [IGNORED, 1, 0]),
    ]


def test_the_last_step_s_target_alone(loaded: Callable[..., Experiment]) -> None:
    task = loaded(GOOD, readout="last step").task
    found = [*task.evaluation_batch("float64").targets, *task.batch(0, 0, "float64").targets]
    assert sorted(found) == [0, 1, 2]


def test_indices(loaded: Callable[..., Experiment]) -> None:
    experiment = loaded("\ufeffsequence,s,target\r\na,1,0\r\na,0,2\r\nb,1,1\r\n", inputs="index")
    assert experiment.task.input_size == 2
    assert experiment.task.evaluation_batch("float32").inputs.dtype == np.int64


NPZ = {"inputs": np.zeros((3, 4, 2)), "targets": np.array([0, 1, 2]), "lengths": np.array([4, 2, 1])}

BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "empty": ("", {}, r"path: expected a file of at least one byte, got an empty one: .*data\.csv"),
    "header alone": ("sequence,a,b,target\n", {}, r"expected rows below the header in .*data\.csv, line 1, got none"),
    "no header": ("x,1,2,0\n", {}, r'expected the header "sequence", .* in .*data\.csv, line 1, got x,1,2,0'),
    "the same name": ("sequence,a,a,target\n", {}, r"expected columns of different names .*, line 1, got 'a' twice"),
    "a column less": (GOOD.replace("5,6,1", "5,1"), {}, r"expected 4 columns, .* in .*data\.csv, line 4, got 3"),
    "a column more": (GOOD.replace("5,6,1", "5,6,1,1"), {}, r"data\.csv, line 4, got 5"),
    "an empty row": (GOOD.replace("y,", "\ny,"), {}, r"expected 4 columns, .*data\.csv, line 4, got 0"),
    "a word": (GOOD.replace("9,10", "9,ten"), {}, r"expected a number in .*data\.csv, line 6, column 'b', got 'ten'"),
    "nan": (
        GOOD.replace("9,10", "NaN,10"),
        {},
        r"expected a finite number in .*data\.csv, line 6, column 'a', got NaN",
    ),
    "a class": (GOOD.replace("3,4,2", "3,4,-2"), {}, r"line 3, column 'target', got '-2'"),
    "half a class": (GOOD.replace("3,4,2", "3,4,1.5"), {}, r"expected a class \(0, 1, \.\.\.\) or nothing .*, line 3"),
    "torn": (GOOD + "x,1,1,1\n", {}, r"expected the rows of a sequence one after the other .*, line 8, got 'x' again"),
    "bytes": (GOOD.encode() + b"q,1,\xff,1\n", {}, r"expected text in UTF-8 in .*data\.csv, line 8, got the byte 0xff"),
    "a quote": (GOOD + 'q,"1,2,0\n', {}, r"expected a row of a CSV file in .*data\.csv, line 8"),
    "one sequence": (
        "sequence,a,b,target\nx,1,2,0\n",
        {},
        r"expected at least 2 sequences, one to validate, .*, got 1",
    ),
    "no target": (
        "sequence,a,b,target\nx,1,2,\ny,1,2,\n",
        {},
        r"expected at least one target in .*data\.csv, got none",
    ),
    "an index": (
        "sequence,s,target\na,1.5,0\nb,1,1\n",
        {"inputs": "index"},
        r"expected an index .*, line 2, column 's'",
    ),
    "too few columns": (GOOD, {"inputs": "index"}, r"expected one column of indices in .*, line 1, got 2"),
    "no archive": (b"sequence", {"name": "data.npz"}, r"expected an \.npz file of arrays, got .*data\.npz"),
    "arrays": (
        {"inputs": NPZ["inputs"]},
        {},
        r"expected the arrays inputs, targets .* in .*data\.npz, got \['inputs'\]",
    ),
    "beyond the row": (
        {**NPZ, "lengths": np.array([4, 5, 1])},
        {},
        r"expected 1 to 4 steps, as inputs has in .*data\.npz, lengths\[1\], got 5",
    ),
    "lengths": ({**NPZ, "lengths": np.ones(2, int)}, {}, r"data\.npz, lengths, got int64 \(2,\)"),
    "shape": (
        {**NPZ, "inputs": np.zeros((3, 4))},
        {},
        r"expected floating \(sequences, steps, features\) .*, inputs, got",
    ),
    "infinite": (
        {**NPZ, "inputs": np.where(np.arange(24).reshape(3, 4, 2) == 3, np.inf, 0.0)},
        {},
        r"expected a finite number in .*data\.npz, inputs\[0, 1, 1\], got inf",
    ),
    "targets": ({**NPZ, "targets": np.zeros(3)}, {}, r"data\.npz, targets, got float64 \(3,\)"),
    "pickled": ({**NPZ, "lengths": np.array([None] * 3)}, {}, r"expected an \.npz file of arrays, got .*data\.npz"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_name_the_file_and_the_line(case: str, loaded: Callable[..., Experiment]) -> None:
    content, task, match = BAD[case]
    with pytest.raises(SpecError, match=match) as raised:
        loaded(content, **task)
    assert "\n" not in str(raised.value)
    assert "mine.toml: task.path: expected" in str(raised.value)


def test_missing_and_folders(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(made("nothing.csv"))
    with pytest.raises(SpecError, match=r"task\.path: .*nothing\.csv"):
        load(str(tmp_path / "mine.toml"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.csv").write_text(GOOD)
    (tmp_path / "mine.toml").write_text(made("folder"))
    with pytest.raises(SpecError, match=r"task\.path: expected a file, got a folder: .*folder"):
        load(str(tmp_path / "mine.toml"))


def test_other_data_are_another_experiment_wherever_they_stand(
    tmp_path: Path, loaded: Callable[..., Experiment]
) -> None:
    first = loaded(GOOD)
    assert loaded(GOOD, name="moved.csv").hash == first.hash
    assert loaded(GOOD.replace("5,6", "5,7")).hash != first.hash
    # What is resolved holds on to the data that it had.
    (tmp_path / "again.toml").write_text(to_toml(first))
    with pytest.raises(SpecError, match=r"task\.digest: expected .*, got .*: the table is not the one that it was"):
        load(str(tmp_path / "again.toml"))


@pytest.mark.parametrize("buckets", [1, 3])
def test_every_sequence_comes_once_in_a_pass(buckets: int) -> None:
    task = Table(batch_size=4, buckets=buckets)
    whole = [(r.tobytes(), n) for r, n in _rows(task, range(task.steps_per_pass))]
    again = [(r.tobytes(), n) for r, n in _rows(task, range(task.steps_per_pass, 2 * task.steps_per_pass))]
    assert len(whole) == len(set(whole)) == 19
    assert sorted(whole) == sorted(again)
    assert whole != again
    assert not {row for row, _ in whole} & {r.tobytes() for r in task.evaluation_batch("float64").inputs}


def _rows(task: Table, steps: range) -> list[tuple[np.ndarray, int]]:
    found = []
    for step in steps:
        batch = task.batch(5, step, "float64")
        assert batch.inputs.shape[:2] in {(4, width) for width in task.widths}
        assert batch.lengths is not None
        assert (batch.targets[np.arange(batch.targets.shape[1]) >= batch.lengths[:, None]] == IGNORED).all()
        found += [(row[:n], int(n)) for row, n in zip(batch.inputs, batch.lengths, strict=True) if n]
    return found


def test_buckets_have_the_least_padding_that_so_many_can_have() -> None:
    generator = np.random.default_rng(0)
    for _ in range(100):
        lengths = generator.integers(1, 9, generator.integers(1, 12))
        buckets = int(generator.integers(1, 5))
        found, sizes = widths(lengths, buckets), np.unique(lengths).tolist()

        def padded(ends: tuple[int, ...], lengths: np.ndarray = lengths) -> int:
            return int(np.array(ends)[np.searchsorted(ends, lengths)].sum())

        every = [
            (*ends, sizes[-1])
            for count in range(min(buckets, len(sizes)))
            for ends in itertools.combinations(sizes[:-1], count)
        ]
        assert padded(found) == min(map(padded, every))
        assert len(found) <= buckets
    many = np.random.default_rng(1).integers(1, 5000, 3000)
    assert len(widths(many, 8)) == 8
    assert widths(many, 8)[-1] == many.max()
