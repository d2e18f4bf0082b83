"""Resets within a sequence: what lies between two of them is computed as if it were a sequence of its own.

The oracle is each side itself, given every stretch alone. Tolerance: the same products and sums, in another order at
most, of a few steps; float64.
"""

import itertools
import subprocess
import sys
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import flax_impl
import flax_impl.lstm
import flax_impl.transformer
import torch_impl
import torch_impl.lstm
import torch_impl.transformer
from spec import reference
from spec.errors import InvalidBatch, SpecError
from spec.experiment import Experiment, load, override
from spec.framework import Settings
from spec.points import INITIAL, points
from spec.tasks import IGNORED, Batch, check, random_batch
from spec.training import initial_state

EPISODES = load("ragged-lstm-episodes")
DOUBLE = Settings("float64")
SIDES = pytest.mark.parametrize("side", [torch_impl, flax_impl, reference], ids=["torch", "flax", "reference"])
ROUNDING = 1e-12

MODELS: dict[str, dict[str, Any]] = {
    "RNNCell": {"model": {"name": "RNNCell", "classes": 3, "hidden_size": 4}},
    "RNN": {"model__name": "RNN", "model__bidirectional": False, "model__num_layers": 2},
    "GRU": {"model__name": "GRU", "model__num_layers": 2},
    "LSTM": {"model__num_layers": 2},
    "last step": {"model__readout": "last step", "task__readout": "last step"},
}
"""Of either number of directions, but for the first."""


def experiment_of(model: str) -> Experiment:
    changes = MODELS[model]
    if "model" in changes:
        changes = {"model": {**changes["model"], "inputs": {"name": "Features", "size": 3}}}
    return override(EPISODES, **changes)


COUNTING = """
import numpy as np
import torch
import torch_impl
import torch_impl.lstm
from spec.experiment import load, override
from spec.framework import Settings
from spec.training import initial_state

graphs = []


def counted(graph, _):
    graphs.append(len(graph.graph.nodes))
    return graph.forward


torch_impl.lstm.LSTM.compile = lambda model, **_: torch.nn.Module.compile(model, backend=counted)
experiment = override(load("ragged-lstm-episodes"), training__epochs=1, training__steps_per_epoch=12)
assert len({experiment.batch(0, step, "float64").resets.tobytes() for step in range(12)}) == 12
start = initial_state(experiment.training.optimizer, torch_impl.initialize(experiment, 0, Settings("float64")))
plain = torch_impl.train(experiment, start, 1, 0, Settings("float64")).losses
found = {}
for steps in (3, 12):
    each = override(experiment, training__steps_per_epoch=steps)
    torch._dynamo.reset()
    graphs.clear()
    losses = torch_impl.train(each, start, 1, 0, Settings("float64", compiled=True)).losses
    np.testing.assert_allclose(losses, plain[:steps], rtol=1e-12)
    found[steps] = len(graphs)
assert found[3] == found[12] > 0, found
print(found)
"""
"""A script, since what checks shapes in tests would be compiled too."""


@pytest.mark.long
def test_torch_compiles_once_whatever_resets_there_are() -> None:
    """Stretches are packed by their number and lengths, and each batch had functions of its own compiled for it."""
    done = subprocess.run([sys.executable, "-c", COUNTING], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def cut(batch: Batch, row: int, both: bool) -> list[Batch]:
    """A row's stretches, each as a batch of its own; the row's own state only where it begins, or ends.

    both: whether every second layer of a state is a backward direction's.
    """
    length = batch.inputs.shape[1] if batch.lengths is None else int(batch.lengths[row])
    assert batch.resets is not None
    edges = [0, *(t for t in range(1, length) if batch.resets[row, t]), length]
    found = []
    for number, (first, end) in enumerate(itertools.pairwise(edges)):
        states = {}
        for name, state in (batch.initial or {}).items():
            own = np.zeros_like(state[..., row : row + 1, :])
            layers = state.shape[0] if state.ndim == 3 else 1
            for index in range(layers):
                backward = both and index % 2 == 1
                kept = end == length if backward else number == 0 and not batch.resets[row, 0]
                if kept and state.ndim == 3:
                    own[index] = state[index, row : row + 1]
                elif kept:
                    own[:] = state[row : row + 1]
            states[name] = own
        found.append(Batch(batch.inputs[row : row + 1, first:end], np.zeros((1, end - first), int), initial=states))
    return found


@pytest.mark.by_default("*-torch", "GRU-True-flax")
@SIDES
@pytest.mark.parametrize(
    ("model", "ragged"), [("RNNCell", True), ("RNN", True), ("GRU", True), ("LSTM", True), ("LSTM", False)]
)
def test_stretches_are_sequences_of_their_own(side: ModuleType, model: str, ragged: bool) -> None:
    experiment = experiment_of(model)
    both = bool(getattr(experiment.model, "bidirectional", False))
    lengths = [7, 5, 0, 1, 7, 6] if ragged else [7] * 6
    batch = random_batch(experiment.model, lengths, 3, "float64", initial=True, resets=True)
    assert batch.resets is not None
    batch.resets[1, 0] = True  # In place of the state that the batch brings.
    batch.resets[0, 6] = True  # A stretch of one step at the end.
    opened = side.open(experiment, DOUBLE)
    start = experiment.start(0, "float64")
    whole = opened.forward(start, batch)
    stages = [name for name in experiment.stages() if name != "logits" and not name.endswith("_n")]
    for row, length in enumerate(lengths):
        parts = [opened.forward(start, part) for part in cut(batch, row, both)] if length else []
        for name in (*stages, "logits"):
            assert np.all(whole[name][row, length:] == 0)
            if parts:
                joined = np.concatenate([part[name][0] for part in parts])
                assert np.allclose(whole[name][row, :length], joined, rtol=0, atol=ROUNDING), (name, row)
        for name in experiment.model.returned_states():
            state = whole[name]
            for index in range(state.shape[0]) if state.ndim == 3 else [()]:
                backward = both and index % 2 == 1
                if parts:
                    expected = parts[0 if backward else -1][name][index][..., 0, :]
                else:
                    assert batch.initial is not None
                    expected = batch.initial[name.replace("_n", "_0")][index][..., row, :]
                assert np.allclose(state[index][..., row, :], expected, rtol=0, atol=ROUNDING), (name, row)


@SIDES
def test_a_part_of_a_batch_may_be_empty(side: ModuleType) -> None:
    """Of one sequence without a step, in which there is no stretch between resets."""
    whole = override(EPISODES, task__shortest=0, training__steps_per_epoch=4, training__epochs=1)
    lengths = [whole.batch(3, step, "float64").lengths for step in range(4)]
    assert any((each == 0).any() for each in lengths if each is not None)
    parts = override(whole, training__accumulate=whole.task.batch_size)
    trained = []
    for experiment in (whole, parts):
        state = initial_state(experiment.training.optimizer, experiment.start(0, "float64"))
        trained.append(side.open(experiment, DOUBLE).train(state, 1, 3).state.parameters)
    for name, array in trained[0].items():
        assert np.allclose(array, trained[1][name], rtol=0, atol=ROUNDING), name


@pytest.mark.by_default("flax_impl-fused-LSTM", "flax_impl-scan-GRU", "torch_impl-*")
@pytest.mark.parametrize(
    ("side", "formulation", "model"),
    [
        *((torch_impl, "", model) for model in MODELS),
        *((flax_impl, name, "LSTM") for name in ("scan", "fused", "recomputed", "unrolled")),
        *((flax_impl, name, "GRU") for name in ("scan", "fused")),
        *((flax_impl, "scan", model) for model in ("RNNCell", "last step")),
    ],
)
def test_gradients_are_the_equations(side: ModuleType, formulation: str, model: str) -> None:
    experiment = experiment_of(model)
    choices = (("recurrence", formulation),) if formulation not in ("", "unrolled") else ()
    settings = Settings("float64", compiled=formulation == "unrolled", choices=choices)
    named = {point.name: point for point in points(experiment, "ragged", 0, "float64")}
    for point in (named[""], named[INITIAL]):
        expected = reference.open(experiment, DOUBLE).gradients(point.parameters, point.batch)
        found = side.open(experiment, settings).gradients(point.parameters, point.batch)
        assert found.loss == pytest.approx(expected.loss, rel=1e-11)
        for name, gradient in {**expected.parameters, "inputs": expected.inputs}.items():
            got = found.inputs if name == "inputs" else found.parameters[name]
            scale = max(1.0, float(np.abs(gradient).max()))
            assert np.allclose(got, gradient, rtol=0, atol=1e-10 * scale), (point.name, name)


def test_a_module_takes_them_as_it_takes_lengths() -> None:
    spec: Any = override(EPISODES, model__bidirectional=False).model
    x, resets = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32"), np.zeros((2, 4), bool)
    resets[0, 2] = True
    model = torch_impl.lstm.LSTM(spec)
    given, plain = torch.tensor(x), torch.tensor(resets)
    with torch.inference_mode():
        assert torch.allclose(model(given, resets=plain)[0, 2:], model(given[:1, 2:])[0])
        assert torch.allclose(model(given, resets=plain)[1], model(given)[1])
    other = flax_impl.lstm.LSTM(spec, rngs=nnx.Rngs(0))
    assert jnp.allclose(other(x, resets=resets)[0, 2:], other(x[:1, 2:])[0], atol=1e-6)
    for module in (model, other):
        wrong = torch.zeros(2, 3, dtype=torch.bool) if module is model else np.zeros((2, 3), bool)
        with pytest.raises(InvalidBatch, match=r"resets: expected bool \(2, 4\), got bool \(2, 3\)"):
            module(given if module is model else x, resets=wrong)


def test_what_looks_across_is_refused() -> None:
    transformer = load("ragged-transformer")
    with pytest.raises(SpecError, match=r"model\.name: expected one that carries a state .* got TransformerEncoder"):
        override(transformer, task__reset_chance=0.3)
    batch = random_batch(transformer.model, [3, 2], 0, "float64")
    with pytest.raises(InvalidBatch, match=r"resets: expected None for a TransformerEncoder, which looks across"):
        check(transformer.model, batch._replace(resets=np.zeros((2, 3), bool)))
    with pytest.raises(InvalidBatch, match=r"resets: expected bool \(6, 7\), got int64 \(6, 7\)"):
        check(EPISODES.model, EPISODES.batch(0, 0, "float64")._replace(resets=np.zeros((6, 7), int)))


def test_nothing_is_asked_of_what_came_before_an_episode() -> None:
    delayed = override(EPISODES, task__delay=2)
    batches = delayed.batches(0, range(50), "float64")
    assert batches.resets is not None
    assert 0.2 < batches.resets[..., 1:].mean() < 0.4
    assert not batches.resets[..., 0].any()
    symbols = batches.inputs.argmax(-1)
    asked = 0
    for index in np.ndindex(batches.resets.shape[:2]):
        assert batches.lengths is not None
        begun = 0
        for t in range(int(batches.lengths[index])):
            begun = t if batches.resets[index][t] else begun
            target = batches.targets[index][t]
            assert target == (symbols[index][t - 2] if t - begun >= 2 else IGNORED)
            asked += target != IGNORED
    assert asked > 100
    again = delayed.batch(0, 7, "float64")
    assert all(np.array_equal(a, b[7]) for a, b in zip(again[:3], batches[:3], strict=True))  # type: ignore[index]
    assert np.array_equal(again.resets, batches.resets[7])  # type: ignore[arg-type]


@pytest.mark.by_default("2-*")
@pytest.mark.parametrize("side", [torch_impl, flax_impl], ids=["torch", "flax"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_members_are_trainings_of_their_own(side: ModuleType, accumulate: int) -> None:
    experiment = override(EPISODES, training__accumulate=accumulate)
    opened = side.open(experiment, DOUBLE)
    found = opened.train_ensemble([0, 1], chunk=2)
    for seed, losses in zip((0, 1), found.losses, strict=True):
        start = initial_state(experiment.training.optimizer, opened.initialize(seed))
        alone = opened.train(start, experiment.training.epochs, seed)
        assert np.allclose(losses, alone.losses, rtol=0, atol=1e-12)
