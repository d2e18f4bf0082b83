"""The dropout check: honest dropout passes whatever the seed, and masks that are drawn wrongly are named.

Faults are planted in NumPy's dropout here, and in torch_impl's and flax_impl's in test_dropout_faults.py.
"""

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from sides import Opened

import spec.reference
from crosscheck.bounds import tolerances
from crosscheck.checks import LADDER, outcome, trajectory
from crosscheck.checks import dropout as check
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.faults import given
from crosscheck.request import Request
from crosscheck.statistics import bernoulli
from spec import experiment as experiments
from spec.dropout import DropoutSite
from spec.errors import Unsupported
from spec.experiment import Experiment, override
from spec.framework import Settings
from spec.models import keep_masks
from spec.parameters import generator_for
from spec.tasks import Batch, random_batch
from spec.training import SGD, Group

LSTM, TRANSFORMER = "hello-stacked-lstm-dropout", "hello-transformer-dropout"

LAYER = "encoder.layers.0"


def shipped(name: str, **changes: Any) -> Experiment:
    return override(experiments.load(name), **changes)


def record(framework: Any, experiment: Experiment, case: str = "seeds", seed: int = 0) -> Arrays:
    opened = framework if hasattr(framework, "open") else Opened(framework)
    return check.record(opened, experiment, case, Request("float32", "cpu", seed))


def judged(experiment: Experiment, arrays: Arrays, case: str = "seeds") -> list[Comparison]:
    """What is found on one side; the other has nothing."""
    place = Place(experiment.name, check.NAME, "float32", case, ("one", "two"))
    return [c for c in check.compare(experiment, place, arrays, {}) if c.sides[0] != "two"]


def failures(experiment: Experiment, arrays: Arrays, case: str = "seeds") -> list[str]:
    return [comparison.tensor for comparison in judged(experiment, arrays, case) if not comparison.passed]


class Numpy:
    """The reference in float32, with dropout that a test can get wrong: honest unless told otherwise."""

    def __init__(self, draw: Callable[..., dict[str, np.ndarray]] | None = None, evaluation: bool = False):
        self.draw = draw or honest
        self.evaluation = evaluation

    def forward(
        self, experiment: Experiment, parameters: Any, batch: Batch, settings: Any, dropout: Any = None
    ) -> dict[str, np.ndarray]:
        size, time = batch.inputs.shape[:2]
        given = None
        if dropout is not None or self.evaluation:
            given = self.draw(experiment.model, size, time, dropout or 0)
        wide = {name: value.astype(np.float64) for name, value in parameters.items()}
        found = spec.reference.forward(experiment, wide, batch, Settings(precision="float64"), given)
        return {name: value.astype(np.float32) for name, value in found.items()}

    def gradients(self, *_: Any, **__: Any) -> Any:
        raise Unsupported("forward alone")


def honest(model: Any, batch: int, time: int, seed: int) -> dict[str, np.ndarray]:
    return keep_masks(model, batch, time, generator_for(seed, "dropout"))


@pytest.mark.by_default("hello-stacked-lstm-dropout-*")
@pytest.mark.parametrize("framework", ["torch_impl", "flax_impl"])
@pytest.mark.parametrize("name", [LSTM, TRANSFORMER])
def test_honest_implementations_pass(framework: str, name: str):
    experiment = experiments.load(name)
    for case in check.cases(experiment, "float32", False):
        found = judged(experiment, record(importlib.import_module(framework), experiment, case), case)
        assert found
        assert [c for c in found if not c.passed] == []
        assert all(c.elements for c in found)


OTHERS = [
    (LSTM, {"model__num_layers": 4}),
    (LSTM, {"model__bidirectional": True, "model__num_layers": 3, "model__dropout": 0.5}),
    (LSTM, {"model__name": "GRU"}),
    (LSTM, {"model__name": "RNN", "model__num_layers": 3}),
    (LSTM, {"model__name": "RNN", "model__nonlinearity": "relu"}),
    (LSTM, {"model__name": "RNN", "model__head": False, "model__hidden_size": 4}),
    (TRANSFORMER, {"model__norm_first": True, "model__activation": "gelu"}),
    (TRANSFORMER, {"model__attention_dropout": 0.2}),
    (TRANSFORMER, {"model__attention_dropout": 0.3, "model__dropout": 0.0, "model__norm_first": True}),
    (TRANSFORMER, {"model__attention_dropout": 0.1, "model__positions": "none", "model__num_layers": 1}),
    (LSTM, {"model__mixed_precision": "bfloat16"}),
    (LSTM, {"model__mixed_precision": "bfloat16", "model__num_layers": 4, "model__dropout": 0.1}),
    (LSTM, {"model__mixed_precision": "bfloat16", "model__bidirectional": True, "model__dropout": 0.9}),
    (LSTM, {"model__mixed_precision": "bfloat16", "model__name": "GRU", "model__num_layers": 3, "model__dropout": 0.5}),
    (TRANSFORMER, {"model__mixed_precision": "bfloat16", "model__norm_first": True, "model__activation": "gelu"}),
    (TRANSFORMER, {"model__mixed_precision": "bfloat16", "model__attention_dropout": 0.2}),
    (TRANSFORMER, {"model__mixed_precision": "bfloat16", "model__attention_dropout": 0.3, "model__norm_first": True}),
]


@pytest.mark.parametrize(("name", "changes"), OTHERS, ids=str)
def test_masks_of_other_models_are_observed(name: str, changes: dict[str, Any]):
    """What is observed is what was applied, wherever it is seen, and it is seen nearly everywhere."""
    experiment = shipped(name, **changes)
    batch = random_batch(experiment.model, [experiment.observed_length] * 6, 0, "float32")
    seen = check.observed(Opened(Numpy()).open(experiment, Settings()), experiment, batch, 1, "float32")
    applied = honest(experiment.model, len(batch.inputs), batch.inputs.shape[1], 1)
    assert seen.keys() == applied.keys()
    for site, mask in seen.items():
        known = ~np.isnan(mask)
        assert known.mean() > 0.9, site
        # A hundredth of what is kept: ten times more of what is kept at a rate of 0.9.
        kept = float(applied[site].max())
        np.testing.assert_allclose(mask[known] / kept, applied[site][known] / kept, atol=0.01, err_msg=site)


@pytest.mark.by_default("bfloat16-dropout-flax_impl")
@pytest.mark.parametrize("framework", ["torch_impl", "flax_impl"])
@pytest.mark.parametrize("name", ["bfloat16-dropout", "bfloat16-attention-dropout"])
def test_honest_implementations_in_mixed_precision_pass(framework: str, name: str):
    experiment = given.load(name)
    for case in check.cases(experiment, "float32", False):
        found = judged(experiment, record(importlib.import_module(framework), experiment, case), case)
        assert [c for c in found if not c.passed] == []
        assert {c.precision for c in found} == {"float32"}
        # What the equations say is said of float64, with its bounds.
        held = [c for c in found if c.other == "spec.reference"]
        assert held
        assert all(c.bound < 1e-10 for c in held if c.bound is not None)


@pytest.mark.long
@pytest.mark.needs("torch", "flax")
def test_attention_dropout_of_both_frameworks():
    experiment = shipped(TRANSFORMER, model__attention_dropout=0.2, model__num_layers=1)
    for framework in ("torch_impl", "flax_impl"):
        assert failures(experiment, record(importlib.import_module(framework), experiment)) == []


def test_many_honest_draws_raise_no_alarm():
    experiment = experiments.load(LSTM)
    assert [f for seed in range(6) for f in failures(experiment, record(Numpy(), experiment, seed=seed))] == []


DEEP = [
    (LSTM, {"model__name": "RNN", "model__num_layers": 9, "model__dropout": 0.1}, 4),
    (LSTM, {"model__name": "GRU", "model__num_layers": 7, "model__dropout": 0.5}, 3),
    (LSTM, {"model__num_layers": 3, "model__dropout": 0.9}, 2),
    (TRANSFORMER, {"model__num_layers": 9}, 4),
    (TRANSFORMER, {"model__hidden_size": 4, "model__heads": 4, "model__attention_dropout": 0.5}, 2),
]
"""Each with as many layers as can be seen through. Honest masks of the whole were called correlated, or not seen."""


@pytest.mark.parametrize(("name", "changes", "seen"), DEEP, ids=str)
def test_masks_of_deep_and_narrow_models_raise_no_alarm(name: str, changes: dict[str, Any], seen: int):
    experiment = shipped(name, **changes)
    assert experiment.observed.model.num_layers == seen  # type: ignore[attr-defined]
    assert failures(experiment, record(Numpy(), experiment, seed=1)) == []


def test_shipped_models_are_looked_at_as_they_are():
    for name in experiments.shipped():
        experiment = experiments.load(name)
        assert experiment.observed is experiment


def at(*sites: str) -> Callable[[str], bool]:
    return lambda name: not sites or any(name.endswith(site) for site in sites)


def changed(change: Callable[[np.ndarray, float], np.ndarray], *sites: str) -> Callable[..., dict[str, np.ndarray]]:
    """Honest masks, and those of some sites changed."""

    def draw(model: Any, batch: int, time: int, seed: int) -> dict[str, np.ndarray]:
        found = honest(model, batch, time, seed)
        rates = {name: site.rate for name, site in model.dropout_sites(batch, time).items()}
        return {n: change(mask, rates[n]) if at(*sites)(n) else mask for n, mask in found.items()}

    return draw


def first_along(axis: int) -> Callable[[np.ndarray, float], np.ndarray]:
    return lambda mask, rate: np.broadcast_to(mask.take([0], axis=axis), mask.shape)


def redrawn(factor: float) -> Callable[..., dict[str, np.ndarray]]:
    """Masks of another rate, scaled by that rate."""

    def draw(model: Any, batch: int, time: int, seed: int) -> dict[str, np.ndarray]:
        generator = generator_for(seed, "dropout")
        sites = model.dropout_sites(batch, time)
        return {n: (generator.random(s.shape) >= s.rate * factor) / (1 - s.rate * factor) for n, s in sites.items()}

    return draw


def copied(model: Any, batch: int, time: int, seed: int) -> dict[str, np.ndarray]:
    """Both of a layer's residual branches drop the same."""
    found = honest(model, batch, time, seed)
    return {name: found[name.replace("dropout2", "dropout1")] for name in found}


def one_start(model: Any, batch: int, time: int, seed: int) -> dict[str, np.ndarray]:
    """A generator that is started anew for every site."""
    sites = model.dropout_sites(batch, time).items()
    return {n: (generator_for(seed, "x").random(s.shape) >= s.rate) / (1 - s.rate) for n, s in sites}


class Fault(NamedTuple):
    """A wrong way to draw masks; tensors: failures that must be among those found, the first of them first."""

    name: str
    experiment: str
    framework: Numpy
    tensors: tuple[str, ...]


FAULTS = [
    Fault("nothing dropped", LSTM, Numpy(changed(lambda m, r: np.ones_like(m))), ("rnn.dropout_l0, values",)),
    Fault("not rescaled", LSTM, Numpy(changed(lambda m, r: m * (1 - r))), ("rnn.dropout_l0, values",)),
    Fault(
        "rate 10 % too high", TRANSFORMER, Numpy(redrawn(1.1)), (f"{LAYER}.dropout1, values", f"{LAYER}.dropout1, rate")
    ),
    Fault(
        "rate 10 % too high, scaled as the spec says",
        TRANSFORMER,
        Numpy(lambda model, b, t, s: {n: np.sign(m) / 0.9 for n, m in redrawn(1.1)(model, b, t, s).items()}),
        (f"{LAYER}.dropout1, rate",),
    ),
    Fault("kept and dropped exchanged", LSTM, Numpy(redrawn(4.0)), ("rnn.dropout_l0, values", "rnn.dropout_l0, rate")),
    Fault("shared over the batch", LSTM, Numpy(changed(first_along(0))), ("rnn.dropout_l0, over batch",)),
    Fault("shared over time", LSTM, Numpy(changed(first_along(1))), ("rnn.dropout_l0, over time",)),
    Fault("shared over features", LSTM, Numpy(changed(first_along(2))), ("rnn.dropout_l0, over feature",)),
    Fault(
        "the batch's second half as the first",
        LSTM,
        Numpy(changed(lambda m, r: np.concatenate([m[: len(m) // 2]] * 2))),
        ("rnn.dropout_l0, over batch, halves",),
    ),
    Fault(
        "the same mask for every seed",
        LSTM,
        Numpy(lambda m, b, t, s: honest(m, b, t, 7)),
        ("rnn.dropout_l0, between seeds",),
    ),
    Fault(
        "the same mask for two seeds",
        LSTM,
        Numpy(lambda m, b, t, s: honest(m, b, t, s // 2)),
        ("rnn.dropout_l0, between seeds",),
    ),
    Fault("one mask for two sites", TRANSFORMER, Numpy(copied), (f"{LAYER}.dropout2, between sites",)),
    Fault("one key for all sites", TRANSFORMER, Numpy(one_start), (f"{LAYER}.dropout, between sites",)),
    Fault(
        "none inside the feed-forward block",
        TRANSFORMER,
        Numpy(changed(lambda m, r: np.ones_like(m), ".dropout")),
        (f"{LAYER}.dropout, values",),
    ),
    Fault("dropout in eval mode", LSTM, Numpy(evaluation=True), ("logits in eval mode",)),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_is_found(fault: Fault):
    experiment = experiments.load(fault.experiment)
    found = [
        name.removesuffix(", from the second") for name in failures(experiment, record(fault.framework, experiment))
    ]
    assert found
    assert set(fault.tensors) <= set(found)
    site = fault.tensors[0].partition(",")[0]
    assert found[0].partition(",")[0] == site


def test_a_remembered_seed_is_found():
    """Train mode after an evaluation goes on where it was, rather than from its seed."""
    experiment, calls = experiments.load(LSTM), iter(range(10**6))
    framework = Numpy(lambda model, b, t, seed: honest(model, b, t, seed + next(calls)))
    assert "logits, train mode after eval mode" in failures(experiment, record(framework, experiment))


def test_nothing_moves_in_a_still_training_whatever_its_groups_say():
    groups = (Group(pattern="*weight_hh*", weight_decay=0.2), Group(pattern="head.*", learning_rate=0.02))
    moving = msgspec.structs.replace(experiments.load(LSTM).training, optimizer=SGD(learning_rate=0.1), groups=groups)
    subject = msgspec.structs.replace(experiments.load(LSTM), training=moving)
    assert (moving.full_rate("head.weight"), moving.weight_decay("rnn.weight_hh_l0", 2)) == (0.02, 0.2)
    training = check.still(subject).training
    for parameter in subject.parameters():
        assert training.full_rate(parameter.name) == check.STILL
        assert training.weight_decay(parameter.name, 2) == 0


@cache
def recorded(side: str) -> Arrays:
    """What that side gives."""
    return record(importlib.import_module(side), experiments.load(LSTM))


@pytest.mark.parametrize(
    ("change", "tensor"),
    [
        (lambda a: a.update({"gradients/loss": a["gradients/loss"] * 1.0001}), "loss of a seed"),
        (lambda a: a.update({"gradients/rnn.bias_hh_l0": -a["gradients/rnn.bias_hh_l0"]}), "rnn.bias_hh_l0, of a seed"),
        (lambda a: a.update({"gradients/head.bias": a["gradients/head.bias"][1:]}), "head.bias, of a seed"),
        (lambda a: a.pop("gradients/head.bias"), "gradients/head.bias"),
    ],
)
@pytest.mark.parametrize("side", ["torch_impl", "flax_impl"])
def test_gradients_of_a_seed(side: str, change: Callable[[dict[str, np.ndarray]], object], tensor: str):
    experiment = experiments.load(LSTM)
    arrays = dict(recorded(side))
    assert failures(experiment, arrays) == []
    change(arrays)
    (found,) = failures(experiment, arrays)
    assert found.startswith(tensor)


@pytest.mark.parametrize(
    ("change", "tensor"),
    [
        (lambda a: a.pop("masks/rnn.dropout_l0"), "masks/rnn.dropout_l0"),
        (lambda a: a.pop("logits/eval"), "logits/eval"),
        (lambda a: a.update({"masks/head": np.ones(3)}), "masks/head"),
        (lambda a: a.update({"masks/rnn.dropout_l0": a["masks/rnn.dropout_l0"][:-1]}), "rnn.dropout_l0"),
        (lambda a: a.update({"masks/rnn.dropout_l0": a["masks/rnn.dropout_l0"] * np.nan}), "rnn.dropout_l0, values"),
        (lambda a: a.update({"logits/before": a["logits/before"] * np.nan}), "logits in train mode"),
        (lambda a: a.update({"logits/eval": a["logits/eval"].astype("float64")}), "logits in eval mode"),
    ],
)
def test_guards(change: Callable[[dict[str, np.ndarray]], object], tensor: str):
    experiment = experiments.load(LSTM)
    arrays = dict(record(Numpy(), experiment))
    change(arrays)
    assert tensor in failures(experiment, arrays)


def test_training_of_the_reference_is_clean_and_nothing_is_missing():
    experiment = experiments.load(LSTM)
    arrays = dict(_trained(experiment))
    assert failures(experiment, arrays, "training") == []
    for name in ("losses", "logits", "seeds"):
        assert failures(experiment, {key: a for key, a in arrays.items() if key != name}, "training") == [name]


@pytest.mark.parametrize(
    ("change", "tensor"),
    [
        (lambda losses: np.repeat(losses[:, :1], losses.shape[1], 1), "losses, one mask a step"),
        (lambda losses: np.repeat(losses[:, ::2], 2, 1), "losses, one mask a step"),
        (lambda losses: np.stack([losses[0]] * 2), "losses, one mask a step"),
        (lambda losses: losses * np.nan, "losses"),
        (lambda losses: losses[:, 1:], "losses"),
    ],
    ids=["one mask for all steps", "one mask for two steps", "the seed ignored", "not finite", "a step missing"],
)
def test_losses_of_repeated_masks(change: Callable[[np.ndarray], np.ndarray], tensor: str):
    experiment = experiments.load(LSTM)
    arrays = dict(_trained(experiment))
    arrays["losses"] = change(arrays["losses"])
    assert failures(experiment, arrays, "training") == [tensor]


def test_one_step_of_eval_mode_after_each_evaluation():
    experiment = experiments.load(LSTM)
    arrays = dict(_trained(experiment))
    logits, batch = arrays["logits"][0, 0], experiment.batch(0, 0, "float32")
    losses = arrays["losses"].copy()
    losses[:, check.STEPS :: check.STEPS] = experiment.training.loss.value(logits, batch.targets)
    arrays["losses"] = losses
    assert "losses in train mode" in failures(experiment, arrays, "training")


def test_honest_losses_are_seldom_equal():
    """Far fewer than what a training may have."""
    experiment = experiments.load(LSTM)
    counts = []
    for first in range(3):
        for comparison in judged(experiment, dict(_trained(experiment, first * 100)), "training"):
            if comparison.tensor.startswith(("losses in", "losses,")):
                counts.append(comparison.difference)
    assert len(counts) == 6
    assert sum(counts) <= 2


def _trained(experiment: Experiment, first: int = 0) -> Arrays:
    """A recording of NumPy's dropout in training, without the reference's slow gradients."""
    request = Request("float32", "cpu", 0)
    start, batch = request.start(experiment), experiment.batch(0, 0, "float32")
    seeds = check._seeds(request)[:2]
    draws = iter(range(first, first + 100))

    def forward(dropout: int | None) -> np.ndarray:
        return Numpy().forward(experiment, start, batch, request.settings, dropout)["logits"]

    losses = [
        [experiment.training.loss.value(forward(next(draws)), batch.targets) for _ in range(check.EPOCHS * check.STEPS)]
        for _ in seeds
    ]
    evaluated = forward(None)
    return {
        "losses": np.array(losses, np.float32),
        "logits": np.broadcast_to(evaluated, (2, check.EPOCHS, *evaluated.shape)),
        "seeds": np.array(seeds),
        **{f"start/{name}": value for name, value in start.items()},
    }


def test_no_test_of_masks_fails_more_often_than_its_level():
    generator, level, runs = np.random.default_rng(0), 0.04, 1000
    bits = generator.random((runs, 2, 500)) < 0.2
    rates = [bernoulli.dropped(one[0], 0.2, level) for one in bits]
    pairs = [bernoulli.agreement(one[0], one[1], (0.2, 0.2), level, "") for one in bits]
    for findings in (rates, pairs):
        alarms = sum(finding.difference > finding.bound for finding in findings)
        assert 0 < alarms <= runs * level + 3 * (runs * level) ** 0.5


def test_the_level_is_shared_by_at_least_as_many_tests_as_are_made():
    for name in (LSTM, TRANSFORMER):
        experiment = experiments.load(name)
        made = [c for c in judged(experiment, record(Numpy(), experiment)) if "-log10" in c.note]
        sites = experiment.model.dropout_sites(2, 5)
        single = [c for c in made if "between sites" not in c.tensor]
        # Of two sites of one shape three tests are made, else four; the worst is reported.
        assert len(single) + 4 * len(sites) * (len(sites) - 1) // 2 <= check.tests(sites)
    dropping = [name for name in experiments.shipped() if not check.inapplicable(experiments.load(name))]
    assert dropping == [LSTM, TRANSFORMER]
    assert 2 * len(dropping) * tolerances.TRAIN_MODE_LEVEL < 1e-5


def test_the_check_stands_between_trajectory_and_outcome():
    assert LADDER[LADDER.index(check) - 1] is trajectory
    assert LADDER.index(check) < LADDER.index(outcome)


@pytest.mark.parametrize(
    ("elements", "seen", "passes"),
    [(400_000, 90_000, True), (400_000, 70_000, False), (20_000, 10_000, True), (20_000, 9_999, False)],
)
def test_enough_of_a_mask_must_be_seen(elements: int, seen: int, passes: bool):
    """Half of it, or as many elements as any site is asked for."""
    values = np.zeros(elements)
    values[seen:] = np.nan
    place = Place("mine", check.NAME, "float32", "seeds", ("one", "two"))
    found = check._values(place, "site", DropoutSite((elements,), 0.5), values)
    assert found.passed == passes
