"""The functions that make flax_impl an implementation. See spec.framework.Framework."""

import platform
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import flax
import jax
import numpy as np
import optax
from flax import nnx

from flax_impl import compilation
from flax_impl.arrays import to_array
from flax_impl.build import build, check_gradients, load
from flax_impl.dropout import set_mode
from flax_impl.ensemble import train_ensemble, train_starts
from flax_impl.generation import generate
from flax_impl.loss import compute_loss
from flax_impl.model import ArrayBatch, Model, run
from flax_impl.parameters import initialize, to_canonical
from flax_impl.processes import begin, train_on_devices
from flax_impl.settings import computing, device_of
from flax_impl.training import evaluate, renormalized, replay, to_arrays, train
from spec.experiment import Experiment
from spec.framework import Dropout, Gradients, LossGradient, Settings, Side, side_of
from spec.models import Embedding
from spec.models import Model as Spec
from spec.parameters import Parameters
from spec.tasks import Batch, check
from spec.training import AnyLoss

__all__ = [
    "describe",
    "forward",
    "generate",
    "gradients",
    "initialize",
    "loss_gradient",
    "open",
    "predict",
    "replay",
    "round_trip",
    "train",
    "train_ensemble",
    "train_on_devices",
    "train_starts",
]


def describe(settings: Settings) -> dict[str, str]:
    """See spec.framework.Framework.describe."""
    begin(settings)
    device = device_of(settings)
    several = f"{settings.devices} x " if settings.devices > 1 else ""
    return {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "flax": flax.__version__,
        "optax": optax.__version__,
        "device": f"{several}{device.platform} ({device.device_kind})",
    }


def open(experiment: Experiment, settings: Settings) -> Side:
    """See spec.framework.Framework.open."""
    return side_of(
        globals(),
        experiment,
        settings,
        generators=generators,
        compiles=True,
        spent=compilation.SPENT,
        counts=compilation.COUNTS,
    )


def generators(draw: bool) -> dict[str, np.ndarray]:
    """See spec.framework.Side: generators. JAX's keys are arguments."""
    del draw
    return {}


def round_trip(experiment: Experiment, parameters: Parameters, settings: Settings) -> Parameters:
    """See spec.framework.Side: round_trip."""
    with computing(settings):
        graph, layout = build(experiment.model)
        model = nnx.merge(graph, load(experiment.model, parameters, settings))
        return to_canonical(layout, nnx.state(model, nnx.Param))


def forward(
    experiment: Experiment, parameters: Parameters, batch: Batch, settings: Settings, dropout: Dropout = None
) -> dict[str, np.ndarray]:
    """See spec.framework.Side: forward."""
    if dropout is None or isinstance(dropout, Mapping):
        function = _compiled(experiment.model, experiment.training.loss, settings)
        outputs, _ = _compute(function, experiment, parameters, batch, settings, dropout)
    else:
        # Gradients under masks that nobody else can know are hardly asked for, and are most of the compilation.
        function = _compiled_forward(experiment.model, settings)
        outputs = _compute(function, experiment, parameters, batch, settings, dropout)
    return {name: np.asarray(value) for name, value in outputs.items()}


def gradients(
    experiment: Experiment, parameters: Parameters, batch: Batch, settings: Settings, dropout: Dropout = None
) -> Gradients:
    """See spec.framework.Side: gradients."""
    check_gradients(experiment.model)
    function = _compiled(experiment.model, experiment.training.loss, settings)
    _, (loss, native, by_inputs) = _compute(function, experiment, parameters, batch, settings, dropout)
    canonical = to_canonical(build(experiment.model)[1], native)
    return Gradients(float(loss), canonical, None if by_inputs is None else np.array(by_inputs))


def loss_gradient(experiment: Experiment, logits: np.ndarray, targets: np.ndarray, settings: Settings) -> LossGradient:
    """See spec.framework.Side: loss_gradient."""
    with computing(settings):
        loss, gradient = _compiled_loss(experiment.training.loss, settings)(to_array(logits), to_array(targets))
        return LossGradient(float(loss), np.asarray(gradient))


@cache
def _compiled_loss(loss: AnyLoss, settings: Settings) -> Callable:
    """The loss and its gradient by the logits; experiments with the same loss share it."""
    return compilation.jit(jax.value_and_grad(partial(compute_loss, loss)), compilation.options(settings, quick=True))


def predict(experiment: Experiment, parameters: Parameters, batch: Batch, settings: Settings) -> np.ndarray:
    """See spec.framework.Side: predict."""
    check(experiment.model, batch)
    with computing(settings):
        native = load(experiment.model, parameters, settings)
        return np.asarray(_compiled_prediction(experiment.model, settings)(native, to_arrays(batch)))


@cache
def _compiled_prediction(spec: Spec, settings: Settings) -> Callable:
    graph, _ = build(spec)
    return compilation.jit(partial(evaluate, graph), compilation.options(settings, quick=True))


def _compute(
    function: Callable,
    experiment: Experiment,
    parameters: Parameters,
    batch: Batch,
    settings: Settings,
    dropout: Dropout,
) -> Any:
    """What a compiled function of (parameters, batch, dropout) gives for these arrays."""
    check(experiment.model, batch)
    with computing(settings):
        if isinstance(dropout, Mapping):
            traced: Any = {name: np.asarray(mask, settings.precision) for name, mask in dropout.items()}
        else:
            traced = None if dropout is None else jax.random.key(dropout)
        native = load(experiment.model, parameters, settings)
        return function(native, to_arrays(batch), traced)


@cache
def _compiled_forward(spec: Spec, settings: Settings) -> Callable:
    """The intermediates alone."""
    graph, _ = build(spec)

    def compute(parameters: nnx.State, batch: ArrayBatch, dropout: Any) -> dict:
        model: Model = nnx.merge(graph, renormalized(graph, parameters, batch))
        set_mode(model, dropout)
        return run(model, batch)[1]

    return compilation.jit(compute, compilation.options(settings, quick=True))


@cache
def _compiled(spec: Spec, loss_spec: AnyLoss, settings: Settings) -> Callable:
    """Intermediates, loss and gradients in one function: asked for one after the other, compiled once.

    Shared by all experiments with that model and that loss.
    """
    graph, _ = build(spec)
    # Indices have no gradient, and JAX refuses to be asked for one.
    by = 0 if isinstance(spec.inputs, Embedding) else (0, 1)

    def compute(parameters: nnx.State, batch: ArrayBatch, dropout: Any) -> tuple[dict, tuple[Any, nnx.State, Any]]:
        def loss_of(parameters: nnx.State, inputs: Any) -> tuple[Any, dict]:
            model: Model = nnx.merge(graph, parameters)
            set_mode(model, dropout)
            logits, intermediates = run(model, batch._replace(inputs=inputs))
            return compute_loss(loss_spec, logits, batch.targets), intermediates

        (loss, intermediates), found = jax.value_and_grad(loss_of, by, has_aux=True)(
            renormalized(graph, parameters, batch), batch.inputs
        )
        native, by_inputs = found if isinstance(by, tuple) else (found, None)
        return intermediates, (loss, native, by_inputs)

    return compilation.jit(compute, compilation.options(settings, quick=True))
