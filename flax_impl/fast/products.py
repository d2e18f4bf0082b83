"""Products of many small matrices, written so that XLA's CPU compiler makes loops of them. torch's have no such rule.

Where each matrix has its rows before its columns, XLA compiles a batched product into loops of its own. Any other
order, which is what derivatives of products have, it hands to a library, one matrix at a time: for 2,000 products of
5 x 4 by 4 x 5 that takes 1.8 ms in place of 0.05.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from flax_impl.fast import jaxprs


def rows_first(function: Callable) -> Callable:
    """The function with every batched product in that order, in loops and branches too; same results but for rounding.

    For a function of arrays, that is differentiated no further. The function itself where this JAX does not let its
    equations be rewritten: then it is only slower.
    """
    return rewrite(function) if usable() else function


@cache
def usable() -> bool:
    """Whether this JAX lets equations be rewritten: a batched product in a loop is, once, and nothing is compiled."""

    def trial(members: Array) -> Array:
        return jax.lax.scan(lambda state, _: (jnp.einsum("mij,mkj->mik", state, state), None), members, None, 2)[0]

    members = jax.ShapeDtypeStruct((2, 1, 1), jnp.float32)
    try:
        return jax.eval_shape(rewrite(trial), members) == members
    except Exception:
        # Equations are undocumented, and so is how they will change.
        return False


def rewrite(function: Callable) -> Callable:
    """`rows_first` under a JAX that lets it."""

    def rewritten(*arguments: Any) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        results = jaxprs.jaxpr_as_fun(_rewritten(closed))(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return rewritten


def product(left: Array, right: Array, contracted: Sequence, batch: Sequence, options: Mapping[str, Any]) -> Array:
    """`lax.dot_general` of these axes, operands put as (*batch, rows, inner) and (*batch, inner, columns)."""
    sizes = [left.shape[axis] for axis in batch[0]]
    rows, columns = (
        [axis for axis in range(array.ndim) if axis not in (*inner, *outer)]
        for array, inner, outer in zip((left, right), contracted, batch, strict=True)
    )
    inner = math.prod(left.shape[axis] for axis in contracted[0])
    first = left.transpose(*batch[0], *rows, *contracted[0]).reshape(*sizes, -1, inner)
    second = right.transpose(*batch[1], *contracted[1], *columns).reshape(*sizes, inner, -1)
    axes = tuple(range(len(sizes)))
    numbers = (((len(sizes) + 1,), (len(sizes),)), (axes, axes))
    # XLA would otherwise fold the transpositions back into the product, the one of its result too.
    first, second = jax.lax.optimization_barrier((first, second))
    result: Array = jax.lax.optimization_barrier(jax.lax.dot_general(first, second, numbers, **options))
    return result.reshape(*sizes, *(left.shape[axis] for axis in rows), *(right.shape[axis] for axis in columns))


def _rewritten(value: Any) -> Any:
    """An equation's parameter, with what it holds of functions rewritten."""
    # Since JAX 0.12 both are one type, whose `jaxpr` is itself.
    if isinstance(value, jaxprs.Jaxpr):
        return value.replace(eqns=[new for equation in value.eqns for new in _equations(equation)])
    if isinstance(value, jaxprs.ClosedJaxpr):
        return value.replace(jaxpr=_rewritten(value.jaxpr))
    # Named tuples among the parameters hold no functions.
    return type(value)(map(_rewritten, value)) if type(value) in (tuple, list) else value


def _equations(equation: jaxprs.JaxprEqn) -> list[jaxprs.JaxprEqn]:
    """What takes the place of an equation."""
    if equation.primitive is not jaxprs.dot_general_p or not equation.params["dimension_numbers"][1][0]:
        return [equation.replace(params={name: _rewritten(value) for name, value in equation.params.items()})]
    contracted, batch = equation.params["dimension_numbers"]
    options = {name: equation.params[name] for name in ("precision", "preferred_element_type", "out_sharding")}
    given: Any = [operand.aval for operand in equation.invars]
    inner = jax.make_jaxpr(lambda left, right: product(left, right, contracted, batch, options))(*given).jaxpr
    names = dict(zip([*inner.invars, *inner.outvars], [*equation.invars, *equation.outvars], strict=True))

    def outer(atom: Any) -> Any:
        return atom if isinstance(atom, jaxprs.Literal) else names.get(atom, atom)

    return [
        new.replace(invars=[outer(atom) for atom in new.invars], outvars=[outer(atom) for atom in new.outvars])
        for new in inner.eqns
    ]
