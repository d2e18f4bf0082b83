"""Ensembles: SAME only where it is shown, DIFFERENT where a fault moves an endpoint, with the error rates stated."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy.stats import binomtest

from crosscheck.checks import convergence
from crosscheck.cli.command import main
from crosscheck.comparison import Comparison, Evidence, Place
from crosscheck.exit_codes import PARTLY_CHECKED
from crosscheck.judging.summary import conclude
from crosscheck.judging.verdict import Verdict
from crosscheck.statistics import ensembles
from spec.convergence import CONVERGENCE
from spec.experiment import load
from spec.training import AnyOutcome, CannotLearn, Learns, LearnsSometimes, NotStated
from tests.crosscheck.conftest import FAKE, RunCrosscheck, edited

ROOT = Path(__file__).parents[2]
SPREAD = 0.2
MARGIN = CONVERGENCE.effect * SPREAD
LEVEL = CONVERGENCE.level
RUNS = 150
PLACE = Place("short", "convergence", "float32", "ensemble", ("one", "two"))


def ensemble(
    seed: int, members: int = 1000, shift: float = 0.0, rate: float = 1.0, final: float = 0.3
) -> dict[str, np.ndarray]:
    """What one side would record of members whose log loss-AUC is normal, with the spread of hello-rnn's."""
    generator = np.random.default_rng(seed)
    solved = (generator.uniform(size=members) < rate).astype(np.int64)
    return {
        "loss_auc": np.exp(generator.normal(-2 + shift, 0.17, members)).astype(np.float32),
        "final_loss": (final * np.exp(generator.uniform(0, 0.1, members))).astype(np.float32),
        "largest_logit": np.full(members, 5.0, np.float32),
        "solved": solved,
        "first_solved": np.where(solved, 3, -1),
    }


def compared(name: str, first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> list[Comparison]:
    return convergence.compare(load(name), PLACE, first, second)


def word(comparisons: list[Comparison]) -> str:
    if any(comparison.failed for comparison in comparisons):
        return "different"
    return "underpowered" if any(comparison.underpowered for comparison in comparisons) else "same"


def failing(comparisons: list[Comparison]) -> set[str]:
    return {comparison.tensor for comparison in comparisons if comparison.failed}


def of_means(generator: np.random.Generator, members: int, shift: float) -> Comparison:
    drawn = generator.normal(size=(2, members)) * SPREAD
    return ensembles.log_means(PLACE, "log loss-AUC", drawn[0], drawn[1] + shift)


def runs(seed: int, members: int, shift: float, experiments: int = 4, count: int = RUNS) -> list[list[str]]:
    """The verdicts on every experiment of many whole runs."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        groups = [[of_means(generator, members, shift)] for _ in range(experiments)]
        found.append([word(group) for group in ensembles.settle(groups)])
    return found


def share(found: list[list[str]], verdict: str) -> float:
    return float(np.mean([verdict in run for run in found]))


def test_a_run_at_the_margin_calls_any_experiment_the_same_as_seldom_as_stated():
    found = runs(0, 400, MARGIN)
    # Four independent experiments, each at a quarter of the level, so not far below it either.
    assert binomtest(round(share(found, "same") * RUNS), RUNS, LEVEL).pvalue > 1e-3
    assert share(found, "different") <= LEVEL + 4 * math.sqrt(LEVEL / RUNS)


def test_ensembles_of_one_law_are_never_called_different():
    assert share(runs(1, 100, 0.0), "different") == 0


def test_as_many_seeds_as_are_asked_for_have_the_stated_power():
    (group,) = ensembles.settle([[of_means(np.random.default_rng(2), 20, 0.0)]])
    assert group[0].underpowered
    assert group[0].evidence is not None
    drawn = [word(run) for run in map(as_comparisons, runs(3, group[0].evidence.needed, 0.0, experiments=1))]
    # The standard deviations of 20 members are off by a sixth, which is a third in the number of seeds.
    assert np.mean([each == "same" for each in drawn]) > CONVERGENCE.power - 0.15


def as_comparisons(run: list[str]) -> list[Comparison]:
    return [
        msgspec.structs.replace(PLACE.equal("", 0.0, 0.0), passed=each == "same", underpowered=each == "underpowered")
        for each in run
    ]


def evidence(same: float, different: float = 1.0, control: bool = False) -> list[Comparison]:
    found = Evidence(same=same, different=different, members=(100, 100), deviations=(SPREAD, SPREAD), control=control)
    limited = PLACE.limited("log loss-AUC", ("", ""), 0.01, MARGIN, 200, "")
    return [msgspec.structs.replace(limited, evidence=found)]


def test_more_experiments_ask_for_more_evidence():
    assert [word(group) for group in ensembles.settle([evidence(0.03)])] == ["same"]
    assert [word(group) for group in ensembles.settle([evidence(0.03), evidence(0.2)])] == ["underpowered"] * 2
    assert [word(group) for group in ensembles.settle([evidence(0.03), evidence(0.001)])] == ["same"] * 2
    assert [word(group) for group in ensembles.settle([evidence(1, 0.03)])] == ["different"]
    assert [word(group) for group in ensembles.settle([evidence(1, 0.03), evidence(1)])] == ["underpowered"] * 2


def test_every_endpoint_must_be_shown():
    assert word(ensembles.settle([evidence(0.001) + evidence(0.2)])[0]) == "underpowered"
    assert word(ensembles.settle([evidence(0.001) + evidence(0.2, control=True)])[0]) == "same"
    assert word(ensembles.settle([evidence(0.001) + evidence(1, 1e-6, control=True)])[0]) == "different"
    assert word(ensembles.settle([evidence(math.nan, math.nan)])[0]) == "underpowered"


NEVER_LEARNS = "hello-self-attention-no-positions"


@pytest.mark.parametrize(("name", "rate"), [("hello-rnn", 1.0), ("course-rnn", 0.45), (NEVER_LEARNS, 0.0)])
def test_ensembles_of_one_law_are_the_same(name: str, rate: float):
    found = compared(name, ensemble(0, rate=rate), ensemble(1, rate=rate))
    assert word(found) == "same"
    assert word(compared(name, ensemble(0, 40, rate=rate), ensemble(1, 40, rate=rate))) == "underpowered"


@pytest.mark.parametrize(
    ("name", "faulty", "endpoint"),
    [
        ("hello-rnn", {"shift": 0.12}, "log loss-AUC"),
        ("hello-rnn", {"shift": -0.12}, "log loss-AUC"),
        ("hello-rnn", {"rate": 0.85}, "solved rate"),
        ("course-rnn", {"rate": 0.75}, "solved rate"),
        (NEVER_LEARNS, {"final": 0.307}, "log final loss"),
    ],
)
def test_an_endpoint_that_is_beyond_its_margin_is_found(name: str, faulty: dict[str, Any], endpoint: str):
    rate = {"hello-rnn": 1.0, "course-rnn": 0.45, NEVER_LEARNS: 0.0}[name]
    assert endpoint in failing(compared(name, ensemble(0, rate=rate), ensemble(1, **{"rate": rate, **faulty})))


@pytest.mark.parametrize(("name", "rate"), [("hello-rnn", 0.9), ("course-rnn", 0.68), (NEVER_LEARNS, 0.01)])
def test_sides_that_agree_on_another_outcome_than_the_stated_one_fail(name: str, rate: float):
    found = compared(name, ensemble(0, rate=rate), ensemble(1, rate=rate))
    assert failing(found) == {"solved, as stated"}
    assert [comparison.sides[0] for comparison in found if comparison.failed] == ["one", "two"]


@pytest.mark.parametrize(
    ("outcome", "solved", "expected"),
    [
        (Learns(0.99), 1000, "same"),
        (Learns(0.99), 990, "same"),
        (Learns(0.99), 980, "underpowered"),
        (Learns(0.99), 950, "different"),
        (LearnsSometimes(0.45), 450, "same"),
        (LearnsSometimes(0.45), 350, "underpowered"),
        (LearnsSometimes(0.45), 270, "different"),
        (LearnsSometimes(0.45), 630, "different"),
        (LearnsSometimes(0.998), 1000, "same"),
        (CannotLearn(0.2, "reason"), 0, "same"),
        (CannotLearn(0.2, "reason"), 1, "different"),
    ],
)
def test_a_solved_rate_against_the_stated_one(outcome: AnyOutcome, solved: int, expected: str):
    # At the level of 30 experiments.
    (group,) = ensembles.settle([[ensembles.learned(PLACE, outcome, (solved, 1000))]], LEVEL / 30)
    assert word(group) == expected


def test_without_a_stated_outcome_losses_are_compared_and_rates_are_not():
    experiment = msgspec.structs.replace(load("hello-rnn"), outcome=NotStated())
    same = convergence.compare(experiment, PLACE, ensemble(1), ensemble(2, rate=0.5))
    assert word(same) == "same"
    assert {comparison.tensor for comparison in same if comparison.evidence} == {"log loss-AUC"}
    slower = convergence.compare(experiment, PLACE, ensemble(1), ensemble(2, shift=0.17))
    assert failing(slower) == {"log loss-AUC"}


def test_a_floor_that_is_fallen_below():
    found = compared(NEVER_LEARNS, ensemble(0, rate=0), ensemble(1, rate=0, final=0.25))
    assert "final loss" in failing(found)


def test_seeds_that_repeat():
    repeated = {name: np.tile(array[:500], 2) for name, array in ensemble(1).items()}
    (comparison,) = (c for c in compared("hello-rnn", ensemble(0), repeated) if c.failed)
    assert (comparison.tensor, comparison.sides[0], comparison.difference) == ("distinct members", "two", 0.5)


def test_members_that_are_all_alike():
    # Their spread, and so the margin, is 0; the other side's mean is about as high.
    alike = {**ensemble(1), "loss_auc": np.ones(1000, np.float32)}
    assert failing(compared("hello-rnn", ensemble(0, shift=2.0), alike)) == {"distinct members"}


def test_halves_that_differ_are_found_by_the_control():
    drifting = ensemble(1)
    drifting["loss_auc"][:500] *= np.float32(math.exp(0.16))
    drifting["loss_auc"][500:] *= np.float32(math.exp(-0.16))
    (comparison,) = (c for c in compared("hello-rnn", ensemble(0), drifting) if c.failed)
    assert comparison.sides == ("two, first half", "two, second half")


@pytest.mark.parametrize(
    "change",
    [
        {"loss_auc": None},
        {"solved": None},
        {"loss_auc": np.full(1000, np.nan, np.float32)},
        {"loss_auc": np.zeros(1000, np.float32)},
        {"final_loss": np.ones(999, np.float32)},
        {"final_loss": np.ones(1000)},
        {"solved": np.ones(1000, np.int32)},
        {"more": np.ones(1000)},
    ],
)
def test_recordings_that_are_not_whole(change: dict[str, np.ndarray | None]):
    wrong = {name: array for name, array in {**ensemble(1), **change}.items() if array is not None}
    assert word(compared("hello-rnn", ensemble(0), wrong)) == "different"


def test_margins_are_by_the_stated_rate():
    assert CONVERGENCE.rate_margin(LearnsSometimes(0.998)) == 0.02
    assert CONVERGENCE.rate_margin(CannotLearn(0.2, "reason")) == 0.02
    assert CONVERGENCE.rate_margin(LearnsSometimes(0.5)) == pytest.approx(0.125)


ENSEMBLE = """
def train_ensemble(experiment, seeds, settings, chunk=None):
    from spec.framework import Ensemble
    batch = experiment.evaluation_batch(settings.precision)
    steps = experiment.training.epochs * experiment.training.steps_per_epoch
    drawn = np.array([np.random.default_rng(seed).normal() for seed in seeds])
    losses = np.exp(0.2 * drawn + 0.0)[:, None] * np.ones(steps)
    right = (batch.targets[..., None] == np.arange(experiment.model.classes)).astype(settings.precision)
    logits = np.tile(right, (len(seeds), *[1] * right.ndim))
    return Ensemble(losses.astype(settings.precision), logits, np.ones(len(seeds), np.int64), "vmap")
"""


WITHOUT = ("def train_ensemble(\n", "def train_no_ensemble(\n")
"""The edit that takes the fake implementation's own ensembles from it."""


def with_ensembles(tmp_path: Path, *edits: tuple[str, str]) -> str:
    body = ENSEMBLE
    for old, new in edits:
        assert old in body
        body = body.replace(old, new)
    place = tmp_path / str(len(list(tmp_path.iterdir())))
    return edited(FAKE, place, WITHOUT, ("def replay(", f"{body}\n\ndef replay("))


CHECK = ("--checks", "convergence")


def test_the_command(run_crosscheck: RunCrosscheck, tmp_path: Path):
    first, slower = with_ensembles(tmp_path), with_ensembles(tmp_path, ("+ 0.0", "+ 0.15"))
    alike = run_crosscheck(with_ensembles(tmp_path), *CHECK, "--seeds", "800", first=first)
    assert (alike.exit_code, alike.status("convergence")) == (0, "same")
    assert "SAME 0.0" in alike.output
    assert "Trainings per second" in (tmp_path / "report" / "report.md").read_text()
    few = run_crosscheck(with_ensembles(tmp_path), *CHECK, "--seeds", "40", first=first)
    assert (few.exit_code, few.status("convergence")) == (4, "underpowered")
    needed = few.report["experiments"][0]["cells"][0]["needed"]
    assert f"--seeds {needed} would do" in few.report["verdict"]
    assert f"UNDERPOWERED {needed}" in few.output
    enough = run_crosscheck(with_ensembles(tmp_path), *CHECK, "--seeds", str(needed), first=first)
    assert enough.exit_code == 0
    different = run_crosscheck(slower, *CHECK, "--seeds", "800", first=first)
    assert (different.exit_code, different.status("convergence")) == (1, "different")
    assert {failure["tensor"] for failure in different.failures()} == {"log loss-AUC"}
    assert different.report["experiments"][0]["blame"]["at_fault"] == "undecided"
    assert "--checks convergence --precision float32 --case ensemble" in different.output
    assert "--seeds 800" in different.output


def test_it_does_not_run_unless_it_is_asked_for(run_crosscheck: RunCrosscheck, capsys: pytest.CaptureFixture[str]):
    assert "convergence" not in run_crosscheck().report["checks"]
    assert main(["--list"]) == 0
    assert "only where named in --checks, or with --thorough" in capsys.readouterr().out


def test_an_implementation_without_ensembles_is_not_checked(run_crosscheck: RunCrosscheck, tmp_path: Path):
    outcome = run_crosscheck(edited(FAKE, tmp_path / "without", WITHOUT), *CHECK)
    assert outcome.status("convergence") == "not checked"
    assert outcome.exit_code == PARTLY_CHECKED


def test_what_is_known_to_differ_comes_before_what_is_not_known():
    verdicts = [
        Verdict(experiment=status, hash="", argument="", cells=[cell_of(status)], comparisons=[PLACE.equal("", 0, 0)])
        for status in ("underpowered", "different", "same")
    ]
    assert conclude(verdicts)[0] == 1
    assert conclude([verdicts[0], verdicts[2]])[0] == 4


def cell_of(status: str):
    from crosscheck.judging.verdict import Cell

    return msgspec.convert({"check": "convergence", "status": status}, Cell)


FLAX_LAWS = """
    if parameter.name.startswith("rnn.bias"):
        return jnp.zeros(parameter.shape, dtype)
    if parameter.name.startswith("rnn.weight_hh"):
        matrix = jax.random.normal(key, parameter.shape, dtype)
        matrix = matrix / jnp.linalg.norm(matrix)
        # Newton and Schulz's iteration towards the nearest orthogonal matrix.
        return jax.lax.fori_loop(0, 40, lambda _, m: 1.5 * m - 0.5 * m @ m.T @ m, matrix)
    if parameter.name.startswith("rnn.weight_ih"):
        return jax.random.normal(key, parameter.shape, dtype) / parameter.shape[1] ** 0.5
    shape = _drawn_shape(parameter)
    match"""


@pytest.mark.needs("flax")
def test_flax_own_initializations_are_found_with_few_seeds(tmp_path: Path):
    flax = ROOT / "flax_impl"
    source = (flax / "parameters.py").read_text()
    before, after = source.split("def sample(", 1)
    planted = before + "def sample(" + after.replace("\n    shape = _drawn_shape(parameter)\n    match", FLAX_LAWS, 1)
    copy = edited(flax, tmp_path, (source, planted), file="parameters.py")
    names = ["--implementations", str(flax), copy, "--out", str(tmp_path / "report")]
    assert main(["hello-rnn", *CHECK, "--seeds", "200", *names]) == 1


@pytest.mark.needs("torch", "flax")
def test_torch_and_flax_converge_alike(tmp_path: Path):
    assert main(["course-rnn-cell", "course-rnn", *CHECK, "--out", str(tmp_path / "report")]) == 0
