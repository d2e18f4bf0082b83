"""Where a run's time went, as either side tells it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunCrosscheck = Callable[..., Any]
Edit = Callable[..., str]

TELLS = """ASKED: list[str] = []


def overhead() -> dict[str, float]:
    ASKED.append("")
    return {"compiling": 10.0 if len(ASKED) == 1 else 17.0}


def describe("""


@pytest.mark.own_processes
def test_what_a_side_spends_is_told_apart(run_crosscheck: RunCrosscheck, fake: Edit, tmp_path: Path) -> None:
    found = run_crosscheck(fake(("def describe(", TELLS)), "--checks", "structure", "--fresh")
    assert found.exit_code == 0
    first, second = (side["overhead"] for side in found.report["sides"])
    # Of this job alone: what was spent before it was asked for is none of its.
    assert second["compiling"] == pytest.approx(7.0)
    assert "compiling" not in first
    assert first["starting"] > 0
    assert 0 < found.report["comparing"] < found.report["seconds"]
    written = (tmp_path / "report" / "report.md").read_text()
    assert "| of these, compiling | 0.0 | 7.0 |" in written
    assert "| before that, starting |" in written


def test_jax_tells_what_it_compiles() -> None:
    import flax_impl
    import torch_impl
    from spec.experiment import load, override
    from spec.framework import Settings

    experiment = override(load("hello-rnn"), model__hidden_size=7)
    before = flax_impl.overhead()
    parameters = flax_impl.initialize(experiment, 0, Settings())
    flax_impl.forward(experiment, parameters, experiment.task.batch(0, 0, "float32"), Settings())
    after = flax_impl.overhead()
    assert all(after[kind] > before.get(kind, 0.0) for kind in ("tracing", "compiling"))
    assert torch_impl.overhead() == {}
