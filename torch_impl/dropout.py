"""Where dropout's masks come from: torch's own generator, or the spec, so that another side can use the same."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spec.errors import Unsupported
from spec.framework import Dropout
from torch_impl.arrays import to_tensor
from torch_impl.model import Model
from torch_impl.recurrent import Recurrent


@contextmanager
def mode(model: Model, dropout: Dropout) -> Iterator[None]:
    """Eval mode where `dropout` is None, else train mode, with torch's generator seeded by it or with its masks."""
    if model.training != (dropout is not None):
        model.train(dropout is not None)
    if dropout is None or not (dropout or model.spec.has_dropout):
        yield
    elif isinstance(dropout, Mapping):
        reference = next(model.parameters())
        masks = {name: to_tensor(mask, reference.dtype, reference.device) for name, mask in dropout.items()}
        with given(model, masks):
            yield
    else:
        devices = [reference.device] if (reference := next(model.parameters())).is_cuda else []
        # torch.manual_seed also formats the stack for each kind of accelerator that is not there, a millisecond in all.
        seed = torch.manual_seed if devices else torch.default_generator.manual_seed
        with torch.random.fork_rng(devices):
            seed(dropout)
            yield


@contextmanager
def given(model: Model, masks: Mapping[str, Tensor]) -> Iterator[None]:
    """Every dropout multiplies by the mask of its name instead of drawing one."""
    if not masks:
        yield
        return
    handles = []
    remaining = dict(masks)
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout) and name in remaining:
            mask = remaining.pop(name)
            handles.append(module.register_forward_hook(lambda _, inputs, __, mask=mask: inputs[0] * mask))
    if isinstance(model, Recurrent):
        model.masks = {name: remaining.pop(name) for name in tuple(remaining)} or None
    if remaining:
        # Attention weights are dropped inside a function of torch that draws its own mask.
        raise Unsupported(f"torch cannot be handed the dropout masks of {sorted(remaining)}")
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        if isinstance(model, Recurrent):
            model.masks = None
