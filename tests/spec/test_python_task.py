"""A task in a Python file of one's own: what it gives, what is refused and in which words, and who imports it."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from spec.command import main
from spec.errors import SpecError, UsageError
from spec.experiment import load
from spec.tasks import IGNORED, Python
from spec.tasks import python as python_task
from spec.tasks.python import EXAMPLE

GOOD = Path(EXAMPLE).read_text()

EXPERIMENT = """description = "made"
model = { name = "GRU", classes = 2, hidden_size = 3, inputs = { name = "Features", size = 1 } }
task = { name = "Python", path = "mine.py", length = 4, classes = 2, batch_size = 8 }
[training]
epochs = 1
loss = { name = "CrossEntropy", reduction = "mean" }
optimizer = { name = "Adam", learning_rate = 0.01 }
"""


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_task, "imports_allowed", True)


def task(path: Path, content: str, **other: Any) -> Python:
    path.write_text(content)
    return Python(path=str(path), length=5, classes=2, batch_size=4, **other)


@pytest.mark.usefixtures("allowed")
def test_the_example_is_drawn_from_seed_and_step_alone() -> None:
    made = Python(length=5, classes=2, batch_size=4, size=2)
    batch = made.batch(3, 7, "float32")
    assert batch.inputs.dtype == "float32"
    assert batch.lengths is not None
    for bits, targets, length in zip(batch.inputs, batch.targets, batch.lengths, strict=True):
        assert targets[:length].tolist() == (bits.sum(-1).cumsum() % 2)[:length].tolist()
        assert (targets[length:] == IGNORED).all()
    assert made.batch(3, 7, "float32").inputs.tobytes() == batch.inputs.tobytes()
    assert len({made.batch(seed, step, "float32").inputs.tobytes() for seed in (0, 1) for step in (0, 1)}) == 4


def test_another_process_draws_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who only compares does not import the file."""
    made = task(tmp_path / "mine.py", GOOD + f"\nwith open({str(tmp_path / 'seen')!r}, 'a') as f:\n    f.write('x')\n")
    monkeypatch.setattr(python_task, "imports_allowed", False)
    apart = made.evaluation_batch("float64")
    assert (tmp_path / "seen").read_text() == "x"
    python_task._evaluated.cache_clear()
    monkeypatch.setattr(python_task, "imports_allowed", True)
    here = made.evaluation_batch("float64")
    assert [a.tobytes() for a in apart[:3] if a is not None] == [a.tobytes() for a in here[:3] if a is not None]


BAD = {
    "syntax": ("def x(:\n", r"mine\.py, line 1: cannot be imported: SyntaxError: "),
    "import": ("\nimport no_such_module\n", r"mine\.py, line 2: cannot be imported: ModuleNotFoundError: No module"),
    "exit": ("raise SystemExit(0)\n", r"mine\.py, line 1: cannot be imported: SystemExit: 0"),
    "no class": ("x = 1\n", r"mine\.py: expected a class Parity with a function draw, got none of that name"),
    "no function": ("class Parity: pass\n", r"got one without it"),
    "constructor": (GOOD.replace("self.task = task", "1 / 0"), r"line 10: cannot be imported: ZeroDivisionError"),
    "raises": (
        GOOD.replace("count, length =", "oops\n        count, length ="),
        r"line 14: Parity: NameError: name",
    ),
    "shape": (
        GOOD.replace("bits.astype(float)", "bits[:, 1:] * 1.0"),
        r"inputs: expected floating \(4, 5, 1\), got",
    ),
    "nan": (GOOD.replace("bits.astype(float)", "bits * np.nan"), r"draw: inputs: expected finite numbers, got nan"),
    "lengths": (
        GOOD.replace("(1, length + 1, count)", "(9, 10, count)"),
        r"lengths: expected 1 to 5, got \[9, 9",
    ),
    "no lengths": (GOOD.replace(", targets, lengths", ", targets"), r"lengths: expected integer lengths, got none"),
    "classes": (GOOD.replace("% self.task.classes", "+ 7"), r"draw: targets: expected 0 to 1, or -100, got 7 to"),
    "floats": (
        GOOD.replace("(float), targets", "(float), targets * 1.0"),
        r"targets: expected integer \(4, 5\)",
    ),
    "one array": (
        GOOD.replace("(float), targets, lengths", "(float),"),
        r"expected inputs, targets .*, got 1 arr",
    ),
}


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named_with_the_file(case: str, tmp_path: Path) -> None:
    content, match = BAD[case]
    with pytest.raises(UsageError, match=match) as raised:
        task(tmp_path / "mine.py", content).batch(0, 0, "float32")
    assert "\n" not in str(raised.value)
    assert str(tmp_path / "mine.py") in str(raised.value)


def test_errors_of_another_process_are_told_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_task, "imports_allowed", False)
    with pytest.raises(UsageError, match=r"mine\.py, line 14: Parity: NameError: name 'oops' is not defined$"):
        task(tmp_path / "mine.py", BAD["raises"][0]).evaluation_batch("float32")


def test_the_file_is_part_of_the_experiment_wherever_it_stands(tmp_path: Path) -> None:
    made = []
    for folder, content in (("one", GOOD), ("two", GOOD), ("three", GOOD + "\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(content)
        (tmp_path / folder / "mine.toml").write_text(EXPERIMENT)
        made.append(load(str(tmp_path / folder / "mine.toml")))
    assert made[0].hash == made[1].hash != made[2].hash
    (tmp_path / "one" / "mine.py").write_text(GOOD + "\n")
    with pytest.raises(ValueError, match=r"digest: expected .*: the file is not the one that it was"):
        msgspec.structs.replace(made[0].task)
    (tmp_path / "one" / "mine.py").unlink()
    with pytest.raises(SpecError, match=r"task\.path: expected a Python file that can be read, got .*mine\.py"):
        load(str(tmp_path / "one" / "mine.toml"))


@pytest.mark.parametrize("wrong", [False, True])
def test_a_train_command_imports_it(
    wrong: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong is one line, with the exit code of a wrong input."""
    monkeypatch.setattr(python_task, "imports_allowed", False)
    (tmp_path / "mine.py").write_text(BAD["raises"][0] if wrong else GOOD)
    (tmp_path / "mine.toml").write_text(EXPERIMENT)
    code = main(
        "spec.reference", [str(tmp_path / "mine.toml"), "--precision", "float64", "--out", str(tmp_path / "run")]
    )
    told = capsys.readouterr()
    assert python_task.imports_allowed
    assert code == (2 if wrong else 0), told
    if wrong:
        assert "mine.py, line 14: Parity: NameError" in told.err
        assert len(told.err.splitlines()) == 1
    else:
        assert "data Parity of" in told.out
