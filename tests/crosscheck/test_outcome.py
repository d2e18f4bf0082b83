"""The outcome check: a test that cannot fail shows nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest, fisher_exact

from crosscheck.bounds import tolerances
from crosscheck.checks.outcome import can_fail
from crosscheck.exit_codes import SAME, UNDERPOWERED
from spec.experiment import load, shipped
from spec.training import CannotLearn, Learns, LearnsSometimes

FAKE = str(Path(__file__).parent / "fake_framework.py")

RunCrosscheck = Callable[..., Any]


@pytest.mark.parametrize(
    ("outcome", "fewest"),
    [
        (Learns(0.99), 3),  # 0.01^2 is the level itself, which does not fail.
        (Learns(0.9), 5),
        (Learns(0.5), 14),
        (LearnsSometimes(0.45), 12),
        (LearnsSometimes(0.99), 3),
        (CannotLearn(1.0, "for a test"), 1),
    ],
)
def test_the_fewest_runs_that_can_fail(outcome: Learns | LearnsSometimes | CannotLearn, fewest: int):
    assert [can_fail(outcome, runs) for runs in (fewest - 1, fewest) if runs] == [False, True][-(fewest > 1) - 1 :]
    if isinstance(outcome, CannotLearn):
        return
    sides = {"alternative": "less"} if isinstance(outcome, Learns) else {}
    rate = outcome.solved_rate_at_least if isinstance(outcome, Learns) else outcome.solved_rate
    for runs, expected in ((fewest - 1, False), (fewest, True)):
        lowest = min(binomtest(count, runs, rate, **sides).pvalue for count in range(runs + 1))
        # With the very rounding of the test: 0.01^2 is a little above the level.
        assert (lowest < tolerances.OUTCOME_LEVEL * (1 - 1e-9)) == expected


def test_every_shipped_experiment_has_runs_enough():
    for name in shipped():
        experiment = load(name)
        assert can_fail(experiment.outcome, experiment.seeds), name


@pytest.mark.parametrize(("seeds", "code"), [(1, UNDERPOWERED), (2, UNDERPOWERED), (3, SAME)])
def test_too_few_seeds_are_said(run_crosscheck: RunCrosscheck, experiment: Path, seeds: int, code: int):
    experiment.write_text(experiment.read_text().replace("seeds = 3", f"seeds = {seeds}"))
    outcome = run_crosscheck(FAKE, "--checks", "outcome")
    assert outcome.exit_code == code
    if code == UNDERPOWERED:
        assert outcome.status("outcome") == "underpowered"
        assert f"expected at least 3 seeds in the experiment, got {seeds}" in outcome.report["verdict"]
        assert f"expected at least 3 seeds in the experiment, got {seeds}" in outcome.output


@pytest.mark.parametrize(("seeds", "compared"), [(8, False), (9, True)])
def test_sides_are_held_against_each_other_where_that_can_fail(
    run_crosscheck: RunCrosscheck, experiment: Path, seeds: int, compared: bool
):
    least = float(fisher_exact([[seeds, 0], [0, seeds]])[1])
    assert (least < tolerances.OUTCOME_LEVEL) == compared
    experiment.write_text(experiment.read_text().replace("seeds = 3", f"seeds = {seeds}"))
    outcome = run_crosscheck(FAKE, "--checks", "outcome")
    sides = [c["sides"] for c in outcome.report["experiments"][0]["comparisons"] if c["tensor"] == "solved"]
    assert (len(sides) == 3) == compared
