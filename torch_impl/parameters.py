"""Parameters between canonical names and torch's modules, where the two are the same by design."""

import torch
from torch import Tensor, nn

from spec.experiment import Experiment
from spec.framework import Settings
from spec.parameters import Constant, Normal, Parameter, Parameters, Uniform, check
from torch_impl.arrays import to_tensor
from torch_impl.model import Model
from torch_impl.settings import dtype_of


def initialize(experiment: Experiment, seed: int, settings: Settings) -> Parameters:
    """See spec.framework.Side: initialize."""
    generator = torch.Generator().manual_seed(seed)
    table = experiment.model.parameters()
    return {parameter.name: draw(parameter, generator, dtype_of(settings)).numpy() for parameter in table}


def draw(parameter: Parameter, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """One tensor from its initial law."""
    values = torch.empty(parameter.shape, dtype=dtype)
    match parameter.law:
        case Uniform(bound, raised):
            values.uniform_(-bound, bound, generator=generator)
            if raised is not None:
                values[raised[0] : raised[1]] += raised[2]
        case Normal(standard_deviation, zero_row):
            values.normal_(0.0, standard_deviation, generator=generator)
            if zero_row is not None:
                values[zero_row] = 0
        case Constant(value):
            values.fill_(value)
    return values


def load(model: Model, parameters: Parameters, dtype: torch.dtype, device: torch.device) -> None:
    """Put canonical parameters into the model's modules. Raises ParameterMismatch."""
    check(model.spec.parameters(), parameters)
    state = {name: to_tensor(value, dtype, device) for name, value in parameters.items()}
    model.load_state_dict(state, strict=True, assign=True)


def export(model: nn.Module) -> Parameters:
    """The model's parameters as canonical arrays, copied."""
    return {name: parameter.detach().cpu().numpy().copy() for name, parameter in model.named_parameters()}


def export_gradients(model: nn.Module) -> Parameters:
    """The gradients that `backward` left, as canonical arrays; zeros where none arrived."""
    gradients = {}
    for name, parameter in model.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        dense = gradient.to_dense() if gradient.is_sparse else gradient
        gradients[name] = dense.detach().cpu().numpy().copy()
    return gradients
