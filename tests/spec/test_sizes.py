"""Sizes at which implementations take other code: declared, and asked for on both sides."""

from types import SimpleNamespace
from typing import Any

import pytest

from spec import sizes
from spec.errors import UsageError
from spec.experiment import load, override
from spec.models import MODELS
from spec.models.base import ATTENTION, RECURRENCE, SIZES
from spec.points import LARGE, LARGE_TRAINING, cases, points
from spec.tasks import valid_steps


@pytest.mark.parametrize(
    "declared",
    [
        {},
        {ATTENTION: ()},
        {ATTENTION: (10**5, 10**6), RECURRENCE: [2 * 10**6]},
        {sizes.STEP: (1, 10**7), sizes.TRAINING: (10**9,)},
    ],
)
def test_what_may_be_declared(declared: dict[str, Any]):
    sizes.check("mine", SimpleNamespace(SIZES=declared))


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        ({"attention": (10**6,)}, "expected a mapping from some of 'recurrent multiplications', 'attention weights'"),
        ({ATTENTION: ("many",)}, "to whole numbers"),
        ({ATTENTION: (True,)}, "to whole numbers"),
        ({ATTENTION: 10**6}, "expected a mapping to sizes, got TypeError"),
        (7, "expected a mapping to sizes, got AttributeError"),
        ({ATTENTION: (10**7,)}, "attention weights: expected sizes above 50000 and up to 2000000, on both sides"),
        ({sizes.STEP: (10**8,)}, "multiplications of a training step: expected sizes above 0 and up to 10000000"),
        ({RECURRENCE: (100,)}, "recurrent multiplications: expected sizes above 50000"),
    ],
)
def test_what_may_not(declared: Any, problem: str):
    with pytest.raises(UsageError, match=r"^mine: SIZES: ") as caught:
        sizes.check("mine", SimpleNamespace(SIZES=declared))
    assert problem in str(caught.value)


def test_nothing_need_be_declared():
    sizes.check("mine", SimpleNamespace())


def test_every_kind_of_size_is_some_models():
    found = {kind for name in ("hello-gru", "hello-transformer") for kind in load(name).model.sizes(1, 1)}
    assert found == set(SIZES)
    assert len(MODELS) > 2


@pytest.mark.parametrize("name", ["ragged-lstm", "hello-gru", "hello-transformer"])
def test_a_training_is_larger_than_all_that_may_be_declared(name: str):
    large = load(name).variant(LARGE_TRAINING)
    steps = large.training.epochs * large.training.steps_per_epoch
    assert large.multiplications_per_step >= sizes.TRAINED[sizes.STEP]
    assert steps * large.multiplications_per_step >= sizes.TRAINED[sizes.TRAINING]
    assert 2 * steps * large.parameter_count >= sizes.TRAINED[sizes.RECORDED]


@pytest.mark.parametrize("case", sizes.ASKED)
@pytest.mark.parametrize("name", ["hello-gru", "hello-multi-head-attention", "hello-lstm-attention", "course-rnn-cell"])
def test_a_case_is_as_large_as_it_says_and_ragged(name: str, case: str):
    experiment = override(load(name), name="mine")
    assert case in cases(experiment, "float32", True)
    (point,) = points(experiment, case, 0, "float32")
    rows, time = point.batch.inputs.shape[:2]
    computed = experiment.model.sizes(rows, time)
    assert computed
    assert all(size >= sizes.ASKED[case] for size in computed.values())
    assert point.batch.lengths is not None
    assert {0, 1, time} <= set(point.batch.lengths)
    assert not valid_steps(point.batch.lengths, time).all()
    assert set(point.batch.initial or {}) == set(experiment.model.initial_states(rows))


def test_the_other_cases_are_smaller():
    for name in LARGE:
        experiment = load(name)
        for case in cases(experiment, "float64", False):
            for point in points(experiment, case, 0, "float64"):
                rows, time = point.batch.inputs.shape[:2]
                computed = experiment.model.sizes(rows, time)
                assert case in sizes.ASKED or all(size <= sizes.SMALL for size in computed.values())


def test_the_largest_is_asked_for_by_default_of_a_recurrence_and_an_attention():
    found = {
        kind
        for name in LARGE
        if "larger" in cases(load(name), "float64", False)
        for kind in load(name).model.sizes(1, 1)
    }
    assert found == set(SIZES)


@pytest.mark.parametrize("longest", [1, 2, 3])
def test_no_batch_is_longer_than_the_model_takes(longest: int):
    allowed = override(
        load("hello-self-attention"), name="mine", task__source="h" * longest, task__target="o" * longest,
        model__max_length=longest,
    )  # fmt: skip
    for precision in ("float64", "float32"):
        for case in cases(allowed, precision, True):
            assert all(point.batch.inputs.shape[1] <= longest for point in points(allowed, case, 0, precision))
