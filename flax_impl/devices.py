"""A step's gradient on several devices: each has the parameters and a share of the batch's sequences. See spec.devices.

Inside of `jax.shard_map` a device differentiates its share of the whole batch's loss, and one `psum` adds up what all
have. So the loop over time steps has no communication in it, which it has where `jit` finds out by itself what is to be
added up; and what comes out is the same on each device: clipping and the optimizer know nothing of all this.
"""

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, UInt32

from flax_impl.model import ArrayBatch
from spec.devices import SHARDS, Standing, checksums, program
from spec.devices import parted as why_parted
from spec.errors import DeviceLost, DeviceMissing
from spec.experiment import Experiment
from spec.framework import Settings
from spec.parameters import Parameters
from spec.tasks import not_asked

AXIS = "device"
"""The mesh's only one."""

PACKAGE = __name__.partition(".")[0]

LIBRARIES = ("jax", "jaxlib", "flax", "optax")
"""What all processes are to have in the same version."""

ALIKE = -1
"""What `parted` gives where all have the same."""

Gradient = tuple[tuple[Array, dict[str, Array]], nnx.State]
"""((loss, states in which the sequences ended), gradients)."""


def divided(
    differentiate: Callable[..., Gradient], experiment: Experiment, devices: int, settings: Settings
) -> Callable[..., Gradient]:
    """A function of (parameters, batch, dropout) that gives what `differentiate` gives for them, to rounding.

    differentiate: a function of (parameters, batch, dropout, the whole batch's targets) that gives a share's. dropout:
    masks of the whole batch by site; or a key, from which each device has one of its own; or nothing.
    """
    mesh = Mesh(np.array(devices_of(settings)[:devices]), (AXIS,))
    shards = SHARDS if settings.fixed_order else devices
    each, parts = shards // devices, shards * experiment.training.accumulate

    def of_share(parameters: nnx.State, batch: ArrayBatch, dropout: Any, shard: Array) -> Gradient:
        share, own = share_of(batch, shard, shards, parts), dropout
        if isinstance(dropout, jax.Array):
            own = jax.random.fold_in(dropout, shard)
        elif dropout:
            own = jax.tree.map(lambda mask: rows_of(mask, 0, shard, shards, parts), dropout)
        return differentiate(parameters, share, own, batch.targets)

    def on_one(parameters: nnx.State, batch: ArrayBatch, dropout: Any) -> Gradient:
        size, device = len(batch.inputs), jax.lax.axis_index(AXIS)
        if settings.fixed_order:
            return in_order(partial(of_share, parameters, batch, dropout), device * each, each)
        (loss, ended), gradients = of_share(parameters, batch, dropout, device)
        loss, gradients = jax.lax.psum((loss, gradients), AXIS)
        every = jax.tree.map(lambda state: jax.lax.all_gather(state, AXIS, axis=state.ndim - 2, tiled=True), ended)
        return (loss, jax.tree.map(lambda states: states[..., :size, :], every)), gradients

    # The whole batch comes to each device, which takes its rows itself: where XLA is left to cut an array that a step
    # has put together, it may give others (docs/devices.md). What is the same on all devices is known here: gradients
    # are added up once, and not behind our back.
    return jax.shard_map(on_one, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False)


def parted(parameters: nnx.State, devices: int, settings: Settings) -> Int[Array, ""]:
    """Which device's copy of which leaf is the first that is another than what most have: device * leaves + leaf, or
    ALIKE. Of two devices the first one's is taken for right."""

    def on_one(parameters: nnx.State) -> Array:
        every = jax.lax.all_gather(jnp.stack([checksum(leaf) for leaf in jax.tree.leaves(parameters)]), AXIS)
        # What most have stands in the middle of what all have, in order.
        usual = every[0] if devices == 2 else jnp.sort(every, axis=0)[devices // 2]
        odd = (every != usual).reshape(-1)
        return jnp.where(odd.any(), odd.argmax(), ALIKE)

    mesh = Mesh(np.array(devices_of(settings)[:devices]), (AXIS,))
    return jax.shard_map(on_one, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False)(parameters)


def compare(step: int, parameters: Parameters) -> None:
    """Raise DeviceLost in all processes where one is about to compute something else than the others."""
    own = pickle.dumps(Standing(program(PACKAGE, *LIBRARIES), step, checksums(parameters)))
    sizes = multihost_utils.process_allgather(np.uint32(len(own)))
    every = multihost_utils.process_allgather(padded(own, int(sizes.max())))
    standings = [pickle.loads(held[:size].tobytes()) for held, size in zip(every, sizes, strict=True)]
    if words := why_parted(standings, "process"):
        raise DeviceLost(words)


def padded(content: bytes, longest: int) -> np.ndarray:
    """The bytes and zeros behind them, in one of the few lengths that all processes come to: each is compiled."""
    held = np.zeros(1 << longest.bit_length(), np.uint8)
    held[: len(content)] = np.frombuffer(content, np.uint8)
    return held


def checksum(array: Float[Array, "*shape"]) -> UInt32[Array, ""]:
    """Of its bits and their places: a sum, modulo 2^32, of each word mixed with its place.

    Multipliers and shifts are those of `lowbias32` (github.com/skeeto/hash-prospector), under which each bit that goes
    in turns each bit that comes out with a probability of one half.
    """
    words = jax.lax.bitcast_convert_type(array, jnp.uint32).reshape(-1)
    mixed = words ^ jnp.arange(words.size, dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        mixed = (mixed ^ mixed >> shift) * jnp.uint32(factor)
    return (mixed ^ mixed >> 16).sum(dtype=jnp.uint32)


def in_order(of_share: Callable[[Array], Gradient], first: Array, each: int) -> Gradient:
    """The sum of the gradients of all shares in their order; of a device's own ones, which so many follow the first.

    In a loop whose length XLA does not know, and sums behind barriers: a share is to be computed by the same
    instructions beside others as alone.
    """
    (loss, _), gradients = jax.eval_shape(of_share, first)
    none: Any = jax.tree.map(lambda array: jnp.zeros((each, *array.shape), array.dtype), (loss, gradients))

    def compute(number: Array, held: Any) -> Any:
        (loss, _), gradients = of_share(first + number)
        return jax.tree.map(lambda arrays, array: arrays.at[number].set(array), held, (loss, gradients))

    own = jax.lax.fori_loop(0, jax.lax.optimization_barrier(jnp.int32(each)), compute, none)
    every = jax.lax.optimization_barrier(jax.lax.all_gather(own, AXIS, tiled=True))
    total = jax.tree.map(lambda array: array[0], every)
    for number in range(1, SHARDS):
        total = jax.tree.map(lambda one, array, number=number: one + array[number], total, every)
    loss, gradients = jax.lax.optimization_barrier(total)
    return (loss, {}), gradients


def share_of(batch: ArrayBatch, device: Array, devices: int, parts: int) -> ArrayBatch:
    """A device's sequences. Shares have one shape: what fills up the last ones is asked for nothing."""
    take = partial(rows_of, device=device, devices=devices, parts=parts)
    share: Any = jax.tree.map(lambda array: take(array, 0), batch._replace(initial=None))
    # The sequences are a state's last axis but one.
    states: Any = jax.tree.map(lambda state: take(state, state.ndim - 2), batch.initial)
    own = jnp.arange(len(share.targets)) + device * len(share.targets) < len(batch.targets)
    asked = jnp.where(own.reshape(-1, *[1] * (share.targets.ndim - 1)), share.targets, not_asked(share.targets))
    return share._replace(targets=asked, initial=states)


def rows_of(array: Array, axis: int, device: Array, devices: int, parts: int) -> Array:
    """A device's rows of an array, along an axis, where the last ones are there as often as it takes to have as many
    for each of so many parts."""
    width = [(0, 0)] * array.ndim
    width[axis] = (0, -array.shape[axis] % parts)
    filled = jnp.pad(array, width, mode="edge")
    size = filled.shape[axis] // devices
    return jax.lax.dynamic_slice_in_dim(filled, device * size, size, axis)


def count_of(settings: Settings) -> int:
    """Devices of JAX's that the work is divided among. A fixed order takes two of a CPU at least: for one alone XLA
    compiles by other passes, and what comes of them rounds otherwise."""
    return max(settings.devices, 2) if settings.fixed_order else settings.devices


def devices_of(settings: Settings) -> list[Any]:
    """Those of the kind that was asked for. Raises DeviceMissing where there are fewer than asked for."""
    try:
        found = jax.devices(settings.device)
    except RuntimeError:
        found = []
    if len(found) < count_of(settings):
        raise DeviceMissing(
            f"--devices: expected {count_of(settings)} {settings.device} devices that JAX can see, got {len(found)}"
        )
    return found
