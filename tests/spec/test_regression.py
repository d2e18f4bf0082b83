"""Targets that are numbers: the loss by hand, tables and Python tasks of them, an oscillation and the best guess, and
what fits what."""

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from spec.command import main
from spec.ensemble import first_solved, learned_members
from spec.errors import SpecError, UsageError
from spec.experiment import Experiment, load, override, parse, to_toml
from spec.tasks import Oscillation, Python, Table, asked, logits_shape
from spec.tasks import python as python_task
from spec.tasks.base import explained_variance
from spec.tasks.oscillation import Swing, draw, expected
from spec.training import MeanSquaredError

NAN = math.nan

TABLE = "sequence,a,b,target_x,target_y\nx,1,2,0.5,-1\nx,3,4,2,\ny,5,6,,1e3\nz,7,8,1,1\nz,9,10,-2.5,0\n"

TASK = Oscillation(length=4, shortest=2, period=5.0, damping=0.9, noise=0.5, batch_size=5)


def experiment(task: str, loss: str = "MeanSquaredError", classes: int = 2, size: int = 2, outcome: str = "") -> str:
    """An experiment's file on that task."""
    return f"""description = "made"
model = {{ name = "GRU", classes = {classes}, hidden_size = 3, inputs = {{ name = "Features", size = {size} }} }}
task = {{ {task} }}
[training]
epochs = 2
loss = {{ name = "{loss}", reduction = "mean" }}
optimizer = {{ name = "Adam", learning_rate = 0.01 }}
{outcome}
"""


def of_table(tmp_path: Path, content: Any, name: str = "data.csv", task: str = "", **options: Any) -> Experiment:
    """The experiment on that table, which stands beside its file."""
    if isinstance(content, dict):
        np.savez(tmp_path / name, **content)
    else:
        (tmp_path / name).write_text(content)
    options = {"classes": 2, **options}
    told = f'name = "Table", path = "{name}", targets = "numbers", batch_size = 2, validation = 0.3{task}'
    (tmp_path / "mine.toml").write_text(experiment(told, **options))
    return load(str(tmp_path / "mine.toml"))


def test_the_loss_by_hand() -> None:
    outputs = np.array([[[1.0, 2.0], [3.0, -1.0]]])
    targets = np.array([[[0.0, NAN], [1.0, 1.0]]])
    mean, total = MeanSquaredError("mean"), MeanSquaredError("sum")
    assert total.value(outputs, targets) == 1 + 4 + 4
    assert mean.value(outputs, targets) == 3
    assert mean.divisor(targets) == 3
    # Nothing counts, and nothing is 0 / 0.
    assert mean.value(outputs, np.full_like(targets, NAN)) == 0
    # Runs and complex steps.
    both = mean.values(np.stack([outputs, outputs + 1]), targets)
    assert both.tolist() == [3, (4 + 9 + 1) / 3]
    assert np.imag(mean.values(outputs[None] + 1e-30j, targets)[0]) == pytest.approx(2e-30 * (1 + 2 - 2) / 3)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_gradient_is_no_larger_than_it_is_said_to_be(reduction: Any) -> None:
    loss, generator = MeanSquaredError(reduction), np.random.default_rng(0)
    for _ in range(50):
        outputs, targets = generator.normal(size=(2, 3, 4, 2)) * 10 ** generator.normal(size=(2, 1, 1, 1))
        targets[generator.random(targets.shape) < 0.3] = NAN
        kept, value = asked(targets), loss.value(outputs, targets)
        gradient = np.abs(2 * (outputs - targets)[kept]) / (kept.sum() if reduction == "mean" else 1)
        assert gradient.sum() <= loss.slope(targets, value) * (1 + 1e-12)
        assert gradient.max() <= loss.share(targets, value) * (1 + 1e-12)
        assert loss.entered(outputs, targets) == pytest.approx((value, gradient.max()), rel=1e-12)
    # And no smaller where all are off alike.
    ones = np.ones((2, 3, 1))
    assert loss.slope(ones, loss.value(ones + 2, ones)) == pytest.approx(4.0 if reduction == "mean" else 24.0)


def test_a_csv_and_an_npz_of_the_same(tmp_path: Path) -> None:
    arrays = {
        "inputs": np.array([[[1, 2], [3, 4]], [[5, 6], [NAN] * 2], [[7, 8], [9, 10]]], "f4"),
        "targets": np.array([[[0.5, -1], [2, NAN]], [[NAN, 1e3], [7, 7]], [[1, 1], [-2.5, 0]]]),
        "lengths": np.array([2, 1, 2]),
    }
    found = []
    for content, name in ((TABLE, "data.csv"), (arrays, "data.npz")):
        made = of_table(tmp_path, content, name)
        assert isinstance(made.task, Table)
        assert (made.task.classes, made.task.input_size, made.task.length) == (2, 2, 2)
        batches = [made.evaluation_batch("float32"), made.batch(0, 0, "float32")]
        assert {batch.targets.dtype.name for batch in batches} == {"float32"}
        for batch in batches:
            assert logits_shape(batch.targets, 2) == batch.targets.shape == (*batch.inputs.shape[:2], 2)
            assert batch.lengths is not None
            assert np.isnan(batch.targets[np.arange(batch.targets.shape[1]) >= batch.lengths[:, None]]).all()
        found.append([array.tobytes() for batch in batches for array in batch[:3]])  # type: ignore[union-attr]
    assert found[0] == found[1]
    assert sum(asked(batch.targets).sum() for batch in batches) == 8


def test_the_last_step_s_numbers_alone(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(TABLE)
    task = Table(path=str(tmp_path / "data.csv"), targets="numbers", readout="last step", batch_size=2, validation=0.3)
    rows = np.concatenate([task.evaluation_batch("float64").targets, task.batch(0, 0, "float64").targets])
    assert sorted(map(str, rows.tolist())) == sorted(map(str, [[2.0, NAN], [NAN, 1e3], [-2.5, 0.0]]))
    np.savez(tmp_path / "data.npz", inputs=np.zeros((3, 4, 1)), targets=np.arange(6.0).reshape(3, 2))
    task = Table(path=str(tmp_path / "data.npz"), targets="numbers", readout="last step", batch_size=2)
    assert task.batch(0, 0, "float64").targets.shape == (2, 2)


def test_two_axes_that_could_be_steps_or_outputs_are_refused(tmp_path: Path) -> None:
    def task(targets: np.ndarray, steps: int) -> Table:
        np.savez(tmp_path / "data.npz", inputs=np.zeros((3, steps, 1)), targets=targets)
        return Table(path=str(tmp_path / "data.npz"), targets="numbers", batch_size=2)

    with pytest.raises(
        ValueError, match=r"npz, targets, got float64 \(3, 4\)|\(3, 4, 1\) for a number at each step"
    ) as said:
        task(np.zeros((3, 4)), 4).classes  # noqa: B018
    assert "(3, 4, 4) with NaN before the last step for 4 there" in str(said.value)
    assert task(np.zeros((3, 4, 1)), 4).classes == 1
    assert task(np.zeros((3, 4)), 5).classes == 4
    # The same either way.
    assert task(np.zeros((3, 1)), 1).classes == 1


@pytest.mark.parametrize("inputs", ["numbers", "index"])
def test_the_tables_that_come_with_it_are_the_others_with_means(inputs: Any) -> None:
    task, plain = Table(inputs=inputs, targets="numbers", batch_size=4), Table(inputs=inputs, batch_size=4)
    batch, other = task.evaluation_batch("float64"), plain.evaluation_batch("float64")
    assert batch.inputs.tobytes() == other.inputs.tobytes()
    assert batch.lengths is not None
    for values, targets, length in zip(batch.inputs, batch.targets, batch.lengths, strict=True):
        seen = values[:length].reshape(length, -1)[:, 0].astype(np.float64)
        means = seen.cumsum() / np.arange(1, length + 1)
        assert targets[:length, 0] == pytest.approx(means, abs=1e-3)
        if inputs == "numbers":
            assert targets[1:length, 1] == pytest.approx(np.diff(seen), abs=1e-3)
            assert np.isnan(targets[0, 1])


BAD = {
    "text": (
        TABLE.replace("2.5", "fast"),
        r"expected a number or nothing in .*data\.csv, line 6, column 'target_x', go",
    ),
    "nan": (
        TABLE.replace("1e3", "NaN"),
        r"expected a finite number or nothing in .*, line 4, column 'target_y', got NaN",
    ),
    "infinite": (TABLE.replace("1e3", "inf"), r"expected a finite number or nothing in .*, line 4, .* got inf"),
    "beyond float32": (TABLE.replace("1e3", "1e39"), r"expected a number that float32 holds or nothing .*, line 4"),
    "input beyond float32": (TABLE.replace("9,10", "1e39,10"), r"expected a number that float32 holds in .*, line 6"),
    "a class's header": (
        TABLE.replace("target_x,target_y", "target_x,speed"),
        r'the header "sequence", at least one column of inputs, "target" or columns "target_\.\.\." in .*, line 1, got',
    ),
    "no input": ("sequence,target_x,target_y\n", r"expected the header"),
    "a target between inputs": (TABLE.replace("a,b,", "target_a,b,"), r"expected the header"),
    "nothing asked": ("sequence,a,target\nx,1,\ny,2,\n", r"expected at least one target in .*data\.csv, got none"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_name_the_file_and_the_line(case: str, tmp_path: Path) -> None:
    content, match = BAD[case]
    with pytest.raises(SpecError, match=match) as raised:
        of_table(tmp_path, content)
    assert "\n" not in str(raised.value)


BAD_ARRAYS = {
    "classes": ({"targets": np.zeros((3, 4), int)}, r"targets, got int64 \(3, 4\)"),
    "no outputs": (
        {"targets": np.zeros(3)},
        r"expected floating \(3, outputs\) or \(3, 4, outputs\) in .*, targets, got float64 \(3,\)",
    ),
    "other steps": (
        {"targets": np.zeros((3, 5, 2))},
        r"expected floating \(3, outputs\) or \(3, 4, outputs\) .*, targets, got",
    ),
    "infinite": (
        {"targets": np.where(np.arange(24).reshape(3, 4, 2) == 3, np.inf, 0.0)},
        r"expected a number that float32 holds, or NaN in .*, targets\[0, 1, 1\], got inf",
    ),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_name_the_place(case: str, tmp_path: Path) -> None:
    arrays, match = BAD_ARRAYS[case]
    with pytest.raises(SpecError, match=match):
        of_table(tmp_path, {"inputs": np.zeros((3, 4, 2)), **arrays}, "data.npz")


def test_a_loss_takes_its_own_kind_of_targets(tmp_path: Path) -> None:
    numbers = (
        r"training\.loss\.name: expected MeanSquaredError for Oscillation, whose targets are numbers, got CrossEntr"
    )
    classes = r"training\.loss\.name: expected CrossEntropy for Weather, whose targets are classes, got MeanSquaredErr"
    squares = {"name": "MeanSquaredError", "reduction": "mean"}
    with pytest.raises(SpecError, match=numbers):
        override(load("oscillation-gru"), training__loss={"name": "CrossEntropy", "reduction": "mean"})
    with pytest.raises(SpecError, match=classes):
        override(load("weather-gru"), training__loss=squares)
    # Where the task has a choice, the message says how it is made.
    with pytest.raises(SpecError, match=r"got MeanSquaredError") as raised:
        parse(experiment('name = "Table", batch_size = 2', classes=3), "mine")
    assert "(task.targets = 'numbers' asks for numbers)" in str(raised.value)
    (tmp_path / "data.csv").write_text("sequence,a,target\nx,1,0.5\ny,2,1\n")
    with pytest.raises(
        SpecError, match=r"a class \(0, 1, \.\.\.\) or nothing \(numbers: targets = 'numbers'\) in .* '0\.5'"
    ):
        parse(experiment(f'name = "Table", path = "{tmp_path}/data.csv", batch_size = 2'), "mine")
    with pytest.raises(SpecError, match=r"model\.classes: expected 2, as the task has, got 1"):
        of_table(tmp_path, TABLE, classes=1)
    with pytest.raises(
        SpecError, match=r"outcome\.name: expected LossAtMost, NearLowest or CannotLearn for targets th"
    ):
        override(load("oscillation-gru"), outcome={"name": "Learns", "solved_rate_at_least": 1})


def test_what_is_drawn_has_its_lengths_targets_and_readouts() -> None:
    batch = TASK.batch(3, 120, "float32")
    assert batch.inputs.shape == batch.targets.shape == (5, 4, 1)
    assert batch.inputs.dtype == batch.targets.dtype == np.float32
    assert batch.lengths is not None
    assert (asked(batch.targets)[..., 0] == (np.arange(4) < batch.lengths[:, None])).all()
    known = asked(batch.targets)[:, 1:]
    assert (batch.targets[:, :-1][known] == batch.inputs[:, 1:][known]).all()
    last = msgspec.structs.replace(TASK, readout="last step").batch(3, 120, "float32")
    assert last.targets.shape == (5, 1)
    assert last.targets[:, 0].tolist() == [row[n - 1, 0] for row, n in zip(batch.targets, batch.lengths, strict=True)]
    assert last.inputs.tobytes() == batch.inputs.tobytes()
    assert batch.inputs.tobytes() != TASK.batch(4, 120, "float32").inputs.tobytes()


def test_the_expected_reading_is_that_of_the_joint_law() -> None:
    """By the covariances of all readings at once, cov(y_s, y_t) = d^|s-t| cos(|s-t| 2 pi / period), and noise."""
    swing, steps = Swing(5.0, 0.9, 0.5), 6
    readings = draw(np.random.default_rng(0), swing, (3, steps))
    apart = np.abs(np.subtract.outer(np.arange(steps + 1), np.arange(steps + 1)))
    law = 0.9**apart * np.cos(apart * 2 * np.pi / 5) + 0.25 * np.eye(steps + 1)
    guessed = expected(readings[:, :-1], swing)
    for step in range(1, steps + 1):
        weights = np.linalg.solve(law[:step, :step], law[:step, step])
        assert guessed[:, step - 1] == pytest.approx(readings[:, :step] @ weights, rel=1e-9, abs=1e-12)


def test_readings_have_the_stated_law() -> None:
    swing, count = Swing(5.0, 0.9, 0.5), 20_000
    readings = draw(np.random.default_rng(1), swing, (count, 7))
    apart = np.abs(np.subtract.outer(np.arange(8), np.arange(8)))
    law = 0.9**apart * np.cos(apart * 2 * np.pi / 5) + 0.25 * np.eye(8)
    # A product of two has a deviation of about the variance, 1.25.
    assert np.abs(np.cov(readings.T) - law).max() < 5 * 1.25 * math.sqrt(2 / count)
    assert np.abs(readings.mean(axis=0)).max() < 5 * math.sqrt(1.25 / count)


@pytest.mark.parametrize("readout", ["every step", "last step"])
def test_the_lowest_loss_is_that_of_the_guess(readout: Any) -> None:
    task = msgspec.structs.replace(TASK, readout=readout)
    batch = task.evaluation_batch("float64")
    assert batch.lengths is not None
    squares = []
    for inputs, targets, length in zip(batch.inputs[..., 0], batch.targets[..., 0], batch.lengths, strict=True):
        guessed = expected(inputs[None, :length], task.swing)[0]
        wanted = targets[:length] if readout == "every step" else np.array([targets])
        squares += list((guessed[-len(wanted) :] - wanted) ** 2)
    assert task.lowest_loss == pytest.approx(np.mean(squares), rel=1e-12)


def test_learning_is_a_matter_of_the_loss() -> None:
    made = load("oscillation-gru")
    batch = made.evaluation_batch("float64")
    task = made.task
    assert isinstance(task, Oscillation)
    best = expected(batch.inputs[..., 0], task.swing)[..., None]
    every = np.stack([best, np.zeros_like(best), np.nan_to_num(batch.targets), np.full_like(best, NAN)])
    assert learned_members(made, every, batch).tolist() == [True, False, False, False]
    most = override(made, outcome={"name": "LossAtMost", "solved_rate_at_least": 1, "loss_at_most": 1.0})
    assert learned_members(most, every, batch).tolist() == [True, False, True, False]
    # Nobody says every number right to the last bit: there is no such epoch.
    assert first_solved(np.nan_to_num(batch.targets)[None], batch) == -1
    assert parse(to_toml(most), "oscillation-gru") == most


def test_words_and_how_much_is_explained() -> None:
    made = load("oscillation-gru")
    batch = made.evaluation_batch("float64")
    targets = np.nan_to_num(batch.targets)
    said = made.task.describe(made.task.predictions(targets), batch)
    assert said.startswith("RMSE: 0, R^2 1.000, lowest loss 0.")
    kept = asked(batch.targets)
    mean = np.full_like(targets, batch.targets[kept].mean())
    assert explained_variance(mean, batch.targets) == pytest.approx(0, abs=1e-12)
    off = made.task.describe(targets + 2, batch)
    assert off.startswith("RMSE: 2, R^2 -")
    assert explained_variance(np.zeros((2, 1)), np.ones((2, 1))) is None


DRAW = """import numpy as np
class Sums:
    def __init__(self, task):
        self.task = task
    def draw(self, generator):
        x = generator.normal(size=(self.task.batch_size, self.task.length, 1))
        sums = x.cumsum(axis=1)
        return x, np.concatenate([sums, sums**2], axis=-1)
"""


def python(tmp_path: Path, content: str) -> Python:
    (tmp_path / "mine.py").write_text(content)
    return Python(
        path=str(tmp_path / "mine.py"),
        class_name="Sums",
        length=5,
        classes=2,
        batch_size=4,
        targets="numbers",
        ragged=False,
    )


def test_numbers_of_a_python_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_task, "imports_allowed", True)
    batch = python(tmp_path, DRAW).batch(0, 0, "float32")
    assert (batch.targets.dtype, batch.targets.shape) == (np.dtype("float32"), (4, 5, 2))
    assert batch.targets[..., 0] == pytest.approx(batch.inputs[..., 0].cumsum(axis=1), rel=1e-5)
    for old, new, match in (
        (
            "np.concatenate([sums, sums**2], axis=-1)",
            "sums",
            r"targets: expected floating \(4, 5, 2\), got float64 \(4, 5, 1",
        ),
        (
            "np.concatenate([sums, sums**2], axis=-1)",
            "sums.astype(int)[..., 0]",
            r"expected floating \(4, 5, 2\), got int",
        ),
        ("sums**2", "sums / 0", r"targets: expected finite numbers, or NaN, got -?inf"),
        ("sums**2], axis=-1)", "sums], axis=-1) * np.nan", r"expected a number somewhere, got nothing that is asked"),
    ):
        assert old in DRAW
        with np.errstate(all="ignore"), pytest.raises(UsageError, match=match):
            python(tmp_path, DRAW.replace(old, new)).batch(0, 0, "float32")


def test_a_training_tells_of_errors_and_of_no_accuracy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of_table(tmp_path, TABLE)
    file, out = str(tmp_path / "mine.toml"), str(tmp_path / "run")
    assert main("spec.reference", [file, "--precision", "float64", "--out", out]) == 0
    told = capsys.readouterr().out
    assert "RMSE: " in told
    assert "ccuracy" not in told
    assert "predicted right" not in told
    assert main("spec.reference", [file, "--out", out, "--evaluate"]) == 0
    assert " over 3 targets" in capsys.readouterr().out
    assert main("spec.reference", [file, "--out", out, "--evaluate", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out.splitlines()[-1])["measured"]
    assert measured["rmse"] ** 2 == pytest.approx(measured["loss"], rel=1e-12)
    assert "accuracy" not in measured
