"""The functions that make the reference an implementation. See spec.framework.Framework."""

import importlib
import platform
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from spec.errors import DeviceMissing, Unsupported
from spec.experiment import Experiment
from spec.framework import Dropout, Gradients, LossGradient, Settings
from spec.models import Embedding, Model, keep_masks
from spec.parameters import Parameters, check, draw, generator_for
from spec.reference.arithmetic import Array
from spec.reference.mixed_precision import operand_gradients, surrogate
from spec.reference.model import INPUTS, Evaluation
from spec.reference.optimizer import embedding_gradient, renormalized
from spec.tasks import Batch
from spec.tasks import check as check_batch

STEP = 1e-30
"""The imaginary step of the complex-step method: so small that its square is lost, and nothing is subtracted."""

CHUNK = 256
"""Perturbations evaluated at once, which bounds the memory of what is computed from them."""

LARGEST = 2**24
"""Complex numbers that all perturbations evaluated at once may have together: 256 MiB."""

Elements = Mapping[str, Sequence[int]]
"""Flat indices of elements, by tensor."""


def describe(settings: Settings) -> dict[str, str]:
    """See spec.framework.Framework.describe."""
    check_settings(settings)
    return {"python": platform.python_version(), "numpy": np.__version__, "device": f"cpu ({platform.machine()})"}


def initialize(experiment: Experiment, seed: int, settings: Settings) -> Parameters:
    """See spec.framework.Side: initialize."""
    check_settings(settings)
    return draw(experiment.model.parameters(), seed, settings.precision)


def round_trip(experiment: Experiment, parameters: Parameters, settings: Settings) -> Parameters:
    """See spec.framework.Side: round_trip."""
    check_settings(settings)
    check(experiment.model.parameters(), parameters)
    return {name: value.copy() for name, value in parameters.items()}


def forward(
    experiment: Experiment, parameters: Parameters, batch: Batch, settings: Settings, dropout: Dropout = None
) -> dict[str, np.ndarray]:
    """See spec.framework.Side: forward."""
    return forced(experiment, parameters, batch, settings, {}, dropout)


def forced(
    experiment: Experiment,
    parameters: Parameters,
    batch: Batch,
    settings: Settings,
    stages: Mapping[str, np.ndarray],
    dropout: Dropout = None,
) -> dict[str, np.ndarray]:
    """Teacher forcing: each intermediate as it follows from the given ones before it, and not from the reference's own.

    stages: intermediates by name, (batch, time, ...). A recurrence is forced at every step, from the state before it.
    """
    check_settings(settings)
    check_batch(experiment.model, batch)
    check(experiment.model.parameters(), parameters)
    prepared = renormalized(experiment.model, parameters, batch)
    lifted = {name: value[None] for name, value in prepared.items()}
    at = evaluate(experiment.model, lifted, batch, masks_of(experiment, batch, dropout), stages)
    return {name: values[0] for name, values in at.intermediates.items()}


def gradients(
    experiment: Experiment,
    parameters: Parameters,
    batch: Batch,
    settings: Settings,
    dropout: Dropout = None,
    only: Elements | None = None,
) -> Gradients:
    """See spec.framework.Side: gradients. only: see `complex_step`; what is no parameter is the batch's inputs."""
    check_settings(settings)
    check_batch(experiment.model, batch)
    check(experiment.model.parameters(), parameters)
    masks = masks_of(experiment, batch, dropout)
    prepared = renormalized(experiment.model, parameters, batch)
    loss = loss_of(experiment, {name: p[None] for name, p in prepared.items()}, batch, masks)
    varied = prepared if isinstance(experiment.model.inputs, Embedding) else {**prepared, INPUTS: batch.inputs}
    if only is not None:
        only = {name if name in prepared else INPUTS: indices for name, indices in only.items()}
    # Less than it multiplies, of which the weights of attention are a part.
    rows, time = batch.inputs.shape[:2]
    held = rows * time * (time * experiment.model.attention_heads + experiment.model.parameter_count)
    found = complex_step(varied, differentiable(experiment, prepared, batch, masks, held), only, held)
    by_inputs = found.pop(INPUTS, None)
    return Gradients(float(loss[0]), embedding_gradient(experiment.model, found, batch), by_inputs)


def loss_gradient(experiment: Experiment, logits: np.ndarray, targets: np.ndarray, settings: Settings) -> LossGradient:
    """See spec.framework.Side: loss_gradient."""
    check_settings(settings)
    loss = experiment.training.loss
    found = complex_step({"logits": logits}, lambda at: loss.values(at["logits"], targets))
    return LossGradient(loss.value(logits, targets), found["logits"])


def slopes(
    experiment: Experiment,
    parameters: Parameters,
    batch: Batch,
    settings: Settings,
    directions: Parameters,
    dropout: Dropout = None,
) -> dict[str, float]:
    """The products of `gradients`' tensors with directions of their shapes, at the cost of a forward pass each.

    The derivative along a direction, by the complex-step method: of each tensor alone, the others held fixed.
    """
    check_settings(settings)
    check_batch(experiment.model, batch)
    check(experiment.model.parameters(), parameters)
    if experiment.model.mixed_precision:
        # Rounded on their way back, gradients are along a direction what they are.
        whole = gradients(experiment, parameters, batch, settings, dropout).parameters
        return {name: float(np.sum(whole[name] * direction)) for name, direction in directions.items()}
    masks = masks_of(experiment, batch, dropout)
    prepared = renormalized(experiment.model, parameters, batch)
    # Rows are scaled or left out, and that may as well be done to the direction.
    along = embedding_gradient(experiment.model, directions, batch)
    found: dict[str, float] = {}
    for name, direction in along.items():
        perturbed = {other: value[None] for other, value in prepared.items()}
        perturbed[name] = perturbed[name] + 1j * STEP * direction[None]
        found[name] = float(np.imag(loss_of(experiment, perturbed, batch, masks)[0])) / STEP
    return found


def complex_step(
    parameters: Parameters, function: Callable[[Parameters], Array], only: Elements | None = None, held: int = 1
) -> Parameters:
    """The derivative of `function`, which maps perturbed parameters to one value each, by every parameter.

    only: flat indices of the elements that are asked for, by name, where that is not all; the others are NaN. held:
    about how many numbers one evaluation of `function` holds.
    """
    names = list(parameters)
    flat = np.concatenate([parameters[name].ravel() for name in names])
    ends = np.cumsum([parameters[name].size for name in names])
    starts = dict(zip(names, ends - [parameters[name].size for name in names], strict=True))
    wanted = np.arange(len(flat))
    if only is not None:
        wanted = np.array([starts[name] + index for name, indices in only.items() for index in indices], np.int64)
    derivative = np.full_like(flat, np.nan)
    together = max(1, min(CHUNK, LARGEST // max(len(flat), held)))
    for first in range(0, len(wanted), together):
        rows = wanted[first : first + together]
        perturbed = np.tile(flat.astype(np.complex128), (len(rows), 1))
        perturbed[np.arange(len(rows)), rows] += 1j * STEP
        split = np.split(perturbed, ends[:-1], axis=1)
        shaped = {n: part.reshape(-1, *parameters[n].shape) for n, part in zip(names, split, strict=True)}
        derivative[rows] = np.imag(function(shaped)) / STEP
    return {
        n: part.reshape(parameters[n].shape) for n, part in zip(names, np.split(derivative, ends[:-1]), strict=True)
    }


def loss_of(
    experiment: Experiment,
    parameters: Parameters,
    batch: Batch,
    masks: Mapping[str, Array],
    product: Callable[[Array, Array], Array] | None = None,
) -> Array:
    """The recipe's loss for each perturbation. product: see `Evaluation`."""
    logits = evaluate(experiment.model, parameters, batch, masks, product=product).intermediates["logits"]
    return experiment.training.loss.values(logits, batch.targets)


def differentiable(
    experiment: Experiment, parameters: Parameters, batch: Batch, masks: Mapping[str, Array], held: int
) -> Callable[[Parameters], Array]:
    """The function of perturbed parameters, for each perturbation, whose derivatives the gradients at these are: the
    loss itself, or with rounded products what spec.reference.mixed_precision has in its place. held: see
    `complex_step`."""
    if not experiment.model.mixed_precision:
        return lambda perturbed: loss_of(experiment, perturbed, batch, masks)
    lifted = {name: value[None] for name, value in parameters.items()}
    results, found = operand_gradients(
        lambda product: loss_of(experiment, lifted, batch, masks, product),
        lambda at, function: complex_step({"": at}, lambda perturbed: function(perturbed[""]), held=held)[""],
    )

    def function(perturbed: Parameters) -> Array:
        count = len(next(iter(perturbed.values())))
        return surrogate(lambda p: loss_of(experiment, perturbed, batch, masks, p), results, found, count)

    return function


def evaluate(
    model: Model,
    parameters: Parameters,
    batch: Batch,
    masks: Mapping[str, Array],
    stages: Mapping[str, Array] | None = None,
    product: Callable[[Array, Array], Array] | None = None,
) -> Evaluation:
    """Run the model's equations: spec.models.gru.GRU is computed by spec.reference.gru.GRU."""
    file, name = type(model).__module__.rpartition(".")[2], type(model).__name__
    try:
        equations = getattr(importlib.import_module(f"spec.reference.{file}"), name)
    except (ModuleNotFoundError, AttributeError):
        raise Unsupported(f"the reference has no {name}: expected a function of that name in {file}.py") from None
    at = Evaluation(model, parameters, batch, masks, stages, product)
    equations(at, model)
    return at


def masks_of(experiment: Experiment, batch: Batch, dropout: Dropout) -> Mapping[str, Array]:
    """The masks that were given, or drawn from the seed; none in eval mode."""
    if dropout is None:
        return {}
    if isinstance(dropout, Mapping):
        return dropout
    size, time = batch.inputs.shape[:2]
    return keep_masks(experiment.model, size, time, generator_for(dropout, "dropout"))


def check_settings(settings: Settings) -> None:
    """Raise DeviceMissing or Unsupported for anything but float64 on a CPU."""
    if settings.device != "cpu":
        raise DeviceMissing(f"device: expected cpu, the reference's only one, got {settings.device}")
    if settings.precision != "float64":
        raise Unsupported(f"precision: expected float64, the reference's only one, got {settings.precision}")
