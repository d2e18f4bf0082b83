"""What docs/recipes.md says of torch's and optax's arguments, run: which are equal to the spec's equations."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from spec.parameters import Parameters
from spec.reference.optimizer import step
from spec.training import SGD, Adam, AnyOptimizer, Cosine, CrossEntropy, RMSprop, StepDecay, Training, initial_state

pytestmark = pytest.mark.needs("torch", "flax")

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
STEPS = 30


class Row(NamedTuple):
    """spec: the recipe. code: as the page has it. equal: whether the steps are the same, to rounding."""

    spec: AnyOptimizer
    code: str
    equal: bool
    schedule: Any = None


ROWS = [
    Row(SGD(0.1, 0.9, True), "torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True)", True),
    Row(SGD(0.1, 0.9, True), "optax.sgd(0.1, momentum=0.9, nesterov=True)", True),
    Row(SGD(0.1, 0.9, weight_decay=0.1), "torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1)", True),
    Row(
        SGD(0.1, 0.9, weight_decay=0.1),
        "optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9))",
        True,
    ),
    Row(
        SGD(0.1, 0.9, weight_decay=0.1),
        "optax.chain(optax.trace(0.9), optax.add_decayed_weights(0.1), optax.scale(-0.1))",
        False,
    ),
    Row(Adam(0.1, amsgrad=True), "torch.optim.Adam(p, 0.1, amsgrad=True)", True),
    Row(Adam(0.1, amsgrad=True), "optax.amsgrad(0.1)", False),
    Row(RMSprop(0.1), "torch.optim.RMSprop(p, 0.1)", True),
    Row(RMSprop(0.1), "optax.rmsprop(0.1, decay=0.99, eps_in_sqrt=False)", True),
    Row(RMSprop(0.1), "optax.rmsprop(0.1, decay=0.99)", False),
    Row(RMSprop(0.1, momentum=0.9), "optax.rmsprop(0.1, decay=0.99, eps_in_sqrt=False, momentum=0.9)", True),
    Row(
        RMSprop(0.1, momentum=0.9),
        "optax.rmsprop(optax.exponential_decay(0.1, 5, 0.5, staircase=True), decay=0.99, eps_in_sqrt=False,"
        " momentum=0.9)",
        False,
        StepDecay(5, 0.5),
    ),
]


def gradients() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    fall = np.exp(-np.arange(STEPS) / 10)
    return [size * generator.normal(size=6) * 10.0 ** np.arange(-5.0, 1.0) for size in fall]


def ours(row: Row) -> np.ndarray:
    fields = {} if row.schedule is None else {"schedule": row.schedule}
    training = Training(epochs=1, loss=CrossEntropy("mean"), optimizer=row.spec, **fields)
    start: Parameters = {"p": np.linspace(-1, 1, 6)}
    state, trace = initial_state(row.spec, start), []
    for gradient in gradients():
        state = step(training, state, {"p": gradient})
        trace.append(state.parameters["p"])
    return np.array(trace)


def theirs(code: str) -> np.ndarray:
    import jax
    import optax
    import torch

    trace = []
    if code.startswith("torch"):
        p = torch.nn.Parameter(torch.linspace(-1, 1, 6, dtype=torch.float64))
        optimizer = eval(code, {"torch": torch, "p": [p]})
        for gradient in gradients():
            p.grad = torch.tensor(gradient)
            optimizer.step()
            trace.append(p.detach().numpy().copy())
        return np.array(trace)
    with jax.enable_x64(True):
        transform, values = eval(code, {"optax": optax}), jax.numpy.linspace(-1, 1, 6, dtype="float64")
        state = transform.init(values)
        for gradient in gradients():
            updates, state = transform.update(jax.numpy.asarray(gradient), state, values)
            values = optax.apply_updates(values, updates)
            trace.append(np.asarray(values))
    return np.array(trace)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.equal} {row.code}")
def test_an_optimizer_is_equal_where_the_page_says_so(row: Row) -> None:
    assert f"`{row.code}`" in PAGE
    apart = np.abs(ours(row) - theirs(row.code)).max()
    assert apart < 1e-12 if row.equal else apart > 1e-4


def rates(factor: Callable[[int], float], count: int) -> list[float]:
    return [0.1 * factor(step) for step in range(count)]


def torch_rates(make: Callable[[Any], Any], count: int) -> list[float]:
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    scheduler, found = make(optimizer), []
    for _ in range(count):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return found


def test_schedules_are_what_the_page_says() -> None:
    from torch.optim import lr_scheduler

    later, last = Cosine(10, "one step later", 0.1).factor, Cosine(10, "at the last step", 0.1).factor
    anneal = lr_scheduler.CosineAnnealingLR
    optax: Any = importlib.import_module("optax")
    assert torch_rates(lambda o: anneal(o, 10, eta_min=0.01), 11) == pytest.approx(rates(later, 11), rel=1e-12)
    assert torch_rates(lambda o: anneal(o, 9, eta_min=0.01), 10) == pytest.approx(rates(last, 10), rel=1e-12)
    # torch's goes up again, ours and optax's stay.
    assert torch_rates(lambda o: anneal(o, 10, eta_min=0.01), 13)[12] > 1.1 * rates(later, 13)[12]
    for count, factor in ((10, later), (9, last)):
        schedule = optax.cosine_decay_schedule(0.1, count, alpha=0.1)
        assert [float(schedule(step)) for step in range(14)] == pytest.approx(rates(factor, 14), rel=1e-5)
    # optax's warm-up reaches its peak at the count, where ours has been there for a step.
    warm = optax.warmup_cosine_decay_schedule(0.0, 0.1, 3, 10)
    assert float(warm(0)) == 0
    assert float(warm(2)) == pytest.approx(2 / 3 * 0.1)
    assert rates(Cosine(10, "one step later", warm_up=3).factor, 4) == pytest.approx([0.1 / 3, 0.2 / 3, 0.1, 0.1])
    stairs = rates(StepDecay(4, 0.5).factor, 12)
    assert torch_rates(lambda o: lr_scheduler.StepLR(o, 4, 0.5), 12) == pytest.approx(stairs, rel=1e-12)
    flight = optax.exponential_decay(0.1, 4, 0.5, staircase=True)
    assert [float(flight(step)) for step in range(12)] == pytest.approx(stairs, rel=1e-6)
