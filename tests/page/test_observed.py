"""What recordings hold beside what is judged: predictions, attention weights, ensembles."""

import numpy as np
import pytest

from crosscheck.report import observed
from crosscheck.report.observed import observe
from crosscheck.report.page.render import PREDICTED, _changes
from spec import reference
from spec.experiment import Experiment, load
from spec.framework import Settings
from spec.tasks import predictions
from spec.training import initial_state

LOGITS = "float64/trajectory/recipe/logits"
WEIGHTS = "float64/forward/own/attention.weights"


def logits(experiment: Experiment, epochs: int | None = None) -> np.ndarray:
    """The right symbols from the second epoch on, and the first one before that."""
    batch = experiment.evaluation_batch("float64")
    found = np.zeros((epochs or experiment.training.epochs, *batch.targets.shape, experiment.classes))
    found[1:] = np.eye(experiment.classes)[batch.targets]
    return found


def test_predictions_are_words_after_each_epoch() -> None:
    experiment = load("hello-gru")
    right = logits(experiment)
    late = right.copy()
    late[1] = right[0]
    found = observe(experiment, {LOGITS: right}, {LOGITS: late}).predicted
    assert len(found) == experiment.training.epochs
    assert found[0] == (1, "Predicted string: eeeee", "Predicted string: eeeee")
    assert found[1] == (2, "Predicted string: ohlol", "Predicted string: eeeee")
    assert found[-1] == (experiment.training.epochs, "Predicted string: ohlol", "Predicted string: ohlol")
    rows, said = _changes(found)
    assert said == "Predicted string"
    assert rows == [(1, "eeeee", "eeeee"), (2, "ohlol", "eeeee"), (3, "ohlol", "ohlol")]


def test_where_nothing_can_be_spelled_there_is_an_accuracy() -> None:
    experiment = load("last-step-classifier")
    found = observe(experiment, {LOGITS: logits(experiment)}, {LOGITS: logits(experiment)}).predicted
    assert found[-1].first == "Accuracy: 1.000"
    assert predictions(logits(experiment)[0]).max() == 0


def test_few_rows_of_many_are_shown_and_the_last_is_among_them() -> None:
    many = [observed.Predicted(n, f"x: {n}", f"x: {n}") for n in range(1, 100)]
    rows, _ = _changes(many)
    assert len(rows) == PREDICTED
    assert (rows[0].epoch, rows[-1].epoch) == (1, 99)
    assert _changes([]) == ([], "")
    assert _changes([observed.Predicted(1, "x: 1", "other")]) == ([(1, "x: 1", "other")], "")


@pytest.mark.parametrize("shape", [(2, 5, 5), (3, 2, 4, 6)])
def test_attention_is_that_of_the_first_sequence_and_head(shape: tuple[int, ...]) -> None:
    weights = np.random.default_rng(0).random(shape)
    found = observe(load("hello-self-attention"), {WEIGHTS: weights}, {WEIGHTS: 2 * weights}).attention
    assert found is not None
    first = weights.reshape(-1, *shape[-2:])[0]
    np.testing.assert_array_equal(found[0], first)
    np.testing.assert_array_equal(found[1], 2 * first)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({WEIGHTS: np.ones((1, 3, 3)), LOGITS: np.ones((60, 1, 5, 4))}, {}),
        ({WEIGHTS: np.ones((1, 3, 3))}, {WEIGHTS: np.ones((1, 3, 4))}),
        ({WEIGHTS: np.ones(3)}, {WEIGHTS: np.ones(3)}),
        ({WEIGHTS: np.ones((1, 99, 99))}, {WEIGHTS: np.ones((1, 99, 99))}),
        ({WEIGHTS: np.ones((0, 3, 3))}, {WEIGHTS: np.ones((0, 3, 3))}),
        ({LOGITS: np.ones((7, 1, 5, 4))}, {LOGITS: np.ones((7, 1, 5, 4))}),
    ],
)
def test_what_is_missing_or_of_another_shape_is_not_shown(
    first: dict[str, np.ndarray], second: dict[str, np.ndarray]
) -> None:
    assert observe(load("hello-gru"), first, second) == ([], None, {}, None)


LOSS = "float64/trajectory/recipe/loss"


def test_the_equations_are_trained_from_the_same_start_as_far_as_they_are_affordable() -> None:
    """Their losses are those that spec.reference gives as an implementation, in a call of its own."""
    experiment, settings = load("hello-rnn"), Settings("float64")
    state = initial_state(experiment.training.optimizer, experiment.start(3, "float64"))
    expected = reference.open(experiment, settings).train(state, experiment.training.epochs, 3, masks="spec").losses
    found = observe(experiment, {LOSS: expected}, {LOSS: expected + 0.5}, 3).reference
    assert found is not None
    assert found.whole
    np.testing.assert_allclose(found.losses, expected, rtol=1e-12)
    assert found.apart == pytest.approx((0.0, 0.5), abs=1e-12)
    other = observe(experiment, {LOSS: expected}, {LOSS: np.full(60, np.nan)}, 4).reference
    assert other is not None
    assert other.apart[0] > 0.01
    assert other.apart[1] == np.inf
    assert observe(experiment, {LOSS: expected}, {}, 3).reference is None


def test_of_a_large_model_the_equations_give_some_steps_and_more_where_something_is_wrong() -> None:
    held = {LOSS: np.zeros(150)}
    found = [observe(load("hello-transformer"), held, held, 0, failing).reference for failing in (False, True)]
    steps = [len(each.losses) for each in found if each]
    assert 0 < steps[0] < steps[1] < 20
    assert not any(each.whole for each in found if each)


def test_equations_that_cannot_be_asked_draw_no_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {LOSS: np.zeros(60)}
    monkeypatch.setattr(reference, "gradients_at", lambda *given: 1 // 0)
    assert observe(load("hello-rnn"), held, held).reference is None


def test_ensembles_are_those_of_convergence() -> None:
    name = "float32/convergence/ensemble/loss_auc"
    found = observe(load("hello-gru"), {name: np.arange(5.0)}, {name: np.arange(7.0)}).ensembles
    assert list(found) == ["loss_auc"]
    assert [len(side) for side in found["loss_auc"]] == [5, 7]
