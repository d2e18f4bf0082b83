"""Parameters that nothing reaches, and parameters that are one and the same: found, and by their right names."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

import spec.reference
from crosscheck.checks import gradients, structure
from crosscheck.comparison import Place
from crosscheck.probes.dead_parameters import dead
from crosscheck.request import Request
from spec.experiment import load, override
from spec.framework import Settings

RunCrosscheck = Callable[..., Any]
Edit = Callable[..., str]


def test_a_tensor_without_a_gradient_is_dead_on_both_sides(run_crosscheck: RunCrosscheck, fake: Edit):
    """Both sides agree on zeros, which is what comparing them with each other cannot see."""
    side = fake(
        (
            "        found[parameter.name] = gradient\n",
            "        found[parameter.name] = gradient * (parameter.name != 'head.bias')\n",
        )
    )
    outcome = run_crosscheck(side, "--checks", "gradients", first=side)
    assert outcome.exit_code == 1
    assert outcome.status("gradients") == "different"
    assert {f["tensor"] for f in outcome.failures()} == {"head.bias, dead"}
    assert "dead" in outcome.failures()[0]["note"]


@pytest.mark.parametrize(
    "name", ["hello-embedding-padding", "hello-self-attention", "hello-transformer", "hello-stacked-rnn"]
)
def test_zeros_that_the_spec_allows_are_not_dead(name: str):
    experiment, request = load(name), Request("float64", "cpu", 0)
    batch, start = experiment.batch(request.seed, 0, request.precision), request.start(experiment)
    exact = spec.reference.gradients(experiment, start, batch, Settings(precision="float64")).parameters
    place, table = Place(name, "gradients", "float64", "own", ("one", "two")), experiment.model.parameters()
    assert dead(place, table, exact, exact) == []
    one_left = {n: np.zeros_like(g) for n, g in exact.items()}
    one_left["head.weight"].flat[0] = 1e-300
    found = [comparison.tensor for comparison in dead(place, table, exact, one_left)]
    expected = [p.name for p in table if p.zero_gradient != (0, p.shape[0])]
    assert found == [f"{n}, dead" for n in expected if n != "head.weight"]
    assert all(c.sides == ("two", "spec") and not c.passed for c in dead(place, table, exact, one_left))


def test_zeros_that_the_equations_have_too_are_not_dead():
    experiment = load("hello-stacked-rnn")
    place, table = Place("one", "gradients", "float64", "own", ("one", "two")), experiment.model.parameters()
    zeros = {parameter.name: np.zeros(parameter.shape) for parameter in table}
    head = {**zeros, "head.weight": np.ones_like(zeros["head.weight"])}
    # Of the reference's there is some rounding where the exact gradient is zero.
    exact = {**head, "rnn.weight_ih_l0": np.full_like(zeros["rnn.weight_ih_l0"], 1e-17)}
    assert dead(place, table, head, head, lambda: exact) == []
    assert [c.tensor for c in dead(place, table, zeros, head, lambda: exact)] == ["head.weight, dead"]
    # Nobody is asked where nothing is suspected.
    ones = {parameter.name: np.ones(parameter.shape) for parameter in table}
    assert dead(place, table, ones, ones, lambda: pytest.fail("was asked")) == []


def test_a_single_class_has_no_gradient():
    experiment = override(
        load("hello-rnn"),
        model__classes=1,
        model__inputs__size=1,
        task__characters="e",
        task__source="eee",
        task__target="eee",
    )
    place = Place("one", "gradients", "float64", "own", ("one", "two"))
    arrays = gradients.record(cast(Any, spec.reference), experiment, "own", Request("float64", "cpu", 0, True))
    assert not np.any(arrays["head.weight"])
    found = gradients.compare(experiment, place, arrays, arrays)
    assert found
    assert [comparison.tensor for comparison in found if comparison.failed] == []


def test_tied_parameters_are_named(run_crosscheck: RunCrosscheck, fake: Edit):
    line = "    return {name: array.astype(settings.precision) for name, array in parameters.items()}"
    tied = "    parameters = {**parameters, 'value.bias': parameters['query.bias']}\n"
    side = fake((line, tied + line))
    outcome = run_crosscheck(side, "--checks", "structure", first=side)
    assert outcome.exit_code == 1
    assert outcome.status("structure") == "different"
    assert {f["tensor"] for f in outcome.failures()} == {"value.bias, tied"}
    assert "tied to query.bias" in outcome.failures()[0]["note"]


@pytest.mark.parametrize("name", ["hello-gru", "hello-transformer", "hello-embedding-padding"])
def test_a_start_has_no_two_tensors_alike(name: str):
    """Else tied parameters could not be told from equal ones."""
    start = Request("float32", "cpu", 0).start(load(name))
    values = np.concatenate([array.ravel() for array in start.values()])
    assert len(np.unique(values[values != 0])) > 0.99 * np.count_nonzero(values)
    assert len({array.tobytes() for array in start.values()}) == len(start)
    place = Place(name, structure.NAME, "float32", "returned", ("one", "two"))
    assert all(comparison.passed for comparison in structure.compare(load(name), place, start, start))
