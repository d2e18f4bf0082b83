"""Where losses do not tell seeds apart no side is at fault; where they do, one that gives the same for all is red."""

import msgspec
import numpy as np
import pytest

from crosscheck.checks import members, shipped_path
from crosscheck.comparison import Comparison, Place
from crosscheck.probes import telling
from spec.experiment import Experiment, load, override

DRAWN, STILL = "last-step-classifier", "hello-stacked-lstm-dropout"


def drawn(classes: int = 5) -> Experiment:
    """A small experiment whose batches are drawn anew for each seed and step."""
    sizes = {"model__hidden_size": 2, "model__classes": classes, "task__classes": classes, "task__batch_size": 4}
    return override(load(DRAWN), **sizes)


@pytest.mark.parametrize("steps", [1, 3])
def test_batches_are_told_apart_by_losses_that_are_alive(steps: int):
    experiment = drawn()
    start = experiment.start(0, "float64")
    dead = {name: np.zeros_like(value) for name, value in start.items()}
    assert telling.count(experiment, [0, 1, 2, 3], steps, start) == 4
    assert telling.count(experiment, [5, 5, 6], steps, start) == 2
    assert telling.count(experiment, [0, 1, 2, 3], steps, dead) == 1
    assert telling.all_differ(experiment, 0, steps)
    assert not telling.all_differ(experiment, 0, steps, dead)


def test_masks_are_told_apart_by_what_they_drop():
    experiment = load(STILL)
    start = experiment.start(0, "float64")
    assert telling.all_differ(experiment, 0, 1, start)
    assert not telling.all_differ(experiment, 0, 1, {name: np.zeros_like(value) for name, value in start.items()})


def seeds(experiment: Experiment, streams: list[float]) -> Comparison:
    """What is said of eight seeds with these losses."""
    arrays = {f"{seed}/own": np.full(4, loss) for seed, loss in enumerate(streams)}
    place = Place(experiment.name, shipped_path.NAME, "float64", shipped_path.SEEDS, ("one", "two"))
    *_, found = shipped_path._judge_seeds(experiment, place, "one", arrays)
    return found


def test_one_stream_for_all_seeds_is_red_where_losses_tell_them_apart():
    assert not seeds(drawn(), [0.5] * 8).passed
    assert not seeds(drawn(), [0.5] * 2 + [*range(6)]).passed
    assert seeds(drawn(), [*range(8)]).passed
    # Of one class alone the loss is always zero.
    assert seeds(drawn(classes=1), [0.0] * 8).passed


def apart(experiment: Experiment, losses: np.ndarray) -> Comparison:
    place = Place(experiment.name, members.NAME, "float64", members.FEW, ("one", "two"))
    return members._distinct(experiment, place, losses, "loop")


def test_one_member_twice_is_red_where_losses_tell_them_apart():
    losses = np.array([[1.0, 0.5], [1.0, 0.5], [2.0, 0.7]])
    assert not apart(drawn(), losses).passed
    assert apart(drawn(), losses[1:]).passed
    assert apart(drawn(classes=1), np.zeros((3, 2))).passed


def test_where_nobody_knows_the_equations_all_are_expected():
    class Stranger(msgspec.Struct):
        reference: None = None

    assert telling.count(Stranger(), [0, 1], 1, {}) == 2  # type: ignore[arg-type]
    assert telling.all_differ(Stranger(), 0, 1)  # type: ignore[arg-type]
