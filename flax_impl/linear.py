"""`nnx.Linear` that starts by the spec's laws, as torch's stock layers do by themselves."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

from flax_impl.mixed_precision import DotGeneral
from spec.parameters import Constant, Law, Normal, Uniform, linear


class Linear(nnx.Linear):
    """`nnx.Linear`, of which Flax itself draws the matrix from Lecun's law and has the bias start at zero.

    laws: of the matrix and of the bias; those of `spec.parameters.linear` if None.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        use_bias: bool = True,
        laws: Sequence[Law] | None = None,
        dot_general: DotGeneral = jax.lax.dot_general,
        rngs: nnx.Rngs,
    ):
        kernel, bias = laws or [parameter.law for parameter in linear("", in_features, out_features)]
        super().__init__(
            in_features,
            out_features,
            use_bias=use_bias,
            kernel_init=initializer(kernel),
            bias_init=initializer(bias),
            dot_general=dot_general,
            rngs=rngs,
        )


class RowLinear(Linear):
    """`Linear` of rows: the gradients of its matrix from more axes take XLA's CPU backend twice the time."""

    def __call__(
        self, inputs: Float[Array, "*batch features"], out_sharding: Any = None
    ) -> Float[Array, "*batch outputs"]:
        rows = super().__call__(inputs.reshape(-1, inputs.shape[-1]), out_sharding)
        return rows.reshape(*inputs.shape[:-1], -1)


_drawing: ContextVar[bool] = ContextVar("drawing", default=True)


@contextmanager
def without_values() -> Iterator[None]:
    """Make layers whose values nobody looks at: to trace the drawing of a Transformer's takes longer than the rest."""
    token = _drawing.set(False)
    try:
        yield
    finally:
        _drawing.reset(token)


def initializer(law: Law) -> nnx.Initializer:
    """The law as Flax's layers take it; in which order a tensor's axes are makes no difference to any."""
    if not _drawing.get():
        return nnx.initializers.zeros_init()
    match law:
        case Uniform(bound, raised):
            if raised is None:
                return lambda key, shape, dtype=None, out_sharding=None: jax.random.uniform(
                    key, shape, dtype, -bound, bound
                )
            first, last, by = raised
            return lambda key, shape, dtype=None, out_sharding=None: (
                jax.random.uniform(key, shape, dtype, -bound, bound).at[first:last].add(by)
            )
        case Normal(standard_deviation, zero_row):
            normal = nnx.initializers.normal(standard_deviation)
            if zero_row is None:
                return normal
            return lambda key, shape, dtype=None, out_sharding=None: normal(key, shape, dtype).at[zero_row].set(0)
        case Constant(value):
            return nnx.initializers.constant(value)
