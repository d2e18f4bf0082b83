"""Complex leaves, as linear recurrences have them, and arrays that stand in an nnx module by themselves."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from torch import nn

from crosscheck import pair

pytestmark = pytest.mark.needs("torch", "flax")

STATES, WIDTH = 4, 3


class Recurrence(nn.Module):
    """h_t = exp(-exp(nu) + i theta) h_(t-1) + B x_t;  y_t = Re(C h_t) + d x_t. After Orvieto et al. (2023)."""

    def __init__(self) -> None:
        super().__init__()
        self.nu, self.theta = nn.Parameter(torch.rand(STATES).log()), nn.Parameter(3 * torch.rand(STATES))
        self.into = nn.Parameter(torch.randn(STATES, WIDTH, dtype=torch.cfloat) / WIDTH**0.5)
        self.out = nn.Parameter(torch.randn(WIDTH, STATES, dtype=torch.cfloat) / STATES**0.5)
        self.d = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rate = torch.exp(torch.complex(-torch.exp(self.nu), self.theta))
        state, outputs = torch.zeros(len(x), STATES, dtype=rate.dtype), []
        for step in x.unbind(1):
            state = rate * state + step.to(rate.dtype) @ self.into.T
            outputs.append((state @ self.out.T).real + self.d * step)
        return torch.stack(outputs, 1)


class Port(nnx.Module):
    """The same by an associative scan, with matrices the other way round."""

    def __init__(self, *, conjugated: bool = False, rngs: nnx.Rngs) -> None:
        key, self.conjugated = rngs.params, conjugated
        self.nu = nnx.Param(jnp.log(jax.random.uniform(key(), (STATES,))))
        self.theta = nnx.Param(3 * jax.random.uniform(key(), (STATES,)))
        self.into = nnx.Param(jax.random.normal(key(), (WIDTH, STATES), jnp.complex64) / WIDTH**0.5)
        self.out = nnx.Param(jax.random.normal(key(), (STATES, WIDTH), jnp.complex64) / STATES**0.5)
        self.d = nnx.Param(jnp.array(0.5))

    def __call__(self, x: jax.Array) -> jax.Array:
        rate = jnp.exp(-jnp.exp(self.nu[...]) + 1j * self.theta[...])
        entered = x.astype(rate.dtype) @ self.into[...]

        def both(one: tuple[jax.Array, jax.Array], two: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            return one[0] * two[0], two[0] * one[1] + two[1]

        _, states = jax.lax.associative_scan(both, (jnp.broadcast_to(rate, entered.shape), entered), axis=1)
        out = self.out[...].conj() if self.conjugated else self.out[...]
        return (states @ out).real + self.d[...] * x


def inputs(rng: np.random.Generator) -> Any:
    return (rng.standard_normal((3, 5, WIDTH)),)


def status(told: str, check: str) -> str:
    (found,) = re.findall(rf"^  (\S+(?: \S+)*) +{check}  ", told, re.MULTILINE)
    return found


def loss(output: Any, x: Any) -> Any:
    return (output**2).mean()


CONJUGATES = optax.stateless(lambda updates, _: jax.tree.map(jnp.conj, updates))
"""What JAX gives as a gradient by a complex number, as the direction in which the loss grows."""


def check(port: Any, ours: Callable[..., Any], theirs: Any) -> str:
    torch.manual_seed(0)
    return pair.check(Recurrence(), port, inputs, loss=loss, optimizers=(lambda p: ours(p, 0.1), theirs))


@pytest.mark.long
def test_a_complex_recurrence_is_mapped_and_trains_alike_where_gradients_are_conjugated() -> None:
    told = check(Port(rngs=nnx.Rngs(0)), torch.optim.SGD, optax.chain(CONJUGATES, optax.sgd(0.1)))
    assert "5 of 5 leaves of port linked" in told
    for each in ("structure", "forward", "loss", "gradients", "optimizer", "trajectory"):
        assert status(told, each) == "ok", told


def test_a_step_along_jax_own_gradient_goes_the_other_way() -> None:
    with pytest.raises(AssertionError, match=r"FAIL: optimizer: (into|out)") as raised:
        check(Port(rngs=nnx.Rngs(0)), torch.optim.SGD, optax.sgd(0.1))
    assert status(str(raised.value), "gradients") == "ok"


@pytest.mark.pairs
def test_the_second_moment_of_a_complex_number_is_one_in_optax_and_two_in_torch() -> None:
    with pytest.raises(AssertionError, match="FAIL: optimizer"):
        check(Port(rngs=nnx.Rngs(0)), torch.optim.Adam, optax.chain(CONJUGATES, optax.adam(0.1)))


@pytest.mark.pairs
def test_a_conjugate_in_the_model_is_found() -> None:
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match="FAIL: forward"):
        pair.check(Recurrence(), Port(conjugated=True, rngs=nnx.Rngs(0)), inputs)


class Scaled(nn.Module):
    """gain: kept and not trained."""

    gain: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.register_buffer("gain", torch.linspace(0.5, 2, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gain * torch.tanh(self.linear(x))


class ScaledPort(nnx.Module):
    def __init__(self, most: float, *, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.gain = jnp.linspace(0.5, most, WIDTH)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.gain * jnp.tanh(self.linear(x))


@pytest.mark.parametrize("most", [2, 3])
def test_an_array_that_is_no_variable_keeps_its_value(most: float) -> None:
    port = ScaledPort(most, rngs=nnx.Rngs(0))
    if most == 2:
        assert status(pair.check(Scaled(), port, inputs), "gradients") == "ok"
    else:
        with pytest.raises(AssertionError, match="gain"):
            pair.check(Scaled(), port, inputs)
