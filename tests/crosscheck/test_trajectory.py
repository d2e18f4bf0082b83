"""Trajectory's derived bounds: what they let through, what they do not, and the guards on the side they come from."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosscheck.bounds import gradient_noise, tolerances, trajectories
from crosscheck.checks import trajectory
from crosscheck.comparison import Place
from crosscheck.request import Request
from spec.experiment import load, override
from spec.parameters import generator_for
from spec.reference import optimizer as equations
from spec.training import initial_state
from tests.crosscheck import fake_framework

FAKE = Path(__file__).parent / "fake_framework.py"

RunCrosscheck = Callable[..., Any]
Edit = Callable[..., str]

LOSSES = "        losses.append(loss)\n"
ARGUMENTS = ("--checks", "trajectory", "--precision", "float64")


@pytest.mark.parametrize(("size", "status"), [("1e-16", "same"), ("1e-13", "different")])
def test_what_rounding_explains_passes_and_no_more(run_crosscheck: RunCrosscheck, fake: Edit, size: str, status: str):
    second = fake((LOSSES, f"        losses.append(loss * (1 + {size} * (step == 1)))\n"))
    outcome = run_crosscheck(second, *ARGUMENTS)
    assert outcome.status("trajectory") == status
    assert [failure["tensor"] for failure in outcome.failures()][:1] == ["loss"] * (status == "different")


def test_a_first_side_whose_own_runs_part_at_once(run_crosscheck: RunCrosscheck, fake: Edit):
    """Its envelope would explain any fault of that size on the other side."""
    # Not by chance, which is seen before: the last bits of a loss decide.
    first = fake((LOSSES, "        losses.append(loss + np.sin(loss * 1e17) * 1e-9)\n"))
    outcome = run_crosscheck(first, *ARGUMENTS, first=first)
    assert "envelope/loss" in {failure["tensor"] for failure in outcome.failures()}


def test_no_bound_for_more_than_a_step_is_a_failure(run_crosscheck: RunCrosscheck, fake: Edit):
    wild = fake(("logits.append((right * 5.0", "logits.append((right * 5.0 + np.random.default_rng().normal()"))
    outcome = run_crosscheck(wild, *ARGUMENTS, first=wild)
    assert {failure["tensor"] for failure in outcome.failures()} == {"logits"}


def recordings(envelope: bool = True) -> tuple[Any, Place, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The fake against itself on a short recipe."""
    experiment = override(load("hello-rnn"), training__epochs=6)
    place = Place(experiment.name, "trajectory", "float64", "recipe", ("first", "second"))
    sides = [
        dict(trajectory.record(fake_framework, experiment, "recipe", Request("float64", "cpu", 0, measured)))  # type: ignore[arg-type]
        for measured in (envelope, False)
    ]
    return experiment, place, *sides


def test_a_first_recording_without_envelopes():
    experiment, place, first, second = recordings(envelope=False)
    (failure,) = trajectory.compare(experiment, place, first, second)
    assert not failure.passed
    assert failure.note.startswith("expected envelopes in the first recording")


@pytest.mark.parametrize(("by", "passes"), [(1e-15, True), (1e-9, False)])
def test_runs_that_bounds_come_of_are_the_recipes_own(by: float, passes: bool):
    experiment, place, first, second = recordings()
    first["starts/loss"] = first["loss"] + by * (np.arange(6) == 2)
    (found,) = [c for c in trajectory.compare(experiment, place, first, second) if c.tensor == "starts/loss"]
    assert (found.passed, found.step) == (passes, 2 if not passes else found.step)
    assert found.sides == ("first, among perturbed starts", "first, alone")


def test_without_its_own_run_among_them_nothing_says_so():
    experiment, place, first, second = recordings()
    del first["starts/loss"]
    (found,) = [c for c in trajectory.compare(experiment, place, first, second) if c.tensor == "starts/loss"]
    assert not found.passed


def test_the_loss_says_how_many_envelopes_it_is_away():
    experiment, place, first, second = recordings()
    first["envelope/loss"][:] = 1e-14
    second["loss"] = second["loss"] + 5e-15
    loss = trajectory.compare(experiment, place, first, second)[0]
    assert loss.tensor == "loss"
    assert loss.envelopes == pytest.approx(0.5, rel=0.5)


def test_beyond_the_horizon_nothing_is_compared_but_must_be_finite():
    experiment, place, first, second = recordings()
    first["envelope/logits"][5:] = 10.0
    second["logits"][5] += 1.0
    found = {c.tensor: c for c in trajectory.compare(experiment, place, first, second)}
    assert found["logits"].passed
    assert found["logits"].note == "compared over the first 5 of 6 steps"
    second["logits"][5, 0, 0, 0] = np.inf
    found = {c.tensor: c for c in trajectory.compare(experiment, place, first, second)}
    assert not found["logits"].passed


def test_the_cap_of_the_loss():
    size = np.ones(3)
    bounds = trajectories.loss(np.array([1e-16, 5e-10, 2e-9]), size, "float64")
    assert bounds == pytest.approx([40 * 2.0**-52, 1e-9, 2e-8])
    assert trajectories.loss(np.array([5e-10]), size[:1], "float32")[0] > 1e-9


def test_a_decay_that_is_written_otherwise_is_within_its_bound_for_ever():
    """And beyond what a handful of roundings allow, which is why it has one of its own."""
    start = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    rate, decay = 1e-3, 0.01
    sides = [[start], [start]]
    for _ in range(200):
        sides[0].append(sides[0][-1] * np.float32(1 - rate * decay))
        sides[1].append(sides[1][-1] - np.float32(rate * decay) * sides[1][-1])
    one, two = (np.stack(side[1:]).astype(np.float64) for side in sides)
    apart = np.abs(one - two).max(axis=1)
    size, nothing = trajectories.sizes(one), np.zeros(200)
    assert (apart <= trajectories.allowed(nothing, size, "float32", decays=True)).all()
    assert apart[-1] > trajectories.allowed(nothing, size, "float32")[-1]


def test_the_running_maximum_is_taken():
    bounds = trajectories.allowed(np.array([0.0, 1e-9, 0.0]), np.ones(3), "float64")
    assert bounds == pytest.approx([40 * 2.0**-52, 1e-8, 1e-8])


@pytest.mark.parametrize("name", ["hello-gru", "hello-lstm-adamw-warm-up"])
@pytest.mark.parametrize("seed", range(5))
def test_noise_in_the_gradients_moves_adam_no_further_than_derived(name: str, seed: int):
    training = load(name).training
    optimizer: Any = training.optimizer
    generator = generator_for(seed, "gradients")
    # From elements far above the noise to elements far below it.
    gradients = generator.normal(size=(50, 12)) * 10.0 ** np.arange(-11.0, 1.0)
    noise = np.full(50, 1e-7)
    first, second = (
        follow(training, gradients + side * noise[:, None] * generator.uniform(-0.5, 0.5, gradients.shape))
        for side in (1, -1)
    )
    derived = trajectories.adam(training, first[1], first[2], noise)
    assert np.all(np.abs(first[0] - second[0]) <= derived * (1 + 1e-9))
    # And it is a bound, not a licence: large gradients are not moved by noise.
    assert derived[-1, -1] < 1e-4 * optimizer.learning_rate * 50


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "recipe",
    [
        {"name": "RMSprop", "learning_rate": 0.01},
        {"name": "RMSprop", "learning_rate": 0.01, "alpha": 0.9, "momentum": 0.8, "epsilon": 1e-4},
        {"name": "Adam", "learning_rate": 0.01, "beta2": 0.9, "amsgrad": True},
    ],
    ids=lambda recipe: f"{len(recipe)} {recipe['name']}",
)
def test_noise_in_the_gradients_moves_other_optimizers_no_further_than_derived(recipe: dict[str, Any], seed: int):
    group = {"pattern": "*bias", "learning_rate": 0.03}
    experiment = override(load("hello-gru"), training__optimizer=recipe, training__groups=[group])
    training, name = experiment.training, "head.bias"
    generator = generator_for(seed, "gradients")
    # Gradients that fall in time, so that the largest squares are not the present ones.
    fall = np.exp(-np.arange(40.0) / 10)[:, None]
    gradients = fall * generator.normal(size=(40, 12)) * 10.0 ** np.arange(-11.0, 1.0)
    noise = np.full(40, 1e-7)
    runs = []
    for side in (1, -1):
        state, trace = initial_state(training.optimizer, {name: np.zeros(12)}), []
        for moved in gradients + side * noise[:, None] * generator.uniform(-0.5, 0.5, gradients.shape):
            state = equations.step(training, state, {name: moved})
            trace.append(state)
        slots = {f"slots/{slot}": np.array([at.slots[slot] for at in trace]) for slot in trace[0].slots}
        runs.append({f"parameters/{name}": np.array([at.parameters[name] for at in trace]), **slots})
    first, second = runs
    bound = gradient_noise.Noise(training, noise)
    for tensor in first:
        slot = tensor.rpartition(".")[2] if tensor.startswith("slots/") else ""
        derived = bound.slot(slot, first, second, name) if slot else bound.parameter(first, second, name)
        assert np.all(np.abs(first[tensor] - second[tensor]) <= derived * (1 + 1e-9)), tensor
        assert derived[-1, -1] < 1e-2 * np.abs(first[tensor]).max(), tensor
    kept = first[f"slots/{name}.{training.optimizer.slots[0]}"]
    read = trajectories.gradients(training, kept, np.ones(40))
    assert read[:, -1] == pytest.approx(np.maximum.accumulate(np.abs(gradients[:, -1])), rel=1e-4)


def follow(training: Any, gradients: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, exp_avg and exp_avg_sq after each step, as spec.training writes Adam."""
    optimizer = training.optimizer
    value, m, v = (np.zeros(gradients.shape[1]) for _ in range(3))
    found = []
    for step, gradient in enumerate(gradients):
        rate, correction1, correction2 = training.constants(step)
        m = optimizer.beta1 * m + (1 - optimizer.beta1) * gradient
        v = optimizer.beta2 * v + (1 - optimizer.beta2) * gradient**2
        value = value * (1 - rate * getattr(optimizer, "weight_decay", 0.0))
        value = value - rate * (m / correction1) / (np.sqrt(v / correction2) + optimizer.epsilon)
        found.append((value, m, v))
    values, averages, squares = (np.array(column) for column in zip(*found, strict=True))
    return values, averages, squares


def test_moments_and_gradients_are_read_off_the_averages():
    training = load("hello-gru").training
    generator = generator_for(0, "gradients")
    gradients, noise = generator.normal(size=(9, 4)), np.full(9, 1e-7)
    _, averages, squares = follow(training, gradients)
    errors = trajectories.errors(np.array([1.0, 0.1, 0.01, 1e-5, 0.0, 1.0, 1.0, 1.0, 1.0]), 1e-16)
    assert errors[[0, 2, 4]] == pytest.approx([1 - np.exp(-1), 1 - np.exp(-0.01), 1e-16])
    expected = np.maximum.accumulate(np.abs(gradients) / errors[:, None])
    assert trajectories.gradients(training, averages, errors) == pytest.approx(expected)
    # All one way is the worst case for the average, and the direction of the gradient for its square.
    _, moved, also = follow(training, gradients + noise[:, None] * np.sign(gradients))
    dm, dv = trajectories.moments(training, squares, noise)
    assert np.all(np.abs(moved - averages) <= dm * (1 + 1e-9))
    assert np.all(np.abs(also - squares) <= dv * (1 + 1e-9))
    assert dv[-1] == pytest.approx(np.abs(also - squares)[-1], rel=2)


@pytest.mark.needs("torch", "flax")
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_model_that_has_learned_everything(precision: Any):
    """Its gradients are the rounding of probabilities near 1, of which Adam makes steps, in each framework its own."""
    torch_impl, flax_impl = map(importlib.import_module, ("torch_impl", "flax_impl"))
    experiment = override(load("hello-stacked-bidirectional-relu"), training__optimizer__learning_rate=0.05)
    place = Place(experiment.name, "trajectory", precision, trajectory.RECIPE, ("first", "second"))
    first = trajectory.record(torch_impl, experiment, trajectory.RECIPE, Request(precision, "cpu", 2, envelope=True))
    second = trajectory.record(flax_impl, experiment, trajectory.RECIPE, Request(precision, "cpu", 2))
    assert not [c for c in trajectory.compare(experiment, place, first, second) if not c.passed]
    # The parameters are compared all the same, and the logits as far as those explain them.
    digits = 1 + (1e-9 if precision == "float64" else 1e-3)
    for name in ("parameters/head.weight", "logits"):
        wrong = {**second, name: second[name] * np.asarray(digits, precision)}
        failures = [c.tensor for c in trajectory.compare(experiment, place, first, wrong) if not c.passed]
        assert name in failures


def test_an_element_with_hardly_any_gradient_and_one_with_none():
    """A fault in an element that no gradient ever reached is seen however small it is."""
    experiment, place, first, second = recordings()
    name = "parameters/head.bias"
    for side in (first, second):
        for slot in ("exp_avg", "exp_avg_sq"):
            side[f"slots/head.bias.{slot}"][:, 0] = 0.0
            side[f"slots/head.bias.{slot}"][:, 1] = 1e-30
    first["envelope/" + name][:] = 0.0
    second[name] = second[name].copy()
    second[name][0, 1] += 1e-9
    found = {c.tensor: c for c in trajectory.compare(experiment, place, first, second)}
    assert found[name].passed
    second[name][0, 0] += 1e-12
    found = {c.tensor: c for c in trajectory.compare(experiment, place, first, second)}
    assert (found[name].passed, found[name].step, found[name].index) == (False, 0, (0,))


@pytest.mark.parametrize(
    ("edit", "status"), [((), "same"), ((("State(parameters, slots", "State(state.parameters, slots"),), "different")]
)
def test_step_by_step(run_crosscheck: RunCrosscheck, fake: Edit, edit: tuple[tuple[str, str], ...], status: str):
    """A side that loses its state between two stretches fails against its own whole recipe and the other side."""
    outcome = run_crosscheck(fake(*edit), *ARGUMENTS, "--thorough", "--case", trajectory.STEP_BY_STEP)
    assert outcome.status("trajectory") == status
    sides = {tuple(failure["sides"]) for failure in outcome.failures() if failure["tensor"] == "loss"}
    assert len(sides) == 2 * (status == "different")


def test_the_floor_is_below_the_factor():
    assert 1 < tolerances.STEP_ROUNDINGS < tolerances.OPENING_ROUNDINGS / 10


@pytest.mark.parametrize("epochs", [5, 6])
def test_who_compiles_resumes_for_the_epochs_it_has_compiled(epochs: int, monkeypatch: pytest.MonkeyPatch):
    """Others train to the end of the recipe, and both record the same."""
    experiment = override(load("hello-rnn"), training__epochs=epochs)
    asked: list[int] = []
    train = fake_framework.train

    def counted(experiment: Any, state: Any, epochs: int, *arguments: Any, **options: Any) -> Any:
        asked.append(epochs)
        return train(experiment, state, epochs, *arguments, **options)

    monkeypatch.setattr(fake_framework, "train", counted)
    found = []
    for compiles in (False, True):
        monkeypatch.setattr(fake_framework, "compiles", compiles)
        found.append(trajectory.record(fake_framework, experiment, "recipe", Request("float64", "cpu", 0)))  # type: ignore[arg-type]
    assert asked == [epochs, epochs - epochs // 2, epochs, epochs]
    names = [name for name in found[0] if name.startswith(trajectory.RESUMED)]
    assert names
    for name in names:
        np.testing.assert_array_equal(found[0][name], found[1][name])
