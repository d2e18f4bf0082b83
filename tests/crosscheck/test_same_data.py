"""What each step was trained on, as either side was handed it, against the spec's batches."""

import importlib
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from sides import INSTALLED

from crosscheck.checks import trajectory
from crosscheck.comparison import Comparison, Place
from crosscheck.faults import given
from crosscheck.request import Request
from spec.experiment import Experiment, load, override
from spec.framework import Settings
from spec.tasks import Batch, fingerprint
from spec.training import initial_state

SUBJECTS: dict[str, Experiment] = {
    **{name: load(name) for name in ("hello-rnn", "ragged-lstm", "ragged-lstm-episodes", "reverse")},
    # Derivatives of the equations take a pass for each parameter.
    "text-lstm": override(load("text-lstm"), model__hidden_size=1, model__inputs__embedding_dim=1),
    "bucketed": given.load("bucketed"),
    "accumulated": override(load("ragged-lstm"), training__accumulate=2),
}


def told(name: str, subject: Experiment, precision: str) -> np.ndarray | None:
    side = importlib.import_module(name).open(subject, Settings(precision))  # type: ignore[arg-type]
    start = initial_state(subject.training.optimizer, subject.start(1, precision))  # type: ignore[arg-type]
    return side.train(start, subject.training.epochs, 5, record=True, masks="spec").batches


@pytest.mark.by_default("ragged-lstm", "hello-rnn")
@pytest.mark.parametrize("name", SUBJECTS)
def test_both_sides_are_handed_the_specs_batches(name: str) -> None:
    subject = msgspec.structs.replace(SUBJECTS[name], training=shortened(SUBJECTS[name]))
    place = Place(name, "trajectory", "float32", "recipe", ("first", "second"), 5)
    expected = trajectory.fingerprints(subject, place)
    assert len(set(expected.tolist())) == (len(expected) if subject.task.drawn else 1)
    for side in INSTALLED:
        found = told(side, subject, "float32")
        assert found is not None
        np.testing.assert_array_equal(found, expected, strict=True)
    double = trajectory.fingerprints(subject, place._replace(precision="float64"))
    assert np.array_equal(double, told("spec.reference", subject, "float64"))  # type: ignore[arg-type]
    # Indices have no precision.
    assert np.array_equal(double, expected) == (subject.task.indices and not subject.task.initial_deviation)


def shortened(subject: Experiment) -> Any:
    few = min(subject.training.steps_per_epoch, 6)
    return msgspec.structs.replace(subject.training, epochs=2, steps_per_epoch=few)


def test_who_does_not_record_says_nothing() -> None:
    subject = load("hello-rnn")
    for name in (*INSTALLED, "spec.reference"):
        side = importlib.import_module(name).open(subject, Settings("float64"))
        start = initial_state(subject.training.optimizer, subject.start(1, "float64"))
        assert side.train(start, 1, 5).batches is None


BATCH = Batch(
    np.arange(12, dtype=np.float32).reshape(2, 3, 2),
    np.arange(6).reshape(2, 3),
    np.array([3, 2]),
    initial={"rnn.h_0": np.ones((1, 2, 4), np.float32)},
    resets=np.zeros((2, 3), bool),
)


@pytest.mark.parametrize(
    "other",
    [
        BATCH._replace(inputs=BATCH.inputs[::-1]),
        BATCH._replace(inputs=BATCH.inputs.astype(np.float16)),
        BATCH._replace(inputs=BATCH.inputs.reshape(2, 2, 3)),
        BATCH._replace(inputs=BATCH.inputs + np.float32(1e-6)),
        BATCH._replace(targets=BATCH.targets.T),
        BATCH._replace(lengths=None),
        BATCH._replace(lengths=BATCH.targets, targets=BATCH.lengths),
        BATCH._replace(decoder_inputs=BATCH.targets),
        BATCH._replace(initial=None),
        BATCH._replace(initial={"rnn.c_0": np.ones((1, 2, 4), np.float32)}),
        BATCH._replace(resets=None),
        BATCH._replace(resets=~BATCH.resets),  # type: ignore[operator]
    ],
)
def test_it_changes_with_whatever_is_handed_over(other: Batch) -> None:
    assert fingerprint(other) != fingerprint(BATCH)
    assert fingerprint(BATCH, np.array([True, False])) != fingerprint(BATCH)


def test_it_does_not_change_with_how_numbers_are_kept() -> None:
    kept = BATCH._replace(
        inputs=np.asfortranarray(BATCH.inputs.astype(">f4")),
        targets=BATCH.targets.astype(np.int32),
        lengths=np.array([3, 0, 2])[::2],
    )
    assert fingerprint(kept) == fingerprint(BATCH)


@cache
def recordings() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    subject = load("reverse")
    asked = [("torch_impl", True), ("flax_impl", False)]
    first, second = (
        dict(
            trajectory.record(importlib.import_module(name), subject, "recipe", Request("float64", "cpu", 0, measured))
        )
        for name, measured in asked
    )
    return first, second


def compared(**changes: Any) -> list[Comparison]:
    first, second = recordings()
    place = Place("reverse", "trajectory", "float64", "recipe", ("torch_impl", "flax_impl"))
    second = {name: array for name, array in {**second, **changes}.items() if array is not None}
    return trajectory.compare(load("reverse"), place, first, second)


def handed(comparisons: list[Comparison]) -> list[Comparison]:
    return [one for one in comparisons if one.tensor == "batches"]


@pytest.mark.needs("torch", "flax")
def test_the_same_stream_has_the_same_hash_on_both_sides() -> None:
    one, other = handed(compared())
    assert (one.passed, other.passed, one.alone, other.alone) == (True, True, "torch_impl", "flax_impl")
    assert one.values == other.values
    assert one.values is not None
    assert len(str(one.values[0])) == 16
    assert one.elements == 6


@pytest.mark.needs("torch", "flax")
def test_another_stream_is_red_at_the_step_where_it_begins_to_be_another() -> None:
    batches = recordings()[1]["batches"].copy()
    batches[3] += 1
    comparisons = compared(batches=batches)
    first = comparisons[0]
    assert (first.tensor, first.failed, first.step, first.alone) == ("batches", True, 3, "flax_impl")
    assert first.note == "not the same data: 1 of 6 steps have other batches"
    assert first.values is not None
    assert first.values[0] != first.values[1]
    assert [one.passed for one in handed(comparisons)] == [False, True]


@pytest.mark.needs("torch", "flax")
def test_what_parts_with_it_says_why() -> None:
    batches, loss = recordings()[1]["batches"].copy(), recordings()[1]["loss"].copy()
    batches[3:] += 1
    loss[3] += 0.1
    comparisons = compared(batches=batches, loss=loss)
    first = comparisons[0]
    assert (first.tensor, first.step) == ("loss", 3)
    assert next((one.failed, one.step) for one in handed(comparisons)) == (True, 3)
    assert "not the same data: 3 of 6 steps have other batches" in first.note


@pytest.mark.needs("torch", "flax")
def test_a_step_too_few_is_seen_and_silence_is_not_asked() -> None:
    _, short = handed(compared(batches=recordings()[1]["batches"][:-1]))
    assert (short.failed, short.note) == (True, "expected int64 (6,), got int64 (5,)")
    assert [one.alone for one in handed(compared(batches=None))] == ["torch_impl"]
