"""Batches out of the ordinary: both implementations and the reference agree on them, gradients included."""

import importlib
from typing import Any

import numpy as np
import pytest
from flax import nnx
from sides import INSTALLED

from spec import reference
from spec.experiment import Experiment, load, override
from spec.framework import Settings
from spec.models import Embedding
from spec.parameters import Parameters, draw
from spec.tasks import Batch, random_batch

SETTINGS = Settings("float64")
SIDES = ["spec.reference", *INSTALLED]

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


@pytest.mark.by_default(
    "hello-transformer-norm-first",
    "hello-bidirectional-*",
    "hello-encoder-decoder*",
    "hello-embedding-padding",
    "last-step-classifier",
)
@pytest.mark.parametrize("name", MODELS)
def test_a_row_may_be_padding_throughout(name: str) -> None:
    experiment = load(name)
    forward, gradients = agree(experiment, littered(random_batch(experiment.model, [4, 0, 2], 3, "float64")))
    assert all(np.isfinite(value).all() for value in gradients.values())
    # A decoder has a time of its own, and decodes an empty source too.
    elsewhere = experiment.model.returned_states() + (
        ("decoder.h_l0", "decoder.c_l0", "logits") if experiment.model.decodes else ()
    )
    for stage in forward.keys() - set(elsewhere):
        if stage == "logits" and experiment.model.readout == "last step":
            np.testing.assert_array_equal(forward[stage][1], start(experiment)["head.bias"])
        else:
            assert not forward[stage][1].any(), stage
        assert forward[stage][0].any(), stage


@pytest.mark.parametrize(
    "name",
    # A rule of the embedding is nothing to a state.
    [n for n in MODELS if load(n).model.initial_states(1) and not n.startswith("hello-embedding")] + ["two layers"],
)
def test_states_are_given_and_returned(name: str) -> None:
    experiment = load(name) if name != "two layers" else override(load("hello-bidirectional-lstm"), model__num_layers=2)
    batch = random_batch(experiment.model, [4, 0, 2], 3, "float64", initial=True)
    forward, _ = agree(experiment, littered(batch))
    assert batch.initial is not None
    for given, state in batch.initial.items():
        module, which = given.removesuffix("_0").split(".")
        returned = forward[f"{module}.{which}_n"]
        assert returned.shape == state.shape
        np.testing.assert_array_equal(returned[..., 1, :], state[..., 1, :])
        if module == "cell":
            np.testing.assert_array_equal(returned[[0, 2]], forward["cell.h"][[0, 2], [3, 1]])
            continue
        for index, row in enumerate(returned):
            layer, backward = divmod(index, len(returned) // getattr(experiment.model, "num_layers", 1))
            trace = forward[f"{module}.{which}_l{layer}{'_reverse' if backward else ''}"]
            last = trace[[0, 2], [0, 0] if backward else [3, 1]]
            np.testing.assert_array_equal(row[[0, 2]], last)
            # Of every layer and direction, the first row's state has come from the given one.
            assert np.abs(state[index, 0]).min() > 0
    without = reference.forward(experiment, start(experiment), batch._replace(initial=None), SETTINGS)
    assert all(np.abs(forward[stage] - without[stage]).max() > 1e-4 for stage in forward if stage.endswith("_n"))


@pytest.mark.parametrize("name", ["hello-encoder-decoder", "hello-encoder-decoder-lstm"])
def test_targets_of_another_length_than_their_source(name: str) -> None:
    experiment = load(name)
    for target_length in (2, 6):
        batch = random_batch(experiment.model, [4, 0, 2], 3, "float64", target_length=target_length)
        forward, _ = agree(experiment, littered(batch))
        assert forward["attention.weights"].shape == (3, target_length, 4)
        sums = [[1] * target_length, [0] * target_length, [1] * target_length]
        np.testing.assert_allclose(forward["attention.weights"].sum(axis=-1), sums, rtol=1e-14)
        assert not forward["attention.weights"][2, :, 2:].any()


def test_padding_may_look_up_what_occurs_nowhere_else() -> None:
    experiment = load("hello-embedding-scale-by-frequency")
    batch = random_batch(experiment.model, [4, 0, 2], 3, "float64")
    agree(experiment, batch._replace(inputs=np.maximum(batch.inputs, 1)))


@pytest.mark.needs("torch", "flax")
@pytest.mark.parametrize("fast", [False, True])
def test_norms_of_a_large_mean_in_float32(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sides part no further than one bit of what is normed moves torch; with E[x^2] - E[x]^2, nnx's default, they
    would.
    """
    # All of it now: annotations hold nnx's own class.
    torch_impl, flax_impl = (importlib.import_module(f"{side}_impl.contract") for side in ("torch", "flax"))
    if fast:
        norm = nnx.LayerNorm
        monkeypatch.setattr(nnx, "LayerNorm", lambda *a, **options: norm(*a, **{**options, "use_fast_variance": True}))
    # An experiment of its own, since what is compiled is kept for each.
    experiment = override(load("hello-transformer-norm-first"), model__position_base=5000.0 + fast)
    parameters = draw(experiment.model.parameters(), 5, "float32", spread=0.1)
    parameters["input.bias"] += np.float32(1000)
    batch = random_batch(experiment.model, [5, 5], 3, "float32")

    def normed(module: Any, parameters: Parameters) -> np.ndarray:
        return module.forward(experiment, parameters, batch, Settings("float32"))["encoder.layers.0.norm1"]

    theirs = normed(torch_impl, parameters)
    generator = np.random.default_rng(0)
    perturbed = []
    for _ in range(10):
        towards = np.where(generator.random(8) < 0.5, -np.inf, np.inf).astype(np.float32)
        moved = {**parameters, "input.bias": np.nextafter(parameters["input.bias"], towards)}
        perturbed.append(np.abs(normed(torch_impl, moved) - theirs).max())
    apart = np.abs(normed(flax_impl, parameters) - theirs).max() / max(perturbed)
    assert (apart > 100) if fast else (apart < 1), apart
