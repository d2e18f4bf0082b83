"""What the contract promises beyond right numbers, for both implementations; the numbers are crosscheck's."""

import importlib
from typing import Any

import numpy as np
import pytest

from spec.errors import DeviceMissing, InvalidBatch, ParameterMismatch, Unsupported
from spec.experiment import Experiment, load, override, shipped
from spec.framework import Settings
from spec.models import Features, Model, keep_masks
from spec.parameters import draw, generator_for
from spec.tasks import Batch, random_batch
from spec.training import State, initial_state

IMPLEMENTATIONS = ["torch_impl", "flax_impl"]
# One experiment for each model, optimizer, and thing that leaves traces between steps.
VARIED = [
    "course-rnn-cell",
    "hello-bidirectional-gru",
    "hello-embedding-max-norm",
    "hello-embedding-padding",
    "hello-encoder-decoder-lstm",
    "hello-gru-clipping",
    "hello-lstm-adamw-warm-up",
    "hello-lstm-attention",
    "hello-multi-head-attention",
    "hello-stacked-lstm-dropout",
    "hello-transformer-dropout",
    "last-step-classifier",
    "ragged-lstm",
]
LEAVING_TRACES = [
    *("course-rnn-cell", "hello-embedding-max-norm", "hello-gru-clipping", "hello-lstm-adamw-warm-up"),
    *("hello-stacked-lstm-dropout", "hello-transformer-dropout", "last-step-classifier", "ragged-lstm"),
]
"""Those of which a step leaves more for the next than other parameters. What resumes is held against what does not in
crosscheck's check of the shipped path, of every experiment."""
SETTINGS = Settings("float64")


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request: pytest.FixtureRequest) -> Any:
    return importlib.import_module(request.param)


def lengths_for(model: Model) -> list[int]:
    return [min(6, model.max_length or 6), 1, 3]


def start_of(experiment: Experiment, precision: str = "float64") -> State:
    parameters = draw(experiment.model.parameters(), 5, precision, spread=0.1)
    return initial_state(experiment.training.optimizer, parameters)


def assert_same_bits(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name, strict=True)


FEW_OF_JAX = pytest.mark.by_default(
    "torch_impl-*",
    "flax_impl-ragged-lstm",
    "flax_impl-hello-transformer-dropout",
    "flax_impl-hello-embedding-*",
    "flax_impl-last-step-classifier",
)
"""What JAX compiles takes a second each."""


@pytest.mark.parametrize("name", shipped())
def test_initialize_fills_the_table(implementation: Any, name: str) -> None:
    experiment = load(name)
    for precision in ("float32", "float64"):
        parameters = implementation.initialize(experiment, 3, Settings(precision))
        shapes = {p.name: (p.shape, precision) for p in experiment.model.parameters()}
        assert {n: (v.shape, v.dtype.name) for n, v in parameters.items()} == shapes


def test_initialize_depends_on_the_seed_alone(implementation: Any) -> None:
    experiment = load("hello-embedding-padding")
    first, again, other = (implementation.initialize(experiment, seed, SETTINGS) for seed in (1, 1, 2))
    assert_same_bits(first, again)
    assert all(np.any(first[name] != other[name]) for name in first)
    assert not np.any(first["embedding.weight"][0])
    assert np.all(first["embedding.weight"][1:])


@pytest.mark.by_default(
    "*-ragged-lstm", "flax_impl-hello-stacked-lstm-dropout", "torch_impl-*", "flax_impl-hello-embedding-max-norm"
)
@pytest.mark.parametrize("name", LEAVING_TRACES)
def test_training_in_two_stretches_is_training_in_one(implementation: Any, name: str) -> None:
    experiment = load(name)
    start = start_of(experiment)
    whole = implementation.train(experiment, start, 4, 7, SETTINGS, record=True)
    first = implementation.train(experiment, start, 2, 7, SETTINGS, record=True)
    second = implementation.train(experiment, first.state, 2, 7, SETTINGS, record=True)
    np.testing.assert_array_equal(whole.losses, np.concatenate([first.losses, second.losses]), strict=True)
    np.testing.assert_array_equal(whole.logits, np.concatenate([first.logits, second.logits]), strict=True)
    assert_same_bits(whole.state.parameters, second.state.parameters)
    assert_same_bits(whole.state.slots, second.state.slots)
    assert whole.state.step == second.state.step == 4 * experiment.training.steps_per_epoch


@pytest.mark.by_default(
    "torch_impl-*", "flax_impl-ragged-lstm", "flax_impl-hello-transformer-dropout", "flax_impl-hello-embedding-*"
)
@pytest.mark.parametrize("name", VARIED)
def test_trajectory_has_every_step_and_leaves_its_arguments_alone(implementation: Any, name: str) -> None:
    experiment = load(name)
    start = start_of(experiment)
    before = {key: value.copy() for key, value in start.parameters.items()}
    trajectory = implementation.train(experiment, start, 4, 7, SETTINGS, record=True)
    steps = 4 * experiment.training.steps_per_epoch
    assert_same_bits(start.parameters, before)
    assert trajectory.losses.shape == (steps,)
    assert trajectory.logits.shape[0] == 4
    assert trajectory.parameters.keys() == before.keys()
    assert trajectory.slots.keys() == start.slots.keys()
    assert_same_bits({n: v[-1] for n, v in trajectory.parameters.items()}, trajectory.state.parameters)
    assert_same_bits({n: v[-1] for n, v in trajectory.slots.items()}, trajectory.state.slots)
    for value in trajectory.parameters.values():
        assert value.shape[0] == steps
        assert value.dtype == np.float64


@FEW_OF_JAX
@pytest.mark.parametrize("name", VARIED)
def test_padding_changes_nothing(implementation: Any, name: str) -> None:
    experiment = load(name)
    model, parameters = experiment.model, start_of(experiment).parameters
    batch = random_batch(model, lengths_for(model), 11, "float64")
    assert batch.lengths is not None
    padding = np.arange(batch.inputs.shape[1]) >= batch.lengths[:, None]
    garbage = batch.inputs.copy()
    garbage[padding] = np.nan if isinstance(model.inputs, Features) else 1
    clean = implementation.forward(experiment, parameters, batch, SETTINGS)
    dirty = implementation.forward(experiment, parameters, batch._replace(inputs=garbage), SETTINGS)
    assert tuple(sorted(clean)) == tuple(sorted(model.intermediates()))
    assert_same_bits(clean, dirty)
    assert_same_bits(
        implementation.gradients(experiment, parameters, batch, SETTINGS).parameters,
        implementation.gradients(experiment, parameters, batch._replace(inputs=garbage), SETTINGS).parameters,
    )
    if model.decodes:
        clean = {"encoder.h_l0": clean["encoder.h_l0"]}  # the decoder has a time of its own
    for stage, value in clean.items():
        assert value.shape[:2] == padding.shape or stage == "logits" or stage.endswith("_n")
        if value.shape[:2] == padding.shape:
            assert not np.any(value[padding]), stage


@FEW_OF_JAX
@pytest.mark.parametrize("name", VARIED)
def test_a_row_does_not_depend_on_the_others(implementation: Any, name: str) -> None:
    experiment = load(name)
    model, parameters = experiment.model, start_of(experiment).parameters
    lengths = lengths_for(model)
    batch = random_batch(model, lengths, 11, "float64")
    together = implementation.forward(experiment, parameters, batch, SETTINGS)["logits"]
    order = np.array([2, 0, 1])
    permuted = type(batch)(*(None if array is None else array[order] for array in batch))
    np.testing.assert_allclose(
        implementation.forward(experiment, parameters, permuted, SETTINGS)["logits"], together[order], rtol=1e-13
    )
    alone = type(batch)(*(None if array is None else array[2:] for array in batch))
    symbols = None if alone.decoder_inputs is None else alone.decoder_inputs[:, : lengths[2]]
    targets = alone.targets if alone.targets.ndim == 1 else alone.targets[:, : lengths[2]]
    shorter = Batch(alone.inputs[:, : lengths[2]], targets, decoder_inputs=symbols)
    logits = implementation.forward(experiment, parameters, shorter, SETTINGS)["logits"]
    np.testing.assert_allclose(logits, together[2:][:, : logits.shape[1]], rtol=1e-12)


@pytest.mark.parametrize("name", ["hello-transformer-dropout", "hello-stacked-lstm-dropout"])
def test_dropout_uses_the_masks_it_is_given(implementation: Any, name: str) -> None:
    experiment = load(name)
    parameters = start_of(experiment).parameters
    batch = experiment.batch(0, 0, "float64")
    masks = keep_masks(experiment.model, 1, 5, generator_for(0, "masks"))
    eval_mode = implementation.forward(experiment, parameters, batch, SETTINGS)["logits"]
    given = implementation.forward(experiment, parameters, batch, SETTINGS, dropout=masks)["logits"]
    ones = {site: np.ones_like(mask) for site, mask in masks.items()}
    kept = implementation.forward(experiment, parameters, batch, SETTINGS, dropout=ones)["logits"]
    np.testing.assert_allclose(kept, eval_mode, rtol=1e-13)
    assert np.abs(given - eval_mode).max() > 1e-3
    for site in masks:
        changed = {**masks, site: 1 - np.sign(masks[site])}
        other = implementation.forward(experiment, parameters, batch, SETTINGS, dropout=changed)["logits"]
        assert np.abs(other - given).max() > 1e-6, site


@pytest.mark.parametrize("name", ["hello-transformer-dropout", "hello-stacked-lstm-dropout"])
def test_own_dropout_follows_its_seed(implementation: Any, name: str) -> None:
    experiment = load(name)
    parameters = start_of(experiment).parameters
    batch = experiment.batch(0, 0, "float64")
    first, again, other = (
        implementation.forward(experiment, parameters, batch, SETTINGS, dropout=seed)["logits"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_attention_dropout(implementation: Any) -> None:
    experiment = override(load("hello-transformer"), model__attention_dropout=0.5)
    parameters = start_of(experiment).parameters
    batch = experiment.batch(0, 0, "float64")
    plain = implementation.forward(experiment, parameters, batch, SETTINGS)["logits"]
    dropped = implementation.forward(experiment, parameters, batch, SETTINGS, dropout=3)["logits"]
    assert np.abs(plain - dropped).max() > 1e-3
    masks = keep_masks(experiment.model, 1, 5, generator_for(0, "masks"))
    if implementation.__name__ == "torch_impl":
        with pytest.raises(Unsupported, match=r"encoder\.layers\.0\.self_attn\.dropout"):
            implementation.forward(experiment, parameters, batch, SETTINGS, dropout=masks)
    else:
        masked = implementation.forward(experiment, parameters, batch, SETTINGS, dropout=masks)["logits"]
        assert np.abs(masked - plain).max() > 1e-3


def test_global_state_is_left_alone() -> None:
    import jax
    import torch

    import flax_impl
    import torch_impl

    experiment = load("hello-transformer-dropout")
    torch.manual_seed(1)
    before = torch.get_rng_state(), torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    for module in (torch_impl, flax_impl):
        module.train(experiment, start_of(experiment), 2, 0, SETTINGS)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
    assert not jax.config.read("jax_enable_x64")


@pytest.mark.parametrize("device", ["cuda", "tpu"])
def test_a_missing_device_is_an_error(implementation: Any, device: str) -> None:
    experiment = load("hello-rnn")
    settings = Settings(device=device)  # type: ignore[arg-type]
    try:
        implementation.describe(settings)
    except DeviceMissing:
        pass
    else:
        pytest.skip(f"this machine has a {device}")
    with pytest.raises(DeviceMissing, match=device if device == "tpu" else "(?i)cuda"):
        implementation.train(experiment, start_of(experiment, "float32"), 1, 0, settings)


def test_wrong_parameters_are_named(implementation: Any) -> None:
    experiment = load("hello-rnn")
    parameters = start_of(experiment).parameters
    parameters["head.weight"] = parameters["head.weight"].T
    parameters["stray"] = parameters.pop("head.bias")
    with pytest.raises(ParameterMismatch) as caught:
        implementation.round_trip(experiment, parameters, SETTINGS)
    for part in ("missing ['head.bias']", "not in the model ['stray']", "expected shape (4, 8), got (8, 4)"):
        assert part in str(caught.value)


@pytest.mark.parametrize("index", [-1, 4, 100])
def test_an_index_outside_the_vocabulary_is_an_error(implementation: Any, index: int) -> None:
    experiment = load("hello-embedding-rnn")
    batch = experiment.batch(0, 0, "float64")
    inputs = batch.inputs.copy()
    inputs[0, 2] = index
    with pytest.raises(InvalidBatch, match=rf"\[0, 4\), got {index}"):
        implementation.forward(experiment, start_of(experiment).parameters, batch._replace(inputs=inputs), SETTINGS)


def test_max_norm_rescales_for_good_and_only_in_training(implementation: Any) -> None:
    experiment = load("hello-embedding-max-norm")
    start = start_of(experiment)
    start.parameters["embedding.weight"][:] = 5.0
    trajectory = implementation.train(experiment, start, 2, 0, SETTINGS, record=True)
    norms = np.abs(trajectory.parameters["embedding.weight"][0]).sum(axis=1)
    assert np.all(norms < 1.5 + 10 * 0.05 + 1e-9)
    assert np.any(norms > 1.5)  # the optimizer's step comes after; evaluation must not rescale what is kept
    forward = implementation.forward(experiment, start.parameters, experiment.batch(0, 0, "float64"), SETTINGS)
    np.testing.assert_allclose(np.abs(forward["embedding"]).sum(axis=-1), 1.5, rtol=1e-6)


def test_sparse_embedding_gradients() -> None:
    import flax_impl
    import torch_impl

    sparse, dense = (
        load("hello-embedding-sparse"),
        override(load("hello-embedding-sparse"), model__inputs__sparse=False),
    )
    start = start_of(sparse)
    one, other = (torch_impl.train(e, start, 3, 0, SETTINGS) for e in (sparse, dense))
    np.testing.assert_allclose(one.losses, other.losses, rtol=1e-13)
    with pytest.raises(Unsupported, match="sparse"):
        flax_impl.train(sparse, start, 3, 0, SETTINGS)


def test_recipes_that_torch_has_for_sparse_gradients() -> None:
    """Momentum alone is one; what torch would end in an exception of its own for is refused by name."""
    import torch_impl

    sparse = override(load("hello-embedding-sparse"), training__optimizer__momentum=0.5)
    start = start_of(sparse)
    dense = override(sparse, model__inputs__sparse=False)
    one, other = (torch_impl.train(e, start, 3, 0, SETTINGS, record=True) for e in (sparse, dense))
    np.testing.assert_allclose(one.losses, other.losses, rtol=1e-13)
    assert one.slots.keys() == other.slots.keys() != set()
    for name, slot in other.slots.items():
        np.testing.assert_allclose(one.slots[name], slot, rtol=1e-12, atol=1e-15, err_msg=name)
    adam = {"name": "Adam", "learning_rate": 0.01}
    for change, named in (
        ({"training__optimizer": adam}, "optimizer"),
        ({"training__clipping": {"max_norm": 1.0}}, "clipping"),
        ({"model__inputs__scale_grad_by_freq": True}, "scale_grad_by_freq"),
    ):
        with pytest.raises(Unsupported, match=named):
            torch_impl.train(override(sparse, **change), start_of(override(sparse, **change)), 1, 0, SETTINGS)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_a_model_that_is_not_there_names_the_file_to_write(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    implementation = importlib.import_module(name)
    gru = importlib.import_module(f"{name}.gru")
    monkeypatch.delattr(gru, "GRU")
    experiment = override(load("hello-gru"), model__hidden_size=3)
    with pytest.raises(Unsupported, match=rf"{name}/gru\.py"):
        implementation.round_trip(experiment, start_of(experiment).parameters, SETTINGS)


def test_clipping_engages() -> None:
    """The experiment that clips has gradients above its norm in most of its steps, and would come out differently."""
    import torch_impl

    experiment = load("hello-gru-clipping")
    clipping, task = experiment.training.clipping, experiment.task
    assert clipping is not None
    start = start_of(experiment)
    trajectory = torch_impl.train(experiment, start, experiment.training.epochs, 0, SETTINGS, record=True)
    before = [start.parameters] + [
        {name: value[step] for name, value in trajectory.parameters.items()} for step in range(60)
    ]
    norms = [
        np.sqrt(
            sum(
                np.sum(g**2)
                for g in torch_impl.gradients(experiment, p, task.batch(0, 0, "float64"), SETTINGS)[1].values()
            )
        )
        for p in before
    ]
    assert np.mean(np.array(norms) > clipping.max_norm) > 0.5
    free = override(experiment, training__clipping=None)
    unclipped = torch_impl.train(free, start, 10, 0, SETTINGS)
    assert np.abs(unclipped.losses - trajectory.losses[:10]).max() > 1e-2
