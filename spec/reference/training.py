"""The training loop, as the equations have it."""

from collections.abc import Sequence

import numpy as np

from spec.ensemble import one_by_one, start_by_start
from spec.errors import Unsupported
from spec.experiment import Experiment
from spec.framework import Ensemble, Gradients, MaskSource, Replay, Settings, Trajectory, bound
from spec.models import keep_masks
from spec.parameters import Parameters, check, generator_for
from spec.reference import encoder_decoder
from spec.reference.contract import Elements, check_settings, evaluate, forward, gradients, initialize, slopes
from spec.reference.model import Evaluation
from spec.reference.optimizer import renormalized, step
from spec.tasks import Batch, fingerprint
from spec.tasks import check as check_batch
from spec.training import State, initial_state

MOST = 100_000
"""Parameters of a model that is trained: a step of so many takes minutes."""


def train(
    experiment: Experiment,
    state: State,
    epochs: int,
    seed: int,
    settings: Settings,
    record: bool = False,
    masks: MaskSource = "own",
    part: int | None = None,
) -> Trajectory:
    """See spec.framework.Side: train. The reference's own dropout masks are the spec's."""
    del masks
    check_settings(settings)
    if (count := experiment.parameter_count) > MOST:
        raise Unsupported(f"it takes a forward pass for each parameter: expected at most {MOST} to train, got {count}")
    losses, logits, trace, handed = [], [], [], []
    evaluation_batch = experiment.evaluation_batch(settings.precision)
    for _ in range(epochs):
        for _ in range(part or experiment.training.steps_per_epoch):
            loss, found, _ = gradients_at(experiment, state, seed, settings)
            state = advance(experiment, state, found, seed, settings)
            losses.append(loss)
            if record:
                trace.append(state)
                handed.append(fingerprint_at(experiment, state.step - 1, seed, settings))
        logits.append(predict(experiment, state.parameters, evaluation_batch, settings))
    return Trajectory(
        state=state,
        losses=np.array(losses),
        logits=np.array(logits),
        parameters={n: np.stack([s.parameters[n] for s in trace]) for n in state.parameters} if trace else {},
        slots={n: np.stack([s.slots[n] for s in trace]) for n in state.slots} if trace else {},
        carried={n: np.stack([s.carried[n] for s in trace]) for n in experiment.carried} if trace else {},
        batches=np.array(handed, np.int64) if record else None,
    )


def fingerprint_at(experiment: Experiment, step: int, seed: int, settings: Settings) -> int:
    """See spec.tasks.fingerprint: of the batch of that step."""
    rows = experiment.goes_on(range(step, step + 1))
    return fingerprint(experiment.batch(seed, step, settings.precision), None if rows is None else rows[0])


def gradients_at(
    experiment: Experiment, state: State, seed: int, settings: Settings, only: Elements | None = None
) -> Gradients:
    """The loss and the gradients of the step that follows `state`, with that step's batch and dropout masks.

    only: see `spec.reference.contract.complex_step`.
    """
    batch = batch_at(experiment, state, seed, settings)
    size, time = batch.inputs.shape[:2]
    dropped = keep_masks(experiment.model, size, time, generator_for(seed, "dropout", state.step))
    return gradients(experiment, state.parameters, batch, settings, dropped, only)


def slopes_at(
    experiment: Experiment, state: State, seed: int, settings: Settings, directions: Parameters
) -> dict[str, float]:
    """The products of `gradients_at`'s tensors with directions of their shapes, see spec.reference.contract.slopes."""
    batch = batch_at(experiment, state, seed, settings)
    size, time = batch.inputs.shape[:2]
    dropped = keep_masks(experiment.model, size, time, generator_for(seed, "dropout", state.step))
    return slopes(experiment, state.parameters, batch, settings, directions, dropped)


def advance(experiment: Experiment, state: State, found: Parameters, seed: int, settings: Settings) -> State:
    """The state after that step, given its gradients."""
    batch = batch_at(experiment, state, seed, settings)
    used = state._replace(parameters=renormalized(experiment.model, state.parameters, batch))
    after = step(experiment.training, used, found)
    if not experiment.carried:
        return after
    size, time = batch.inputs.shape[:2]
    dropped = keep_masks(experiment.model, size, time, generator_for(seed, "dropout", state.step))
    ended = forward(experiment, state.parameters, batch, settings, dropped)
    names = zip(experiment.carried, experiment.model.returned_states(), strict=True)
    return after._replace(carried={initial: ended[returned] for initial, returned in names})


def batch_at(experiment: Experiment, state: State, seed: int, settings: Settings) -> Batch:
    """The batch of the step that follows `state`, with the states from which its sequences go on."""
    batch = experiment.batch(seed, state.step, settings.precision)
    going_on = experiment.goes_on(range(state.step, state.step + 1))
    if going_on is None:
        return batch
    zeros = {name: np.zeros(shape, settings.precision) for name, shape in experiment.carried.items()}
    return batch._replace(
        initial={name: np.where(going_on[0][:, None], state.carried.get(name, zeros[name]), 0) for name in zeros}
    )


def replay(experiment: Experiment, parameters: Parameters, gradients: list[Parameters], settings: Settings) -> Replay:
    """See spec.framework.Side: replay."""
    check_settings(settings)
    table = experiment.model.parameters()
    check(table, parameters)
    state = initial_state(experiment.training.optimizer, parameters)
    trace = []
    for given in gradients:
        check(table, given, "gradients")
        state = step(experiment.training, state, given)
        trace.append(state)
    return Replay(
        {name: np.stack([at.parameters[name] for at in trace]) for name in state.parameters},
        {name: np.stack([at.slots[name] for at in trace]) for name in state.slots},
    )


def train_ensemble(
    experiment: Experiment, seeds: Sequence[int], settings: Settings, chunk: int | None = None
) -> Ensemble:
    """See spec.framework.Side: train_ensemble. One member after the other."""
    del chunk
    begin, go_on = (bound(experiment, settings, function) for function in (initialize, train))
    return one_by_one(begin, go_on, experiment, seeds, settings.precision)


def train_starts(
    experiment: Experiment, starts: Sequence[Parameters], seed: int, settings: Settings
) -> list[Trajectory]:
    """See spec.framework.Side: train_starts. One after the other."""
    return start_by_start(train, experiment, starts, seed, settings)


def predict(experiment: Experiment, parameters: Parameters, batch: Batch, settings: Settings) -> np.ndarray:
    """See spec.framework.Side: predict."""
    check_settings(settings)
    check_batch(experiment.model, batch)
    prepared = renormalized(experiment.model, parameters, batch)
    lifted = {name: value[None] for name, value in prepared.items()}
    if experiment.model.decodes:
        at = Evaluation(experiment.model, lifted, batch)
        return encoder_decoder.predict(at, experiment.model)[0]  # type: ignore[arg-type]
    return evaluate(experiment.model, lifted, batch, {}).intermediates["logits"][0]
