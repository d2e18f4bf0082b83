"""The rule for parameters without a gradient: what it lets through, what it does not, and that its limit is a limit."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from crosscheck.bounds import zero_gradients
from crosscheck.comparison import Place
from spec.experiment import load, override
from spec.parameters import generator_for
from spec.reference import optimizer as equations
from spec.training import Training, initial_state

RunCrosscheck = Callable[..., Any]
Edit = Callable[..., str]

MOVE = "        trace.append((parameters.copy(), slots))\n"


ANY = load("hello-self-attention").model.parameters()[0]
"""A parameter that no group has a rate or decay of its own for."""


def adam(gradients: np.ndarray, training: Training, start: float) -> np.ndarray:
    """Values after each step, as spec.training writes Adam and AdamW."""
    optimizer: Any = training.optimizer
    m = v = 0.0
    value, values = start, []
    for step, gradient in enumerate(gradients):
        rate = training.learning_rate(step)
        m = optimizer.beta1 * m + (1 - optimizer.beta1) * gradient
        v = optimizer.beta2 * v + (1 - optimizer.beta2) * gradient**2
        value *= 1 - rate * getattr(optimizer, "weight_decay", 0.0)
        corrected = v / (1 - optimizer.beta2 ** (step + 1))
        value -= rate * (m / (1 - optimizer.beta1 ** (step + 1))) / (np.sqrt(corrected) + optimizer.epsilon)
        values.append(value)
    return np.array(values)


@pytest.mark.parametrize("name", ["hello-self-attention", "hello-lstm-adamw-warm-up"])
@pytest.mark.parametrize("seed", range(20))
def test_no_gradients_drift_further_than_the_limit(name: str, seed: int):
    training = load(name).training
    generator = generator_for(seed, "gradients")
    gradients = generator.choice([-1.0, 0.0, 1.0, 1e-3, 1e3], 100) * np.exp(generator.normal(size=100))
    gradients = np.abs(gradients) if seed % 2 else gradients
    drift = np.abs(adam(gradients, training, 0.7) - 0.7)
    assert np.all(drift <= zero_gradients.largest_drift(training, ANY, 0.7, 100) * (1 + 1e-12))


def test_the_limit_of_a_step_is_reached():
    training = load("hello-self-attention").training
    limit = np.diff(zero_gradients.largest_drift(training, ANY, 0.0, 50), prepend=0.0) / 0.01
    assert limit[0] == pytest.approx(1.0)
    # Cauchy and Schwarz hold with equality for gradients that grow by beta2 / beta1 a step.
    worst = (0.999 / 0.9) ** np.arange(50.0)
    step = np.diff(adam(worst, training, 0.0))[-1] / -0.01
    assert step == pytest.approx(limit[-1], rel=1e-6)


def test_the_limit_in_the_end_is_seven_learning_rates_a_step():
    training = load("hello-self-attention").training
    assert np.diff(zero_gradients.largest_drift(training, ANY, 0.0, 10_000))[-1] == pytest.approx(0.01 * 7.27, rel=1e-3)


RECIPES = [
    {"name": "RMSprop", "learning_rate": 0.01, "alpha": 0.9, "momentum": 0.8},
    {"name": "RMSprop", "learning_rate": 0.01},
    {"name": "AdamW", "learning_rate": 0.01, "weight_decay": 0.1, "amsgrad": True, "decayed": "matrices"},
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{len(recipe)} {recipe['name']}")
def test_no_optimizer_drifts_further_than_the_limit(recipe: dict[str, Any]):
    groups = [{"pattern": "*.bias", "learning_rate": 0.02}]
    training = override(load("hello-self-attention"), training__optimizer=recipe, training__groups=groups).training
    for parameter in (ANY, msgspec.structs.replace(ANY, name="some.bias", shape=(1,))):
        reached = 0.0
        for seed in range(6):
            generator = generator_for(seed, "gradients")
            gradients = generator.choice([-1.0, 0.0, 1.0, 1e-3, 1e3], 60) * np.exp(generator.normal(size=60))
            gradients = np.abs(gradients) if seed % 2 else gradients
            gradients = 3.0 ** np.arange(60.0) if seed == 5 else gradients
            value = np.full((1,) * len(parameter.shape), 0.7)
            state = initial_state(training.optimizer, {parameter.name: value})
            drift = []
            for gradient in gradients:
                state = equations.step(training, state, {parameter.name: np.full(value.shape, gradient)})
                drift.append(abs(float(state.parameters[parameter.name].sum()) - 0.7))
            limit = zero_gradients.largest_drift(training, parameter, 0.7, 60)
            assert np.all(np.array(drift) <= limit * (1 + 1e-12))
            reached = max(reached, drift[-1] / limit[-1])
        assert reached > 0.3  # No limit that anything keeps to.


def test_an_optimizer_without_memory_of_sizes():
    experiment = override(load("hello-self-attention"), training__optimizer__beta2=0.0)
    assert zero_gradients.largest_drift(experiment.training, ANY, 0.0, 3)[-1] == np.inf


@pytest.mark.parametrize(("size", "status"), [("1e-17", "same"), ("1e-8", "different")])
def test_gradients_that_ought_to_be_zero(run_crosscheck: RunCrosscheck, fake: Edit, size: str, status: str):
    # Where all gradients are zero, there is nothing whose rounding it could be.
    second = fake(("] = 0.0\n        found", f"] = {size} * gradient.any()\n        found"))
    outcome = run_crosscheck(second, "--checks", "gradients", "--precision", "float64")
    assert outcome.status("gradients") == status
    named = {failure["tensor"].partition(" (")[0] for failure in outcome.failures()}
    assert named == ({"key.bias[0:4]"} if status == "different" else set())


@pytest.mark.parametrize(("size", "status"), [("0.009", "same"), ("0.2", "different")])
def test_drift(run_crosscheck: RunCrosscheck, fake: Edit, size: str, status: str):
    second = fake((MOVE, f"        parameters['key.bias'] = parameters['key.bias'] + {size}\n" + MOVE))
    outcome = run_crosscheck(second, "--checks", "trajectory", "--precision", "float64")
    assert outcome.status("trajectory") == status
    assert {failure["tensor"] for failure in outcome.failures()} == (
        {"key.bias[0:4]"} if status == "different" else set()
    )


def test_a_drift_that_is_not_a_number(run_crosscheck: RunCrosscheck, fake: Edit):
    second = fake((MOVE, "        parameters['key.bias'] = parameters['key.bias'] * np.nan\n" + MOVE))
    assert run_crosscheck(second, "--checks", "trajectory", "--precision", "float64").exit_code == 1


def test_the_rows_beside_are_compared_as_always(run_crosscheck: RunCrosscheck, fake: Edit):
    move = "        if step == 2: parameters['encoder.layers.0.self_attn.in_proj_bias'][7] += 1e-3\n"
    outcome = run_crosscheck(fake((MOVE, move + MOVE)), "--checks", "trajectory", experiments=("hello-transformer",))
    failure = outcome.failures()[0]
    assert failure["tensor"] == "parameters/encoder.layers.0.self_attn.in_proj_bias"
    assert (failure["step"], failure["index"]) == (2, [7])


def test_sgd_leaves_nothing_out():
    training = load("hello-rnn-sgd-momentum").training
    assert not zero_gradients.blown_up(training)
    assert zero_gradients.blown_up(load("hello-lstm-adamw-warm-up").training)


@pytest.mark.parametrize(("drifts", "passes"), [(0.0, True), (1e-9, False)])
def test_what_has_a_learning_rate_of_zero_may_not_drift(drifts: float, passes: bool):
    """Nothing of nothing is no number, and was taken for the largest share of what is allowed."""
    groups = [{"pattern": "*", "learning_rate": 0.0}]
    training = override(load("hello-self-attention"), training__groups=groups).training
    parameter = next(each for each in load("hello-transformer").model.parameters() if each.zero_gradient is not None)
    start = np.zeros(parameter.shape)
    first = np.zeros((5, *parameter.shape))
    first[-1] += drifts
    place = Place("x", "trajectory", "float64", "recipe", ("first", "second"))
    with np.errstate(all="raise"):
        found = zero_gradients.drift(place, training, parameter, start, first, np.zeros_like(first))
    assert found.passed == passes
