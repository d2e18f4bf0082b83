"""`fused` in stretches of time, for long sequences."""

from collections.abc import Callable
from functools import partial
from math import isqrt
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import custom_derivatives
from jaxtyping import Array

from flax_impl.fast.fused import add, differentiate, run_and_keep, run_forward, there
from flax_impl.fast.linearization import At, State, Step


def recomputed(cell: nnx.Module, step: Step, initial: State, over_time: At, reverse: bool = False) -> State:
    """`fused` in stretches of about sqrt(time) steps, of which the forward pass keeps the first state alone.

    Memory for the backward pass grows as sqrt(time), for one more forward pass.
    """
    graph, parameters = nnx.split(cell)
    return _recomputed(graph, step, reverse, parameters, initial, over_time)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _recomputed(
    graph: nnx.GraphDef, step: Step, reverse: bool, parameters: nnx.State, initial: State, over_time: At
) -> State:
    return run_forward(graph, step, reverse, None, parameters, initial, over_time)[0]


def _by_stretches(body: Callable[..., tuple[Any, Any]], carry: Any, time: int, reverse: bool) -> tuple[Any, Any]:
    """`lax.scan` over stretches of about sqrt(time) steps, for (carry, stretch, length) -> (carry, kept)."""
    whole, rest = divmod(time, isqrt(time))
    kept = []
    if rest and reverse:
        carry, last = body(carry, whole, rest)
        kept.append(jax.tree.map(lambda one: one[None], last))
    whole_stretch = partial(body, length=isqrt(time))
    carry, others = jax.lax.scan(whole_stretch, carry, jnp.arange(whole), reverse=reverse)
    kept.insert(0, others)
    if rest and not reverse:
        carry, last = body(carry, whole, rest)
        kept.append(jax.tree.map(lambda one: one[None], last))
    return carry, jax.tree.map(lambda *parts: jnp.concatenate(parts), *kept)


def _keep_starts(
    graph: nnx.GraphDef, step: Step, reverse: bool, *primals: Any
) -> tuple[State, tuple[nnx.State, State, At]]:
    """Of what the backward pass needs, the state that each stretch starts from."""
    parameters, initial, over_time = custom_derivatives.custom_vjp_primal_tree_values(primals)
    batch, time = over_time[0].shape[:2]

    def forward(carry: tuple[State, State], number: Array | int, length: int) -> tuple[tuple[State, State], State]:
        state, trace = carry
        begin = number * isqrt(time)
        here = _cut(over_time, begin, length)
        states, _ = run_forward(graph, step, reverse, None, parameters, state, here)
        put = partial(jax.lax.dynamic_update_slice_in_dim, start_index=begin, axis=1)
        end = tuple(values[:, 0 if reverse else -1] for values in states)
        return (end, jax.tree.map(put, trace, states)), state

    empty = tuple(jax.lax.empty((batch, time, *values.shape[1:]), values.dtype) for values in initial)
    (_, trace), starts = _by_stretches(forward, (initial, empty), time, reverse)
    return trace, (parameters, starts, over_time)


def _differentiate_stretches(
    graph: nnx.GraphDef, step: Step, reverse: bool, kept: tuple[nnx.State, State, At], gradients: tuple
) -> tuple[nnx.State, State, tuple[Array, None]]:
    """`differentiate` for one stretch after the other, whose forward pass is computed again."""
    parameters, starts, over_time = kept
    time = over_time[0].shape[1]
    by_states = there(gradients)

    def back(
        carry: tuple[State, nnx.State, Array], number: Array | int, length: int
    ) -> tuple[tuple[State, nnx.State, Array], None]:
        by_end, sums, by_inputs = carry
        begin = number * isqrt(time)
        here, by_trace = _cut((over_time, by_states), begin, length)
        start = jax.tree.map(lambda values: jax.lax.dynamic_index_in_dim(values, number, keepdims=False), starts)
        _, kept = run_and_keep(graph, step, reverse, parameters, start, here)
        added, by_start, (by_here, _) = differentiate(graph, step, reverse, kept, by_trace, by_end)
        by_inputs = jax.lax.dynamic_update_slice_in_dim(by_inputs, by_here, begin, 1)
        return (by_start, add(sums, added), by_inputs), None

    first = tuple(jnp.zeros(values.shape[1:], values.dtype) for values in starts)
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    carry = (first, zeros, jax.lax.empty(over_time[0].shape, over_time[0].dtype))
    (by_initial, sums, by_inputs), _ = _by_stretches(back, carry, time, not reverse)
    return sums, by_initial, (by_inputs, None)


def _cut(over_time: Any, begin: Array | int, length: int) -> Any:
    """Some steps of all."""
    return jax.tree.map(lambda v: jax.lax.dynamic_slice_in_dim(v, begin, length, 1), over_time)


_recomputed.defvjp(_keep_starts, _differentiate_stretches, symbolic_zeros=True)
