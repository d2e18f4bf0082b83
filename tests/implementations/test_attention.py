"""Attention that keeps no weights gives what the written-out form gives, and a wrong one is seen.

Tolerance: both compute the same sums in another order. A gradient is the end of a chain of about
2 * (time + source + width) roundings, which grow as its square root; 4 of these cover the tail.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from jax import export
from torch.nn.attention import SDPBackend, sdpa_kernel

import flax_impl
import torch_impl
from flax_impl import attention as flax_attention
from flax_impl import compilation
from flax_impl import contract as flax_contract
from flax_impl import training as flax_training
from flax_impl.dropout import Dropout
from spec.experiment import load
from spec.framework import Settings
from spec.parameters import draw
from spec.tasks import Batch, random_batch
from torch_impl import attention as torch_attention

TIME, SOURCE, WIDTH, FEATURES = 7, 6, 5, 4
SCALE = 1.7
LENGTHS = {"full": None, "ragged": np.array([SOURCE, 0, 4])}
HEADS = {"one head": (3,), "heads": (3, 2)}
DTYPES = ("float64", "float32")
EXPERIMENTS = (
    "hello-self-attention",
    "hello-multi-head-attention",
    "hello-lstm-attention",
    "hello-encoder-decoder",
    "hello-transformer",
)

Case = tuple[list[np.ndarray], np.ndarray | None]


@pytest.fixture(
    scope="module", params=[(h, v, d) for h in HEADS for v in LENGTHS for d in DTYPES], ids=lambda p: "-".join(p)
)
def case(request: pytest.FixtureRequest) -> Case:
    """Query, key, value and the context's cotangent; and the mask, with an axis for the heads where there are any."""
    heads, kind, dtype = request.param
    batch, lengths = HEADS[heads], LENGTHS[kind]
    generator = np.random.default_rng(0)
    shapes = [(TIME, WIDTH), (SOURCE, WIDTH), (SOURCE, FEATURES), (TIME, FEATURES)]
    arrays = [generator.normal(size=(*batch, *shape)).astype(dtype) for shape in shapes]
    if lengths is None:
        return arrays, None
    valid = np.arange(SOURCE) < lengths[:, None]
    return arrays, valid[:, None] if len(batch) == 2 else valid


def assert_close(found: Any, expected: Any) -> None:
    for one, two in zip(found, expected, strict=True):
        one, two = np.asarray(one), np.asarray(two)
        assert one.dtype == two.dtype
        bound = 4 * np.sqrt(2 * (TIME + SOURCE + WIDTH)) * np.finfo(one.dtype).eps
        np.testing.assert_allclose(one, two, rtol=0, atol=bound * max(1, np.abs(two).max()))


@pytest.fixture(autouse=True)
def any_number_is_many_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_attention, "MANY", 0)


def by_torch(case: Case, recording: bool) -> list[np.ndarray]:
    """The context, and the gradients by query, key and value."""
    arrays, valid = case
    *inputs, cotangent = (torch.from_numpy(array) for array in arrays)
    inputs = [tensor.requires_grad_() for tensor in inputs]
    mask = None if valid is None else torch.from_numpy(valid)
    context, weights = torch_attention.attend(*inputs, SCALE, mask, recording)
    assert (weights is not None) == recording
    return [context.detach().numpy(), *(g.numpy() for g in torch.autograd.grad(context, inputs, cotangent))]


@pytest.mark.parametrize("backends", [[SDPBackend.MATH], [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]], ids=str)
def test_torch_fused_is_the_written_out(case: Case, backends: list[SDPBackend]) -> None:
    with sdpa_kernel(backends):
        found = by_torch(case, recording=False)
    assert_close(found, by_torch(case, recording=True))
    if case[1] is not None:
        assert not found[0][1].any()  # Nothing is valid there.


@pytest.mark.parametrize(
    "wrong",
    [
        lambda inner, q, k, v, mask, scale: inner(q, k, v, mask),
        lambda inner, q, k, v, mask, scale: inner(q, k, v, scale=scale),
        lambda inner, q, k, v, mask, scale: inner(q.detach(), k, v, mask, scale=scale) + 0 * q.sum(),
    ],
    ids=["default scale", "no mask", "no gradient of queries"],
)
def test_a_wrong_kernel_is_seen(wrong: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    arrays = [generator.normal(size=(3, 2, SOURCE, WIDTH)) for _ in range(4)]
    case = arrays, (np.arange(SOURCE) < np.array([6, 3, 4])[:, None])[:, None]
    inner = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda q, k, v, mask, scale: wrong(inner, q, k, v, mask, scale),
    )
    with pytest.raises(AssertionError):
        assert_close(by_torch(case, recording=False), by_torch(case, recording=True))


def test_torch_asks_no_kernel_for_rows_without_a_valid_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The softmax of such a row is 0 / 0, which a kernel may leave as it is. The mask is no larger than need be."""

    def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, scale: float) -> torch.Tensor:
        assert mask.shape == (3, 1, 1, SOURCE)
        scores = (q @ k.transpose(-1, -2) * scale).masked_fill(~mask, -torch.inf)
        return torch.softmax(scores, -1) @ v

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", plain)
    generator = np.random.default_rng(0)
    arrays = [generator.normal(size=(3, 2, SOURCE, WIDTH)) for _ in range(4)]
    valid = (np.arange(SOURCE) < np.array([6, 0, 4])[:, None])[:, None]
    found = by_torch((arrays, valid), recording=False)
    assert all(np.isfinite(array).all() for array in found)
    assert_close(found, by_torch((arrays, valid), recording=True))


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name != "hello-transformer"])
def test_torch_writes_weights_out_only_to_record_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    inner = torch.nn.functional.scaled_dot_product_attention

    def counted(*arguments: Any, **options: Any) -> torch.Tensor:
        calls.append(True)
        return inner(*arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    experiment, settings = load(name), Settings("float64")
    parameters = draw(experiment.model.parameters(), 0, "float64")
    batch = experiment.batch(0, 0, "float64")
    assert "attention.weights" in torch_impl.forward(experiment, parameters, batch, settings)
    assert not calls
    torch_impl.gradients(experiment, parameters, batch, settings)
    assert calls


@pytest.mark.parametrize(("time", "fused"), [(999, False), (1000, True)])
def test_torch_fuses_by_size(time: int, fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_attention, "MANY", 1000**2)
    array = torch.zeros(1, time, 1)
    assert (torch_attention.attend(array, array, array, SCALE)[1] is None) == fused


def by_flax(case: Case, form: Callable[..., Any]) -> list[np.ndarray]:
    """The context, and the gradients by query, key and value."""
    (*inputs, cotangent), valid = case
    with jax.enable_x64(cotangent.dtype == np.float64):
        mask = None if valid is None else jnp.asarray(valid)

        def run(*arrays: Any) -> tuple[Any, ...]:
            context, pull = jax.vjp(lambda q, k, v: form(q, k, v, mask), *map(jnp.asarray, arrays))
            return context, *pull(jnp.asarray(cotangent))

        quick = compilation.options(Settings(), quick=True)
        return [np.asarray(array) for array in compilation.jit(run, quick)(*inputs)]


def written(query: Any, key: Any, value: Any, valid: Any) -> Any:
    return flax_attention._written_out(jnp.matmul, query, key, value, SCALE, valid)[0]


@pytest.fixture(scope="module")
def expected(case: Case) -> list[np.ndarray]:
    """Of the written-out form."""
    return by_flax(case, written)


FORMS = pytest.mark.parametrize(
    "form", [flax_attention._in_blocks, flax_attention._by_head], ids=["in blocks", "by head"]
)


@pytest.mark.by_default("heads-ragged-float64-*", "one head-full-float32-*")
@pytest.mark.parametrize("block", [1, 3, TIME, 128])
@FORMS
def test_flax_blocks_are_the_written_out(
    case: Case, expected: list[np.ndarray], form: Callable[..., Any], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flax_attention, "BLOCK", block)
    assert_close(by_flax(case, partial(form, jnp.matmul, SCALE, False)), expected)


@pytest.mark.by_default("heads-ragged-float64-*", "one head-full-float32-*")
@FORMS
def test_blocks_that_look_at_no_later_step_are_the_written_out(
    case: Case, form: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flax_attention, "BLOCK", 3)
    causal = by_flax(case, lambda q, k, v, valid: flax_attention._written_out(jnp.matmul, q, k, v, SCALE, valid, 0)[0])
    assert_close(by_flax(case, partial(form, jnp.matmul, SCALE, True)), causal)
    with pytest.raises(AssertionError):
        assert_close(by_flax(case, partial(form, jnp.matmul, SCALE, False)), causal)


@FORMS
def test_a_block_of_another_scale_is_seen(
    case: Case, expected: list[np.ndarray], form: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flax_attention, "BLOCK", 3)
    with pytest.raises(AssertionError):
        assert_close(by_flax(case, partial(form, jnp.matmul, SCALE / 2, False)), expected)


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Any number of weights is too many, and blocks are small."""

    def forget() -> None:
        for module in (flax_contract, flax_training):
            for function in vars(module).values():
                if hasattr(function, "cache_clear"):
                    function.cache_clear()

    forget()
    monkeypatch.setattr(flax_attention, "MANY", 0)
    monkeypatch.setattr(flax_attention, "BLOCK", 2)
    yield
    forget()


@pytest.mark.by_default("hello-self-attention*", "hello-multi-head-attention")
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_flax_models_are_torchs_in_blocks_too(name: str, many: None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    inner = flax_attention._by_head
    monkeypatch.setattr(flax_attention, "_by_head", lambda *arguments: calls.append(True) or inner(*arguments))
    experiment, settings = load(name), Settings("float64")
    parameters = draw(experiment.model.parameters(), 0, "float64", 0.1)
    batch = random_batch(experiment.model, [5, 2, 0], 0, "float64")
    found = flax_impl.gradients(experiment, parameters, batch, settings)
    assert calls
    expected = torch_impl.gradients(experiment, parameters, batch, settings)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-13)
    for parameter in experiment.model.parameters():
        one, two = found.parameters[parameter.name], expected.parameters[parameter.name]
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-13, err_msg=parameter.name)


def shapes_of(size: int, time: int) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct((size, time, WIDTH), jnp.float32)] * 3


def attend_sum(*arrays: Any, dropout: Any = None) -> Any:
    return flax_attention.attend(*arrays, SCALE, None, dropout)[0].sum()


@pytest.mark.parametrize(("size", "time", "blocked"), [(1, 999, False), (1, 1000, True), (99, 100, False)])
def test_flax_takes_blocks_by_size(size: int, time: int, blocked: bool) -> None:
    assert ("scan" in str(jax.make_jaxpr(attend_sum)(*shapes_of(size, time)))) == blocked


@pytest.mark.parametrize(("training", "rate"), [(True, 0.5), (True, 0.0), (False, 0.5)])
def test_flax_takes_no_blocks_where_weights_are_dropped(training: bool, rate: float) -> None:
    def run(*arrays: Any) -> Any:
        dropout = Dropout(rate)
        dropout.deterministic, dropout.rngs = not training, nnx.Rngs(0).dropout
        return attend_sum(*arrays, dropout=dropout)

    assert ("scan" in str(jax.make_jaxpr(run)(*shapes_of(1, 1000)))) == (not training or rate == 0)


def test_flax_memory_grows_with_time_not_its_square() -> None:
    def needed(time: int) -> int:
        compiled = jax.jit(jax.grad(attend_sum, (0, 1, 2))).lower(*shapes_of(1, time)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert needed(4096) < 3 * needed(2048)
    assert needed(4096) < 4096**2  # A quarter of what the weights alone would take.
    assert math.isclose(needed(999) / (999**2 * 4), 2, rel_tol=1)  # Written out, they are there.


def test_flax_blocks_lower_for_every_platform() -> None:
    run = jax.jit(jax.grad(attend_sum, (0, 1, 2)))
    for platform in ("cpu", "cuda", "tpu"):
        exported = export.export(run, platforms=[platform])(*shapes_of(3, 1000))
        assert "while" in exported.mlir_module()


@pytest.mark.parametrize("name", ["hello-transformer", "hello-multi-head-attention"])
def test_gradients_of_a_row_without_keys(name: str) -> None:
    """All of its keys are masked. With an additive mask, torch's fused attention multiplies its gradient by
    the number of keys. What the other rows give, and nothing of this one, must come out.
    """
    experiment = load(name)
    given = draw(experiment.model.parameters(), 0, "float64", 0.1)
    batch = random_batch(experiment.model, [5, 0, 3], 0, "float64")
    others = Batch(*(None if part is None else part[[0, 2]] for part in batch))
    for side in (torch_impl, flax_impl):
        found, expected = (side.gradients(experiment, given, b, Settings("float64")) for b in (batch, others))
        for tensor, gradient in expected.parameters.items():
            np.testing.assert_allclose(found.parameters[tensor], gradient, rtol=0, atol=1e-13, err_msg=tensor)
