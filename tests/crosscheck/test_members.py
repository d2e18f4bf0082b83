"""The check that a member of an ensemble is the run of its seed: honest ensembles pass, and each mistake is named."""

import numpy as np
import pytest

from crosscheck.checks import members as check
from crosscheck.comparison import Place
from crosscheck.exit_codes import DIFFERENT, SAME
from spec import experiment as experiments
from spec.experiment import load, override
from spec.tasks import IGNORED
from tests.crosscheck.conftest import FAKE, Edit, RunCrosscheck

LOOP = "    return one_by_one(side.initialize, side.train, experiment, seeds, settings.precision)\n"


def joined(change: str) -> tuple[str, str]:
    """An edit: the ensemble `found`, changed."""
    return LOOP, LOOP.replace("return", "found =") + f"    return found._replace({change})\n"


FAULTS = {
    "another seed": ((LOOP, LOOP.replace("seeds,", "seeds[::-1],")), "losses of member 0"),
    "one seed for all": ((LOOP, LOOP.replace("seeds,", "[seeds[0]] * len(seeds),")), "losses of member 2"),
    "a stale loss": (joined("losses=np.roll(found.losses, 1, axis=1)"), "losses of member 0"),
    "logits of another epoch": (joined("logits=found.logits * 1.001"), "logits of member 0"),
    "time to solve from zero": (joined("first_solved=found.first_solved - 1"), "first_solved of member 0"),
    "never solved": (joined("first_solved=found.first_solved * 0 - 1"), "first_solved of member 0"),
    "time to solve as floats": (joined("first_solved=found.first_solved + 0.0"), "first_solved"),
    "members that are not finite": (joined("losses=found.losses + np.nan"), "losses"),
    "one member too few": (joined("losses=found.losses[1:]"), "losses"),
    "one member twice": (joined("losses=np.repeat(found.losses[:1], len(found.losses), axis=0)"), "losses of member 2"),
    "neighbours in between": (
        joined("losses=np.concatenate([found.losses[:1], found.losses[:1] * (1 + 1e-12), found.losses[2:]])"),
        "members",
    ),
}
"""Name -> an edit of the fake implementation, and what the first failure must be."""


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_no_run_of_its_seed_is_red(run_crosscheck: RunCrosscheck, fake: Edit, name: str):
    edit, tensor = FAULTS[name]
    side = fake(edit)
    outcome = run_crosscheck(side, "--checks", "members")
    assert outcome.exit_code == DIFFERENT
    assert outcome.failures()[0]["tensor"] == tensor
    assert side in outcome.failures()[0]["sides"][0]


def test_members_that_are_wrong_behind_a_border_are_red(run_crosscheck: RunCrosscheck, fake: Edit):
    behind = f"    for member in range({check.CHUNK}, len(seeds), {check.CHUNK}):\n        seeds[member] += 1\n"
    side = fake((LOOP, "    seeds = list(seeds)\n" + behind + LOOP))
    assert run_crosscheck(side, "--checks", "members").exit_code == SAME
    outcome = run_crosscheck(side, "--checks", "members", "--thorough")
    assert outcome.exit_code == DIFFERENT
    assert outcome.failures()[0]["tensor"] == f"losses of member {check.CHUNK}"


def test_honest_members_pass(run_crosscheck: RunCrosscheck):
    outcome = run_crosscheck(str(FAKE), "--checks", "members", "--thorough")
    assert outcome.exit_code == SAME
    assert {c["case"] for e in outcome.report["experiments"] for c in e["comparisons"]} == {check.FEW, check.MANY}


def test_the_members_that_are_looked_at():
    for case, size in check.SIZES.items():
        assert {0, size - 1} <= set(check.looked_at(case)) <= set(range(size))
    assert {check.CHUNK - 1, check.CHUNK} <= set(check.looked_at(check.MANY))


def test_what_takes_a_compilation_is_asked_of_a_few():
    trained = [each for each in map(load, experiments.shipped()) if not check.inapplicable(each)]
    asked = [each.name for each in trained if check.MANY in check.cases(each, "float64", False)]
    assert asked == ["hello-embedding-padding", "hello-stacked-lstm-dropout", "ragged-lstm", "text-lstm"]
    assert all(check.MANY in check.cases(each, "float64", True) for each in trained)
    own = override(load("hello-transformer-dropout"), training__epochs=5)
    assert check.MANY in check.cases(own, "float64", False)


def test_what_members_have_to_themselves():
    every = {kind for name in experiments.shipped() for kind in load(name).own_of_members}
    assert every == {
        "masks",
        "batches",
        "lengths",
        "initial states",
        "padding",
        "rescaled rows",
        "clipping",
        "carried states",
        "resets",
    }
    assert set(check.BY_DEFAULT) <= every
    assert load("hello-gru").own_of_members == ()


@pytest.mark.parametrize(("got", "passes"), [(3, True), (2, False), (-1, False)])
def test_padding_makes_no_time_to_solve_doubtful(got: int, passes: bool):
    """Its logits are all zero, and nothing is asked there."""
    subject = load("ragged-lstm")
    batch = subject.evaluation_batch("float64")
    right = np.eye(subject.classes)[np.maximum(batch.targets, 0)] * (batch.targets != IGNORED)[..., None]
    logits = np.stack([np.roll(right, 1, axis=-1)] * 2 + [right] * 2)
    place = Place(subject.name, check.NAME, "float64", check.FEW, ("one", "two"))
    found = check._time_to_solve(subject, place, 0, got, logits, np.full(4, 1e-9))
    assert found.passed == passes
    assert found.values[1] == 3


@pytest.mark.parametrize(
    ("spread", "away", "passes"),
    [
        # By half of its digits, whatever rounding makes of it.
        (0.0, 1e-9, True),
        (0.0, 1e-6, False),
        # By ten times what rounding makes of it, from when on it does.
        (1e-6, 9e-6, True),
        (1e-6, 2e-5, False),
        # Beyond the horizon anything that is finite.
        (0.1, 5.0, True),
        (0.1, np.nan, False),
    ],
)
def test_a_member_is_as_near_its_run_as_rounding_leaves_it(spread: float, away: float, passes: bool):
    subject = load("hello-gru")
    epochs, logits = 4, subject.evaluation_batch("float64").targets.shape
    size, shape = check.SIZES[check.FEW], (*logits, subject.classes)
    members = np.arange(1.0, size + 1)[:, None] * np.ones(epochs)
    arrays = {"losses": members, "logits": np.ones((size, *shape)), "first_solved": np.full(size, -1)}
    arrays |= {"asked": np.array([epochs, 1]), "envelope/logits": np.zeros(epochs)}
    for member in check.looked_at(check.FEW):
        arrays |= {f"{member}/losses": members[member], f"{member}/logits": np.ones((epochs, *shape))}
    grown = np.array([0.0, 0.0, spread, spread / 2])
    # Only where it has grown by then; and what has grown stays.
    for step, within in ((1, passes and spread == 0), (2, passes), (3, passes)):
        moved = members.copy()
        moved[0, step] += away
        place = Place("hello-gru", check.NAME, "float64", check.FEW, ("one", "two"))
        found = check._judge(subject, place, "one", {**arrays, "losses": moved, "envelope/losses": grown})
        (losses,) = [each for each in found if each.tensor == "losses of member 0"] or [None]
        assert (losses is not None and losses.passed) == within, step
