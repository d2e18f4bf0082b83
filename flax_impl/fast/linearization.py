"""A step of a recurrence taken apart: its products, what it keeps for its backward pass, and that pass.

`jax.vjp` would keep all that a step's backward pass reads. Much of that is the state, which the layer's results hold
anyway, or takes one operation to compute again, such as the 1 - tanh(x) beside a tanh(x). None of this knows a cell's
equations. See flax_impl.fast.fused, which runs the steps; torch has this inside its layers.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
from flax import nnx
from jaxtyping import Array

from flax_impl.fast import jaxprs

State = tuple[Array, ...]
"""Of a cell, each (batch, hidden); over time, each (batch, time, hidden)."""

At = tuple[Array, Any]
"""What a step is given: inputs (batch, features), and marks of rows, by which nothing is differentiated: a tree of
arrays (batch,), with None where there are none."""

Step = Callable[[Any, State, At], State]
"""(cell, state, at) -> the state after the step."""

Source = int | Literal["inputs"] | None
"""What a product of a step acts on: its inputs as they are, or that part of the state before it; None: neither."""


Given = tuple[list[Array], At, dict[str, Array]]
"""Of a step: all parameters, what it is given, and every matrix transposed."""

Chosen = tuple[dict[int, Array], Array | None, State, Sequence[Array]]
"""What a step is differentiated by: parameters and inputs where it reads them without a product, the state before it,
and what its products gave."""

CHEAP = frozenset({"mul", "sub", "neg", "broadcast_in_dim"})
"""What is computed again: reading its result from memory would take longer than that."""


class StandIn:
    """In the place of a cell's `nnx.Linear`: tells `product` of every call, and gives back what that answers."""

    def __init__(self, linear: nnx.Linear, product: Callable[[nnx.Linear, Array], Array]):
        self.linear = linear
        self.product = product

    def __call__(self, inputs: Array) -> Array:
        return self.product(self.linear, inputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.linear, name)


def linears(cell: nnx.Module) -> Iterator[tuple[str, nnx.Linear]]:
    """A cell's linear layers, by attribute."""
    return ((name, value) for name, value in vars(cell).items() if isinstance(value, nnx.Linear))


def intercepted(
    graph: nnx.GraphDef, parameters: nnx.State, product: Callable[[str, nnx.Linear, Array], Array]
) -> nnx.Module:
    """The cell, whose products are `product`'s of the layer's name, the layer and its inputs."""
    cell = nnx.merge(graph, parameters)
    for name, linear in list(linears(cell)):
        setattr(cell, name, StandIn(linear, partial(product, name)))
    return cell


def source_of(inputs: Array, state: State, at: At) -> Source:
    """What a product acts on, found by identity."""
    if inputs is at[0]:
        return "inputs"
    return next((index for index, values in enumerate(state) if inputs is values), None)


def at_step(over_time: Any, step: Array | int) -> Any:
    """One step's, without the axis of time."""
    return jax.tree.map(lambda values: jax.lax.dynamic_index_in_dim(values, step, 1, keepdims=False), over_time)


def at_one_step(over_time: Any) -> Any:
    """Shapes without the axis of time."""
    return jax.eval_shape(partial(at_step, step=0), over_time)


class Linearization(NamedTuple):
    """A function, and what its pullback needs, as equations.

    equations: from the arguments to the results and what the pullback reads, `number` results first. constants: arrays
    that the function holds. structure: of the pullback. kept: what is neither an argument nor a result nor a constant,
    nor CHEAP to compute from these and from what is kept.
    """

    equations: jaxprs.Jaxpr
    constants: dict[jaxprs.Var, Any]
    number: int
    structure: Any
    kept: tuple[jaxprs.Var, ...]


class Traced(NamedTuple):
    """A step as it was traced: its products in the order in which the cell makes them, and its linearization.

    products: of which layer, and what it acts on. read: which parameters a step reads other than by its products, and
    whether it does so with its inputs; to add up the gradients of the others, all zero, would cost time and memory at
    every step.
    """

    products: list[tuple[str, Source]]
    read: tuple[list[int], bool]
    linearization: Linearization


def trace_step(graph: nnx.GraphDef, step: Step, parameters: nnx.State, initial: State, over_time: At) -> Traced:
    """Take a step apart."""
    products: list[tuple[str, Source]] = []

    def look(parameters: nnx.State, state: State, at: At) -> list[Array]:
        outputs = []

        def product(name: str, linear: nnx.Linear, inputs: Array) -> Array:
            products.append((name, source_of(inputs, state, at)))
            outputs.append(linear(inputs))
            return outputs[-1]

        step(intercepted(graph, parameters, product), state, at)
        return outputs

    at = at_one_step(over_time)
    outputs = jax.eval_shape(look, parameters, initial, at)
    leaves, structure = jax.tree.flatten(parameters)

    def replay(given: Given, chosen: Chosen) -> State:
        (leaves, (inputs, marks), transposed), (own_leaves, own_inputs, state, outputs) = given, chosen
        filled, remaining = list(leaves), iter(outputs)
        for index, leaf in own_leaves.items():
            filled[index] = leaf
        at = (inputs if own_inputs is None else own_inputs, marks)

        def product(name: str, linear: nnx.Linear, inputs: Array) -> Array:
            source, output = source_of(inputs, state, at), next(remaining)
            return output if source == "inputs" else _recall(inputs, transposed[name], output)

        return step(intercepted(graph, jax.tree.unflatten(structure, filled), product), state, at)

    transposed = jax.eval_shape(lambda: transposed_kernels(graph, parameters))
    given = (leaves, at, transposed)
    equations = jax.make_jaxpr(replay)(given, ({}, None, initial, outputs)).jaxpr
    used = set(map(id, [*equations.outvars, *(each for equation in equations.eqns for each in equation.invars)]))
    *by_leaves, by_inputs = (id(variable) in used for variable in equations.invars[: len(leaves) + 1])
    read = [index for index, is_read in enumerate(by_leaves) if is_read], by_inputs
    chosen = chosen_of(read, leaves, at[0], initial)
    return Traced(products, read, linearize(replay, given, (*chosen, outputs), len(outputs)))


def chosen_of(
    read: tuple[list[int], bool], leaves: Sequence[Any], inputs: Any, state: State
) -> tuple[dict[int, Any], Any, State]:
    """What a step is differentiated by, beside its products."""
    return {index: leaves[index] for index in read[0]}, inputs if read[1] else None, state


def transposed_kernels(graph: nnx.GraphDef, parameters: nnx.State) -> dict[str, Array]:
    """Once, where the products of every step would each read a matrix against its order in memory."""
    return {name: linear.kernel[...].T for name, linear in linears(nnx.merge(graph, parameters))}


@jax.custom_vjp
def _recall(inputs: Array, transposed: Array, output: Array) -> Array:
    """`output`, whose gradient goes on to the inputs of the product that gave it, and is also seen at `output`."""
    return output


_recall.defvjp(
    lambda inputs, transposed, output: (output, transposed),
    lambda transposed, gradient: (gradient @ transposed, None, gradient),
)


def linearize(
    function: Callable[[Any, Any], Sequence[Array]], given: Any, differentiated: Any, lost: int
) -> Linearization:
    """Of `function(given, differentiated)`, by `differentiated`; arguments may be shapes.

    lost: how many of the arguments' leaves, the last ones, are not there in the backward pass.
    """
    structures = []

    def both(given: Any, differentiated: Any) -> tuple[list[Array], list[Array]]:
        results, pullback = jax.vjp(lambda *chosen: tuple(function(given, chosen)), *differentiated)
        leaves, structure = jax.tree.flatten(pullback)
        structures.append(structure)
        return list(results), leaves

    closed, shapes = jax.make_jaxpr(both, return_shape=True)(given, differentiated)
    equations, number = closed.jaxpr, len(shapes[0])
    constants = dict(zip(equations.constvars, closed.consts, strict=True))
    there = equations.invars[: len(equations.invars) - lost]
    there = {*there, *constants, *_variables(equations.outvars[:number])}
    kept = dict.fromkeys(_kept(equations, equations.outvars[number:], there))
    return Linearization(equations, constants, number, structures[0], tuple(kept))


def keep(linearization: Linearization, given: Any, differentiated: Any) -> tuple[Array, ...]:
    """The values that have to be kept."""
    equations = linearization.equations
    known = linearization.constants | dict(zip(equations.invars, jax.tree.leaves((given, differentiated)), strict=True))
    return tuple(_evaluated(equations, linearization.kept, known))


def pullback(
    linearization: Linearization, given: Any, differentiated: Any, results: Sequence[Array], kept: Sequence[Array]
) -> Callable[..., Any]:
    """The function from gradients by the results to those by what is differentiated."""
    equations, constants, number, structure, variables = linearization
    # The last arguments are not there, and none of their values is read.
    known = constants | dict(zip(equations.invars, jax.tree.leaves((given, differentiated)), strict=False))
    pairs = zip(equations.outvars[:number], results, strict=True)
    known |= {variable: value for variable, value in pairs if not isinstance(variable, jaxprs.Literal)}
    known |= dict(zip(variables, kept, strict=True))
    return jax.tree.unflatten(structure, _evaluated(equations, equations.outvars[number:], known))


def _variables(atoms: Iterable[Any]) -> list[jaxprs.Var]:
    return [atom for atom in atoms if not isinstance(atom, jaxprs.Literal)]


def _made_by(equations: jaxprs.Jaxpr) -> dict[jaxprs.Var, jaxprs.JaxprEqn]:
    return {variable: equation for equation in equations.eqns for variable in equation.outvars}


def _kept(equations: jaxprs.Jaxpr, wanted: Iterable[Any], there: set[jaxprs.Var]) -> Iterator[jaxprs.Var]:
    made_by = _made_by(equations)
    for variable in _variables(wanted):
        if variable in there:
            continue
        if variable in made_by and made_by[variable].primitive.name in CHEAP:
            yield from _kept(equations, made_by[variable].invars, there)
        else:
            yield variable


def _evaluated(equations: jaxprs.Jaxpr, wanted: Iterable[Any], known: dict[jaxprs.Var, Any]) -> Sequence[Array]:
    """The values of these, and of nothing that they do not need."""
    wanted = list(wanted)
    made_by, needed = _made_by(equations), set()
    missing = _variables(wanted)
    while missing:
        variable = missing.pop()
        if variable not in known and made_by[variable] not in needed:
            needed.add(made_by[variable])
            missing += _variables(made_by[variable].invars)
    chosen = [equation for equation in equations.eqns if equation in needed]
    names = equations.debug_info.with_unknown_names()
    part = equations.replace(constvars=[], invars=list(known), outvars=wanted, eqns=chosen, debug_info=names)
    return jaxprs.jaxpr_as_fun(jaxprs.ClosedJaxpr(part, ()))(*known.values())
