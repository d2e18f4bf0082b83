"""Many seeds at once: one compiled function, `vmap` over members of a scan over epochs, the initial draws included."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from flax_impl import compilation
from flax_impl import optimizer as optimizers
from flax_impl.build import build
from flax_impl.model import ArrayBatch
from flax_impl.parameters import assemble, initialize, key_of, sample
from flax_impl.products import rows_first
from flax_impl.settings import computing
from flax_impl.training import Carry, Inputs, evaluate, make_step, stack_constants, to_arrays, train
from spec.ensemble import NEVER, chunk_size, cut, join, one_by_one, start_by_start
from spec.experiment import Experiment
from spec.framework import Ensemble, Settings, Trajectory
from spec.parameters import Parameters
from spec.tasks import IGNORED, stack_batches
from spec.training import StepConstants

METHOD = "jit(vmap(scan))"

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
    size = chunk or min(chunk_size(experiment, settings.precision), len(members))
    parts = [members[part.start : part.stop] for part in cut(len(members), size)]
    size = chunk or len(parts[0])
    with computing(settings):
        return join([train_chunk(experiment, part, settings, size) for part in parts])


def train_starts(
    experiment: Experiment, starts: Sequence[Parameters], seed: int, settings: Settings
) -> list[Trajectory]:
    """See spec.framework.Framework.train_starts. One after the other: `train` is compiled once for all of them."""
    return start_by_start(train, experiment, starts, seed, settings)


def train_chunk(experiment: Experiment, seeds: np.ndarray, settings: Settings, size: int) -> Ensemble:
    """The members of these seeds, uint32, at once; filled up to `size`, so that every chunk runs what was compiled."""
    training, task = experiment.training, experiment.task
    filled = np.concatenate([seeds, np.repeat(seeds[-1:], max(size - len(seeds), 0))])
    steps = range(training.epochs * training.steps_per_epoch)
    by_epoch = (training.epochs, training.steps_per_epoch)
    if task.drawn:
        drawn = to_arrays(stack_batches([task.batches(int(seed), steps, settings.precision) for seed in filled]))
        batch = jax.tree.map(lambda x: x.reshape(len(x), *by_epoch, *x.shape[2:]), drawn)
    else:
        batch = to_arrays(task.batch(0, 0, settings.precision))
    constants = jax.tree.map(lambda x: x.reshape(by_epoch), stack_constants(training, steps, settings))
    numbers = np.array(steps, np.int32).reshape(by_epoch)
    train_members = compile_members(experiment, settings, compilation.is_large(experiment, len(filled), settings))
    found = train_members(filled, batch, constants, numbers, to_arrays(task.evaluation_batch(settings.precision)))
    losses, logits, first_solved = (np.asarray(array)[: len(seeds)] for array in found)
    return Ensemble(losses, logits, first_solved.astype(np.int64), METHOD)


@cache
def compile_members(experiment: Experiment, settings: Settings, large: bool) -> Callable:
    """The jitted function that trains a chunk; compiled once for each number of members.

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
    return jax.jit(rows_first(members) if large else members, **compilation.ensemble_options(settings))
