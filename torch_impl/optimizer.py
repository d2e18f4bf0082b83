"""The optimizer, with every constant from the spec. See spec.training."""

import inspect
from functools import cache
from typing import Any

import torch
from torch import nn

from spec.parameters import Parameters
from spec.training import SGD, Adam, AdamW, AnyOptimizer, Clipping
from torch_impl.arrays import to_tensor


def make(spec: AnyOptimizer, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of the model's parameters, before its first step.

    The fused kernels take the same steps; on small models they save a quarter of a training's time.
    """
    match spec:
        case Adam():
            return _eager(torch.optim.Adam)(
                model.parameters(),
                lr=spec.learning_rate,
                betas=(spec.beta1, spec.beta2),
                eps=spec.epsilon,
                fused=True,
            )
        case AdamW():
            return _eager(torch.optim.AdamW)(
                model.parameters(),
                lr=spec.learning_rate,
                betas=(spec.beta1, spec.beta2),
                eps=spec.epsilon,
                weight_decay=spec.weight_decay,
                fused=True,
            )
        case SGD():
            return _eager(torch.optim.SGD)(model.parameters(), lr=spec.learning_rate, momentum=spec.momentum)


@cache
def _eager(stock: type[torch.optim.Optimizer]) -> Any:
    """The same optimizer for those who do not compile it: its methods without what has `torch.compile` step aside.

    That imports the compiler, a second of CPU time, in which hello-gru is trained ten times.
    """
    methods = {
        "step": torch.no_grad()(inspect.unwrap(stock.step)),
        "zero_grad": inspect.unwrap(stock.zero_grad),
        "add_param_group": inspect.unwrap(stock.add_param_group),
    }
    return type(stock.__name__, (stock,), methods)


def clip(spec: Clipping | None, model: nn.Module) -> None:
    """Scale all gradients together. torch's own function holds the spec's epsilon."""
    if spec is not None:
        nn.utils.clip_grad_norm_(model.parameters(), spec.max_norm)


def load_slots(optimizer: torch.optim.Optimizer, model: nn.Module, slots: Parameters, step: int) -> None:
    """Put canonical slots, named "<parameter>.<slot>", into the optimizer after `step` steps."""
    if step == 0:
        # torch makes its own zeros at the first step.
        return
    for name, parameter in model.named_parameters():
        own = {key.removeprefix(f"{name}."): value for key, value in slots.items() if key.rpartition(".")[0] == name}
        state = {slot: to_tensor(value, parameter.dtype, parameter.device) for slot, value in own.items()}
        if "exp_avg" in state:
            state["step"] = torch.full((), float(step))
        optimizer.state[parameter] = state


def slots(optimizer: torch.optim.Optimizer, model: nn.Module, names: tuple[str, ...]) -> Parameters:
    """The optimizer's slots under their canonical names."""
    return {
        f"{name}.{slot}": dense(optimizer.state[parameter][slot]).detach().cpu().numpy().copy()
        for name, parameter in model.named_parameters()
        for slot in names
    }


def dense(slot: torch.Tensor) -> torch.Tensor:
    """The same numbers in a dense tensor: a sparse gradient's momentum is sparse until it has been saved once."""
    return slot.to_dense() if slot.is_sparse else slot
