"""Batches of several widths: what is compiled for them, and that both implementations train on the same."""

import numpy as np
import pytest

import flax_impl
import torch_impl
from spec.experiment import Experiment, load, override
from spec.framework import Settings
from spec.tasks import Table
from spec.training import initial_state

EVALUATIONS = 1
"""Functions that are compiled beside one for each bucket."""


def table(buckets: int) -> Experiment:
    given = {"name": "Table", "batch_size": 5, "buckets": buckets, "validation": 0.25}
    learned = {"classes": 3, "inputs": {"name": "Features", "size": 2}, "num_layers": 2, "dropout": 0.25}
    model = {"name": "GRU", "hidden_size": 4, **learned}
    return override(
        load("hello-gru"), model=model, task=given, training__steps_per_epoch=7, outcome={"name": "NotStated"}
    )


@pytest.mark.by_default("3")
@pytest.mark.parametrize("buckets", [2, 3, 4])
def test_a_compilation_for_each_bucket_and_one_more_however_long_it_trains(buckets: int) -> None:
    experiment = table(buckets)
    task = experiment.task
    assert isinstance(task, Table)
    assert len(task.widths) == buckets
    side = flax_impl.open(experiment, Settings())
    # Three passes have batches of each bucket.
    assert 3 * task.steps_per_pass <= 7 * 6
    start = initial_state(experiment.training.optimizer, side.initialize(0))
    before = side.counts["compilations"]
    trained = side.train(start, 6, 1)
    assert side.counts["compilations"] - before == buckets + EVALUATIONS
    # Neither another number of epochs nor another seed has a shape of its own.
    side.train(trained.state, 4, 1)
    side.train(start, 1, 2)
    assert side.counts["compilations"] - before == buckets + EVALUATIONS


def test_stretches_are_the_whole_and_sides_agree() -> None:
    experiment = table(3)
    settings = Settings(precision="float64")
    runs = []
    start = torch_impl.open(experiment, settings).initialize(3)
    for implementation in (torch_impl, flax_impl):
        side = implementation.open(experiment, settings)
        state = initial_state(experiment.training.optimizer, start)
        whole = side.train(state, 3, 5, record=True, masks="spec")
        first = side.train(state, 1, 5, masks="spec")
        rest = side.train(first.state, 2, 5, masks="spec")
        assert np.concatenate([first.losses, rest.losses]).tobytes() == whole.losses.tobytes()
        assert all(rest.state.parameters[n].tobytes() == p.tobytes() for n, p in whole.state.parameters.items())
        assert {name: array[-1].tobytes() for name, array in whole.parameters.items()} == {
            name: array.tobytes() for name, array in whole.state.parameters.items()
        }
        runs.append(whole)
    assert np.allclose(runs[0].losses, runs[1].losses, rtol=1e-10, atol=0)
    assert np.allclose(runs[0].logits, runs[1].logits, rtol=1e-8, atol=1e-10)


def test_members_with_batches_of_their_own_order_are_trained_one_by_one() -> None:
    experiment = override(table(2), training__epochs=1, training__steps_per_epoch=2)
    for implementation in (torch_impl, flax_impl):
        found = implementation.open(experiment, Settings()).train_ensemble([1, 2])  # type: ignore[misc]
        assert found.method == "loop"
        assert len({losses.tobytes() for losses in found.losses}) == 2
