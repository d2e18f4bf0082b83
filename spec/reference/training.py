"""The training loop, as the equations have it."""

from collections.abc import Sequence

import numpy as np

from spec.ensemble import one_by_one
from spec.experiment import Experiment
from spec.framework import Ensemble, MaskSource, Replay, Settings, Trajectory
from spec.models import keep_masks
from spec.parameters import Parameters, check, generator_for
from spec.reference import encoder_decoder
from spec.reference.contract import check_settings, evaluate, gradients, initialize
from spec.reference.model import Evaluation
from spec.reference.optimizer import renormalized, step
from spec.training import State, initial_state


def train(
    experiment: Experiment,
    state: State,
    epochs: int,
    seed: int,
    settings: Settings,
    record: bool = False,
    masks: MaskSource = "own",
) -> Trajectory:
    """See spec.framework.Framework.train. The reference's own dropout masks are the spec's."""
    del masks
    check_settings(settings)
    training, task, model = experiment.training, experiment.task, experiment.model
    losses, logits, trace = [], [], []
    for _ in range(epochs):
        for _ in range(training.steps_per_epoch):
            batch = task.batch(seed, state.step, settings.precision)
            size, time = batch.inputs.shape[:2]
            dropped = keep_masks(model, size, time, generator_for(seed, "dropout", state.step))
            found = gradients(experiment, state.parameters, batch, settings, dropped)
            state = step(
                training, state._replace(parameters=renormalized(model, state.parameters, batch)), found.parameters
            )
            losses.append(found.loss)
            if record:
                trace.append(state)
        logits.append(predict(experiment, state))
    return Trajectory(
        state=state,
        losses=np.array(losses),
        logits=np.array(logits),
        parameters={n: np.stack([s.parameters[n] for s in trace]) for n in state.parameters} if trace else {},
        slots={n: np.stack([s.slots[n] for s in trace]) for n in state.slots} if trace else {},
    )


def replay(experiment: Experiment, parameters: Parameters, gradients: list[Parameters], settings: Settings) -> Replay:
    """See spec.framework.Framework.replay."""
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
    """See spec.framework.Framework.train_ensemble. One member after the other."""
    del chunk
    return one_by_one(initialize, train, experiment, seeds, settings)


def predict(experiment: Experiment, state: State) -> np.ndarray:
    """Logits of the evaluation batch, greedy where the model decodes step by step."""
    batch = experiment.task.evaluation_batch("float64")
    prepared = renormalized(experiment.model, state.parameters, batch)
    lifted = {name: value[None] for name, value in prepared.items()}
    if type(experiment.model).__name__ == "EncoderDecoder":
        at = Evaluation(experiment.model, lifted, batch)
        return encoder_decoder.predict(at, experiment.model)[0]  # type: ignore[arg-type]
    return evaluate(experiment.model, lifted, batch, {}).intermediates["logits"][0]
