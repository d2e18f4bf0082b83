"""How a recurrence is scanned over time and differentiated. torch has this inside its layers.

Every formulation takes the same arguments and gives the same states, but for rounding: a cell, the function that makes
a step with it, the state to start from, what each step is given (batch first, then time), and whether time runs
backwards. None knows the cell's equations: they stand in its `__call__` alone.
"""

from collections.abc import Callable, Iterator
from functools import partial
from math import isqrt
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

State = tuple[Array, ...]
"""Of a cell, each (batch, hidden); over time, each (batch, time, hidden)."""

At = tuple[Array, Array | None]
"""What a step is given: inputs (batch, features), and which rows are valid (batch,), None where all are."""

Step = Callable[[Any, State, At], State]
"""(cell, state, at) -> the state after the step. Holds no arrays of its own."""

Source = int | Literal["inputs"] | None
"""What a product of a step acts on: its inputs as they are, or that part of the state before it; None: neither."""


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

    The forward pass keeps what every `nnx.Linear` of the cell gave. The backward pass calls the cell again with these
    in their place, so that it multiplies nothing twice. Reverse mode of any order; forward mode raises TypeError.
    """
    graph, parameters = nnx.split(cell)
    return _fused(graph, step, reverse, parameters, initial, over_time)


def recomputed(cell: nnx.Module, step: Step, initial: State, over_time: At, reverse: bool = False) -> State:
    """`fused` in stretches of about sqrt(time) steps, of which the forward pass keeps the first state alone.

    Memory for the backward pass grows as sqrt(time), for one more forward pass.
    """
    graph, parameters = nnx.split(cell)
    return _recomputed(graph, step, reverse, parameters, initial, over_time)


SMALL = 10**6
"""Multiplications of a layer's forward pass below which `scan` is chosen. `fused` compiles 0.05 to 0.15 s longer, and a
call of a small layer gains little or loses (T=5, B=1, I=4, H=4: `scan` is up to 1.9 times as fast). At this size a
training step gains 20 microseconds or so, and a few thousand steps pay for the compilation.
"""


def automatic(cell: nnx.Module, step: Step, initial: State, over_time: At, reverse: bool = False) -> State:
    """`scan` for small layers, else `fused`."""
    batch, time = over_time[0].shape[:2]
    size = time * batch * sum(linear.kernel.size for _, linear in _linears(cell))
    return (scan if size < SMALL else fused)(cell, step, initial, over_time, reverse)


FORMULATIONS = {"automatic": automatic, "fused": fused, "scan": scan, "recomputed": recomputed}
"""By the name that `spec.framework.Settings.recurrence` has for them."""


class Product(NamedTuple):
    """A product that a step made: what it gave, and what it acted on where that is kept nowhere else."""

    output: Array
    inputs: Array | None


class StandIn:
    """In the place of a cell's `nnx.Linear`: tells `product` of every call, and gives back what that answers."""

    def __init__(self, linear: nnx.Linear, product: Callable[[nnx.Linear, Array], Array]):
        self.linear = linear
        self.product = product

    def __call__(self, inputs: Array) -> Array:
        return self.product(self.linear, inputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.linear, name)


def _linears(cell: nnx.Module) -> Iterator[tuple[str, nnx.Linear]]:
    return ((name, value) for name, value in vars(cell).items() if isinstance(value, nnx.Linear))


def _intercepted(
    graph: nnx.GraphDef, parameters: nnx.State, product: Callable[[str, nnx.Linear, Array], Array]
) -> nnx.Module:
    """The cell, whose products are `product`'s of the layer's name, the layer and its inputs."""
    cell = nnx.merge(graph, parameters)
    for name, linear in list(_linears(cell)):
        setattr(cell, name, StandIn(linear, partial(product, name)))
    return cell


def _source(inputs: Array, state: State, at: At) -> Source:
    if inputs is at[0]:
        return "inputs"
    return next((index for index, values in enumerate(state) if inputs is values), None)


def _at(over_time: Any, step: Array | int) -> Any:
    """One step's, without the axis of time."""
    return jax.tree.map(lambda values: jax.lax.dynamic_index_in_dim(values, step, 1, keepdims=False), over_time)


def _at_one_step(over_time: Any) -> Any:
    """Shapes without the axis of time."""
    return jax.eval_shape(partial(_at, step=0), over_time)


def _along_time(body: Callable[[Any, Array], tuple[Any, Any]], carry: Any, time: int, reverse: bool) -> tuple[Any, Any]:
    """`lax.scan` over the steps' numbers, for (carry, step) -> (carry, kept), whose kept arrays have time second.

    Their values are written where they belong, where `lax.scan` would need all arrays to be transposed in memory.
    """

    def run(both: tuple[Any, Any], step: Array) -> tuple[tuple[Any, Any], None]:
        carry, kept = both
        carry, values = body(carry, step)
        put = partial(jax.lax.dynamic_update_index_in_dim, index=step, axis=1)
        return (carry, jax.tree.map(put, kept, values)), None

    steps = jnp.arange(time)
    shapes = jax.eval_shape(body, carry, steps[0])[1]
    kept = jax.tree.map(lambda one: jax.lax.empty((one.shape[0], time, *one.shape[1:]), one.dtype), shapes)
    return jax.lax.scan(run, (carry, kept), steps, reverse=reverse)[0]


def _scanned(
    graph: nnx.GraphDef,
    step: Step,
    reverse: bool,
    hoist: bool,
    keep: bool,
    parameters: nnx.State,
    initial: State,
    over_time: At,
) -> tuple[State, tuple[Product, ...]]:
    """The states, and the products of every step, in the order in which the cell makes them.

    hoist: products of the inputs are taken before the scan, for all steps at once. keep: whether products are kept.
    """
    before = dict(_hoisted(graph, step, parameters, initial, over_time)) if hoist else {}

    def run(state: State, number: Array) -> tuple[State, tuple[State, tuple[Product, ...]]]:
        at, taken = _at((over_time, before), number)
        made: list[Product] = []

        def product(name: str, linear: nnx.Linear, inputs: Array) -> Array:
            source = _source(inputs, state, at)
            output = taken[name] if name in taken and source == "inputs" else linear(inputs)
            made.append(Product(output, inputs if source is None else None))
            return output

        new = step(_intercepted(graph, parameters, product), state, at)
        return new, (new, tuple(made) if keep else ())

    return _along_time(run, initial, over_time[0].shape[1], reverse)[1]


def _hoisted(
    graph: nnx.GraphDef, step: Step, parameters: nnx.State, initial: State, over_time: At
) -> Iterator[tuple[str, Array]]:
    """Every product that acts on the inputs, for all steps at once."""
    names = set()

    def look(parameters: nnx.State, state: State, at: At) -> State:
        def product(name: str, linear: nnx.Linear, inputs: Array) -> Array:
            if _source(inputs, state, at) == "inputs":
                names.add(name)
            return linear(inputs)

        return step(_intercepted(graph, parameters, product), state, at)

    jax.eval_shape(look, parameters, initial, _at_one_step(over_time))
    return ((n, linear(over_time[0])) for n, linear in _linears(nnx.merge(graph, parameters)) if n in names)


def _forward(
    graph: nnx.GraphDef, step: Step, reverse: bool, keep: bool, parameters: nnx.State, initial: State, over_time: At
) -> tuple[State, tuple[Product, ...]]:
    """As is fastest where it will run, which is known when it is lowered; see docs/performance.md."""
    cpu, other = (partial(_scanned, graph, step, reverse, hoist, keep) for hoist in (False, True))
    return jax.lax.platform_dependent(parameters, initial, over_time, cpu=cpu, default=other)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _fused(
    graph: nnx.GraphDef, step: Step, reverse: bool, parameters: nnx.State, initial: State, over_time: At
) -> State:
    return _forward(graph, step, reverse, False, parameters, initial, over_time)[0]


Kept = tuple[nnx.State, State, At, State, tuple[Product, ...]]


def _keep(
    graph: nnx.GraphDef, step: Step, reverse: bool, parameters: nnx.State, initial: State, over_time: At
) -> tuple[State, Kept]:
    trace, products = _forward(graph, step, reverse, True, parameters, initial, over_time)
    return trace, (parameters, initial, over_time, trace, products)


@jax.custom_vjp
def _recall(inputs: Array, transposed: Array, output: Array) -> Array:
    """`output`, whose gradient goes on to the inputs of the product that gave it, and is also seen at `output`."""
    return output


_recall.defvjp(
    lambda inputs, transposed, output: (output, transposed),
    lambda transposed, gradient: (gradient @ transposed, None, gradient),
)


def _differentiate(
    graph: nnx.GraphDef, step: Step, reverse: bool, kept: Kept, gradients: State
) -> tuple[nnx.State, State, tuple[Array, None]]:
    """The gradients by parameters, initial state and inputs, from those by every state."""
    parameters, initial, over_time, trace, products = kept
    outputs_over_time = tuple(product.output for product in products)
    time = over_time[0].shape[1]
    # Once, where the products of every step would each read a matrix against its order in memory.
    transposed = {name: linear.kernel[...].T for name, linear in _linears(nnx.merge(graph, parameters))}
    calls: list[tuple[str, Source]] = []

    def replay(parameters: nnx.State, at: At, state: State, outputs: tuple[Array, ...]) -> State:
        calls.clear()

        def product(name: str, linear: nnx.Linear, inputs: Array) -> Array:
            source, output = _source(inputs, state, at), outputs[len(calls)]
            calls.append((name, source))
            return output if source == "inputs" else _recall(inputs, transposed[name], output)

        return step(_intercepted(graph, parameters, product), state, at)

    leaves, structure = jax.tree.flatten(parameters)
    shapes = _at_one_step((over_time, outputs_over_time))
    by_parameters, by_inputs = _read(replay, leaves, structure, shapes[0], initial, shapes[1])

    shared: list[int] = []

    def back(
        carry: tuple[State, list[Array]], number: Array
    ) -> tuple[tuple[State, list[Array]], tuple[Array | None, dict[int, Array]]]:
        by_state, sums = carry
        by_new, (step_inputs, valid), outputs = _at((gradients, over_time, outputs_over_time), number)
        earlier = _at(trace, number + 1 if reverse else number - 1)
        is_first = number == (time - 1 if reverse else 0)
        state = tuple(jnp.where(is_first, *pair) for pair in zip(initial, earlier, strict=True))

        def again(chosen: list[Array], inputs: Array | None, state: State, outputs: tuple[Array, ...]) -> State:
            filled = list(leaves)
            for index, leaf in zip(by_parameters, chosen, strict=True):
                filled[index] = leaf
            at = (step_inputs if inputs is None else inputs, valid)
            return replay(jax.tree.unflatten(structure, filled), at, state, outputs)

        chosen = [leaves[index] for index in by_parameters]
        _, pull = jax.vjp(again, chosen, step_inputs if by_inputs else None, state, outputs)
        added, by_step_inputs, by_before, by_outputs = pull(_add(by_state, by_new))
        # Where a cell adds two products, their gradients are one array, which is kept once.
        first_with = {id(gradient): index for index, gradient in reversed(list(enumerate(by_outputs)))}
        shared[:] = [first_with[id(gradient)] for gradient in by_outputs]
        different = {index: by_outputs[index] for index in shared}
        return (by_before, _add(sums, added)), (by_step_inputs, different)

    start = (jax.tree.map(jnp.zeros_like, initial), [jnp.zeros_like(leaves[index]) for index in by_parameters])
    (by_initial, sums), (direct, different) = _along_time(back, start, time, not reverse)
    total = list(map(jnp.zeros_like, leaves))
    for index, leaf in zip(by_parameters, sums, strict=True):
        total[index] = leaf
    by_cell = nnx.merge(graph, jax.tree.unflatten(structure, total))
    flat = {index: gradient.reshape(-1, gradient.shape[-1]) for index, gradient in different.items()}
    added_up = {index: gradient.sum(0) for index, gradient in flat.items()}
    by_all_inputs = jnp.zeros_like(over_time[0]) if direct is None else direct
    for (name, source), (_, inputs), index in zip(calls, products, shared, strict=True):
        if isinstance(source, int):
            states = initial[source][:, None], trace[source]
            inputs = jnp.concatenate(states[::-1], 1)[:, 1:] if reverse else jnp.concatenate(states, 1)[:, :-1]
        acted_on: Any = over_time[0] if source == "inputs" else inputs
        linear = getattr(by_cell, name)
        linear.kernel[...] += acted_on.reshape(-1, acted_on.shape[-1]).T @ flat[index]
        if linear.bias is not None:
            linear.bias[...] += added_up[index]
        if source == "inputs":
            by_all_inputs += different[index] @ transposed[name]
    return nnx.split(by_cell)[1], by_initial, (by_all_inputs, None)


_fused.defvjp(_keep, _differentiate)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _recomputed(
    graph: nnx.GraphDef, step: Step, reverse: bool, parameters: nnx.State, initial: State, over_time: At
) -> State:
    return _forward(graph, step, reverse, False, parameters, initial, over_time)[0]


def _keep_starts(
    graph: nnx.GraphDef, step: Step, reverse: bool, parameters: nnx.State, initial: State, over_time: At
) -> tuple[State, tuple[nnx.State, State, At]]:
    """Of what the backward pass needs, the state that each stretch starts from."""
    trace = _recomputed(graph, step, reverse, parameters, initial, over_time)
    time = over_time[0].shape[1]
    length = isqrt(time)
    starts = []
    for first, values in zip(initial, trace, strict=True):
        edges = values[:, length::length] if reverse else values[:, length - 1 : time - 1 : length]
        pair = (first[:, None], edges)
        starts.append(jnp.concatenate(pair[::-1] if reverse else pair, 1))
    return trace, (parameters, tuple(starts), over_time)


def _differentiate_stretches(
    graph: nnx.GraphDef, step: Step, reverse: bool, kept: tuple[nnx.State, State, At], gradients: State
) -> tuple[nnx.State, State, tuple[Array, None]]:
    """`_differentiate` for one stretch after the other, whose forward pass is computed again."""
    parameters, starts, over_time = kept
    time = over_time[0].shape[1]
    length = isqrt(time)

    def differentiate(
        carry: tuple[State, nnx.State, Array], number: Array | int, length: int
    ) -> tuple[State, nnx.State, Array]:
        by_state, sums, by_inputs = carry
        begin = number * isqrt(time)
        cut = partial(jax.lax.dynamic_slice_in_dim, start_index=begin, slice_size=length, axis=1)
        here, by_trace = jax.tree.map(cut, (over_time, gradients))
        # What later stretches gave for the state in which this one ends.
        end = 0 if reverse else length - 1
        by_trace = tuple(values.at[:, end].add(by) for values, by in zip(by_trace, by_state, strict=True))
        _, kept = _keep(graph, step, reverse, parameters, _at(starts, number), here)
        added, by_state, (by_here, _) = _differentiate(graph, step, reverse, kept, by_trace)
        by_inputs = jax.lax.dynamic_update_slice_in_dim(by_inputs, by_here, begin, 1)
        return by_state, _add(sums, added), by_inputs

    whole, rest = divmod(time, length)
    zeros = jax.tree.map(jnp.zeros_like, (_at(starts, 0), parameters))
    carry = (*zeros, jax.lax.empty(over_time[0].shape, over_time[0].dtype))
    if rest and not reverse:
        carry = differentiate(carry, whole, rest)
    carry, _ = jax.lax.scan(
        lambda carry, number: (differentiate(carry, number, length), None),
        carry,
        jnp.arange(whole),
        reverse=not reverse,
    )
    if rest and reverse:
        carry = differentiate(carry, whole, rest)
    by_initial, sums, by_inputs = carry
    return sums, by_initial, (by_inputs, None)


_recomputed.defvjp(_keep_starts, _differentiate_stretches)


def _read(
    replay: Callable, leaves: list[Array], structure: Any, at: Any, state: Any, outputs: Any
) -> tuple[list[int], bool]:
    """Which parameters a step reads other than by its products, and whether it does so with its inputs.

    at, state, outputs: of one step, or their shapes. To add up the gradients of the others, all zero, would cost time
    and memory at every step.
    """

    def flat(leaves: list[Array], inputs: Array, valid: Array | None, state: State, outputs: tuple) -> State:
        return replay(jax.tree.unflatten(structure, leaves), (inputs, valid), state, outputs)

    traced = jax.make_jaxpr(flat)(leaves, at[0], at[1], state, outputs).jaxpr
    read = {id(variable) for equation in traced.eqns for variable in equation.invars} | set(map(id, traced.outvars))
    found = [id(variable) in read for variable in traced.invars[: len(leaves) + 1]]
    return [index for index, is_read in enumerate(found[:-1]) if is_read], found[-1]


def _add(ours: Any, theirs: Any) -> Any:
    return jax.tree.map(jnp.add, ours, theirs)
