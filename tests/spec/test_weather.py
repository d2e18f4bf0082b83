"""The hidden Markov chain, the best guess about it, and what counts as coming near that."""

import itertools
import math

import msgspec
import numpy as np
import pytest

from spec.ensemble import learned_members
from spec.errors import SpecError
from spec.experiment import load, override
from spec.parameters import generator_for
from spec.tasks import IGNORED, Weather
from spec.tasks.weather import FIRST, MEANS, RAIN, TRANSITIONS, Days, chance_of_rain, draw
from spec.training import NearLowest

TASK = Weather(length=4, shortest=2, noise=1.5, batch_size=5)


def test_the_chain_is_one() -> None:
    assert np.allclose(TRANSITIONS.sum(axis=1), 1)
    assert np.isclose(FIRST.sum(), 1)
    regimes = len(RAIN)
    assert TRANSITIONS.shape == (regimes, regimes)
    assert MEANS.shape[0] == regimes


def test_the_forward_algorithm_is_the_sum_over_every_path_of_regimes() -> None:
    noise = 0.8
    days = draw(generator_for(3, "days"), noise, (6, 4))
    found = chance_of_rain(days, noise)
    for row, day in itertools.product(range(6), range(4)):
        joint = {0: 0.0, 1: 0.0}
        for path in itertools.product(range(3), repeat=day + 2):
            chance = FIRST[path[0]] * math.prod(TRANSITIONS[a, b] for a, b in itertools.pairwise(path))
            for t, regime in enumerate(path[:-1]):
                apart = days.readings[row, t] - MEANS[regime]
                chance *= math.exp(-float(apart @ apart) / (2 * noise**2))
                chance *= RAIN[regime] if days.rain[row, t] else 1 - RAIN[regime]
            joint[1] += chance * RAIN[path[-1]]
            joint[0] += chance * (1 - RAIN[path[-1]])
        assert found[row, day] == pytest.approx(joint[1] / (joint[0] + joint[1]), rel=1e-12)


def test_draws_follow_the_chain() -> None:
    days = draw(generator_for(0, "law"), 0.5, (20_000, 3))
    chances = np.stack([FIRST @ np.linalg.matrix_power(TRANSITIONS, day) for day in range(4)])
    # Four standard errors of a share.
    assert np.abs(days.rain.mean(axis=0) - chances @ RAIN).max() < 4 * 0.5 / math.sqrt(20_000)
    wanted = chances[:3] @ MEANS
    assert np.abs(days.readings.mean(axis=0) - wanted).max() < 4 * 1.2 / math.sqrt(20_000)
    assert np.unique(days.readings).size == days.readings.size


def test_guesses_are_calibrated_and_memory_pays() -> None:
    """Of the days with a guess near p, the share p is rainy; and who sees only today's weather loses more than the
    margin of an outcome."""
    days = draw(generator_for(1, "law"), 1.5, (20_000, 6))
    chances, rain = chance_of_rain(days, 1.5), days.rain[:, 1:]
    for low in np.arange(0.1, 0.9, 0.2):
        near = (chances >= low) & (chances < low + 0.2)
        assert near.sum() > 1000
        assert abs(chances[near].mean() - rain[near].mean()) < 4 * 0.5 / math.sqrt(near.sum())

    def loss(guessed: np.ndarray) -> float:
        return float(-np.log(np.where(rain == 1, guessed, 1 - guessed)).mean())

    today = [chance_of_rain(Days(days.readings[:, d : d + 1], days.rain[:, d : d + 2]), 1.5) for d in range(6)]
    assert loss(np.concatenate(today, axis=1)) > 1.03 * loss(chances)


def test_lengths_targets_and_readouts() -> None:
    batch = TASK.batch(3, 120, "float32")
    assert batch.inputs.shape == (5, 4, 3)
    assert batch.inputs.dtype == np.float32
    assert batch.lengths is not None
    assert batch.lengths[0] == 4
    assert batch.lengths.min() >= 2
    asked = batch.targets != IGNORED
    assert (asked == (np.arange(4) < batch.lengths[:, None])).all()
    # Tomorrow's rain is the next day's input.
    assert (batch.targets[:, :-1] == batch.inputs[:, 1:, 2])[asked[:, 1:]].all()
    last = msgspec.structs.replace(TASK, readout="last step").batch(3, 120, "float32")
    assert last.targets.tolist() == [row[n - 1] for row, n in zip(batch.targets.tolist(), batch.lengths, strict=True)]
    assert last.inputs.tobytes() == batch.inputs.tobytes()


@pytest.mark.parametrize("readout", ["every step", "last step"])
def test_the_lowest_loss_is_that_of_the_guess(readout: str) -> None:
    task = msgspec.structs.replace(TASK, readout=readout)
    batch = task.evaluation_batch("float64")
    assert batch.lengths is not None
    total, count = 0.0, 0
    for row, length in enumerate(batch.lengths):
        days = Days(batch.inputs[row, :length, :2], np.append(batch.inputs[row, :length, 2], 0).astype(np.int64))
        chances = chance_of_rain(days, task.noise)
        targets = batch.targets[row, :length] if readout == "every step" else batch.targets[row : row + 1]
        for chance, target in zip(chances[-len(targets) :], targets, strict=True):
            total, count = total - math.log(chance if target else 1 - chance), count + 1
    assert task.lowest_loss == pytest.approx(total / count, rel=1e-12)


def test_near_is_within_one_percent_on_either_side() -> None:
    experiment = load("weather-gru")
    assert isinstance(experiment.outcome, NearLowest)
    assert experiment.outcome.within == 0.01
    batch = experiment.evaluation_batch("float64")
    days = experiment.task._evaluation_days()  # type: ignore[union-attr]
    chances = chance_of_rain(days, experiment.task.noise)  # type: ignore[union-attr]
    best = np.log(np.stack([1 - chances, chances], axis=-1))
    flat = np.zeros_like(best)
    told = np.where((batch.targets[..., None] == 1) == np.array([False, True]), 3.0, 0.0) + best
    broken = np.full_like(best, np.nan)
    assert learned_members(experiment, np.stack([best, flat, told, broken]), batch).tolist() == [
        True,
        False,
        False,
        False,
    ]


def test_only_a_task_that_knows_its_lowest_loss_can_come_near_it() -> None:
    with pytest.raises(SpecError, match=r"outcome\.name: expected NearLowest for a task that knows its lowest loss"):
        override(load("hello-gru"), outcome__name="NearLowest")
    with pytest.raises(SpecError, match=r"shortest: expected at most length = 6, got 7"):
        override(load("weather-gru"), task__shortest=7)
