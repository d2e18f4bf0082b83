"""Many seeds at once: one compiled function, `vmap` over members of a scan over epochs, the initial draws included."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from flax_impl import compilation
from flax_impl import optimizer as optimizers
from flax_impl.build import build
from flax_impl.fast.products import rows_first
from flax_impl.model import ArrayBatch
from flax_impl.parameters import assemble, initialize, key_of, sample
from flax_impl.settings import computing
from flax_impl.training import Carry, Inputs, evaluate, make_step, stack_constants, to_arrays, train
from spec.ensemble import NEVER, chunk_size, cut, join, member_bytes, one_by_one, start_by_start
from spec.experiment import Experiment
from spec.framework import Ensemble, Settings, Trajectory
from spec.machine import threads
from spec.parameters import Parameters
from spec.tasks import IGNORED, stack_batches
from spec.training import StepConstants

METHOD = "jit(vmap(scan))"

BLOCK_MEMORY = 2**22
"""Bytes that the members of one call on a CPU may take, by the estimate of `member_bytes`: what a core's cache holds.
Calls run side by side, see `spec.machine.threads`."""

SMALLEST_BLOCK, LARGEST_BLOCK = 32, 256
"""Members of one call on a CPU: each costs as much again as a few members take; and cores want something to share."""

WORTH_COMPILING = 64
"""Members from which on a compilation for all of them, about a second, is worth it: fewer run one after the other
through the function that `train` has compiled, in milliseconds each."""


def train_ensemble(
    experiment: Experiment, seeds: Sequence[int], settings: Settings, chunk: int | None = None
) -> Ensemble:
    """See spec.framework.Framework.train_ensemble."""
    if len(seeds) < WORTH_COMPILING:
        return one_by_one(initialize, train, experiment, seeds, settings)
    members = np.array(seeds, np.uint32)
    most = chunk or len(cut(len(members), chunk_size(experiment, settings.precision))[0])
    size = block_size(experiment, most, settings)
    with computing(settings):
        train_members = compile_members(experiment, settings, size, compilation.is_large(experiment, most, settings))

    def train_block(start: int) -> Ensemble:
        # JAX's switches are those of a thread.
        with computing(settings):
            return train_part(experiment, members[start : start + size], settings, size, train_members)

    starts = range(0, len(members), size)
    return join(side_by_side(train_block, starts, min(threads(), most // size)))


def block_size(experiment: Experiment, most: int, settings: Settings) -> int:
    """Members of one call. Not by the number of cores: who has others is to see the same results, to the last bit."""
    if settings.device != "cpu":
        return most
    fitting = BLOCK_MEMORY // member_bytes(experiment, settings.precision)
    return len(cut(most, min(max(fitting, SMALLEST_BLOCK), LARGEST_BLOCK))[0])


def side_by_side(function: Callable[[int], Ensemble], arguments: Sequence[int], workers: int) -> list[Ensemble]:
    """The function's results, so many at once: Python lets others run while XLA computes."""
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        try:
            return list(pool.map(function, arguments))
        except BaseException:
            # Else the others would all be computed first, after a Ctrl-C too.
            pool.shutdown(cancel_futures=True)
            raise


def train_starts(
    experiment: Experiment, starts: Sequence[Parameters], seed: int, settings: Settings
) -> list[Trajectory]:
    """See spec.framework.Framework.train_starts. One after the other: `train` is compiled once for all of them."""
    return start_by_start(train, experiment, starts, seed, settings)


def train_part(
    experiment: Experiment, seeds: np.ndarray, settings: Settings, size: int, train_members: Callable
) -> Ensemble:
    """The members of these seeds, uint32, at once; filled up to `size`, for which `train_members` is compiled."""
    filled = np.concatenate([seeds, np.repeat(seeds[-1:], size - len(seeds))])
    found = train_members(*make_arguments(experiment, filled, settings))
    losses, logits, first_solved = (np.asarray(array)[: len(seeds)] for array in found)
    return Ensemble(losses, logits, first_solved.astype(np.int64), METHOD)


def make_arguments(experiment: Experiment, seeds: np.ndarray, settings: Settings) -> tuple[Any, ...]:
    """What the compiled function takes: see `compile_members`."""
    training, task = experiment.training, experiment.task
    steps = range(training.epochs * training.steps_per_epoch)
    by_epoch = (training.epochs, training.steps_per_epoch)
    if task.drawn:
        drawn = to_arrays(stack_batches([task.batches(int(seed), steps, settings.precision) for seed in seeds]))
        batch = jax.tree.map(lambda x: x.reshape(len(x), *by_epoch, *x.shape[2:]), drawn)
    else:
        batch = to_arrays(task.batch(0, 0, settings.precision))
    constants = jax.tree.map(lambda x: x.reshape(by_epoch), stack_constants(training, steps, settings))
    numbers = np.array(steps, np.int32).reshape(by_epoch)
    return seeds, batch, constants, numbers, to_arrays(task.evaluation_batch(settings.precision))


@cache
def compile_members(experiment: Experiment, settings: Settings, size: int, large: bool) -> Callable:
    """The compiled function that trains `size` members. Ahead of its first call, which several threads might make.

    Takes the seeds, the batches (one for all, or of every member, epoch and step), the constants and numbers of every
    step, and the evaluation batch. Returns losses, last logits and first solved epoch, each with an axis of members.
    """
    training, task = experiment.training, experiment.task
    step = make_step(experiment, record=False, masks="own")
    graph, layout = build(experiment.model)

    def train_member(
        seed: Array, batch: ArrayBatch, constants: StepConstants, numbers: Array, evaluation_batch: ArrayBatch
    ) -> tuple[Array, Array, Array]:
        key = jax.random.key(seed)
        table = experiment.model.parameters()
        drawn = {parameter.name: sample(parameter, key_of(parameter, key), settings.precision) for parameter in table}
        parameters = assemble(layout, drawn)
        blank = StepConstants(training.optimizer.learning_rate, 1.0, 1.0)
        carry = Carry(parameters, optimizers.make(training.optimizer, blank).init(parameters))

        def descend(carry: Carry, at: Any) -> tuple[Carry, Array]:
            own, number, at_step = at
            dropout = number if experiment.model.has_dropout else None
            carry, outputs = step(carry, Inputs(own if task.drawn else batch, at_step, dropout), key)
            return carry, outputs.loss

        def epoch(before: tuple[Carry, Array, Array], at: Any) -> tuple[tuple[Carry, Array, Array], Array]:
            carry, solved_at, _ = before
            count, steps = at
            carry, losses = jax.lax.scan(descend, carry, steps)
            logits = evaluate(graph, carry.parameters, evaluation_batch)
            targets = evaluation_batch.targets
            solved = jnp.all((jnp.argmax(logits, -1) == targets) | (targets == IGNORED))
            return (carry, jnp.where((solved_at == NEVER) & solved, count, solved_at), logits), losses

        like = jax.eval_shape(lambda p: evaluate(graph, p, evaluation_batch), parameters)
        start = (carry, jnp.int32(NEVER), jnp.zeros(like.shape, like.dtype))
        counts = jnp.arange(1, training.epochs + 1, dtype=jnp.int32)
        steps = (batch if task.drawn else None, numbers, constants)
        (_, solved_at, logits), losses = jax.lax.scan(epoch, start, (counts, steps))
        return losses.reshape(-1), logits, solved_at

    members = jax.vmap(train_member, in_axes=(0, 0 if task.drawn else None, None, None, None))
    jitted = compilation.jit(rows_first(members) if large else members, compilation.ensemble_options(settings))
    alone, batch, *others = make_arguments(experiment, np.zeros(1, np.uint32), settings)
    if task.drawn:
        batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype), batch)
    return jitted.lower(np.repeat(alone, size), batch, *others).compile()
