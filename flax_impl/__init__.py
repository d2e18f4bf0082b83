"""ohlol's models in JAX, written as `flax.nnx` modules. Satisfies `spec.framework.Framework`.

JAX is imported when a function of the contract is first asked for, so that `--help` need not wait for it.
"""

from typing import Any

from flax_impl.fast import SMALL

LEAVES_OUT: dict[str, str] = {"sparse embedding gradients": "JAX has no sparse gradients of an embedding"}
"""See spec.options."""

CHOICES: dict[str, tuple[str, ...]] = {"recurrence": ("automatic", "scan", "fused", "recomputed")}
"""See spec.choices. How recurrent layers are computed and differentiated, see flax_impl.fast: "scan" is the one that is
read most easily, differentiated by JAX; "automatic" is that or "fused", by size.
"""

SIZES: dict[str, tuple[int, ...]] = {
    "attention weights": (10**6,),
    "recurrent multiplications": (SMALL,),
    "multiplications of a training": (10**9,),
    "values of a training's steps": (10**7,),
}
"""See spec.sizes, and flax_impl.attention.MANY, flax_impl.fast.SMALL, and LARGE and CHEAP in flax_impl.compilation."""


def __getattr__(name: str) -> Any:
    # Here, since `python -m` imports the package first, and a signal that comes meanwhile is nobody's to notice yet.
    from spec.framework import FUNCTIONS

    if name not in ("describe", "open", *FUNCTIONS):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from flax_impl import contract

    return getattr(contract, name)
