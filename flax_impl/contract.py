"""The functions that make flax_impl an implementation. See spec.framework.Framework."""

import platform
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import flax
import jax
import numpy as np
import optax
from flax import nnx

from flax_impl import compilation
from flax_impl.build import build, load
from flax_impl.dropout import set_mode
from flax_impl.ensemble import train_ensemble
from flax_impl.loss import cross_entropy
from flax_impl.model import ArrayBatch, Model, run
from flax_impl.parameters import draw, key_of, to_canonical
from flax_impl.settings import computing, device_of
from flax_impl.training import renormalized, replay, to_arrays, train
from spec.experiment import Experiment
from spec.framework import Dropout, Gradients, Settings
from spec.parameters import Parameters
from spec.tasks import Batch

__all__ = ["describe", "forward", "gradients", "initialize", "replay", "round_trip", "train", "train_ensemble"]


def describe(settings: Settings) -> dict[str, str]:
    """See spec.framework.Framework.describe."""
    device = device_of(settings)
    return {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "flax": flax.__version__,
        "optax": optax.__version__,
        "device": f"{device.platform} ({device.device_kind})",
    }


def initialize(experiment: Experiment, seed: int, settings: Settings) -> Parameters:
    """See spec.framework.Framework.initialize."""
    with computing(settings):
        key = jax.random.key(seed)
        table = experiment.model.parameters()
        return {parameter.name: draw(parameter, key_of(parameter, key), settings) for parameter in table}


def round_trip(experiment: Experiment, parameters: Parameters, settings: Settings) -> Parameters:
    """See spec.framework.Framework.round_trip."""
    with computing(settings):
        graph, layout = build(experiment.model)
        model = nnx.merge(graph, load(experiment.model, parameters, settings))
        return to_canonical(layout, nnx.state(model, nnx.Param))


def forward(
    experiment: Experiment, parameters: Parameters, batch: Batch, settings: Settings, dropout: Dropout = None
) -> dict[str, np.ndarray]:
    """See spec.framework.Framework.forward."""
    outputs, _ = _compute(experiment, parameters, batch, settings, dropout)
    return {name: np.asarray(value) for name, value in outputs.items()}


def gradients(
    experiment: Experiment, parameters: Parameters, batch: Batch, settings: Settings, dropout: Dropout = None
) -> Gradients:
    """See spec.framework.Framework.gradients."""
    _, (loss, native) = _compute(experiment, parameters, batch, settings, dropout)
    return Gradients(float(loss), to_canonical(build(experiment.model)[1], native))


def _compute(
    experiment: Experiment, parameters: Parameters, batch: Batch, settings: Settings, dropout: Dropout
) -> tuple[dict[str, Any], tuple[Any, nnx.State]]:
    experiment.model.inputs.check(batch.inputs, batch.lengths)
    with computing(settings):
        if isinstance(dropout, Mapping):
            traced: Any = {name: np.asarray(mask, settings.precision) for name, mask in dropout.items()}
        else:
            traced = None if dropout is None else jax.random.key(dropout)
        native = load(experiment.model, parameters, settings)
        return _compiled(experiment, settings)(native, to_arrays(batch), traced)


@cache
def _compiled(experiment: Experiment, settings: Settings) -> Callable:
    """Intermediates, loss and gradients in one function: asked for one after the other, compiled once."""
    graph, _ = build(experiment.model)

    def compute(parameters: nnx.State, batch: ArrayBatch, dropout: Any) -> tuple[dict, tuple[Any, nnx.State]]:
        def loss_of(parameters: nnx.State) -> tuple[Any, dict]:
            model: Model = nnx.merge(graph, parameters)
            set_mode(model, dropout)
            logits, intermediates = run(model, batch)
            return cross_entropy(experiment.training.loss, logits, batch.targets), intermediates

        (loss, intermediates), gradient = jax.value_and_grad(loss_of, has_aux=True)(
            renormalized(graph, parameters, batch)
        )
        return intermediates, (loss, gradient)

    return jax.jit(compute, **compilation.options(settings, quick=True))
