"""Trainings side by side: one compiled function, `vmap` over members of a scan over epochs, initial draws included."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from flax_impl import compilation
from flax_impl import optimizer as optimizers
from flax_impl.build import build
from flax_impl.fast.products import rows_first
from flax_impl.model import ArrayBatch
from flax_impl.parameters import assemble, key_of, sample
from flax_impl.training import Carry, Inputs, evaluate, make_step, stack_constants, to_arrays
from spec.ensemble import NEVER
from spec.experiment import Experiment
from spec.framework import Settings
from spec.tasks import IGNORED, stack_batches
from spec.training import StepConstants


@cache
def compile_members(experiment: Experiment, settings: Settings, size: int, small: bool, large: bool) -> Callable:
    """The compiled function that trains `size` members. Ahead of its first call, which several threads might make.

    small, large: what there is to be computed in all, see flax_impl.compilation.

    Takes the seeds, the batches (one for all, or of every member, epoch and step), the constants and numbers of every
    step and which of its sequences go on, and the evaluation batch. Returns losses, last logits and first solved epoch,
    each with an axis of members.
    """
    training, task = experiment.training, experiment.task
    step = make_step(experiment, record=False, masks="own")
    graph, layout = build(experiment.model)

    def train_member(
        seed: Array,
        batch: ArrayBatch,
        constants: StepConstants,
        numbers: Array,
        goes_on: Array | None,
        evaluation_batch: ArrayBatch,
    ) -> tuple[Array, Array, Array]:
        key = jax.random.key(seed)
        table = experiment.model.parameters()
        drawn = {parameter.name: sample(parameter, key_of(parameter, key), settings.precision) for parameter in table}
        parameters = assemble(layout, drawn)
        blank = StepConstants(training.optimizer.learning_rate, 1.0, 1.0)
        zeros = {name: jnp.zeros(shape, settings.precision) for name, shape in experiment.carried.items()}
        carry = Carry(parameters, optimizers.make(training.optimizer, blank).init(parameters), zeros)

        def descend(carry: Carry, at: Any) -> tuple[Carry, Array]:
            own, number, at_step, goes_on = at
            dropout = number if experiment.model.has_dropout else None
            carry, outputs = step(carry, Inputs(own if task.drawn else batch, at_step, dropout, goes_on), key)
            return carry, outputs.loss

        def epoch(before: tuple[Carry, Array, Array], at: Any) -> tuple[tuple[Carry, Array, Array], Array]:
            carry, solved_at, _ = before
            count, steps = at
            carry, losses = jax.lax.scan(descend, carry, steps)
            logits = evaluate(graph, carry.parameters, evaluation_batch)
            first = (solved_at == NEVER) & _is_solved(logits, evaluation_batch.targets)
            return (carry, jnp.where(first, count, solved_at), logits), losses

        like = jax.eval_shape(lambda p: evaluate(graph, p, evaluation_batch), parameters)
        start = (carry, jnp.int32(NEVER), jnp.zeros(like.shape, like.dtype))
        counts = jnp.arange(1, training.epochs + 1, dtype=jnp.int32)
        steps = (batch if task.drawn else None, numbers, constants, goes_on)
        (_, solved_at, logits), losses = jax.lax.scan(epoch, start, (counts, steps))
        return losses.reshape(-1), logits, solved_at

    members = jax.vmap(train_member, in_axes=(0, 0 if task.drawn else None, None, None, None, None))
    options = compilation.ensemble_options(settings, small)
    jitted = compilation.jit(rows_first(members) if large else members, options)
    alone, batch, *others = make_arguments(experiment, np.zeros(1, np.uint32), settings)
    if task.drawn:
        batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype), batch)
    return jitted.lower(np.repeat(alone, size), batch, *others).compile()


def _is_solved(logits: Array, targets: Array) -> Bool[Array, ""]:
    """See spec.tasks.solved."""
    if jnp.issubdtype(targets.dtype, jnp.floating):
        return jnp.bool_(False)
    return jnp.all((jnp.argmax(logits, -1) == targets) | (targets == IGNORED))


def make_arguments(experiment: Experiment, seeds: np.ndarray, settings: Settings) -> tuple[Any, ...]:
    """What the compiled function takes: see `compile_members`."""
    training, task = experiment.training, experiment.task
    steps = range(training.epochs * training.steps_per_epoch)
    by_epoch = (training.epochs, training.steps_per_epoch)
    if task.drawn:
        drawn = to_arrays(stack_batches([experiment.batches(int(seed), steps, settings.precision) for seed in seeds]))
        batch = jax.tree.map(lambda x: x.reshape(len(x), *by_epoch, *x.shape[2:]), drawn)
    else:
        batch = to_arrays(experiment.batch(0, 0, settings.precision))
    constants = jax.tree.map(lambda x: x.reshape(by_epoch), stack_constants(training, steps, settings))
    numbers = np.array(steps, np.int32).reshape(by_epoch)
    rows = experiment.goes_on(steps)
    goes_on = None if rows is None else rows.reshape(*by_epoch, -1)
    return seeds, batch, constants, numbers, goes_on, to_arrays(experiment.evaluation_batch(settings.precision))
