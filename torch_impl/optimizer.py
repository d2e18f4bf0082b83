"""The optimizer, with every constant from the spec. See spec.training."""

import inspect
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import nn

from spec.parameters import Parameters
from spec.training import SGD, Adam, AdamW, Clipping, RMSprop, Training
from torch_impl.arrays import to_tensor


def make(training: Training, parameters: Mapping[str, nn.Parameter], stacked: int = 0) -> torch.optim.Optimizer:
    """The optimizer of these parameters, by their canonical names, before its first step.

    stacked: axes that they have in front of their own. The fused kernels take the same steps; on small models they save
    a quarter of a training's time.
    """
    spec, groups = training.optimizer, _groups(training, parameters, stacked)
    match spec:
        case Adam():
            return _eager(torch.optim.Adam)(
                groups,
                lr=spec.learning_rate,
                betas=(spec.beta1, spec.beta2),
                eps=spec.epsilon,
                fused=True,
                amsgrad=spec.amsgrad,
            )
        case AdamW():
            return _eager(torch.optim.AdamW)(
                groups,
                lr=spec.learning_rate,
                betas=(spec.beta1, spec.beta2),
                eps=spec.epsilon,
                weight_decay=spec.weight_decay,
                fused=True,
                amsgrad=spec.amsgrad,
            )
        case SGD():
            return _eager(torch.optim.SGD)(
                groups,
                lr=spec.learning_rate,
                momentum=spec.momentum,
                weight_decay=spec.weight_decay,
                nesterov=spec.nesterov,
            )
        case RMSprop():
            return _eager(torch.optim.RMSprop)(
                groups, lr=spec.learning_rate, alpha=spec.alpha, eps=spec.epsilon, momentum=spec.momentum
            )


def _groups(training: Training, parameters: Mapping[str, nn.Parameter], stacked: int) -> list[dict[str, Any]]:
    """Those of one learning rate and one decay together, with what is their own. `initial_lr` is before the schedule,
    by the name that torch's schedulers have for it."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in parameters.items():
        groups[training.full_rate(name), training.weight_decay(name, parameter.ndim - stacked)].append(parameter)
    found = []
    for (rate, decay), own in groups.items():
        decayed = {"weight_decay": decay} if hasattr(training.optimizer, "weight_decay") else {}
        found.append({"params": own, "lr": rate, "initial_lr": rate, **decayed})
    return found


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
    """Limit each gradient, then scale all together. torch's own function holds the spec's epsilon."""
    if spec is None:
        return
    if spec.max_value is not None:
        nn.utils.clip_grad_value_(model.parameters(), spec.max_value)
    if spec.max_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), spec.max_norm)


def load_slots(optimizer: torch.optim.Optimizer, model: nn.Module, slots: Parameters, step: int) -> None:
    """Put canonical slots, named "<parameter>.<slot>", into the optimizer after `step` steps."""
    if step == 0:
        # torch makes its own zeros at the first step.
        return
    for name, parameter in model.named_parameters():
        own = {key.removeprefix(f"{name}."): value for key, value in slots.items() if key.rpartition(".")[0] == name}
        state = {slot: to_tensor(value, parameter.dtype, parameter.device) for slot, value in own.items()}
        if state.keys() & {"exp_avg", "square_avg"}:
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
