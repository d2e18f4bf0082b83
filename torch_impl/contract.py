"""The functions that make torch_impl an implementation. See spec.framework.Framework."""

import platform

import numpy as np
import torch
from torch import nn

from spec.experiment import Experiment
from spec.framework import Dropout, Gradients, LossGradient, Settings, Side, side_of
from spec.parameters import Parameters
from spec.tasks import Batch, check
from torch_impl import compilation
from torch_impl.arrays import to_tensor
from torch_impl.build import build, check_gradients
from torch_impl.dropout import mode
from torch_impl.ensemble import train_ensemble, train_starts
from torch_impl.generation import generate
from torch_impl.loss import compute_loss
from torch_impl.mixed_precision import without_gradients
from torch_impl.model import Model, valid_steps, zero_padding
from torch_impl.parameters import export, export_gradients, initialize
from torch_impl.processes import train_on_devices
from torch_impl.settings import computing, device_of
from torch_impl.training import evaluate, replay, to_tensors, train
from torch_impl.transformer import STAGES

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
    device = device_of(settings)
    compilation.check(settings)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    several = f"{settings.devices} x " if settings.devices > 1 else ""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": f"{several}{device.type} ({name})",
    }


def open(experiment: Experiment, settings: Settings) -> Side:
    """See spec.framework.Framework.open."""
    return side_of(
        globals(),
        experiment,
        settings,
        generators=generators,
        unheeded=compilation.unheeded(experiment.model, settings),
    )


def generators(draw: bool) -> dict[str, np.ndarray]:
    """See spec.framework.Side: generators. Each CUDA device has one too, once there is something on it."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    if draw:
        torch.rand(())
        for device in devices:
            torch.rand((), device=f"cuda:{device}")
    on_devices = {f"CUDA device {device}": torch.cuda.get_rng_state(device).numpy() for device in devices}
    return {"torch": torch.get_rng_state().numpy(), **on_devices}


def round_trip(experiment: Experiment, parameters: Parameters, settings: Settings) -> Parameters:
    """See spec.framework.Side: round_trip."""
    with computing(settings):
        return export(build(experiment.model, parameters, settings))


def forward(
    experiment: Experiment, parameters: Parameters, batch: Batch, settings: Settings, dropout: Dropout = None
) -> dict[str, np.ndarray]:
    """See spec.framework.Side: forward."""
    check(experiment.model, batch)
    with computing(settings, experiment), without_gradients():
        model = build(experiment.model, parameters, settings)
        tensors = to_tensors(batch, settings)
        model.intermediates = {}
        watch(model, valid_steps(tensors))
        with mode(model, dropout):
            model(tensors)
        return {name: value.cpu().numpy() for name, value in model.intermediates.items()}


def gradients(
    experiment: Experiment, parameters: Parameters, batch: Batch, settings: Settings, dropout: Dropout = None
) -> Gradients:
    """See spec.framework.Side: gradients."""
    check(experiment.model, batch)
    check_gradients(experiment.model)
    with computing(settings, experiment):
        model = build(experiment.model, parameters, settings)
        tensors = to_tensors(batch, settings)
        # Indices have no gradient, and torch refuses to be asked for one.
        inputs = tensors.inputs.requires_grad_() if tensors.inputs.is_floating_point() else None
        with mode(model, dropout):
            loss = compute_loss(experiment.training.loss, model(tensors), tensors.targets)
            loss.backward()
        by_inputs = None if inputs is None or inputs.grad is None else inputs.grad.cpu().numpy()
        return Gradients(loss.item(), export_gradients(model), by_inputs)


def loss_gradient(experiment: Experiment, logits: np.ndarray, targets: np.ndarray, settings: Settings) -> LossGradient:
    """See spec.framework.Side: loss_gradient."""
    with computing(settings):
        given = to_tensor(logits, device=device_of(settings)).requires_grad_()
        loss = compute_loss(experiment.training.loss, given, to_tensor(targets, device=given.device))
        (gradient,) = torch.autograd.grad(loss, given)
        return LossGradient(loss.item(), gradient.cpu().numpy())


def predict(experiment: Experiment, parameters: Parameters, batch: Batch, settings: Settings) -> np.ndarray:
    """See spec.framework.Side: predict."""
    check(experiment.model, batch)
    with computing(settings, experiment):
        return evaluate(build(experiment.model, parameters, settings), to_tensors(batch, settings))


def watch(model: Model, valid: torch.Tensor | None) -> None:
    """Record what happens inside stock Transformer layers, which have no `record` of their own."""

    def keep(name: str, module: nn.Module) -> None:
        def hook(_: nn.Module, __: object, output: torch.Tensor | tuple) -> None:
            value = output[0] if isinstance(output, tuple) else output
            model.record(name, zero_padding(value, valid))

        module.register_forward_hook(hook)

    for path, module in model.named_modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            for stage in STAGES:
                keep(f"{path}.{stage}", getattr(module, stage))
            keep(f"{path}.output", module)
