"""What the tests of the command line share: the fake implementation, and a way to run the command with it."""

import importlib
import json
import tempfile
from collections.abc import Callable, Generator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from blocked import JAX, TORCH, not_installed

from spec.command import main, session

HERE = Path(__file__).parent


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """No test here, nor a process that it starts, finds a framework: that spec needs none is shown by every one."""
    # pytest asks this of every folder's tests.
    with not_installed(*JAX, *TORCH) if item.path.is_relative_to(HERE) else nullcontext():
        return (yield)


class Outcome(NamedTuple):
    """What a command line came to."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of stdout, each of them JSON."""
        return [json.loads(line, parse_constant=lambda text: pytest.fail(text)) for line in self.out.splitlines()]


Run = Callable[..., Outcome]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The fake implementation, well-behaved and with no calls so far."""
    monkeypatch.syspath_prepend(str(HERE))
    module = importlib.import_module("fake_impl")
    monkeypatch.setattr(module, "behaviour", module.Behaviour())
    module.calls.clear()
    return module


@pytest.fixture
def kept(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the tracebacks of unforeseen errors are kept."""
    place = tmp_path_factory.mktemp("kept")
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.fixture
def run(
    fake: ModuleType, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run the command with the fake implementation in an empty working directory, without drawing plots."""
    del kept
    monkeypatch.chdir(tmp_path)
    # A plot takes longer than all the rest of a run; tests/spec/test_plot.py draws some.
    monkeypatch.setattr(session, "loss_plot", lambda *_: b"a plot")

    def command(*arguments: str | Path, implementation: str = "fake_impl") -> Outcome:
        capsys.readouterr()
        code = main(implementation, [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return command
