"""The optimizer, with every constant from the spec. See spec.training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from flax_impl.parameters import Layout, to_canonical, to_native
from spec.parameters import Parameters
from spec.training import SGD, Adam, AdamW, AnyOptimizer, Clipping

OPTAX_NAMES = {"exp_avg": "mu", "exp_avg_sq": "nu", "momentum_buffer": "trace"}
"""The slots' names in optax's states, by their canonical names."""


def make(spec: AnyOptimizer, learning_rate: float | Float[Array, ""]) -> optax.GradientTransformation:
    """The optimizer at that learning rate, which is not part of its state."""
    match spec:
        case Adam():
            return optax.adam(learning_rate, b1=spec.beta1, b2=spec.beta2, eps=spec.epsilon)
        case AdamW():
            return optax.adamw(
                learning_rate, b1=spec.beta1, b2=spec.beta2, eps=spec.epsilon, weight_decay=spec.weight_decay
            )
        case SGD():
            return optax.sgd(learning_rate, momentum=spec.momentum or None)


def clip(spec: Clipping | None, gradients: optax.Updates) -> optax.Updates:
    """Scale all gradients together. optax's own function lacks the epsilon beside the norm."""
    if spec is None:
        return gradients
    factor = jnp.minimum(1, spec.max_norm / (optax.tree.norm(gradients) + spec.epsilon))
    return jax.tree.map(lambda gradient: gradient * factor, gradients)


def load_slots(
    spec: AnyOptimizer, layout: Layout, native: optax.Params, slots: Parameters, step: int
) -> optax.OptState:
    """The optimizer's state that holds canonical slots, named "<parameter>.<slot>", after `step` steps."""
    # Zeros by NumPy: JAX would compile a fill for every shape.
    blank = jax.eval_shape(make(spec, spec.learning_rate).init, native)
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), blank)
    for slot in spec.slots:
        own = {name.removesuffix(f".{slot}"): value for name, value in slots.items() if name.endswith(f".{slot}")}
        state = optax.tree.set(state, **{OPTAX_NAMES[slot]: to_native(layout, own)})
    counts = optax.tree.get_all_with_path(state, "count")
    return optax.tree.set(state, count=np.int32(step)) if counts else state


def slots(spec: AnyOptimizer, layout: Layout, state: optax.OptState) -> Parameters:
    """The optimizer's slots under their canonical names."""
    found = {}
    for slot in spec.slots:
        values = to_canonical(layout, optax.tree.get(state, OPTAX_NAMES[slot]))
        found |= {f"{name}.{slot}": value for name, value in values.items()}
    return found
