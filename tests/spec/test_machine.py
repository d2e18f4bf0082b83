"""How many threads a process is to use."""

import pytest

from spec import machine


@pytest.mark.parametrize(
    ("asked", "expected"), [(None, 4), ("", 4), ("1", 1), ("3", 3), ("64", 4), ("0", 4), ("many", 4), ("2,1", 4)]
)
def test_threads(asked: str | None, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert machine.threads() == expected


def test_there_is_a_core() -> None:
    assert machine.cores() >= 1
