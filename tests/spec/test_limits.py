"""How large an experiment may be, and what is said of one that memory cannot hold."""

from pathlib import Path

import pytest

from spec import limits, machine
from spec.command.entry import check_memory
from spec.errors import SpecError, UsageError
from spec.experiment import check_name, load, override

BIG = override(load("hello-gru"), model__hidden_size=18_000)
"""Of about 10^9 parameters."""


def test_a_model_of_a_billion_parameters_is_let_through_where_memory_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0.9e9 < BIG.model.parameter_count < 1.1e9
    needed = limits.least_bytes(BIG, 4)
    assert needed == pytest.approx(16 * BIG.model.parameter_count, rel=1e-3)
    for available in (needed, None):
        monkeypatch.setattr(machine, "memory", lambda available=available: available)
        check_memory(BIG, "float32")
    monkeypatch.setattr(machine, "memory", lambda: needed - 1)
    with pytest.raises(UsageError, match=r"that fits into 15\.6 GB of memory, got one that takes 15\.6 GB at least"):
        check_memory(BIG, "float32")


def test_float64_takes_twice_as_much() -> None:
    assert limits.least_bytes(BIG, 8) == 2 * limits.least_bytes(BIG, 4)


def test_the_least_is_no_more_than_the_state_and_its_gradient() -> None:
    gru = load("hello-gru")
    assert limits.least_bytes(gru, 4) == 4 * (4 * gru.model.parameter_count + 5 * 4)
    assert limits.least_bytes(load("hello-rnn-sgd"), 4) == 4 * (2 * load("hello-rnn-sgd").model.parameter_count + 5 * 4)


def test_this_machine_has_some_memory(tmp_path: Path) -> None:
    del tmp_path
    available = machine.memory()
    assert available is None or 10**8 < available < 10**15


def test_the_limits_are_not_below_what_fits() -> None:
    """What is at a limit is taken, with all others out of the way."""
    override(load("hello-gru"), training__epochs=limits.LARGEST_EPOCHS)
    override(load("hello-gru"), seeds=limits.LARGEST_RUNS)
    override(load("hello-stacked-rnn"), model__num_layers=limits.LARGEST_DEPTH)
    with pytest.raises(SpecError, match=r"training\.epochs: expected int <= 10000000"):
        override(load("hello-gru"), training__epochs=limits.LARGEST_EPOCHS + 1)


@pytest.mark.parametrize("name", ["x", "hello-gru", "my run (2), lr=0.1", "_x", "Übung", "9", "a" * 100, "v1.2"])
def test_names_that_people_have(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "~", "a\tb", "a" * 101, "x\ud800", "con", "LPT1.txt", "a\u2028b"]
)
def test_names_that_are_no_part_of_a_path(name: str) -> None:
    with pytest.raises(ValueError, match=r"^name: expected "):
        check_name(name)
