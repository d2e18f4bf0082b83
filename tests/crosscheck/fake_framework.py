"""An implementation without a framework: not the models, but functions that are the same wherever they run.

It says that it has equations of its own, so that two sides are held against each other alone. Tests plant faults by
editing a copy.
"""

from collections.abc import Sequence

import numpy as np

from spec import generation
from spec import parameters as spec_parameters
from spec.ensemble import one_by_one
from spec.experiment import Experiment
from spec.framework import (
    Dropout,
    Ensemble,
    Generation,
    Gradients,
    LossGradient,
    MaskSource,
    Replay,
    Settings,
    Side,
    Trajectory,
    side_of,
)
from spec.mixed_precision import bfloat16
from spec.parameters import Parameters
from spec.tasks import IGNORED, Batch, logits_shape
from spec.training import State, initial_state

FOLLOWS_SPEC = False

CHOICES: dict[str, tuple[str, ...]] = {"order": ("forwards", "backwards")}


def describe(settings: Settings) -> dict[str, str]:
    return {"fake": "1.0", "device": settings.device}


def initialize(experiment: Experiment, seed: int, settings: Settings) -> Parameters:
    return spec_parameters.draw(experiment.model.parameters(), seed, settings.precision)


def round_trip(experiment: Experiment, parameters: Parameters, settings: Settings) -> Parameters:
    return {name: array.astype(settings.precision) for name, array in parameters.items()}


def forward(
    experiment: Experiment, parameters: Parameters, batch: Batch, settings: Settings, dropout: Dropout = None
) -> dict[str, np.ndarray]:
    inputs = batch.inputs.astype(settings.precision)
    if inputs.ndim == 2:
        inputs = inputs[..., None]
    if batch.lengths is not None:
        valid = np.arange(inputs.shape[1]) < batch.lengths[:, None]
        inputs = np.where(valid[..., None], inputs, 0)
    multiplied = bfloat16 if experiment.model.mixed_precision else np.asarray
    weight = sum(float(np.tanh(multiplied(array)).sum()) for array in parameters.values())
    outputs = {
        name: np.tanh(inputs * (position + weight)).astype(settings.precision)
        for position, name in enumerate(experiment.model.intermediates(), 1)
    }
    for state in batch.initial or {}:
        name = state.removesuffix("_0") + "_n"
        if name in outputs:
            outputs[name] = outputs[name].sum(axis=1)[None]
    shape = logits_shape(batch.targets, experiment.model.classes)
    mean = outputs["logits"].mean(axis=-1)
    mean = mean if len(shape) == 3 else mean[:, 0]
    if mean.ndim == 2 and mean.shape != shape[:-1]:
        mean = mean[:, :1]
    outputs["logits"] = np.broadcast_to(mean[..., None], shape).copy()
    return outputs


def gradients(
    experiment: Experiment, parameters: Parameters, batch: Batch, settings: Settings, dropout: Dropout = None
) -> Gradients:
    found = {}
    for parameter in experiment.model.parameters():
        gradient = parameters[parameter.name].copy()
        if parameter.zero_gradient is not None:
            gradient[slice(*parameter.zero_gradient)] = 0.0
        found[parameter.name] = gradient
    loss = sum(float((gradient.astype(np.float64) ** 2).sum()) / 2 for gradient in found.values())
    inputs = None
    if batch.inputs.dtype.kind == "f":
        valid = np.arange(batch.inputs.shape[1]) < (np.inf if batch.lengths is None else batch.lengths[:, None])
        inputs = np.where(np.broadcast_to(valid, batch.inputs.shape[:2])[..., None], np.tanh(batch.inputs), 0)
    return Gradients(float(np.asarray(loss, settings.precision)), found, inputs)


def loss_gradient(experiment: Experiment, logits: np.ndarray, targets: np.ndarray, settings: Settings) -> LossGradient:
    right, asked = wanted(experiment, targets)
    gradient = np.where(asked, np.tanh(logits) - right, 0).astype(settings.precision)
    return LossGradient(float(gradient.sum(dtype=np.float64).astype(settings.precision)), gradient)


def wanted(experiment: Experiment, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What logits should be, and where that is asked for."""
    if targets.dtype.kind == "f":
        return targets, ~np.isnan(targets)
    return targets[..., None] == np.arange(experiment.model.classes), (targets != IGNORED)[..., None]


def generate(
    experiment: Experiment,
    parameters: Parameters,
    prompt: np.ndarray,
    count: int,
    settings: Settings,
    temperature: float = 0.0,
    seed: int = 0,
) -> Generation:
    text, chosen_by = prompt, []
    for uniform in generation.uniforms(seed, count, len(prompt)):
        inputs = generation.as_inputs(experiment.model, text, settings.precision)
        logits = forward(experiment, parameters, Batch(inputs, np.zeros_like(text)), settings)["logits"][:, -1]
        chosen_by.append(logits)
        text = np.concatenate([text, generation.choose(logits, temperature, uniform)[:, None]], axis=1)
    return Generation(text[:, prompt.shape[1] :], np.stack(chosen_by, axis=1))


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
    task, training = experiment.task, experiment.training
    batch = task.evaluation_batch(settings.precision)
    right = np.where(*reversed(wanted(experiment, batch.targets)), 0)
    parameters, losses, logits, trace = dict(state.parameters), [], [], []
    slots = dict(state.slots)
    each = part or training.steps_per_epoch
    for step in range(epochs * each):
        loss, gradient, _ = gradients(experiment, parameters, batch, settings)
        losses.append(loss)
        for name, value in gradient.items():
            slots = {key: (slot + value if key.startswith(name + ".") else slot) for key, slot in slots.items()}
            parameters[name] = parameters[name] - value * parameters[name].dtype.type(training.learning_rate(step))
        trace.append((parameters.copy(), slots))
        if (step + 1) % each == 0:
            logits.append((right * 5.0 + losses[-1] * 1e-3).astype(settings.precision))
    return Trajectory(
        state=State(parameters, slots, state.step + len(losses)),
        losses=np.array(losses, settings.precision),
        logits=np.array(logits),
        parameters={name: np.stack([entry[0][name] for entry in trace]) for name in parameters},
        slots={name: np.stack([entry[1][name] for entry in trace]) for name in slots},
    )


def replay(experiment: Experiment, parameters: Parameters, gradients: list[Parameters], settings: Settings) -> Replay:
    training = experiment.training
    parameters, slots, trace = dict(parameters), initial_state(training.optimizer, parameters).slots, []
    for step, given in enumerate(gradients):
        for name, value in given.items():
            slots = {key: (slot + value if key.startswith(name + ".") else slot) for key, slot in slots.items()}
            parameters[name] = parameters[name] - value * value.dtype.type(training.learning_rate(step))
        trace.append((parameters.copy(), slots))
    return Replay(
        {name: np.stack([entry[0][name] for entry in trace]) for name in parameters},
        {name: np.stack([entry[1][name] for entry in trace]) for name in slots},
    )


def train_ensemble(
    experiment: Experiment, seeds: Sequence[int], settings: Settings, chunk: int | None = None
) -> Ensemble:
    side = open(experiment, settings)
    return one_by_one(side.initialize, side.train, experiment, seeds, settings.precision)


train_on_devices = train


spent: dict[str, float] = {}
compiles = False


def open(experiment: Experiment, settings: Settings) -> Side:
    """A side of the functions of those names that are here, as a test may have put more."""
    return side_of(globals(), experiment, settings, compiles=compiles, spent=spent)
