"""Batches out of the ordinary: both implementations and the reference agree on them, gradients included."""

import importlib
from typing import Any

import numpy as np
import pytest

from spec.experiment import Experiment, load
from spec.framework import Settings
from spec.models import Embedding
from spec.parameters import Parameters, draw
from spec.tasks import Batch, random_batch

SETTINGS = Settings("float64")
SIDES = ["spec.reference", "torch_impl", "flax_impl"]
# Every model, and every rule of the embedding.
MODELS = [
    "course-rnn-cell",
    "hello-bidirectional-gru",
    "hello-bidirectional-lstm",
    "hello-embedding-max-norm",
    "hello-embedding-padding",
    "hello-embedding-scale-by-frequency",
    "hello-encoder-decoder",
    "hello-encoder-decoder-lstm",
    "hello-lstm-attention",
    "hello-multi-head-attention",
    "hello-self-attention",
    "hello-stacked-rnn",
    "hello-transformer",
    "hello-transformer-norm-first",
    "last-step-classifier",
]


def start(experiment: Experiment) -> Parameters:
    return draw(experiment.model.parameters(), 5, "float64", spread=0.1)


def littered(batch: Batch) -> Batch:
    """With NaN and huge numbers in the padding; with indices that occur nowhere else, where they are indices."""
    assert batch.lengths is not None
    padding = np.arange(batch.inputs.shape[1]) >= batch.lengths[:, None]
    inputs = batch.inputs.copy()
    if np.issubdtype(inputs.dtype, np.floating):
        inputs[padding] = np.where(np.arange(padding.sum()) % 2, np.nan, 1e30)[:, None]
    else:
        inputs[padding] = 10**6
    return batch._replace(inputs=inputs)


def close(ours: dict[str, Any], theirs: dict[str, Any], side: str, tolerance: float = 1e-12) -> None:
    """Within a share of each tensor's largest element, or of a thousandth of all tensors' where it has none."""
    assert tuple(sorted(ours)) == tuple(sorted(theirs)), side
    scale = max(np.abs(value).max() for value in ours.values())
    for name, value in ours.items():
        bound = tolerance * max(np.abs(value).max(), 1e-3 * scale)
        np.testing.assert_allclose(theirs[name], value, rtol=0, atol=bound, err_msg=f"{side}: {name}", strict=True)


def agree(experiment: Experiment, batch: Batch) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Assert that all sides compute the same; the reference's intermediates and gradients."""
    forward, gradients = [], []
    for module in map(importlib.import_module, SIDES):
        forward.append(module.forward(experiment, start(experiment), batch, SETTINGS))
        loss, parameters, inputs = module.gradients(experiment, start(experiment), batch, SETTINGS)
        assert (inputs is None) == isinstance(experiment.model.inputs, Embedding)
        named = {} if inputs is None else {"inputs": inputs}
        gradients.append({"loss": np.array(loss), **parameters, **named})
        if batch.lengths is not None and inputs is not None:
            assert inputs.dtype == batch.inputs.dtype
            assert not inputs[np.arange(inputs.shape[1]) >= batch.lengths[:, None]].any()
            assert all(inputs[row, : batch.lengths[row]].any() for row in np.flatnonzero(batch.lengths))
    for found in (forward, gradients):
        for side, theirs in zip(SIDES[1:], found[1:], strict=True):
            close(found[0], theirs, side)
    assert forward[0].keys() == set(experiment.model.intermediates())
    return forward[0], gradients[0]


@pytest.mark.parametrize("name", MODELS)
def test_a_row_may_be_padding_throughout(name: str) -> None:
    experiment = load(name)
    forward, gradients = agree(experiment, littered(random_batch(experiment.model, [4, 0, 2], 3, "float64")))
    assert all(np.isfinite(value).all() for value in gradients.values())
    for stage, value in forward.items():
        if stage == "logits" and name == "last-step-classifier":
            np.testing.assert_array_equal(value[1], start(experiment)["head.bias"])
        elif value.shape[0] == 3 and not (experiment.model.decodes and stage.startswith(("decoder", "logits"))):
            assert not value[1].any(), stage
            assert value[0].any(), stage


def test_padding_may_look_up_what_occurs_nowhere_else() -> None:
    experiment = load("hello-embedding-scale-by-frequency")
    batch = random_batch(experiment.model, [4, 0, 2], 3, "float64")
    agree(experiment, batch._replace(inputs=np.maximum(batch.inputs, 1)))
