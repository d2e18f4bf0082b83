"""The check that hands over the same numbers in other layouts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosscheck.checks import layouts
from crosscheck.exit_codes import DIFFERENT, SAME

RunCrosscheck = Callable[..., Any]
Edit = Callable[..., str]

ARRAYS = [
    np.arange(24.0).reshape(2, 3, 4),
    np.arange(6.0).reshape(2, 3),
    np.arange(5),
    np.array(2.0),
    np.ones((1, 1)),
]


@pytest.mark.parametrize("layout", [layouts.plain, layouts.fortran, layouts.strided, layouts.transposed])
def test_layouts_hold_the_same_numbers(layout: Callable[[np.ndarray], np.ndarray]) -> None:
    for array in ARRAYS:
        np.testing.assert_array_equal(layout(array), array)
        assert layout(array).dtype == array.dtype


def test_layouts_are_what_they_say() -> None:
    array = ARRAYS[0]
    assert layouts.fortran(array).flags.f_contiguous
    assert not layouts.strided(array).flags.forc
    assert not layouts.transposed(array).flags.forc
    # In memory the axes of a batch lie the other way round, those of gradients and slots do not.
    assert np.array_equal(np.array(layouts.strided(array), order="K").ravel("K"), array.ravel())
    assert not np.array_equal(layouts.transposed(array).ravel("K"), array.ravel())


def test_neighbours_lie_in_different_layouts() -> None:
    """So gradients lie otherwise than their parameters in one step or the next, and are handed over in both orders."""
    array = ARRAYS[1]
    steps = layouts.lay([{"a": array, "b": array}] * 2, (layouts.strided, layouts.transposed))
    flat = [[np.array_equal(laid.ravel("K"), array.ravel()) for laid in step.values()] for step in steps]
    assert flat == [[True, False], [False, True]]


@pytest.mark.parametrize("layout", [layouts.strided, layouts.transposed])
def test_an_array_of_one_axis_is_a_slice_too(layout: Callable[[np.ndarray], np.ndarray]) -> None:
    assert not layout(ARRAYS[2]).flags.c_contiguous


FAKE = str(Path(__file__).parent / "fake_framework.py")

FLAT = (
    "def describe(",
    "def _flat(array):\n    return array.ravel(order='K').reshape(array.shape)\n\n\ndef describe(",
)
"""Reads an array in the order in which it lies in memory."""

STARTS = (
    "def replay(",
    "def train_starts(experiment, starts, seed, settings):\n"
    "    starts = [{n: _flat(a) for n, a in start.items()} for start in starts]\n"
    "    states = [initial_state(experiment.training.optimizer, start) for start in starts]\n"
    "    return [train(experiment, s, experiment.training.epochs, seed, settings, True) for s in states]\n\n\n"
    "def replay(",
)
PREDICT = (
    "def replay(",
    "def predict(experiment, parameters, batch, settings):\n"
    "    inputs = np.nan_to_num(_flat(batch.inputs))\n"
    "    weights = np.arange(inputs.size).reshape(inputs.shape)\n"
    "    return np.full((*batch.targets.shape, experiment.model.classes), (inputs * weights).sum())\n\n\n"
    "def replay(",
)
SUM = "(_flat({0}) * np.arange({0}.size).reshape({0}.shape)).sum()"
INITIAL = (
    "    for state in batch.initial or {}:\n",
    "    weight = sum(" + SUM.format("s") + " for s in (batch.initial or {}).values())\n"
    "    outputs['logits'] = outputs['logits'] + weight\n    for state in batch.initial or {}:\n",
)
MASKS = (
    "    for state in batch.initial or {}:\n",
    "    given = dropout if isinstance(dropout, dict) else {}\n"
    "    outputs['logits'] = outputs['logits'] + sum(" + SUM.format("m") + " for m in given.values())\n"
    "    for state in batch.initial or {}:\n",
)
GRADIENTS = (
    "    for step, given in enumerate(gradients):\n",
    "    for step, given in enumerate(gradients):\n        given = {n: _flat(a) for n, a in given.items()}\n",
)
SLOTS = ("    slots = dict(state.slots)\n", "    slots = {n: _flat(a) for n, a in state.slots.items()}\n")
LENGTHS = (
    "        valid = np.arange(inputs.shape[1]) < batch.lengths[:, None]\n",
    "        whole = batch.lengths if batch.lengths.base is None else batch.lengths.base\n"
    "        valid = np.arange(inputs.shape[1]) < whole[: len(batch.lengths), None]\n",
)


@pytest.mark.parametrize(
    ("edit", "experiment", "tensor"),
    [
        (GRADIENTS, "hello-gru", "replay/"),
        (SLOTS, "hello-gru", "train/"),
        (STARTS, "hello-gru", "train_starts/"),
        (PREDICT, "hello-gru", "predict/logits"),
        (INITIAL, "hello-gru", "forward/logits"),
        (MASKS, "hello-stacked-lstm-dropout", "masked/logits"),
        (LENGTHS, "hello-gru", "forward/logits"),
    ],
    ids=["gradients", "slots", "starts", "prediction", "initial states", "masks", "lengths"],
)
def test_an_argument_that_is_read_flat_is_red(
    run_crosscheck: RunCrosscheck, fake: Edit, edit: tuple[str, str], experiment: str, tensor: str
):
    side = fake(FLAT, edit)
    outcome = run_crosscheck(FAKE, "--checks", "layouts", first=side, experiments=(experiment,))
    assert outcome.exit_code == DIFFERENT
    assert outcome.failures()[0]["tensor"].startswith(tensor)
    assert all(failure["sides"][0].startswith(side) for failure in outcome.failures())
    assert run_crosscheck(FAKE, "--checks", "layouts", experiments=(experiment,)).exit_code == SAME


def test_a_side_that_tells_its_overhead_is_handed_the_same_inputs(run_crosscheck: RunCrosscheck, fake: Edit) -> None:
    """spec.reference tells none, and what an implementation tells is no input."""
    tells = "compiles = True\nspent: dict[str, float] = {'compiling': 0.0}"
    assert run_crosscheck(fake(("spent: dict[str, float] = {}", tells)), "--checks", "layouts").exit_code == SAME
