"""torch_impl's optimizers, which do without what torch has around their methods, take the stock ones' steps."""

import inspect

import pytest
import torch
from torch import nn

from spec.training import SGD, Adam, AdamW, AnyOptimizer, CrossEntropy, Group, RMSprop, Training
from torch_impl import optimizer as optimizers

STEPS = 3


def made_by(spec: AnyOptimizer, model: nn.Module, *groups: Group) -> torch.optim.Optimizer:
    training = Training(epochs=1, loss=CrossEntropy("mean"), optimizer=spec, groups=groups)
    return optimizers.make(training, dict(model.named_parameters()))


SPECS = [
    SGD(0.1, momentum=0.9),
    SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    Adam(0.1),
    Adam(0.1, amsgrad=True),
    AdamW(0.1, weight_decay=0.1),
    RMSprop(0.1, momentum=0.5),
]


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_the_same_bits(spec: AnyOptimizer) -> None:
    models = [nn.Linear(3, 2), nn.Linear(3, 2)]
    models[1].load_state_dict(models[0].state_dict())
    ours = made_by(spec, models[0])
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
    optimizer = made_by(Adam(0.1), model)
    optimizer.register_step_post_hook(lambda *_: called.append(True))
    model(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    assert called == [True]


def test_groups_are_those_that_one_would_write() -> None:
    """Biases without decay and the head slower, as recipes write it down for torch."""
    models = [nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    spec = AdamW(0.1, weight_decay=0.3, decayed="matrices")
    ours = made_by(spec, models[0], Group("1.*", learning_rate=0.01))
    first, second = models[1]
    theirs = torch.optim.AdamW(
        [
            {"params": [first.weight]},
            {"params": [first.bias], "weight_decay": 0.0},
            {"params": [second.weight], "lr": 0.01},
            {"params": [second.bias], "lr": 0.01, "weight_decay": 0.0},
        ],
        lr=0.1,
        weight_decay=0.3,
        fused=True,
    )
    for _ in range(STEPS):
        for model, optimizer in zip(models, (ours, theirs), strict=True):
            optimizer.zero_grad()
            model(torch.ones(4, 3)).square().sum().backward()
            optimizer.step()
    for one, two in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, two)
