"""Cutting a training into chunks, measuring a chunk, and the verdict in words."""

import math

import msgspec
import numpy as np
import pytest

from spec.command.events import Epoch
from spec.command.routine import CHUNKS, LONGEST_CHUNK, chunk_lengths
from spec.command.run_directory import Checkpoint
from spec.command.session import Request, measure
from spec.command.verdict import verdict
from spec.experiment import load, override, shipped
from spec.framework import Settings, Trajectory
from spec.training import NotStated, State, Walk

CLASSIFIER = load("last-step-classifier")


@pytest.mark.parametrize("epochs", [1, 2, 5, 7, 11, 15, 30, 59, 60, 61, 97, 150, 200, 999, 1000, 1001, 100_000])
def test_chunks_add_up_in_at_most_two_lengths(epochs: int) -> None:
    lengths = list(chunk_lengths(epochs))
    assert sum(lengths) == epochs
    assert min(lengths) >= 1
    assert len(set(lengths[:-1])) <= 1
    assert lengths[-1] <= lengths[0] < 2 * LONGEST_CHUNK + 1
    assert len(lengths) >= min(epochs, CHUNKS // 2)


def test_every_shipped_recipe_has_chunks_of_one_length() -> None:
    for name in shipped():
        lengths = list(chunk_lengths(load(name).training.epochs))
        assert len(set(lengths)) <= 1
        assert len(lengths) <= CHUNKS


def test_a_resumed_training_has_the_same_cuts() -> None:
    lengths = list(chunk_lengths(61))
    assert lengths == [7] * 8 + [5]
    for chunk in range(len(lengths) + 1):
        assert list(chunk_lengths(61, sum(lengths[:chunk]))) == lengths[chunk:]
    assert list(chunk_lengths(61, 3))[:2] == [4, 7]  # Back to the cuts, wherever it stood.


def measured(losses: list[float], logits: np.ndarray, epochs_done: int = 10) -> tuple[list[Epoch], str | None]:
    """Measure a chunk of the classifier's, which has 20 steps an epoch, from epoch 10 on."""
    state = State({}, {}, epochs_done * CLASSIFIER.training.steps_per_epoch)
    before: Checkpoint = Request("x", CLASSIFIER, 0, Settings(), {}).checkpoint(state, epochs_done)
    records, _, failure = measure(CLASSIFIER, Trajectory(state, np.array(losses), logits, {}, {}), before, Settings())
    return records, failure


def right_logits(epochs: int) -> np.ndarray:
    targets = CLASSIFIER.task.evaluation_batch("float32").targets
    return np.tile(50.0 * np.eye(5)[targets], (epochs, 1, 1))


def test_measure_takes_the_mean_of_an_epochs_steps() -> None:
    losses = [1.0] * 19 + [21.0] + [3.0] * 20
    records, failure = measured(losses, right_logits(2))
    assert failure is None
    assert [(r.epoch, r.loss, r.solved, r.predicted) for r in records] == [
        (11, 2.0, True, "Accuracy: 1.000"),
        (12, 3.0, True, "Accuracy: 1.000"),
    ]
    assert records[0].evaluation_loss == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_measure_names_the_first_step_that_is_not_finite(bad: float) -> None:
    losses = [1.0] * 60
    losses[25], losses[50] = bad, math.nan
    records, failure = measured(losses, right_logits(3))
    assert [record.epoch for record in records] == [11]
    assert failure == f"the loss is {bad} in epoch 12, at step 226"


def test_measure_finds_an_evaluation_that_is_not_finite() -> None:
    logits = right_logits(3)
    logits[1, 999, 2] = math.inf
    records, failure = measured([1.0] * 60, logits)
    assert [record.epoch for record in records] == [11]
    assert failure == "the evaluation loss is nan after epoch 12"


def last(solved: bool, loss: float = 0.5) -> Epoch:
    return Epoch(epoch=60, loss=loss, evaluation_loss=loss, solved=solved, predicted="x")


@pytest.mark.parametrize(
    ("name", "solved", "loss", "expected"),
    [
        (
            "hello-gru",
            True,
            0.1,
            "Reached: everything is predicted right, as at least 99 % of seeds do under this recipe.",
        ),
        (
            "hello-gru",
            False,
            0.1,
            "Missed: not everything is predicted right, though at least 99 % of seeds do under this recipe.",
        ),
        (
            "course-rnn",
            True,
            0.5,
            "Reached: everything is predicted right; one seed is luck, about 45 % of seeds do under this recipe.",
        ),
        (
            "course-rnn",
            False,
            0.5,
            "Missed: not everything is predicted right; one seed is luck, about 45 % of seeds do under this recipe. "
            "Try another --seed.",
        ),
        (
            "hello-transformer-no-positions",
            False,
            0.28,
            "Reached: it failed, as it must: without positions both l's are the same input with different targets "
            "(evaluation loss 0.28, floor 0.2772588).",
        ),
        (
            "hello-transformer-no-positions",
            True,
            0.28,
            "Missed: it predicted everything right, which cannot be: without positions both l's are the same input "
            "with different targets (evaluation loss 0.28, floor 0.2772588).",
        ),
        (
            "hello-transformer-no-positions",
            False,
            0.2,
            "Missed: its loss fell below the floor, which cannot be: without positions both l's are the same input "
            "with different targets (evaluation loss 0.2, floor 0.2772588).",
        ),
    ],
)
def test_verdicts(name: str, solved: bool, loss: float, expected: str) -> None:
    assert verdict(load(name), last(solved, loss)) == expected


STATED = [name for name in shipped() if not isinstance(load(name).outcome, Walk | NotStated)]


@pytest.mark.parametrize("name", STATED)
def test_a_changed_recipe_is_not_credited_with_the_shipped_rate(name: str) -> None:
    shipped_recipe = load(name)
    for other in (
        override(shipped_recipe, training__epochs=2),
        msgspec.structs.replace(shipped_recipe, name="mine"),
        msgspec.structs.replace(shipped_recipe, description="Another one of this name"),
    ):
        for right in (False, True):
            said = verdict(other, last(right))
            assert " % of seeds" not in said
            assert "as it must:" not in said
            assert said.startswith(("Reached: ", "Missed: "))
