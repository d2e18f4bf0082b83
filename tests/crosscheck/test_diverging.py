"""Trainings that diverge: on both sides alike that is no difference, on one alone it is."""

from typing import Any

import msgspec
import numpy as np
import pytest
from sides import Opened

from crosscheck.bounds import tolerances
from crosscheck.checks import members, trajectory
from crosscheck.comparison import Comparison, Place
from crosscheck.faults import given
from crosscheck.request import Request
from spec.experiment import Experiment
from spec.training import SGD

PLACE = Place("squares", "trajectory", "float64", "recipe", ("one", "other"))
STEPS = 8


def losses(diverges_at: int, value: float = np.inf) -> np.ndarray:
    """Ten times as large at every step, and not finite from one on."""
    found = 10.0 ** np.arange(STEPS)
    found[diverges_at:] = value
    return found


def compared(one: np.ndarray, other: np.ndarray, bounded: int = STEPS, diverges: bool = True) -> Comparison:
    """bounded: steps that have a bound."""
    allowed = np.where(np.arange(STEPS) < bounded, 1e-9, np.inf)
    return PLACE.close("loss", one, other, allowed=allowed, stepwise=True, diverges=diverges)


def test_both_from_the_same_step_on_is_no_difference() -> None:
    found = compared(losses(5), losses(5, np.nan))
    assert found.passed
    assert found.elements == 5
    assert found.note == "not finite on both sides from step 5 of 8 on"
    assert not compared(losses(5), losses(5), diverges=False).passed


def test_from_the_first_step_on() -> None:
    found = compared(losses(0), losses(0, np.nan))
    assert found.passed
    assert found.elements == STEPS


@pytest.mark.parametrize("other", [losses(STEPS), losses(6), losses(4)])
def test_one_alone_or_sooner_is_one(other: np.ndarray) -> None:
    found = compared(losses(5), other)
    assert not found.passed
    assert found.step in (4, 5)


def test_what_comes_before_is_compared() -> None:
    other = losses(5)
    other[2] += 1e-8
    found = compared(losses(5), other)
    assert not found.passed
    assert found.step == 2


def test_beyond_the_horizon_each_has_a_step_of_its_own_and_both_have_one() -> None:
    assert compared(losses(5), losses(7), bounded=4).passed
    assert not compared(losses(5), losses(STEPS), bounded=4).passed
    assert not compared(losses(5), losses(7), bounded=6).passed


def test_what_comes_back_is_a_difference() -> None:
    back = losses(5)
    back[-1] = 1.0
    assert not compared(back, back).passed
    assert not compared(back, losses(5)).passed


def diverging(rate: float, epochs: int) -> Experiment:
    experiment = given.load("squares")
    recipe = msgspec.structs.replace(experiment.training, optimizer=SGD(learning_rate=rate), epochs=epochs)
    return experiment.with_training(recipe)


@pytest.mark.needs("torch")
@pytest.mark.parametrize(("check", "case", "rate"), [(trajectory, "recipe", 1e20), (members, "few", 1e80)])
def test_squared_errors_under_a_rate_that_is_too_large(
    check: Any, case: str, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch_impl

    monkeypatch.setattr(tolerances, "REPEATED_STEPS", 1)
    experiment = diverging(rate, 4)
    place = PLACE._replace(check=check.NAME, case=case)
    first, second = (
        dict(check.record(Opened(torch_impl), experiment, case, Request("float64", "cpu", 0, envelope)))
        for envelope in (True, False)
    )
    found = check.compare(experiment, place, first, second)
    assert [comparison.tensor for comparison in found if not comparison.passed] == []
    assert any("not finite on both sides" in comparison.note for comparison in found)
    # A side that stays finite, as one that clips without having been asked to.
    name = "loss" if check is trajectory else "losses"
    finite = {**second, name: np.nan_to_num(second[name], nan=1.0, posinf=1.0)}
    failed = [c for c in check.compare(experiment, place, first, finite) if not c.passed]
    assert failed
    assert failed[0].tensor == ("loss" if check is trajectory else "losses of member 0")
