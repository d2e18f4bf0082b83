"""Products of numbers rounded to bfloat16. See spec.mixed_precision.

`dtype=jnp.bfloat16` of Flax's layers is another matter: it rounds results too, and all that is computed from them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from spec.models import Model as Spec

DotGeneral = Callable[..., Array]
"""`jax.lax.dot_general`, or what `nnx.Linear` takes in its place."""

Matmul = Callable[[Array, Array], Array]
"""`jnp.matmul`, or what takes its place."""


class Products(NamedTuple):
    """How matrices are multiplied."""

    dot_general: DotGeneral = jax.lax.dot_general
    matmul: Matmul = jnp.matmul


def products(spec: Spec) -> Products:
    """How that model's equations multiply matrices."""
    return Products(_dot_general, _matmul) if spec.mixed_precision else Products()


@jax.custom_jvp
def bfloat16(values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The values rounded to float32 and then to bfloat16, in their own dtype; differentiated as if they were not.

    Not by casts: XLA may leave out one that is cast back.
    """
    single = jax.lax.reduce_precision(values, exponent_bits=8, mantissa_bits=23)
    return jax.lax.reduce_precision(single, exponent_bits=8, mantissa_bits=7)


@bfloat16.defjvp
def _as_if_it_were_not(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return bfloat16(*primals), tangents[0]


@jax.custom_vjp
def _with_rounded_gradient(result: Array) -> Array:
    """The result of a product, whose gradient is rounded before it is multiplied with either operand."""
    return result


_with_rounded_gradient.defvjp(lambda result: (result, None), lambda _, gradient: (bfloat16(gradient),))


def _dot_general(lhs: Array, rhs: Array, dimension_numbers: Any, **options: Any) -> Array:
    return _with_rounded_gradient(jax.lax.dot_general(bfloat16(lhs), bfloat16(rhs), dimension_numbers, **options))


def _matmul(left: Array, right: Array) -> Array:
    return _with_rounded_gradient(bfloat16(left) @ bfloat16(right))
