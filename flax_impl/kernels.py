"""How a recurrence is scanned over time and differentiated. torch has this inside its layers.

Every formulation takes the same arguments and gives the same states, but for rounding: a cell, the function that makes
a step with it, the state to start from, what each step is given (batch first, then time), and whether time runs
backwards. None knows the cell's equations: they stand in its `__call__` alone.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import starmap
from math import isqrt
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import custom_derivatives
from jaxtyping import Array

from flax_impl.linearization import (
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


def scan(cell: nnx.Module, step: Step, initial: State, over_time: At, reverse: bool = False) -> State:
    """Differentiated by JAX, which adds to every weight's gradient at every step. Any derivative of any order."""

    def run(state: State, at: At) -> tuple[State, State]:
        new = step(cell, state, at)
        return new, new

    # lax.scan wants time first.
    swapped = jax.tree.map(lambda values: values.swapaxes(0, 1), over_time)
    trace = jax.lax.scan(run, initial, swapped, reverse=reverse)[1]
    return tuple(values.swapaxes(0, 1) for values in trace)


def fused(cell: nnx.Module, step: Step, initial: State, over_time: At, reverse: bool = False) -> State:
    """Scans back along the state alone, then takes each weight's gradient in one product over all steps.

    What a step keeps for that is found by tracing one, see flax_impl.linearization. Reverse mode of any order; forward
    mode raises TypeError. `scan` where this JAX lets no step be taken apart.
    """
    if not usable():
        return scan(cell, step, initial, over_time, reverse)
    graph, parameters = nnx.split(cell)
    return _fused(graph, step, reverse, parameters, initial, over_time)


def recomputed(cell: nnx.Module, step: Step, initial: State, over_time: At, reverse: bool = False) -> State:
    """`fused` in stretches of about sqrt(time) steps, of which the forward pass keeps the first state alone.

    Memory for the backward pass grows as sqrt(time), for one more forward pass. `scan` where `fused` is.
    """
    if not usable():
        return scan(cell, step, initial, over_time, reverse)
    graph, parameters = nnx.split(cell)
    return _recomputed(graph, step, reverse, parameters, initial, over_time)


@cache
def usable() -> bool:
    """Whether this JAX lets a step be taken apart: one is, once, and nothing is compiled."""

    def loss(run: Callable, parameters: nnx.State, inputs: Array) -> Array:
        cell = nnx.merge(graph, parameters)
        (states,) = run(graph, step, False, parameters, (jnp.zeros_like(inputs[:, 0]),), (inputs, None))
        return states.sum() + cell.weights.kernel.sum()

    def step(cell: Any, state: State, at: At) -> State:
        return (jnp.tanh(cell.weights(at[0]) + cell.weights(state[0])),)

    try:
        graph, parameters = nnx.split(nnx.eval_shape(lambda: Trial(rngs=nnx.Rngs(0))))
        inputs = jax.ShapeDtypeStruct((1, 2, 1), jnp.float32)
        for run in (_fused, _recomputed):
            jax.eval_shape(jax.grad(partial(loss, run)), parameters, inputs)
    except Exception:
        # Equations are undocumented, and so is how they will change.
        return False
    return True


class Trial(nnx.Module):
    """The smallest cell."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.weights = nnx.Linear(1, 1, rngs=rngs)


SMALL = 10**6
"""Multiplications of a layer's forward pass below which `scan` is chosen. `fused` compiles 0.05 to 0.15 s longer, and a
call of a small layer gains little or loses (T=5, B=1, I=4, H=4: `scan` is up to 1.9 times as fast). At this size a
training step gains 20 microseconds or so, and a few thousand steps pay for the compilation.
"""


def automatic(cell: nnx.Module, step: Step, initial: State, over_time: At, reverse: bool = False) -> State:
    """`scan` for small layers, else `fused`."""
    batch, time = over_time[0].shape[:2]
    size = time * batch * sum(linear.kernel.size for _, linear in linears(cell))
    return (scan if size < SMALL else fused)(cell, step, initial, over_time, reverse)


FEW = 16
"""Steps up to which a recurrence is unrolled."""


def unrolled(cell: nnx.Module, step: Step, initial: State, over_time: At, reverse: bool = False) -> State:
    """Without a loop where there are FEW steps, else `automatic`. Compiles longer, by the number of steps."""
    time = over_time[0].shape[1]
    if time > FEW:
        return automatic(cell, step, initial, over_time, reverse)
    state, states = initial, []
    for number in reversed(range(time)) if reverse else range(time):
        state = step(cell, state, at_step(over_time, number))
        states.append(state)
    in_order = states[::-1] if reverse else states
    return tuple(jnp.stack(values, 1) for values in zip(*in_order, strict=True))


FORMULATIONS = {
    "automatic": automatic,
    "fused": fused,
    "scan": scan,
    "recomputed": recomputed,
    "unrolled": unrolled,
}
"""By the name that `spec.framework.Settings.recurrence` has for them; "unrolled" is its "automatic" with `compiled`."""


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


def _forward(
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
    return _forward(graph, step, reverse, None, parameters, initial, over_time)[0]


Kept = tuple[nnx.State, State, At, State, KeptOverTime]


def _keep(
    graph: nnx.GraphDef, step: Step, reverse: bool, parameters: nnx.State, initial: State, over_time: At
) -> tuple[State, Kept]:
    traced = trace_step(graph, step, parameters, initial, over_time)
    trace, kept = _forward(graph, step, reverse, traced, parameters, initial, over_time)
    return trace, (parameters, initial, over_time, trace, kept)


def _differentiate(
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
        return (by_before, _add(sums, added)), (by_inputs, different)

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
    lambda graph, step, reverse, *primals: _keep(
        graph, step, reverse, *custom_derivatives.custom_vjp_primal_tree_values(primals)
    ),
    lambda graph, step, reverse, kept, gradients: _differentiate(graph, step, reverse, kept, _there(gradients)),
    symbolic_zeros=True,
)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _recomputed(
    graph: nnx.GraphDef, step: Step, reverse: bool, parameters: nnx.State, initial: State, over_time: At
) -> State:
    return _forward(graph, step, reverse, None, parameters, initial, over_time)[0]


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
        states, _ = _forward(graph, step, reverse, None, parameters, state, here)
        put = partial(jax.lax.dynamic_update_slice_in_dim, start_index=begin, axis=1)
        end = tuple(values[:, 0 if reverse else -1] for values in states)
        return (end, jax.tree.map(put, trace, states)), state

    empty = tuple(jax.lax.empty((batch, time, *values.shape[1:]), values.dtype) for values in initial)
    (_, trace), starts = _by_stretches(forward, (initial, empty), time, reverse)
    return trace, (parameters, starts, over_time)


def _differentiate_stretches(
    graph: nnx.GraphDef, step: Step, reverse: bool, kept: tuple[nnx.State, State, At], gradients: tuple
) -> tuple[nnx.State, State, tuple[Array, None]]:
    """`_differentiate` for one stretch after the other, whose forward pass is computed again."""
    parameters, starts, over_time = kept
    time = over_time[0].shape[1]
    by_states = _there(gradients)

    def back(
        carry: tuple[State, nnx.State, Array], number: Array | int, length: int
    ) -> tuple[tuple[State, nnx.State, Array], None]:
        by_end, sums, by_inputs = carry
        begin = number * isqrt(time)
        here, by_trace = _cut((over_time, by_states), begin, length)
        start = jax.tree.map(lambda values: jax.lax.dynamic_index_in_dim(values, number, keepdims=False), starts)
        _, kept = _keep(graph, step, reverse, parameters, start, here)
        added, by_start, (by_here, _) = _differentiate(graph, step, reverse, kept, by_trace, by_end)
        by_inputs = jax.lax.dynamic_update_slice_in_dim(by_inputs, by_here, begin, 1)
        return (by_start, _add(sums, added), by_inputs), None

    first = tuple(jnp.zeros(values.shape[1:], values.dtype) for values in starts)
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    carry = (first, zeros, jax.lax.empty(over_time[0].shape, over_time[0].dtype))
    (by_initial, sums, by_inputs), _ = _by_stretches(back, carry, time, not reverse)
    return sums, by_initial, (by_inputs, None)


def _cut(over_time: Any, begin: Array | int, length: int) -> Any:
    """Some steps of all."""
    return jax.tree.map(lambda v: jax.lax.dynamic_slice_in_dim(v, begin, length, 1), over_time)


def _there(gradients: tuple) -> tuple[Array | None, ...]:
    """The gradients by those states that something reads, None for the others."""
    return tuple(None if isinstance(each, custom_derivatives.SymbolicZero) else each for each in gradients)


_recomputed.defvjp(_keep_starts, _differentiate_stretches, symbolic_zeros=True)


def _sum(by_state: Array, by_new: Array | None) -> Array:
    return by_state if by_new is None else by_state + by_new


def _add(ours: Any, theirs: Any) -> Any:
    return jax.tree.map(jnp.add, ours, theirs)
