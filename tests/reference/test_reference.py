"""The reference against outsiders: stock torch and its autograd, finite differences, closed forms."""

import math

import numpy as np
import pytest
from kinds import covering

import spec.reference as reference
import torch_impl
from spec.errors import DeviceMissing, Unsupported
from spec.experiment import load, override, shipped
from spec.framework import Settings
from spec.models import keep_masks
from spec.parameters import draw, generator_for
from spec.reference.arithmetic import erf, gelu, layer_norm, relu, sigmoid, softmax
from spec.reference.contract import complex_step
from spec.reference.optimizer import clipped, step
from spec.tasks import random_batch
from spec.training import Clipping, CrossEntropy, State, initial_state

SETTINGS = Settings("float64")


def close(first: dict[str, np.ndarray], second: dict[str, np.ndarray], tolerance: float) -> None:
    """Relative to each tensor's largest element; rounding of the gradients' size where that is nothing."""
    assert first.keys() == second.keys()
    scale = max(np.abs(value).max() for value in first.values())
    for name, value in first.items():
        np.testing.assert_allclose(
            second[name], value, rtol=0, atol=tolerance * max(np.abs(value).max(), 1e-3 * scale), err_msg=name
        )


@pytest.mark.parametrize("name", covering(shipped()))
def test_it_computes_what_stock_torch_computes(name: str) -> None:
    experiment = load(name)
    model = experiment.model
    parameters = draw(model.parameters(), 3, "float64", spread=0.1)
    lengths = [min(6, model.max_length or 6), 1, 3]
    batch = random_batch(model, lengths, 1, "float64", numbers=experiment.task.numeric)
    masks = keep_masks(model, 3, max(lengths), generator_for(0, "masks"))
    theirs = torch_impl.forward(experiment, parameters, batch, SETTINGS, dropout=masks)
    ours = reference.forward(experiment, parameters, batch, SETTINGS, dropout=masks)
    assert tuple(ours) == model.intermediates()
    close(theirs, ours, 1e-14)
    theirs = torch_impl.gradients(experiment, parameters, batch, SETTINGS, dropout=masks)
    ours = reference.gradients(experiment, parameters, batch, SETTINGS, dropout=masks)
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-14)
    close(theirs.parameters, ours.parameters, 1e-13)


@pytest.mark.parametrize(
    "name",
    [
        "course-rnn-cell",
        "hello-embedding-max-norm",
        "hello-embedding-padding",
        "hello-embedding-scale-by-frequency",
        "hello-encoder-decoder",
        "hello-gru-clipping",
        "hello-lstm-adamw-warm-up",
        "hello-rnn-sgd-momentum",
        "last-step-classifier",
        "ragged-lstm",
    ],
)
def test_it_trains_as_torch_trains(name: str) -> None:
    experiment = load(name)
    start = initial_state(experiment.training.optimizer, draw(experiment.model.parameters(), 3, "float64", 0.1))
    epochs = 6
    if experiment.training.steps_per_epoch > 1:
        experiment, epochs = override(experiment, training__steps_per_epoch=3), 2
    theirs, ours = (x.train(experiment, start, epochs, 0, SETTINGS, record=True) for x in (torch_impl, reference))
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-11)
    np.testing.assert_allclose(ours.logits, theirs.logits, rtol=1e-9, atol=1e-11)
    close(theirs.parameters, ours.parameters, 1e-10)
    close(theirs.slots, ours.slots, 1e-10)
    close(theirs.state.slots, ours.state.slots, 1e-10)


def test_it_solves_hello() -> None:
    experiment = load("hello-rnn")
    start = initial_state(experiment.training.optimizer, reference.initialize(experiment, 0, SETTINGS))
    trajectory = reference.train(experiment, start, experiment.training.epochs, 0, SETTINGS)
    batch = experiment.evaluation_batch("float64")
    assert experiment.task.describe(trajectory.logits[-1].argmax(-1), batch) == "Predicted string: ohlol"


@pytest.mark.parametrize("function", [sigmoid, gelu, erf, np.tanh, lambda x: softmax(x) * np.arange(1.0, 6.0)])
def test_the_complex_step_agrees_with_finite_differences(function) -> None:
    x = np.array([-2.0, -0.3, 0.1, 0.7, 3.0])
    exact = complex_step({"x": x}, lambda p: function(p["x"]).sum(axis=-1))["x"]
    small = 1e-6
    differences = [
        (function(x + small * unit).sum() - function(x - small * unit).sum()) / (2 * small) for unit in np.eye(5)
    ]
    np.testing.assert_allclose(exact, differences, rtol=1e-7, atol=1e-9)


def test_closed_forms() -> None:
    assert relu(np.array([0.0 + 1j]))[0] == 0
    assert erf(np.array([1.0]))[0] == math.erf(1.0)
    np.testing.assert_allclose(sigmoid(np.array([0.0, 800.0, -800.0])), [0.5, 1, 0])
    # All logits equal: the loss is the logarithm of their number, its gradient (1/n - target).
    logits, targets = np.zeros((1, 3, 4)), np.array([0, 1, -100])
    total = CrossEntropy("sum")
    assert CrossEntropy("mean").values(logits, targets)[0] == pytest.approx(math.log(4), rel=1e-15)
    assert total.values(logits, targets)[0] == pytest.approx(2 * math.log(4), rel=1e-15)
    slope = complex_step({"x": np.zeros((3, 4))}, lambda p: total.values(p["x"], targets))["x"]
    np.testing.assert_allclose(slope, [[-0.75, 0.25, 0.25, 0.25], [0.25, -0.75, 0.25, 0.25], [0] * 4], rtol=1e-15)
    # Scores masked throughout give no weight and no NaN.
    np.testing.assert_array_equal(softmax(np.full((1, 2), np.inf), np.zeros((1, 2), bool)), [[0, 0]])
    centred = layer_norm(np.array([[[[1.0, 3.0]]]]), np.ones((1, 2)), np.zeros((1, 2)), 0.0)
    np.testing.assert_allclose(centred, [[[[-1, 1]]]])


def test_adams_first_step_is_the_sign_of_the_gradient() -> None:
    training = load("hello-rnn").training
    gradients = {"w": np.array([3.0, -1e-3, 0.0, 1e-8])}
    state = step(
        training, State({"w": np.zeros(4)}, {"w.exp_avg": np.zeros(4), "w.exp_avg_sq": np.zeros(4)}, 0), gradients
    )
    np.testing.assert_allclose(state.parameters["w"], [-0.05, 0.05 / (1 + 1e-5), 0, -0.05 / 2], rtol=1e-7)
    assert state.step == 1


def test_clipping() -> None:
    gradients = {"a": np.array([3.0]), "b": np.array([4.0])}
    factor = 2 / (5 + 1e-6)
    np.testing.assert_allclose(clipped(Clipping(2.0), gradients)["b"], 4 * factor, rtol=1e-15)
    np.testing.assert_array_equal(clipped(Clipping(6.0), gradients)["b"], [4.0])
    np.testing.assert_array_equal(clipped(None, gradients)["a"], [3.0])


def test_it_computes_in_float64_on_a_cpu_only() -> None:
    experiment = override(load("hello-rnn"), training__epochs=1)
    with pytest.raises(Unsupported, match="float64"):
        reference.initialize(experiment, 0, Settings("float32"))
    with pytest.raises(DeviceMissing, match="cuda"):
        reference.describe(Settings("float64", device="cuda"))
