"""The names of JAX's equations (jaxprs), which are no part of its stable interface: all that flax_impl knows of them.

A name that this JAX lacks is `Missing`, and whoever needs it tries first whether it does what is wanted: see
flax_impl.fast.products.usable and flax_impl.fast.fused.usable.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun
    from jax.extend.core.primitives import dot_general_p


class Missing:
    """In the place of what this JAX lacks: nothing is one."""


def find(module: str, name: str) -> Any:
    """What a module has under that name, or `Missing`."""
    try:
        return getattr(importlib.import_module(module), name, Missing)
    except ImportError:
        return Missing


if not TYPE_CHECKING:
    ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun = (
        find("jax.extend.core", name) for name in ("ClosedJaxpr", "Jaxpr", "JaxprEqn", "Literal", "Var", "jaxpr_as_fun")
    )
    dot_general_p = find("jax.extend.core.primitives", "dot_general_p")
