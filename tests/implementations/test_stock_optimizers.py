"""torch_impl's optimizers, which do without what torch has around their methods, take the stock ones' steps."""

import inspect

import pytest
import torch
from torch import nn

from spec.training import SGD, Adam, AdamW, AnyOptimizer
from torch_impl import optimizer as optimizers

STEPS = 3


@pytest.mark.parametrize("spec", [SGD(0.1, momentum=0.9), Adam(0.1), AdamW(0.1, weight_decay=0.1)], ids=repr)
def test_the_same_bits(spec: AnyOptimizer) -> None:
    models = [nn.Linear(3, 2), nn.Linear(3, 2)]
    models[1].load_state_dict(models[0].state_dict())
    ours = optimizers.make(spec, models[0])
    stock = getattr(torch.optim, type(spec).__name__)
    assert isinstance(ours, stock)
    named = {name: ours.defaults[name] for name in inspect.signature(stock).parameters if name in ours.defaults}
    made = [ours, stock(models[1].parameters(), **named)]
    for _ in range(STEPS):
        for model, optimizer in zip(models, made, strict=True):
            optimizer.zero_grad()
            model(torch.ones(4, 3)).square().sum().backward()
            optimizer.step()
            assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.parameters())
    for one, two in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, two)


def test_hooks_are_called() -> None:
    model, called = nn.Linear(1, 1), []
    optimizer = optimizers.make(Adam(0.1), model)
    optimizer.register_step_post_hook(lambda *_: called.append(True))
    model(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    assert called == [True]
