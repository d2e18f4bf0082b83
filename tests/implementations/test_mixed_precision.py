"""bfloat16 mixed precision, of every kind of model: both frameworks and the equations, in float64, where all three know
the same numbers to so many digits that they round them alike.

The reference finds gradients by cutting the computation at its products, torch and JAX by their own autograd, so the
three are no copies of each other.
"""

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import msgspec
import numpy as np
import pytest
import torch
from flax import nnx

import flax_impl
import flax_impl.gru
import flax_impl.mixed_precision
import spec.mixed_precision
import torch_impl
import torch_impl.gru
import torch_impl.mixed_precision
from spec import reference
from spec.errors import SpecError
from spec.experiment import Experiment, load, override
from spec.framework import Settings
from spec.models import MODELS, keep_masks
from spec.parameters import draw, generator_for
from spec.tasks import Batch, random_batch
from spec.training import initial_state

SIDES = [torch_impl, flax_impl]
WIDE, SINGLE = Settings("float64"), Settings("float32")

KINDS = [
    "course-rnn-cell",
    "hello-rnn",
    "hello-stacked-lstm-dropout",
    "hello-bidirectional-gru",
    "last-step-classifier",
    "hello-lstm-tied",
    "hello-embedding-padding",
    "hello-lstm-attention",
    "hello-self-attention",
    "hello-multi-head-attention",
    "hello-transformer",
    "hello-transformer-causal",
    "hello-transformer-norm-first",
    "ragged-transformer",
    "hello-encoder-decoder",
    "hello-encoder-decoder-lstm",
]
"""Every kind of model, and every place where one multiplies."""


def mixed(name: str) -> Experiment:
    return override(load(name), model__mixed_precision="bfloat16")


def asked(experiment: Experiment, precision: str = "float64") -> tuple[dict[str, np.ndarray], Batch]:
    """Parameters and a batch of several lengths."""
    model = experiment.model
    lengths = [min(5, model.max_length or 5), 1, 3]
    return draw(model.parameters(), 3, precision, spread=0.1), random_batch(model, lengths, 1, precision, initial=True)


def close(one: dict[str, np.ndarray], two: dict[str, np.ndarray], tolerance: float) -> None:
    """Relative to each tensor's largest element, or to the largest of all where that is a thousand times as large."""
    assert one.keys() == two.keys()
    scale = max(np.abs(value).max() for value in one.values())
    for name, value in one.items():
        size = max(np.abs(value).max(), 1e-3 * scale)
        np.testing.assert_allclose(two[name], value, rtol=0, atol=tolerance * size, err_msg=name)


def numbers(dtype: type) -> np.ndarray:
    """Of every size, ties, and neighbours of ties that float32 does not tell from them."""
    drawn = np.random.default_rng(0).standard_normal(20_000) * np.exp(np.random.default_rng(1).normal(0, 20, 20_000))
    ties = 1 + np.arange(-64, 64) * 2.0**-8
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 3.3895e38, 3.3896e38, -3.4e38, 1.0]
    return np.concatenate([drawn, ties, ties + 2.0**-30, ties - 2.0**-30, special]).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_round_alike(dtype: type) -> None:
    values = numbers(dtype)
    with np.errstate(over="ignore"):
        expected = values.astype(np.float32).astype(ml_dtypes.bfloat16).astype(dtype)
    np.testing.assert_array_equal(spec.mixed_precision.bfloat16(values), expected, strict=True)
    by_torch = torch_impl.mixed_precision.bfloat16(torch.from_numpy(values))
    np.testing.assert_array_equal(by_torch.numpy(), expected, strict=True)
    with jax.enable_x64(dtype == np.float64):
        # Compiled, since there casts may be left out.
        by_jax = jax.jit(flax_impl.mixed_precision.bfloat16)(values)
    np.testing.assert_array_equal(np.asarray(by_jax), expected, strict=True)


def test_a_derivative_goes_through_a_rounding() -> None:
    value = spec.mixed_precision.bfloat16(np.array([1.01 + 1e-30j]))
    assert value == np.array([1.0078125 + 1e-30j])


@pytest.mark.by_default(
    "hello-stacked-lstm-dropout",
    "hello-transformer-norm-first",
    "hello-encoder-decoder",
    "hello-embedding-padding",
    "hello-lstm-tied",
    "course-rnn-cell",
)
@pytest.mark.parametrize("name", KINDS)
def test_both_and_the_equations_compute_the_same(name: str) -> None:
    experiment = mixed(name)
    parameters, batch = asked(experiment)
    expected = reference.forward(experiment, parameters, batch, WIDE)
    plain = reference.forward(load(name), parameters, batch, WIDE)["logits"]
    # What is to be seen at all: 2^-9 of numbers of order 1.
    assert 1e-4 < np.abs(expected["logits"] - plain).max() < 0.2
    exact = reference.gradients(experiment, parameters, batch, WIDE)
    for side in SIDES:
        close(expected, side.forward(experiment, parameters, batch, WIDE), 1e-13)
        found = side.gradients(experiment, parameters, batch, WIDE)
        assert found.loss == pytest.approx(exact.loss, rel=1e-13)
        close(exact.parameters, found.parameters, 1e-12)
        if exact.inputs is not None:
            close({"": exact.inputs}, {"": found.inputs}, 1e-12)


def test_steps_that_tie_for_the_largest_do_so_in_the_equations_too() -> None:
    # Of one and the same input, one state after the other is the same to the bit, once it is rounded.
    changes = {"num_layers": 3, "hidden_size": 1, "readout": "max", "head": True}
    experiment = override(mixed("last-step-classifier"), **{f"model__{name}": value for name, value in changes.items()})
    parameters = {n: np.abs(p) / (64 if "weight_hh" in n else 1) for n, p in asked(experiment)[0].items()}
    batch = random_batch(experiment.model, [20] * 5, 1, "float64")
    batch = batch._replace(inputs=np.repeat(batch.inputs[:, :1], 20, axis=1))
    outputs = reference.forward(experiment, parameters, batch, WIDE)["rnn.h_l2"]
    assert np.any(np.sum(outputs == outputs.max(axis=1, keepdims=True), axis=1) > 1)
    exact = reference.gradients(experiment, parameters, batch, WIDE)
    for side in SIDES:
        close(exact.parameters, side.gradients(experiment, parameters, batch, WIDE).parameters, 1e-12)


@pytest.mark.parametrize("name", ["hello-stacked-lstm-dropout", "hello-transformer-dropout"])
def test_with_masks_too(name: str) -> None:
    experiment = override(mixed(name), **({"model__attention_dropout": 0.0} if "transformer" in name else {}))
    parameters, batch = asked(experiment)
    masks = keep_masks(experiment.model, *batch.inputs.shape[:2], generator_for(0, "masks"))
    exact = reference.gradients(experiment, parameters, batch, WIDE, dropout=masks)
    for side in SIDES:
        close(exact.parameters, side.gradients(experiment, parameters, batch, WIDE, dropout=masks).parameters, 1e-12)


@pytest.mark.parametrize("name", ["hello-gru-bfloat16", "hello-lstm-attention"])
@pytest.mark.parametrize("side", SIDES)
def test_in_float32_a_few_roundings_go_the_other_way_and_no_more(side: Any, name: str) -> None:
    experiment = mixed(name)
    parameters, batch = asked(experiment, "float32")
    found = side.forward(experiment, parameters, batch, SINGLE)["logits"]
    wide = {n: value.astype(np.float64) for n, value in parameters.items()}
    _, exact_batch = asked(experiment)
    exact_batch = exact_batch._replace(
        inputs=batch.inputs if batch.inputs.dtype.kind == "i" else batch.inputs.astype(np.float64),
        initial={n: state.astype(np.float64) for n, state in (batch.initial or {}).items()} or None,
    )
    exact = reference.forward(experiment, wide, exact_batch, WIDE)["logits"]
    plain = reference.forward(override(experiment, model__mixed_precision=None), wide, exact_batch, WIDE)["logits"]
    assert found.dtype == np.float32
    # Half of all logits are those of the equations to a rounding of float32, where none is that of unrounded products.
    assert np.median(np.abs(found - exact)[exact != 0]) < 1e-6
    assert np.median(np.abs(found - plain)[exact != 0]) > 1e-4


@pytest.mark.by_default("hello-gru-bfloat16", "hello-transformer-causal")
@pytest.mark.parametrize("name", ["hello-gru-bfloat16", "ragged-lstm", "hello-transformer-causal"])
def test_trainings_agree_and_hold_full_parameters(name: str) -> None:
    experiment = mixed(name)
    start = initial_state(experiment.training.optimizer, draw(experiment.model.parameters(), 3, "float64"))
    torch_run, flax_run = (side.train(experiment, start, 3, 1, WIDE) for side in SIDES)
    np.testing.assert_allclose(flax_run.losses, torch_run.losses, rtol=1e-10)
    close(torch_run.state.parameters, flax_run.state.parameters, 1e-8)
    for run in (torch_run, flax_run):
        for value in run.state.parameters.values():
            assert np.mean(spec.mixed_precision.bfloat16(value) == value) < 0.5


@pytest.mark.parametrize("name", ["hello-gru-bfloat16", "hello-transformer"])
@pytest.mark.parametrize("side", SIDES)
def test_members_are_their_runs(side: Any, name: str) -> None:
    experiment = mixed(name)
    experiment = experiment.with_training(msgspec.structs.replace(experiment.training, epochs=4))
    members = side.train_ensemble(experiment, [3, 4], WIDE)
    for seed, losses in zip([3, 4], members.losses, strict=True):
        start = initial_state(experiment.training.optimizer, side.initialize(experiment, seed, WIDE))
        np.testing.assert_allclose(losses, side.train(experiment, start, 4, seed, WIDE).losses, rtol=1e-9)


@pytest.mark.parametrize("name", ["text-lstm", "hello-transformer-causal"])
@pytest.mark.parametrize("side", SIDES)
def test_what_is_written_step_by_step_is_what_is_read_at_once(side: Any, name: str) -> None:
    experiment = mixed(name)
    parameters = draw(experiment.model.parameters(), 3, "float64", spread=0.1)
    prompt = np.array([[1, 2], [0, 3]])
    made = side.generate(experiment, parameters, prompt, 3, WIDE)
    exact = reference.generate(experiment, parameters, prompt, 3, WIDE)
    np.testing.assert_array_equal(made.symbols, exact.symbols)
    np.testing.assert_allclose(made.logits, exact.logits, atol=1e-12)


@pytest.mark.parametrize("formulation", ["fused", "recomputed", "scan", "automatic"])
def test_no_faster_formulation_takes_its_products_apart(formulation: str) -> None:
    experiment = mixed("hello-gru-bfloat16")
    parameters, batch = asked(experiment)
    exact = reference.gradients(experiment, parameters, batch, WIDE)
    settings = Settings("float64", choices=(("recurrence", formulation),))
    close(exact.parameters, flax_impl.gradients(experiment, parameters, batch, settings).parameters, 1e-12)


@pytest.mark.parametrize("side", SIDES)
def test_compiled_is_the_same(side: Any) -> None:
    experiment = mixed("hello-gru-bfloat16")
    start = initial_state(experiment.training.optimizer, draw(experiment.model.parameters(), 3, "float64"))
    runs = [side.train(experiment, start, 2, 1, Settings("float64", compiled=compiled)) for compiled in (False, True)]
    np.testing.assert_allclose(runs[1].losses, runs[0].losses, rtol=1e-12)


def test_torch_says_that_it_compiles_none() -> None:
    experiment = mixed("hello-gru-bfloat16")
    said = torch_impl.open(experiment, Settings(compiled=True)).unheeded
    assert said.startswith("--compile: expected no mixed_precision")
    assert not torch_impl.open(experiment, Settings()).unheeded
    assert not torch_impl.open(load("hello-gru"), Settings(compiled=True)).unheeded
    assert not flax_impl.open(experiment, Settings(compiled=True)).unheeded


def test_a_torch_module_says_that_it_has_to_be_called_within() -> None:
    spec_model = mixed("hello-gru-bfloat16").model
    model = torch_impl.gru.GRU(spec_model)
    with pytest.raises(RuntimeError, match=r"expected to be called, forward and backward, within .*products"):
        model(torch.ones(2, 5, 4))
    with torch_impl.mixed_precision.products(spec_model):
        inside = model(torch.ones(2, 5, 4))
    assert inside.dtype == torch.float32


def test_a_torch_module_says_that_it_cannot_see_into_inference_mode() -> None:
    spec_model = mixed("hello-gru-bfloat16").model
    model = torch_impl.gru.GRU(spec_model)
    with (
        torch.inference_mode(),
        torch_impl.mixed_precision.products(spec_model),
        pytest.raises(RuntimeError, match=r"expected torch\.no_grad\(\), got torch\.inference_mode\(\)"),
    ):
        model(torch.ones(2, 5, 4))


@pytest.mark.parametrize("side", SIDES)
def test_a_forward_pass_of_a_seed_drops_between_layers(side: Any) -> None:
    # Once it did not in torch: what torch takes recurrent layers apart into has no dropout.
    experiment = mixed("hello-stacked-lstm-dropout")
    parameters, batch = asked(experiment)
    outputs = [side.forward(experiment, parameters, batch, WIDE, dropout=seed)["logits"] for seed in (1, 2, 1)]
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-3
    np.testing.assert_array_equal(outputs[0], outputs[2])


def test_torch_is_left_as_it_was() -> None:
    def switches() -> tuple[bool, ...]:
        return torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled, torch.backends.mha.get_fastpath_enabled()

    before, spec_model = switches(), mixed("hello-gru-bfloat16").model

    def interrupted() -> None:
        with torch_impl.mixed_precision.products(spec_model):
            assert switches() == (False, False, False)
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert switches() == before


def test_a_kernel_that_hides_its_products_is_refused() -> None:
    images, filters = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2)
    with (
        torch_impl.mixed_precision.products(mixed("hello-gru-bfloat16").model),
        pytest.raises(RuntimeError, match="expected products of matrices alone"),
    ):
        torch.nn.functional.conv2d(images, filters)


def test_flax_modules_are_made_with_it() -> None:
    model = flax_impl.gru.GRU(mixed("hello-gru-bfloat16").model, rngs=nnx.Rngs(0))
    plain = flax_impl.gru.GRU(load("hello-gru").model, rngs=nnx.Rngs(0))
    inputs = jnp.linspace(-1, 1, 40).reshape(2, 5, 4)
    apart = np.abs(model(inputs) - plain(inputs)).max()
    assert 1e-5 < apart < 0.05


def test_another_format_is_refused() -> None:
    with pytest.raises(SpecError, match=r"model\.mixed_precision: expected one of bfloat16, got 'float16'"):
        override(load("hello-gru"), model__mixed_precision="float16")


def test_every_kind_of_model_is_looked_at() -> None:
    assert {type(load(name).model).__name__ for name in KINDS} == set(MODELS)
