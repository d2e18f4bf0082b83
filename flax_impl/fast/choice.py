"""Which formulation of a recurrence is run. Each gives the same states, but for rounding."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from flax_impl.fast import SMALL
from flax_impl.fast.fused import fused
from flax_impl.fast.linearization import At, State, linears
from flax_impl.fast.recomputed import recomputed
from flax_impl.fast.unrolled import FEW, unrolled

Formulation = Callable[..., State]
"""Of (cell, step, initial, over_time, reverse=...) -> the states over time; see flax_impl.fast.fused."""

FORMULATIONS: dict[str, Formulation | None] = {"scan": None, "fused": fused, "recomputed": recomputed}
"""By the name that flax_impl.CHOICES has for them; None for the scan of flax_impl.recurrent."""


def chosen(name: str, cell: nnx.Module, inputs: Array) -> Formulation | None:
    """The formulation of that name for inputs (batch, time, features); None: the scan of flax_impl.recurrent, which it
    also is where a cell multiplies in a way of its own.

    "automatic" is the scan for small layers, else `fused`. "unrolled" has no loop where there are FEW steps, and is
    else "automatic": what "automatic" stands for where the settings are `compiled`. What takes steps apart is the scan
    where this JAX does not let that be done.
    """
    batch, time = inputs.shape[:2]
    if name == "unrolled" and time <= FEW:
        return unrolled
    if any(linear.dot_general is not jax.lax.dot_general for _, linear in linears(cell)):
        return None
    if name in ("automatic", "unrolled"):
        size = time * batch * sum(linear.kernel.size for _, linear in linears(cell))
        name = "scan" if size < SMALL else "fused"
    formulation = FORMULATIONS[name]
    return formulation if formulation is not None and usable() else None


@cache
def usable() -> bool:
    """Whether this JAX lets a step be taken apart: one is, once, and nothing is compiled."""

    def loss(run: Callable, parameters: nnx.State, inputs: Array) -> Array:
        cell = nnx.merge(graph, parameters)
        (states,) = run(cell, step, (jnp.zeros_like(inputs[:, 0]),), (inputs, None))
        return states.sum() + cell.weights.kernel.sum()

    def step(cell: Any, state: State, at: At) -> State:
        return (jnp.tanh(cell.weights(at[0]) + cell.weights(state[0])),)

    try:
        graph, parameters = nnx.split(nnx.eval_shape(lambda: Trial(rngs=nnx.Rngs(0))))
        inputs = jax.ShapeDtypeStruct((1, 2, 1), jnp.float32)
        for run in (fused, recomputed):
            jax.eval_shape(jax.grad(partial(loss, run)), parameters, inputs)
    except Exception:
        # Equations are undocumented, and so is how they will change.
        return False
    return True


class Trial(nnx.Module):
    """The smallest cell."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.weights = nnx.Linear(1, 1, rngs=rngs)
