"""Experiments of every kind pass in float64, from their structure to their whole recipe; `make` compares them all."""

from pathlib import Path

import pytest
from kinds import covering

from crosscheck.cli.command import main
from spec.experiment import drawn, load, shipped
from tests import reports

pytestmark = pytest.mark.needs("torch", "flax")

LOSSES_APART = 1e-9
"""What the losses of a whole recipe may differ by at most; see crosscheck.bounds.tolerances."""


SOME = [
    "hello-embedding-sparse",
    "hello-encoder-decoder",
    "hello-gru-clipping",
    "hello-transformer-dropout",
    "ragged-lstm",
]
"""Of which each takes code that the others do not."""

OTHERS = [name for name in (*covering(shipped()), *drawn()[:2]) if name not in SOME]


@pytest.mark.parametrize("chosen", [SOME, pytest.param(OTHERS, marks=pytest.mark.long)], ids=["some", "the others"])
def test_experiments_of_every_kind_pass(chosen: list[str], tmp_path: Path) -> None:
    checks = "structure,round-trip,forward,gradients,trajectory"
    code = main([*chosen, "--precision", "float64", "--checks", checks, "--out", str(tmp_path)])
    report = reports.load(tmp_path)
    assert code == 0, report["verdict"]
    left_out = ", 1 experiment's training left out by flax_impl: sparse embedding gradients"
    assert report["verdict"].endswith(left_out) == (chosen == SOME)
    assert [experiment["experiment"] for experiment in report["experiments"]] == chosen
    for experiment in report["experiments"]:
        name = experiment["experiment"]
        statuses = {cell["check"]: cell["status"] for cell in experiment["cells"]}
        if name == "hello-embedding-sparse":
            # flax_impl declares it: no gradients, no training, and all the rest.
            assert statuses.pop("gradients") == statuses.pop("trajectory") == "left out"
            assert set(statuses.values()) == {"same"}
            continue
        subject = load(name)
        trained = subject.training.epochs > 0
        assert statuses.pop("trajectory") == ("same" if trained else "not applicable")
        assert set(statuses.values()) == {"same"}, name
        losses = [
            comparison
            for comparison in experiment["comparisons"]
            if comparison["check"] == "trajectory" and comparison["tensor"] == "loss"
        ]
        assert len(losses) == trained
        for loss in losses:
            assert loss["elements"] == subject.training.epochs * subject.training.steps_per_epoch
            assert loss["difference"] < LOSSES_APART, name
