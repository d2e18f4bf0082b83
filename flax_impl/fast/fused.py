"""A recurrence with a backward pass of its own. torch has this inside its layers.

It takes a cell, the function that makes a step with it, the state to start from, what each step is given (batch first,
then time), and whether time runs backwards; and knows no cell's equations: they stand in its `__call__` alone.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import starmap
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import custom_derivatives
from jaxtyping import Array

from flax_impl.fast.linearization import (
    At,
    State,
    Step,
    Traced,
    at_one_step,
    at_step,
    chosen_of,
    intercepted,
    keep,
    linears,
    pullback,
    source_of,
    trace_step,
    transposed_kernels,
)


def fused(cell: nnx.Module, step: Step, initial: State, over_time: At, reverse: bool = False) -> State:
    """Scans back along the state alone, then takes each weight's gradient in one product over all steps.

    What a step keeps for that is found by tracing one, see flax_impl.fast.linearization. Reverse mode of any order;
    forward mode raises TypeError.
    """
    graph, parameters = nnx.split(cell)
    return _fused(graph, step, reverse, parameters, initial, over_time)


KeptOverTime = tuple[tuple[Array, ...], tuple[Array | None, ...]]
"""What a linearization needs, time first, and what products act on where that is neither inputs nor states."""


def _along_time(
    body: Callable[[Any, Array, Any], tuple[Any, tuple[Any, Any]]],
    carry: Any,
    time: int,
    reverse: bool,
    stacked: Any = None,
) -> tuple[Any, tuple[Any, Any]]:
    """`lax.scan` over the steps' numbers, for (carry, number, stacked) -> (carry, (placed, stacked)).

    What is placed has time second, and is written where it belongs: `lax.scan` would need all arrays to be transposed
    in memory. What is stacked has time first, as with `lax.scan`: for what nobody else sees, since rows that are far
    apart in memory are slow to write where the batch is large.
    """

    def run(both: tuple[Any, Any], at: tuple[Array, Any]) -> tuple[tuple[Any, Any], Any]:
        carry, placed = both
        carry, (values, kept) = body(carry, *at)
        put = partial(jax.lax.dynamic_update_index_in_dim, index=at[0], axis=1)
        return (carry, jax.tree.map(put, placed, values)), kept

    steps = jnp.arange(time)
    shapes = jax.eval_shape(body, carry, steps[0], jax.tree.map(lambda values: values[0], stacked))[1][0]
    placed = jax.tree.map(lambda one: jax.lax.empty((one.shape[0], time, *one.shape[1:]), one.dtype), shapes)
    (carry, placed), kept = jax.lax.scan(run, (carry, placed), (steps, stacked), reverse=reverse)
    return carry, (placed, kept)


def _scanned(
    graph: nnx.GraphDef,
    step: Step,
    reverse: bool,
    hoist: bool,
    traced: Traced | None,
    parameters: nnx.State,
    initial: State,
    over_time: At,
) -> tuple[State, KeptOverTime]:
    """The states; and where it is known how the step looks, what its backward pass will need.

    hoist: products of the inputs are taken before the scan, for all steps at once.
    """
    before = dict(_hoisted(graph, step, parameters, initial, over_time)) if hoist else {}
    transposed = transposed_kernels(graph, parameters)

    def run(state: State, number: Array, _: None) -> tuple[State, tuple[tuple[State, tuple], tuple[Array, ...]]]:
        at, taken = at_step((over_time, before), number)
        outputs, acted_on = [], []

        def product(name: str, linear: nnx.Linear, inputs: Array) -> Array:
            source = source_of(inputs, state, at)
            outputs.append(taken[name] if name in taken and source == "inputs" else linear(inputs))
            acted_on.append(inputs if source is None else None)
            return outputs[-1]

        new = step(intercepted(graph, parameters, product), state, at)
        if traced is None:
            return new, ((new, ()), ())
        leaves = jax.tree.leaves(parameters)
        chosen = chosen_of(traced.read, leaves, at[0], state)
        kept = keep(traced.linearization, (leaves, at, transposed), (*chosen, outputs))
        return new, ((new, tuple(acted_on)), kept)

    (states, acted_on), kept = _along_time(run, initial, over_time[0].shape[1], reverse)[1]
    return states, (kept, acted_on)


def _hoisted(
    graph: nnx.GraphDef, step: Step, parameters: nnx.State, initial: State, over_time: At
) -> Iterator[tuple[str, Array]]:
    """Every product that acts on the inputs, for all steps at once."""
    names = set()

    def look(parameters: nnx.State, state: State, at: At) -> State:
        def product(name: str, linear: nnx.Linear, inputs: Array) -> Array:
            if source_of(inputs, state, at) == "inputs":
                names.add(name)
            return linear(inputs)

        return step(intercepted(graph, parameters, product), state, at)

    jax.eval_shape(look, parameters, initial, at_one_step(over_time))
    return ((n, linear(over_time[0])) for n, linear in linears(nnx.merge(graph, parameters)) if n in names)


NARROW = 192
"""Columns of a product up to which that of the inputs is taken before the scan on a CPU too, where gradients will be
asked for: one of a step is too small to be done well, and cannot be shared by cores. Forward and backward, an RNN of
128 units takes 0.80 to 0.85 of the time, a GRU of 64 units 0.89; forward alone an RNN takes 1.1 times as long."""


def run_forward(
    graph: nnx.GraphDef,
    step: Step,
    reverse: bool,
    traced: Traced | None,
    parameters: nnx.State,
    initial: State,
    over_time: At,
) -> tuple[State, KeptOverTime]:
    """As is fastest where it will run, which is known when it is lowered; see docs/performance.md."""
    inside, before = (partial(_scanned, graph, step, reverse, hoist, traced) for hoist in (False, True))
    widths = [linear.kernel.shape[-1] for _, linear in linears(nnx.merge(graph, parameters))]
    if traced is not None and max(widths) <= NARROW:
        return before(parameters, initial, over_time)
    return jax.lax.platform_dependent(parameters, initial, over_time, cpu=inside, default=before)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _fused(
    graph: nnx.GraphDef, step: Step, reverse: bool, parameters: nnx.State, initial: State, over_time: At
) -> State:
    return run_forward(graph, step, reverse, None, parameters, initial, over_time)[0]


Kept = tuple[nnx.State, State, At, State, KeptOverTime]


def run_and_keep(
    graph: nnx.GraphDef, step: Step, reverse: bool, parameters: nnx.State, initial: State, over_time: At
) -> tuple[State, Kept]:
    """The states, and what the backward pass needs."""
    traced = trace_step(graph, step, parameters, initial, over_time)
    trace, kept = run_forward(graph, step, reverse, traced, parameters, initial, over_time)
    return trace, (parameters, initial, over_time, trace, kept)


def differentiate(
    graph: nnx.GraphDef,
    step: Step,
    reverse: bool,
    kept: Kept,
    gradients: tuple[Array | None, ...],
    by_end: State | None = None,
) -> tuple[nnx.State, State, tuple[Array, None]]:
    """The gradients by parameters, initial state and inputs, from those by every state.

    gradients: None for a state that nothing reads. by_end: what comes back to the last state from later steps.
    """
    parameters, initial, over_time, trace, (kept_over_time, acted_on) = kept
    products, read, linearization = trace_step(graph, step, parameters, initial, over_time)
    leaves, structure = jax.tree.flatten(parameters)
    transposed = transposed_kernels(graph, parameters)
    time = over_time[0].shape[1]
    shared: list[int] = []

    def back(
        carry: tuple[State, dict[int, Array]], number: Array, kept: tuple[Array, ...]
    ) -> tuple[tuple[State, dict[int, Array]], tuple[Array | None, dict[int, Array]]]:
        by_state, sums = carry
        by_new, at, new = at_step((gradients, over_time, trace), number)
        earlier = at_step(trace, number + 1 if reverse else number - 1)
        is_first = number == (time - 1 if reverse else 0)
        state = tuple(jnp.where(is_first, *pair) for pair in zip(initial, earlier, strict=True))
        pull = pullback(linearization, (leaves, at, transposed), chosen_of(read, leaves, at[0], state), new, kept)
        added, by_inputs, by_before, by_outputs = pull(tuple(starmap(_sum, zip(by_state, by_new, strict=True))))
        # Where a cell adds two products, their gradients are one array, which is kept once.
        first_with = {id(gradient): index for index, gradient in reversed(list(enumerate(by_outputs)))}
        shared[:] = [first_with[id(gradient)] for gradient in by_outputs]
        different = {index: by_outputs[index] for index in shared}
        return (by_before, add(sums, added)), (by_inputs, different)

    zeros = {index: jnp.zeros_like(leaves[index]) for index in read[0]}
    start = (by_end or jax.tree.map(jnp.zeros_like, initial), zeros)
    (by_initial, sums), (direct, different) = _along_time(back, start, time, not reverse, kept_over_time)
    total = list(map(jnp.zeros_like, leaves))
    for index, leaf in sums.items():
        total[index] = leaf
    by_cell = nnx.merge(graph, jax.tree.unflatten(structure, total))
    flat = {index: gradient.reshape(-1, gradient.shape[-1]) for index, gradient in different.items()}
    added_up = {index: gradient.sum(0) for index, gradient in flat.items()}
    by_all_inputs = jnp.zeros_like(over_time[0]) if direct is None else direct
    for (name, source), inputs, index in zip(products, acted_on, shared, strict=True):
        if isinstance(source, int):
            states = initial[source][:, None], trace[source]
            inputs = jnp.concatenate(states[::-1], 1)[:, 1:] if reverse else jnp.concatenate(states, 1)[:, :-1]
        factor: Any = over_time[0] if source == "inputs" else inputs
        linear = getattr(by_cell, name)
        linear.kernel[...] += factor.swapaxes(0, 1).reshape(-1, factor.shape[-1]).T @ flat[index]
        if linear.bias is not None:
            linear.bias[...] += added_up[index]
        if source == "inputs":
            by_all_inputs += (different[index] @ transposed[name]).swapaxes(0, 1)
    return nnx.split(by_cell)[1], by_initial, (by_all_inputs, None)


_fused.defvjp(
    lambda graph, step, reverse, *primals: run_and_keep(
        graph, step, reverse, *custom_derivatives.custom_vjp_primal_tree_values(primals)
    ),
    lambda graph, step, reverse, kept, gradients: differentiate(graph, step, reverse, kept, there(gradients)),
    symbolic_zeros=True,
)


def there(gradients: tuple) -> tuple[Array | None, ...]:
    """The gradients by those states that something reads, None for the others."""
    return tuple(None if isinstance(each, custom_derivatives.SymbolicZero) else each for each in gradients)


def _sum(by_state: Array, by_new: Array | None) -> Array:
    return by_state if by_new is None else by_state + by_new


def add(ours: Any, theirs: Any) -> Any:
    """Two trees, leaf by leaf."""
    return jax.tree.map(jnp.add, ours, theirs)
