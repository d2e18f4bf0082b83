"""Many seeds at once: see torch_impl.members, where they can be trained together; else one after the other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spec.ensemble import NEVER, chunk_size, cut, join, one_by_one, solved_members, start_by_start, steps_drawn
from spec.experiment import Experiment
from spec.framework import Ensemble, Settings, Trajectory, bound
from spec.parameters import Parameters
from spec.tasks import map_arrays, stack_batches
from spec.training import State
from torch_impl.arrays import to_tensor
from torch_impl.member_masks import Masks, dropout_sites
from torch_impl.members import Members, Stacked
from torch_impl.parameters import initialize
from torch_impl.settings import computing, dtype_of
from torch_impl.training import dropout_of, to_tensors, train
from torch_impl.vmapping import decomposed, vmaps

METHOD = "vmap"


def train_ensemble(
    experiment: Experiment, seeds: Sequence[int], settings: Settings, chunk: int | None = None
) -> Ensemble:
    """See spec.framework.Side: train_ensemble."""
    if not vmaps(experiment, settings):
        begin, go_on = (bound(experiment, settings, function) for function in (initialize, train))
        return one_by_one(begin, go_on, experiment, seeds, settings.precision)
    size = chunk or chunk_size(experiment, settings.precision)
    with computing(settings, experiment), decomposed():
        parts = [[int(seed) for seed in seeds[part.start : part.stop]] for part in cut(len(seeds), size)]
        return join([_train_chunk(experiment, part, settings) for part in parts])


def _train_chunk(experiment: Experiment, seeds: list[int], settings: Settings) -> Ensemble:
    """The members of these seeds at once."""
    training, task = experiment.training, experiment.task
    starts = [initialize(experiment, seed, settings) for seed in seeds]
    masks = Masks(experiment, dropout_sites(experiment, starts[0], settings), seeds)
    members = Members(experiment, starts, settings, own_batches=task.drawn, own_masks=True)
    evaluation = experiment.evaluation_batch(settings.precision)
    evaluation_batch = to_tensors(evaluation, settings)
    losses, logits, first = [], [np.empty(0)], np.full(len(seeds), NEVER)
    each, steps = training.steps_per_epoch, range(training.epochs * training.steps_per_epoch)
    # A call for each epoch is a third of the time of a few members, so several epochs are evaluated at once.
    together = max(1, chunk_size(experiment, settings.precision) // len(seeds))
    ended: list[Stacked] = []
    arrays = experiment.batch(0, 0, settings.precision)
    batch = to_tensors(arrays, settings)
    block = steps_drawn(experiment, settings.precision, len(seeds))
    drawn = None
    rows = experiment.goes_on(steps)
    for step in steps:
        if task.drawn:
            if step % block == 0:
                here = range(step, min(step + block, len(steps)))
                drawn = stack_batches([experiment.batches(seed, here, settings.precision) for seed in seeds])
            assert drawn is not None
            at_step = map_arrays(lambda array, step=step: array[:, step % block], drawn)
            batch = to_tensors(at_step, settings)
        losses.append(members.step(step, batch, masks.draw(arrays, step), _at(rows, step)))
        if (step + 1) % each == 0:
            ended.append({name: values.clone() for name, values in members.parameters.items()})
        if ended and (len(ended) == together or step == steps[-1]):
            joined = {name: torch.cat([parameters[name] for parameters in ended]) for name in members.parameters}
            logits = np.split(members.logits(evaluation_batch, joined), len(ended))
            for epoch, of_epoch in enumerate(logits, (step + 1) // each - len(ended) + 1):
                first[solved_members(of_epoch, evaluation) & (first == NEVER)] = epoch
            ended = []
    return Ensemble(torch.stack(losses, 1).numpy(), logits[-1], first, METHOD)


def train_starts(
    experiment: Experiment, starts: Sequence[Parameters], seed: int, settings: Settings
) -> list[Trajectory]:
    """See spec.framework.Side: train_starts."""
    if not vmaps(experiment, settings):
        return start_by_start(train, experiment, starts, seed, settings)
    training, task = experiment.training, experiment.task
    with computing(settings, experiment), decomposed():
        members = Members(experiment, starts, settings, own_batches=False, own_masks=False)
        losses, trace, ends = [], [], []
        arrays = experiment.batch(seed, 0, settings.precision)
        batch = to_tensors(arrays, settings)
        steps = range(training.epochs * training.steps_per_epoch)
        rows = experiment.goes_on(steps)
        for step in steps:
            if task.drawn:
                arrays = experiment.batch(seed, step, settings.precision)
                batch = to_tensors(arrays, settings)
            drawn: Any = dropout_of(experiment, arrays, seed, step, "spec")
            masks = {name: to_tensor(mask, dtype_of(settings)) for name, mask in drawn.items()}
            losses.append(members.step(step, batch, masks, _at(rows, step)))
            trace.append(members.state())
            ends.append({name: state.numpy(force=True) for name, state in members.carried.items()})
        recorded = {name: np.stack([state[name] for state in trace], 1) for name in trace[0]}
        carried = {name: np.stack([state[name] for state in ends], 1) for name in ends[0]}
        logits = _evaluated(experiment, members, recorded, settings)
        return [
            _recorded_member(
                experiment,
                {name: array[member] for name, array in recorded.items()},
                {name: array[member] for name, array in carried.items()},
                *outputs,
            )
            for member, outputs in enumerate(zip(torch.stack(losses, 1).numpy(), logits, strict=True))
        ]


def _evaluated(experiment: Experiment, members: Members, recorded: Parameters, settings: Settings) -> np.ndarray:
    """Every member's logits after each epoch, (members, epochs, *logits' shape), of parameters (members, steps, ...).

    All epochs' parameters are evaluated as so many members: nothing of it comes back into the training, and a call for
    each epoch is most of the time of small models.
    """
    each, count = experiment.training.steps_per_epoch, len(next(iter(recorded.values())))
    batch = to_tensors(experiment.evaluation_batch(settings.precision), settings)
    ended = {name: recorded[name][:, each - 1 :: each] for name in members.parameters}
    flat = {name: to_tensor(array.reshape(-1, *array.shape[2:])) for name, array in ended.items()}
    size = chunk_size(experiment, settings.precision)
    parts = [
        members.logits(batch, {name: array[part.start : part.stop] for name, array in flat.items()})
        for part in cut(count * experiment.training.epochs, size)
    ]
    found = np.concatenate(parts)
    return found.reshape(count, -1, *found.shape[1:])


def _at(rows: np.ndarray | None, step: int) -> Tensor | None:
    """Which sequences of that step go on, of those of all steps from the first."""
    return None if rows is None else to_tensor(rows[step])


def _recorded_member(
    experiment: Experiment, recorded: Parameters, carried: Parameters, losses: np.ndarray, logits: np.ndarray
) -> Trajectory:
    """One member's trajectory, of its parameters and slots, and of the states that it carried, after each step,
    (steps, *shape) each."""
    names = [parameter.name for parameter in experiment.model.parameters()]
    parameters = {name: recorded[name] for name in names}
    slots = {name: array for name, array in recorded.items() if name not in parameters}
    found = Trajectory(State({}, {}, 0), losses, logits, parameters, slots, carried)
    return found._replace(state=found.after(len(losses)))
