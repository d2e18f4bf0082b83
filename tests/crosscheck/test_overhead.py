"""Where a run's time went, as either side tells it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunCrosscheck = Callable[..., Any]
Edit = Callable[..., str]

TELLS = "spent: dict[str, float] = {}", "spent: dict[str, float] = {'compiling': 10.0}"
RETURN = "    return spec_parameters.draw("
SPENDS = RETURN, "    spent['compiling'] = 17.0\n" + RETURN


@pytest.mark.own_processes
def test_what_a_side_spends_is_told_apart(run_crosscheck: RunCrosscheck, fake: Edit, tmp_path: Path) -> None:
    found = run_crosscheck(fake(TELLS, SPENDS), "--checks", "structure", "--fresh")
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
    side = flax_impl.open(experiment, Settings())
    before = dict(side.spent)
    side.forward(side.initialize(0), experiment.batch(0, 0, "float32"))
    after = dict(side.spent)
    assert all(after[kind] > before.get(kind, 0.0) for kind in ("tracing", "compiling"))
    assert side.compiles
    other = torch_impl.open(experiment, Settings())
    assert (other.spent, other.compiles) == ({}, False)
