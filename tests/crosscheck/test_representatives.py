"""One experiment for others: few are asked, and no kind is left out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from crosscheck.checks import LADDER, devices, generation, layouts, members, shipped_path
from crosscheck.checks.wanted import Wanted
from crosscheck.cli.command import main
from spec import experiment as experiments
from spec import options, points
from spec.experiment import Experiment, Named, load, override
from tests import reports

KINDS = [
    layouts._handed,
    members._looked_for,
    members._kept_apart,
    shipped_path._varying,
    shipped_path._dropping,
    shipped_path._run,
    shipped_path._predicted,
    devices._cut,
    generation._writing,
    points._starting,
]


def at_hand() -> list[Experiment]:
    every = map(load, [*experiments.shipped(), *experiments.drawn()])
    return [each for each in every if each.training.epochs]


@pytest.mark.parametrize("kinds", KINDS, ids=[f"{kinds.__module__}.{kinds.__name__}" for kinds in KINDS])
def test_every_kind_has_somebody_who_stands_for_it(kinds: Callable[[Any], Sequence[str]]):
    every = at_hand()
    asked = [each for each in every if each.stands_for_others(kinds)]
    assert {kind for each in asked for kind in kinds(each)} == {kind for each in every for kind in kinds(each)}
    assert len(asked) < len(every) / 2


@pytest.mark.parametrize("kinds", KINDS, ids=[f"{kinds.__module__}.{kinds.__name__}" for kinds in KINDS])
def test_who_may_be_left_out_and_who_was_drawn_stands_for_what_no_other_has(kinds: Callable[[Any], Sequence[str]]):
    every = at_hand()
    drawn = set(experiments.drawn())
    for each in every:
        if each.stands_for_others(kinds) and each.name in drawn:
            shipped = {kind for other in every if other.name not in drawn for kind in kinds(other)}
            assert set(kinds(each)) - shipped, each.name
        elif each.stands_for_others(kinds) and options.had(each, options.OPTIONS):
            able = (other for other in every if not options.had(other, options.OPTIONS) and other.name not in drawn)
            assert set(kinds(each)) - {kind for other in able for kind in kinds(other)}, each.name


def test_an_experiment_of_ones_own_has_nobody_to_stand_for_it():
    own = override(load("hello-gru"), training__epochs=3)
    assert load("hello-gru").is_at_hand
    assert not own.is_at_hand
    (check,) = (check for check in LADDER if check.NAME == "layouts")
    assert not check.cases(load("hello-gru"), "float64", False)
    assert check.cases(own, "float64", False)


def test_who_is_named_is_asked_everything_since_the_others_are_not_there(tmp_path: Path):
    (check,) = (check for check in LADDER if check.NAME == "layouts")
    named = Named.of(load("hello-gru"))
    assert named.is_at_hand
    assert named.hash == load("hello-gru").hash
    assert check.cases(named, "float64", False)
    words = ["hello-gru", "--checks", "loss,layouts", "--precision", "float64"]
    for side in ("one", "two"):
        assert main(["record", "spec.reference", *words, "--out", str(tmp_path / side)]) == 0
    assert main(["compare", str(tmp_path / "one"), str(tmp_path / "two"), "--out", str(tmp_path / "report")]) == 0
    (verdict,) = reports.load(tmp_path / "report")["experiments"]
    assert {cell["check"]: cell["status"] for cell in verdict["cells"]} == {"loss": "same", "layouts": "same"}


def test_a_check_that_is_named_alone_is_asked_of_whom_it_is_named_for():
    (check,) = (check for check in LADDER if check.NAME == "layouts")
    subject = load("hello-gru")
    both = Wanted(["layouts", "trajectory"], ["float64"])
    assert both.cases(subject, check, "float64") == []
    assert Wanted(["layouts"], ["float64"]).cases(subject, check, "float64") == ["mixed"]


def test_what_counts_in_whole_batches_is_shared_out_among_no_devices():
    subject = load("ragged-lstm")
    assert not devices.inapplicable(subject)
    counting = override(subject, model__inputs__scale_grad_by_freq=True)
    assert devices.inapplicable(counting) == "it counts in whole batches, which devices share out"
