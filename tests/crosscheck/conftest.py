"""Experiments that take milliseconds, and copies of implementations with a fault planted in them."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import reports
from lent_workers import Pool

from crosscheck.cli.command import main
from crosscheck.recording import worker_pool
from spec import cache

FAKE = Path(__file__).parent / "fake_framework.py"

EXPERIMENT = """
description = "A short recipe for tests"
seeds = 3
[model]
name = "SelfAttention"
classes = 4
hidden_size = 4
positions = "one-hot"
max_length = 5
[model.inputs]
name = "Features"
size = 4
[task]
name = "Spelling"
characters = "ehlo"
source = "hello"
target = "ohlol"
encoding = "one-hot"
[training]
epochs = 3
steps_per_epoch = 2
[training.loss]
name = "CrossEntropy"
reduction = "mean"
[training.optimizer]
name = "Adam"
learning_rate = 0.01
[outcome]
name = "Learns"
solved_rate_at_least = 0.99
"""


class Outcome(NamedTuple):
    """What a run of the command line left behind."""

    exit_code: int
    output: str
    errors: str
    report: dict[str, Any]

    def failures(self) -> list[dict[str, Any]]:
        """Failed comparisons, in the report's order."""
        return [c for e in self.report["experiments"] for c in e["comparisons"] if not c["passed"]]

    def status(self, check: str) -> str:
        """That check's cell of the only experiment."""
        return next(c["status"] for c in self.report["experiments"][0]["cells"] if c["check"] == check)


Edit = Callable[..., str]
RunCrosscheck = Callable[..., Outcome]


def edited(source: Path, directory: Path, *edits: tuple[str, str], file: str = "") -> str:
    """A copy of a module or package with texts replaced; fails unless each text is there."""
    copy = directory / source.name
    if source.is_dir():
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)
    target = copy / file if file else copy
    text = target.read_text()
    for old, new in edits:
        assert old in text, f"the text to edit is not in {source / file}: {old!r}"
        assert old != new
        text = text.replace(old, new, 1)
    target.write_text(text)
    return str(copy)


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Workers that go on from one test to the next."""
    found = Pool(tmp_path_factory.mktemp("workers"))
    yield found
    found.close()


@pytest.fixture(autouse=True)
def lent_workers(request: pytest.FixtureRequest, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compared in this process has workers of the pool, but where processes are what a test is about.

    And no test takes another one's recordings: what it saw would depend on which ran before.
    """
    if request.node.get_closest_marker("own_processes") is None:
        monkeypatch.setattr(worker_pool, "Worker", pool.lend)
        monkeypatch.setattr(cache, "recordings", lambda: None)


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    path = tmp_path / "short.toml"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture
def fake(tmp_path: Path) -> Edit:
    """Make a copy of the fake implementation, with edits."""

    def make(*edits: tuple[str, str]) -> str:
        return edited(FAKE, tmp_path / "edited", *edits)

    return make


@pytest.fixture
def run_crosscheck(
    tmp_path: Path, experiment: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> RunCrosscheck:
    """Run crosscheck on the fake implementation against another one."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(
        second: str = str(FAKE), *options: str, first: str = str(FAKE), experiments: tuple[str, ...] = ()
    ) -> Outcome:
        out = tmp_path / "report"
        names = experiments or (str(experiment),)
        code = main([*names, "--implementations", first, second, "--out", str(out), *options])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err, reports.load(out))

    return run
