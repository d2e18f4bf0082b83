"""What a call keeps beside its output, in each framework's own way to hand it on: BatchNorm's statistics."""

from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch import nn

from crosscheck import pair
from crosscheck.pair import subject
from spec.errors import OhlolError

pytestmark = pytest.mark.needs("torch", "flax")


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm, self.out = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.norm(self.up(x))))


def inputs(rng: np.random.Generator) -> Any:
    return (rng.standard_normal((8, 4)),)


def loss(output: Any, x: Any) -> Any:
    return (output**2).mean()


OPTIONS = {
    "loss": loss,
    "optimizers": (lambda parameters: torch.optim.SGD(parameters, 0.1), optax.sgd(0.1)),
    "expected": {"train mode: *var*": "torch keeps the unbiased variance, others the biased one"},
}


@pytest.mark.pairs
@pytest.mark.parametrize("momentum", [0.9, 0.8])
def test_linen_gives_its_collections(momentum: float):
    from flax import linen

    class Port(linen.Module):
        @linen.compact
        def __call__(self, x: Any, train: bool) -> Any:
            x = linen.Dense(6)(x)
            x = linen.BatchNorm(use_running_average=not train, momentum=momentum, epsilon=1e-5)(x)
            return linen.Dense(2)(jnp.tanh(x))

    def call(module: Any, variables: Any, x: Any, train: bool) -> Any:
        return module.apply(variables, x, train, mutable=["batch_stats"] if train else False)

    port = Port(), Port().init(jax.random.key(0), jnp.zeros((1, 4)), False)
    told_or_raised(port, call, momentum == 0.9, "train mode: batch_stats.BatchNorm_0.mean")


def told_or_raised(port: Any, call: Any, right: bool, name: str) -> None:
    if right:
        told = pair.check(Normed(), port, inputs, call_port=call, **OPTIONS)
        assert "expected difference" in told
        (line,) = [line for line in told.splitlines() if "trajectory" in line and "train mode" in line]
        assert line.split()[0] == "ok"
    else:
        with pytest.raises(AssertionError, match=name):
            pair.check(Normed(), port, inputs, call_port=call, **OPTIONS)


@pytest.mark.pairs
@pytest.mark.skipif(find_spec("haiku") is None, reason="haiku is not installed")
@pytest.mark.parametrize("momentum", [0.9, 0.8])
def test_haiku_gives_its_state(momentum: float):
    import haiku as hk  # pyright: ignore[reportMissingImports]

    def run(x: Any, train: bool) -> Any:
        # Not hk.BatchNorm, whose averages are corrected for their start, which torch does not do.
        x = hk.Linear(6)(x)
        mean, variance = (hk.get_state(name, (6,), init=init) for name, init in (("m", jnp.zeros), ("v", jnp.ones)))
        scale, bias = hk.get_parameter("scale", (6,), init=jnp.ones), hk.get_parameter("offset", (6,), init=jnp.zeros)
        now = (x.mean(0), x.var(0)) if train else (mean, variance)
        if train:
            hk.set_state("m", momentum * mean + (1 - momentum) * now[0])
            hk.set_state("v", momentum * variance + (1 - momentum) * now[1] * 8 / 7)
        return hk.Linear(2)(jnp.tanh((x - now[0]) / jnp.sqrt(now[1] + 1e-5) * scale + bias))

    net = hk.without_apply_rng(hk.transform_with_state(run))
    made = net, net.init(jax.random.key(0), jnp.zeros((1, 4)), True)

    def call(net: Any, items: Any, x: Any, train: bool) -> Any:
        return net.apply(*items, x, train)

    if momentum == 0.9:
        told = pair.check(Normed(), made, inputs, call_port=call, **OPTIONS)
        assert "2 statistics" in told
    else:
        with pytest.raises(AssertionError, match=r"train mode: state.~.m"):
            pair.check(Normed(), made, inputs, call_port=call, **OPTIONS)


def test_a_state_that_is_not_there_is_said():
    def run(p: Any, x: Any) -> Any:
        return x @ p["w"]

    port = run, {"w": jnp.zeros((4, 2))}
    with pytest.raises(OhlolError, match=r"state: expected keys of the parameters \(w\), got 'stats'"):
        subject.live((nn.Linear(4, 2), port), inputs, {"state": "stats"})
    with pytest.raises(OhlolError, match=r"state: expected a text or several, got builtins\.int"):
        subject.live((nn.Linear(4, 2), port), inputs, {"state": 3})


def test_a_call_that_does_not_give_its_state_is_said():
    def run(p: Any, x: Any, train: bool) -> Any:
        return x @ p["w"] + p["stats"]["m"]

    port = run, {"w": jnp.zeros((4, 2)), "stats": {"m": jnp.zeros(2)}}
    asked = subject.live((nn.Linear(4, 2), port), inputs, {"state": "stats"})
    x = inputs(np.random.default_rng(0))
    assert asked.second.forward(x).outputs.keys() == {"output"}
    with pytest.raises(OhlolError, match=r"expected \(output, stats\) of a call in train mode"):
        asked.second.forward(x, train=True)


def test_optimizers_that_step_their_own_variables_are_not_checked():
    from flax_impl.pair.side import open_side as open_flax
    from spec.errors import Unsupported
    from spec.pair import PairOptions
    from torch_impl.pair.side import open_side as open_torch

    foreign = type("Adam", (), {"__module__": "keras.src.optimizers.adam", "update_step": lambda *_: None})()
    ours = open_torch(nn.Linear(2, 2), PairOptions(optimizer=lambda parameters: foreign))
    port = open_flax((lambda p, x: x @ p["w"], {"w": jnp.zeros((2, 2))}), PairOptions(optimizer=foreign))
    said = r"got keras\.src\.optimizers\.adam\.Adam: Keras's step variables of their own, .* and are not checked"
    for side, expected in ((ours, "torch's"), (port, "optax's")):
        gradients = {leaf.path: np.zeros(leaf.shape) for leaf in side.leaves}
        with pytest.raises(Unsupported, match=f"expected {expected}.*{said}"):
            next(side.replay([gradients]))


class DroppedOut(nn.Module):
    """Statistics that dropout does not reach, those of `norm`, and others, of `last`."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm, self.last = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.BatchNorm1d(6)
        self.drop = nn.Dropout(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.drop(torch.tanh(self.norm(self.up(x)))))


@pytest.mark.by_default("0.9-0.99")
@pytest.mark.parametrize(("momentum", "last"), [(0.9, 0.9), (0.99, 0.9), (0.9, 0.99)])
def test_statistics_beside_dropout_are_compared_where_it_does_not_reach(momentum: float, last: float):
    from flax import nnx

    class Port(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.up = nnx.Linear(4, 6, rngs=rngs)
            self.norm = nnx.BatchNorm(6, momentum=momentum, epsilon=1e-5, rngs=rngs)
            self.last = nnx.BatchNorm(6, momentum=last, epsilon=1e-5, rngs=rngs)
            self.drop = nnx.Dropout(0.3, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.last(self.drop(jnp.tanh(self.norm(self.up(x)))))

    given = {"expected": OPTIONS["expected"]}
    if momentum == 0.9:
        # What `last` keeps is drawn, on either side its own way, so its momentum is not looked at.
        told = pair.check(DroppedOut(), Port(nnx.Rngs(0)), inputs, **given)
        assert "2 statistics, all that dropout does not reach" in " ".join(told.split())
    else:
        with pytest.raises(AssertionError, match=r"train mode: norm.mean"):
            pair.check(DroppedOut(), Port(nnx.Rngs(0)), inputs, **given)
