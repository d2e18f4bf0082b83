"""Batched products with their rows first: the same numbers, and none left in another order, wherever it stands."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from flax_impl import ensemble
from flax_impl.fast import jaxprs, products
from flax_impl.fast.products import rows_first
from spec.experiment import load, override
from spec.framework import Settings

MEMBERS = 7


def recurrence(weight: Array, inputs: Array) -> tuple[Array, Array]:
    def loss(weight: Array) -> Array:
        def step(state: Array, now: Array) -> tuple[Array, None]:
            return jnp.tanh(now @ weight + state @ weight.T), None

        return jax.lax.scan(step, jnp.zeros_like(inputs[0]), inputs)[0].sum()

    return jax.value_and_grad(loss)(weight)


def attention(weight: Array, inputs: Array) -> tuple[Array, Array]:
    def loss(weight: Array) -> Array:
        scores = jnp.einsum("bti,ij,bsj->bts", inputs, weight, inputs)
        return jnp.sum(jnp.einsum("bts,bsi->bti", jax.nn.softmax(scores), inputs) ** 2)

    return jax.value_and_grad(loss)(weight)


def branch(weight: Array, inputs: Array) -> Array:
    return jax.lax.cond(weight[0, 0] > 0, lambda: jnp.einsum("tbi,ji->tbj", inputs, weight), lambda: inputs)


def two_axes(weight: Array, inputs: Array) -> Array:
    return jnp.einsum("tbi,sbi->ts", inputs, inputs) @ jnp.einsum("tbi,ij->tb", inputs, weight)


def equations(jaxpr: jaxprs.Jaxpr) -> Iterator[jaxprs.JaxprEqn]:
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=is_function):
            if is_function(value):
                yield from equations(value if isinstance(value, jaxprs.Jaxpr) else value.jaxpr)


def is_function(value: Any) -> bool:
    return isinstance(value, jaxprs.Jaxpr | jaxprs.ClosedJaxpr)


def in_other_order(function: Callable, *arguments: Any) -> list[str]:
    """The batched products of a function whose matrices do not have their rows first."""
    found = []
    for equation in equations(jax.make_jaxpr(function)(*arguments).jaxpr):
        if equation.primitive is jaxprs.dot_general_p:
            contracted, batch = equation.params["dimension_numbers"]
            axes = tuple(range(len(batch[0])))
            wanted = (((len(axes) + 1,), (len(axes),)), (axes, axes))
            if axes and (tuple(map(tuple, contracted)), tuple(map(tuple, batch))) != wanted:
                found.append(str(equation.params["dimension_numbers"]))
    return found


@pytest.fixture
def arguments() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(MEMBERS, 4, 4)).astype(np.float32)
    return weight, generator.normal(size=(MEMBERS, 3, 2, 4)).astype(np.float32)


@pytest.mark.parametrize("function", [recurrence, attention, branch, two_axes])
def test_the_same_results_with_every_product_in_order(
    function: Callable, arguments: tuple[np.ndarray, np.ndarray]
) -> None:
    members = jax.vmap(function)
    assert in_other_order(members, *arguments)  # or there would be nothing to do
    assert in_other_order(rows_first(members), *arguments) == []
    expected, found = jax.jit(members)(*arguments), jax.jit(rows_first(members))(*arguments)
    jax.tree.map(lambda one, two: np.testing.assert_allclose(two, one, rtol=2e-6, atol=2e-6), expected, found)


def test_operands_that_are_swapped_are_seen(
    arguments: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = products.product
    monkeypatch.setattr(products, "product", lambda left, right, *rest: real(left, 2 * right, *rest))
    expected, found = jax.vmap(attention)(*arguments), rows_first(jax.vmap(attention))(*arguments)
    assert not np.allclose(expected[1], found[1], rtol=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("name", ["hello-transformer", "hello-lstm-attention"])
def test_members_are_the_same_either_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is rewritten is there before XLA tries hard.
    monkeypatch.setattr(ensemble.compilation, "ENSEMBLE", ensemble.compilation.QUICK)
    experiment = override(load(name), training__epochs=3)
    settings, seeds = Settings("float64"), range(ensemble.WORTH_COMPILING)
    found = {}
    for large in (False, True):
        monkeypatch.setattr(ensemble.compilation, "is_large", lambda *_, large=large: large)
        found[large] = ensemble.train_ensemble(experiment, seeds, settings)
    np.testing.assert_allclose(found[True].losses, found[False].losses, rtol=1e-12)
    assert not np.array_equal(found[True].logits, np.zeros_like(found[True].logits))
