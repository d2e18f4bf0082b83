"""The workloads and what is to be reached."""

from fnmatch import fnmatchcase
from typing import Any

import msgspec
import numpy as np
import pytest

from spec.benchmark import QUICK, WORKLOADS, AnyWorkload, Layer, Product, TrainingStep

BY_NAME: dict[str, Any] = {workload.name: workload for workload in WORKLOADS}


def test_names_are_unique():
    assert len(BY_NAME) == len(WORKLOADS)


def test_every_quick_pattern_fits():
    assert all(any(fnmatchcase(name, pattern) for name in BY_NAME) for pattern in QUICK)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_workload_travels_as_json(name: str):
    assert msgspec.json.decode(msgspec.json.encode(BY_NAME[name]), type=AnyWorkload) == BY_NAME[name]


@pytest.mark.parametrize(
    ("name", "operations"),
    [
        # Two for each multiplication: batch * time * gates * hidden * (features + hidden).
        ("gru-tiny-forward", 2 * 5 * 3 * 4 * (4 + 4)),
        ("lstm-small-forward", 2 * 32 * 64 * 4 * 128 * (64 + 128)),
        # A backward pass has two products for each of the forward pass.
        ("lstm-small-forward+backward", 3 * 2 * 32 * 64 * 4 * 128 * (64 + 128)),
        ("text-gru", 3 * 2 * 32 * 128 * (3 * 256 * (256 + 256) + 256 * 256)),
        # Four square matrices and a feed-forward block four times as wide in each of two layers, input and head, and
        # scores and context.
        ("text-transformer", 3 * 2 * 32 * 128 * (2 * (4 + 8) * 256**2 + 2 * 256**2 + 2 * 2 * 128 * 256)),
        ("product-1024", 2 * 1024**3),
        ("hello-gru", None),
    ],
)
def test_operations(name: str, operations: int | None):
    assert BY_NAME[name].operations == operations


def test_shapes():
    layer = BY_NAME["gru-tiny-forward"]
    assert isinstance(layer, Layer)
    assert layer.inputs().shape == (1, 5, 4)
    assert layer.cotangent().shape == (1, 5, 4)
    assert layer.inputs().dtype == np.float32
    # Stock flax.nnx has no such bias; the other two gates keep theirs.
    bias = layer.parameters()["rnn.bias_hh_l0"]
    assert np.all(bias[8:] == 0)
    assert np.all(bias[:8] != 0)
    product = BY_NAME["product-1024"]
    assert isinstance(product, Product)
    assert [operand.shape for operand in product.operands()] == [(1024, 1024)] * 2


def test_the_text_is_to_be_told_from_what_came_before():
    step = BY_NAME["text-lstm"]
    assert isinstance(step, TrainingStep)
    batch = step.sample()
    assert batch.inputs.shape == batch.targets.shape == (32, 128)
    assert np.array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    assert step.items == (32 * 128, "tokens")
    assert step.experiment.model == step.model


def test_growing_sizes_are_measured_together():
    groups = {BY_NAME[f"gru-time-{time}"].group for time in (64, 2048)}
    assert groups == {"gru-time"}
    assert BY_NAME["gru-batch-8"].group == "gru-batch"
    assert BY_NAME["gru-small-forward"].group == "gru-small-forward"
