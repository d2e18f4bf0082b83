"""The loss, the schedule and the outcomes, against numbers worked out by hand."""

import math
from typing import Literal

import numpy as np
import pytest

from spec.experiment import load, override, parse, to_toml
from spec.parameters import draw
from spec.tasks import IGNORED
from spec.training import (
    SGD,
    Adam,
    AdamW,
    AnyOptimizer,
    CannotLearn,
    Cosine,
    CrossEntropy,
    Group,
    Learns,
    LearnsSometimes,
    RMSprop,
    StepDecay,
    Walk,
    WarmUp,
    initial_state,
)


def test_cross_entropy_by_hand() -> None:
    logits = np.array([[[0.0, 0.0], [math.log(3), 0.0]]])
    targets = np.array([[0, 1]])
    expected = [math.log(2), math.log(4)]
    assert CrossEntropy("sum").value(logits, targets) == pytest.approx(sum(expected), rel=1e-15)
    assert CrossEntropy("mean").value(logits, targets) == pytest.approx(sum(expected) / 2, rel=1e-15)


def test_cross_entropy_divides_by_the_targets_that_are_asked_for() -> None:
    logits = np.zeros((1, 3, 4))
    targets = np.array([[0, IGNORED, 2]])
    assert CrossEntropy("mean").value(logits, targets) == pytest.approx(math.log(4), rel=1e-15)
    assert CrossEntropy("sum").value(logits, targets) == pytest.approx(2 * math.log(4), rel=1e-15)


def test_cross_entropy_is_computed_in_float64_and_does_not_overflow() -> None:
    logits = np.array([[1e4, 0.0]], np.float32)
    assert CrossEntropy("mean").value(logits, np.array([1])) == 1e4
    tiny = CrossEntropy("mean").value(np.array([[40.0, 0.0]], np.float32), np.array([0]))
    assert tiny == pytest.approx(math.log1p(math.exp(-40)), rel=0.2)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_losses_of_many_runs_are_those_of_each(reduction: Literal["mean", "sum"]) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(5, 3, 4, 6)).astype(np.float32)
    targets = generator.integers(0, 6, (3, 4))
    targets[1, 2:] = IGNORED
    loss = CrossEntropy(reduction)
    alone = [loss.value(run, targets) for run in logits]
    assert len(set(alone)) == 5
    np.testing.assert_allclose(loss.values(logits, targets), alone, rtol=1e-15)


def test_the_loss_of_two_indistinguishable_inputs_has_its_floor() -> None:
    experiment = load("hello-self-attention-no-positions")
    assert isinstance(experiment.outcome, CannotLearn)
    # Certain of h, e and o, torn between the two symbols that follow an l.
    logits = np.array([[[0, 0, 0, 99], [0, 99, 0, 0], [0, 0, 99, 99], [0, 0, 99, 99], [0, 0, 99, 0]]], float)
    loss = experiment.training.loss.value(logits, experiment.evaluation_batch("float64").targets)
    assert loss == pytest.approx(2 * math.log(2) / 5, rel=1e-12)
    assert experiment.outcome.reached(False, loss)
    assert experiment.outcome.loss_at_least == pytest.approx(loss, rel=1e-6)


def test_warm_up_reaches_the_full_rate_and_stays() -> None:
    schedule = WarmUp(4)
    assert [schedule.factor(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    training = load("hello-lstm-adamw-warm-up").training
    assert training.learning_rate(0) == pytest.approx(0.005)
    assert training.learning_rate(9) == training.learning_rate(1000) == 0.05
    assert load("hello-gru").training.learning_rate(0) == 0.05


def test_a_cosine_ends_where_it_says_and_stays() -> None:
    half = (1 + math.cos(math.pi / 4)) / 2
    last = [Cosine(5, "at the last step", 0.0).factor(step) for step in range(7)]
    assert last == pytest.approx([1.0, half, 0.5, 1 - half, 0.0, 0.0, 0.0], abs=1e-15)
    later = [Cosine(4, "one step later", 0.2).factor(step) for step in range(6)]
    assert later == pytest.approx([1.0, 0.2 + 0.8 * half, 0.6, 1 - 0.8 * half, 0.2, 0.2], abs=1e-15)
    warm = [Cosine(6, "one step later", 0.0, warm_up=2).factor(step) for step in range(7)]
    assert warm == pytest.approx([0.5, 1.0, 1.0, half, 0.5, 1 - half, 0.0], abs=1e-15)
    # A single step is the last one, and the first.
    assert Cosine(1, "at the last step", 0.25).factor(0) == 0.25
    assert Cosine(1, "one step later", 0.25).factor(0) == 1.0


def test_a_staircase_falls_after_whole_flights() -> None:
    assert [StepDecay(3, 0.5).factor(step) for step in range(7)] == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]


def test_parameters_have_the_rate_and_the_decay_of_their_first_group() -> None:
    recipe = {"name": "AdamW", "learning_rate": 0.1, "weight_decay": 0.3, "decayed": "matrices"}
    groups = [
        {"pattern": "head.*", "learning_rate": 0.01},
        {"pattern": "*bias*", "weight_decay": 0.2},
        {"pattern": "rnn.weight_??_l0", "learning_rate": 0.0},
    ]
    schedule = {"name": "StepDecay", "every": 1, "gamma": 0.5}
    experiment = override(
        load("hello-gru"), training__optimizer=recipe, training__groups=groups, training__schedule=schedule
    )
    training = experiment.training
    found = {
        p.name: (training.full_rate(p.name), training.weight_decay(p.name, len(p.shape)))
        for p in experiment.model.parameters()
    }
    assert found == {
        "rnn.weight_ih_l0": (0.0, 0.3),
        "rnn.weight_hh_l0": (0.0, 0.3),
        "rnn.bias_ih_l0": (0.1, 0.2),
        "rnn.bias_hh_l0": (0.1, 0.2),
        "head.weight": (0.01, 0.3),
        "head.bias": (0.01, 0.0),
    }
    assert training.learning_rate(2, "head.bias") == 0.0025
    assert training.learning_rate(2) == training.learning_rate(2, "rnn.bias_ih_l0") == 0.025
    assert parse(to_toml(experiment), experiment.name) == experiment
    assert Group("*").learning_rate is None


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [
        (Adam(0.1), ("exp_avg", "exp_avg_sq")),
        (AdamW(0.1, 0.01), ("exp_avg", "exp_avg_sq")),
        (SGD(0.1, 0.9), ("momentum_buffer",)),
        (SGD(0.1), ()),
        (Adam(0.1, amsgrad=True), ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")),
        (RMSprop(0.1), ("square_avg",)),
        (RMSprop(0.1, momentum=0.9), ("square_avg", "momentum_buffer")),
    ],
)
def test_initial_state_has_a_zero_for_every_slot(optimizer: AnyOptimizer, slots: tuple[str, ...]) -> None:
    parameters = draw(load("hello-gru").model.parameters(), 0, "float32")
    state = initial_state(optimizer, parameters)
    assert state.step == 0
    assert state.parameters is parameters
    assert set(state.slots) == {f"{name}.{slot}" for name in parameters for slot in slots}
    for name, array in state.slots.items():
        parameter = parameters[name.rpartition(".")[0]]
        assert (array.shape, array.dtype) == (parameter.shape, parameter.dtype)
        assert not array.any()


@pytest.mark.parametrize("outcome", [Learns(0.99), LearnsSometimes(0.5)])
def test_learning_is_to_solve(outcome: Learns | LearnsSometimes) -> None:
    assert outcome.reached(True, 5.0)
    assert not outcome.reached(False, 0.0)


def test_a_negative_control_must_fail_at_its_floor() -> None:
    outcome = CannotLearn(0.25, "a reason")
    assert outcome.reached(False, 0.25)
    assert not outcome.reached(True, 0.25)
    assert not outcome.reached(False, 0.2499)
    assert not outcome.reached(False, math.nan)


def test_a_walk_always_arrives() -> None:
    assert Walk().reached(False, math.inf)


def test_defaults_are_the_courses() -> None:
    adam = load("course-rnn").training.optimizer
    assert adam == Adam(learning_rate=0.5, beta1=0.9, beta2=0.999, epsilon=1e-8)
    assert override(load("course-rnn"), training__optimizer__learning_rate=0.1).training.optimizer == Adam(0.1)
