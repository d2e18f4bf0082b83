"""A recurrence without a loop."""

import jax.numpy as jnp
from flax import nnx

from flax_impl.fast.linearization import At, State, Step, at_step

FEW = 16
"""Steps up to which a recurrence is unrolled."""


def unrolled(cell: nnx.Module, step: Step, initial: State, over_time: At, reverse: bool = False) -> State:
    """One step after the other, differentiated by JAX. Compiles longer, by the number of steps."""
    time = over_time[0].shape[1]
    state, states = initial, []
    for number in reversed(range(time)) if reverse else range(time):
        state = step(cell, state, at_step(over_time, number))
        states.append(state)
    in_order = states[::-1] if reverse else states
    return tuple(jnp.stack(values, 1) for values in zip(*in_order, strict=True))
