"""Each variation of the batch, the start and the depth sees a fault that the others do not.

Faults are patched into torch_impl, which is then held against itself as it was.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from sides import Opened

import torch_impl
import torch_impl.attention
import torch_impl.contract
import torch_impl.encoder_decoder
import torch_impl.model
import torch_impl.recurrent
from crosscheck.checks import Check, forward, gradients, loss
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.probes import equations
from crosscheck.request import Request
from spec import points as sample_points
from spec import reference
from spec.errors import Unsupported
from spec.experiment import Experiment, load, override, shipped
from spec.framework import Framework, Precision, Settings
from spec.models import MODELS

FRAMEWORK: Any = torch_impl
TRIED: tuple[Check, ...] = (forward, loss, gradients)
CHECKS = {check.NAME: check for check in TRIED}


class Fault(NamedTuple):
    """patch: (object, attribute, what to make of it). seen: check -> the case and point where it is seen, and nowhere
    else; an empty point is the case's first, whose faults other points share.
    """

    name: str
    experiment: str
    precision: Precision
    patch: tuple[Any, str, Callable[[Any], Any]]
    seen: dict[str, set[tuple[str, str]]]


def mixed_rows(original: Any) -> Any:
    """Rows hear of each other; with a batch of 1 there is nothing to hear."""

    def embed(self: Any, batch: Any, valid: Any) -> Any:
        inputs = original(self, batch, valid)
        return inputs + 1e-6 * (inputs.mean(0) - inputs[0])

    return embed


def lengths_ignored(original: Any) -> Any:
    return lambda layers, inputs, lengths=None, *others: original(layers, inputs, None, *others)


def empty_rows_are_nan(original: Any) -> Any:
    """Minus infinity where nothing may be looked at, as most ports have it."""

    def attend(query: Any, key: Any, value: Any, scale: float, valid: Any = None, *rest: Any) -> Any:
        scores = query @ key.transpose(-1, -2) / scale
        weights = torch.softmax(scores if valid is None else scores.masked_fill(~valid[..., None, :], -torch.inf), -1)
        return weights @ value, weights

    return attend


def states_ignored(original: Any) -> Any:
    return lambda batch, module: None


def bottom_right(original: Any) -> Any:
    """A bias by position that is aligned at the end of both sequences: nothing where they are of one length."""

    def attend(query: Any, key: Any, value: Any, scale: float, valid: Any = None, *rest: Any) -> Any:
        ones = torch.ones(query.shape[-2], key.shape[-2], dtype=query.dtype)
        bias = ones.tril(key.shape[-2] - query.shape[-2]) - ones.tril()
        # As a further feature of either side, so that the scores get it added.
        query = torch.cat([query, 1e-6 * bias.expand(*query.shape[:-1], -1)], -1)
        key = torch.cat([key, torch.eye(key.shape[-2], dtype=key.dtype).expand(*key.shape[:-2], -1, -1)], -1)
        return original(query, key, value, scale, valid, *rest)

    return attend


def clamped_indices(original: Any) -> Any:
    def forward(self: Any, indices: Any) -> Any:
        return original(self, indices.clamp(max=self.num_embeddings - 2))

    return forward


def fast_variance(original: Any) -> Any:
    def layer_norm(x: Any, shape: Any, weight: Any, bias: Any, epsilon: float) -> Any:
        mean = x.mean(-1, keepdim=True)
        variance = (x * x).mean(-1, keepdim=True) - mean * mean
        return (x - mean) / torch.sqrt(variance + epsilon) * weight + bias

    return layer_norm


def steep_relu(original: Any) -> Any:
    """The derivative at 0 is 1."""
    return lambda x: torch.where(x >= 0, x, 0)


def differentiated_norm(original: Any) -> Any:
    """A norm that is divided out again: at zero its derivative is infinite, times zero."""

    def embed(self: Any, batch: Any, valid: Any) -> Any:
        inputs = original(self, batch, valid)
        norm = torch.sqrt((inputs * inputs).sum())
        return inputs + 0 * norm

    return embed


def repeated_layer(original: Any) -> Any:
    """The fourth layer computes with the third's weights."""

    def build(spec: Any, parameters: Any, settings: Any) -> Any:
        renamed = {
            name: parameters.get(name.replace("_l3", "_l2").replace("layers.3.", "layers.2."), value)
            for name, value in parameters.items()
        }
        return original(spec, renamed, settings)

    return build


def ignored_targets_counted(original: Any) -> Any:
    return lambda spec, logits, targets: original(spec, logits, targets) * (targets != -100).sum() / targets.numel()


def at_least_two(original: Any) -> Any:
    return lambda spec, logits, targets: original(spec, logits, targets) / (1 + ((targets != -100).sum() == 1))


def clamped_classes(original: Any) -> Any:
    def cross_entropy(spec: Any, logits: Any, targets: Any) -> Any:
        return original(spec, logits, targets.clamp(max=logits.shape[-1] - 2))

    return cross_entropy


def naive_softmax(original: Any) -> Any:
    """Exponentials of the logits as they are."""

    def cross_entropy(spec: Any, logits: Any, targets: Any) -> Any:
        asked = targets != -100
        chosen = torch.take_along_dim(logits[asked], targets[asked][..., None], -1)[..., 0]
        return (logits[asked].exp().sum(-1).log() - chosen).mean()

    return cross_entropy


FAULTS = [
    Fault(
        "rows of a batch mixed",
        "hello-gru",
        "float64",
        (torch_impl.model.Model, "embed", mixed_rows),
        {
            "forward": {("ragged", ""), ("four layers", "")},
            "gradients": {("ragged", ""), ("four layers", "")},
        },
    ),
    Fault(
        "lengths ignored",
        "hello-bidirectional-rnn",
        "float64",
        (torch_impl.recurrent, "run", lengths_ignored),
        {"forward": {("ragged", "")}, "gradients": {("ragged", "")}},
    ),
    Fault(
        "a row of padding alone is NaN",
        "hello-multi-head-attention",
        "float64",
        (torch_impl.attention, "attend", empty_rows_are_nan),
        {"gradients": {("ragged", "")}},
    ),
    Fault(
        "initial states ignored",
        "hello-stacked-lstm-dropout",
        "float64",
        (torch_impl.recurrent, "initial_state", states_ignored),
        {"forward": {("ragged", "initial states")}, "gradients": {("ragged", "initial states")}},
    ),
    Fault(
        "attention aligned at the sequences' ends",
        "hello-encoder-decoder",
        "float64",
        (torch_impl.encoder_decoder, "attend", bottom_right),
        {"forward": {("ragged", ""), ("decoded", "")}, "gradients": {("ragged", "")}},
    ),
    Fault(
        "the last index clamped",
        "hello-embedding-rnn",
        "float64",
        (torch.nn.Embedding, "forward", clamped_indices),
        {"forward": {("own", ""), ("ragged", "")}},
    ),
    Fault(
        "the variance as a difference of squares",
        "hello-transformer",
        "float32",
        (torch.nn.functional, "layer_norm", fast_variance),
        {"forward": {("ragged", "offset")}, "gradients": {("ragged", "offset")}},
    ),
    Fault(
        "the variance as a difference of squares, norm first",
        "hello-transformer-norm-first",
        "float32",
        (torch.nn.functional, "layer_norm", fast_variance),
        {"forward": {("ragged", "offset")}, "gradients": {("ragged", "offset")}},
    ),
    Fault(
        "relu with a slope at zero",
        "hello-transformer",
        "float64",
        (torch.nn.functional, "relu", steep_relu),
        {"forward": set(), "gradients": {("own", "zero units")}},
    ),
    Fault(
        "a norm differentiated at zero",
        "hello-embedding-rnn",
        "float64",
        (torch_impl.model.Model, "embed", differentiated_norm),
        {"forward": set(), "gradients": {("own", "zeros")}},
    ),
    *(
        Fault(
            f"a fourth layer like the third, {name}",
            name,
            "float64",
            (torch_impl.contract, "build", repeated_layer),
            {"forward": {("four layers", "")}, "gradients": {("four layers", "")}},
        )
        for name in ("hello-stacked-rnn", "hello-stacked-lstm-dropout", "hello-gru", "hello-transformer")
    ),
    Fault(
        "ignored targets counted",
        "hello-rnn",
        "float64",
        (torch_impl.contract, "compute_loss", ignored_targets_counted),
        {
            "loss": {("every step", name) for name in ("some ignored", "one asked", "ignored and huge")},
            "gradients": {("ragged", "")},
        },
    ),
    Fault(
        "a mean over one is over two",
        "hello-rnn",
        "float32",
        (torch_impl.contract, "compute_loss", at_least_two),
        {"loss": {("every step", "one asked")}, "gradients": set()},
    ),
    Fault(
        "the last class clamped",
        "hello-rnn",
        "float64",
        (torch_impl.contract, "compute_loss", clamped_classes),
        {"loss": {("every step", ""), ("every step", "last class")}},
    ),
    Fault(
        "exponentials that overflow",
        "hello-rnn",
        "float32",
        (torch_impl.contract, "compute_loss", naive_softmax),
        {"loss": {("every step", name) for name in ("huge", "spikes")}},
    ),
]


def record(check: Check, experiment: Experiment, precision: Precision, case: str, first: bool) -> Arrays:
    framework: Framework = FRAMEWORK
    found = check.record(framework, experiment, case, Request(precision, "cpu", 0, envelope=first))
    return {name: np.asarray(array) for name, array in found.items()}


@cache
def honest(check: str, experiment: str, precision: Precision, case: str, first: bool) -> Arrays:
    """What is recorded where no fault is planted, once for all faults that it is held against."""
    return record(CHECKS[check], load(experiment), precision, case, first)


def compare(check: Check, experiment: Experiment, precision: Precision, case: str, *sides: Arrays) -> list[Comparison]:
    place = Place(experiment.name, check.NAME, precision, case, ("as it was", "patched"))
    return check.compare(experiment, place, *sides)


def point(comparison: Comparison) -> str:
    """The point that a tensor's name ends with; empty for the first."""
    return comparison.tensor.partition(" (")[2].removesuffix(")").partition(" against")[0]


@pytest.mark.by_default(
    "a fourth layer like the third, hello-gru",
    "lengths ignored",
    "ignored targets counted",
    "a row of padding alone is NaN",
    "a norm differentiated at zero",
    "the last index clamped",
    "rows of a batch mixed",
    "the variance as a difference of squares*",
)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_seen_where_it_shows(fault: Fault, monkeypatch: pytest.MonkeyPatch):
    experiment = load(fault.experiment)
    asked = [(CHECKS[n], case) for n in fault.seen for case in CHECKS[n].cases(experiment, fault.precision, False)]
    before, again = (
        {(r.NAME, c): honest(r.NAME, fault.experiment, fault.precision, c, first) for r, c in asked}
        for first in (True, False)
    )
    for check, case in asked:
        clean = compare(check, experiment, fault.precision, case, before[check.NAME, case], again[check.NAME, case])
        assert clean
        assert all(comparison.passed for comparison in clean)
    owner, attribute, patch = fault.patch
    monkeypatch.setattr(owner, attribute, patch(getattr(owner, attribute)))
    for name, places in fault.seen.items():
        failed = set()
        for check, case in asked:
            if name == check.NAME:
                patched = record(check, experiment, fault.precision, case, False)
                found = compare(check, experiment, fault.precision, case, before[name, case], patched)
                failed |= {(case, point(comparison)) for comparison in found if not comparison.passed}
        assert places <= failed
        # Where the first point shows it, so may all that share its case.
        whole = {case for case, at in places if not at}
        assert {place for place in failed if place[0] not in whole} == places - {p for p in places if p[0] in whole}


def test_rows_that_depend_on_their_place_are_seen_when_both_sides_do_it(monkeypatch: pytest.MonkeyPatch):
    embed = torch_impl.model.Model.embed

    def counted(self: Any, batch: Any, valid: Any) -> Any:
        inputs = embed(self, batch, valid)
        return inputs + 1e-6 * torch.arange(len(inputs), dtype=inputs.dtype)[:, None, None]

    monkeypatch.setattr(torch_impl.model.Model, "embed", counted)
    experiment = load("hello-gru")
    for check in (CHECKS["forward"], CHECKS["gradients"]):
        sides = [record(check, experiment, "float64", "ragged", first) for first in (True, False)]
        found = compare(check, experiment, "float64", "ragged", *sides)
        failed = [c for c in found if not c.passed and c.other != equations.EXACT]
        assert failed
        assert all(c.tensor.endswith("(permuted rows against the first point)") for c in failed)


def test_a_mistake_of_both_sides_is_seen_by_the_equations(monkeypatch: pytest.MonkeyPatch):
    original = torch.nn.functional.layer_norm
    monkeypatch.setattr(torch.nn.functional, "layer_norm", lambda x, n, w, b, e: original(x, n, w, b, e * 1.1))
    experiment = load("hello-transformer")
    for check in (CHECKS["forward"], CHECKS["gradients"]):
        sides = [record(check, experiment, "float64", "ragged", first) for first in (True, False)]
        failed = [c for c in compare(check, experiment, "float64", "ragged", *sides) if not c.passed]
        assert {c.alone for c in failed} == {"as it was", "patched"}
        assert {c.other for c in failed} == {equations.EXACT}


@pytest.mark.parametrize("name", ["hello-gru", "hello-transformer", "hello-embedding-padding"])
def test_honest_sides_are_the_equations(name: str):
    for check in (CHECKS["forward"], CHECKS["gradients"]):
        sides = [record(check, load(name), "float64", "ragged", first) for first in (True, False)]
        found = compare(check, load(name), "float64", "ragged", *sides)
        assert {c.alone for c in found if c.other == equations.EXACT} == {"as it was", "patched"}
        assert all(comparison.passed for comparison in found)


@pytest.mark.parametrize("name", ["hello-gru", "hello-embedding-scale-by-frequency", "hello-embedding-padding"])
def test_slopes_are_products_of_the_gradients(name: str):
    point = load(name).points("ragged", 0, "float64")[0]
    generator = np.random.default_rng(0)
    directions = {n: generator.choice((-1.0, 1.0), size=v.shape) for n, v in point.parameters.items()}
    given = (point.subject, point.parameters, point.batch, Settings(precision="float64"))
    exact = reference.gradients(*given).parameters
    for tensor, slope in reference.slopes(*given, directions).items():
        assert slope == pytest.approx(float(np.sum(exact[tensor] * directions[tensor])), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", ["hello-lstm-attention", "hello-embedding-max-norm"])
def test_a_difference_of_a_few_envelopes_passes_and_one_of_many_does_not(name: str, precision: Precision):
    """What is judged is the size of the difference, tensor by tensor, and nothing typed by hand."""
    experiment = load(name)
    recorded = dict(record(forward, experiment, precision, "ragged", True))
    bound = next(
        c.bound for c in compare(forward, experiment, precision, "ragged", recorded, recorded) if c.tensor == "logits"
    )
    assert bound is not None
    assert 1 < bound / np.finfo(precision).eps < 200
    for factor, passed in ((0.4, True), (3.0, False)):
        moved = recorded | {"logits": recorded["logits"].copy()}
        moved["logits"][0, 0, 0] += np.asarray(factor * bound, precision)
        found = {c.tensor: c for c in compare(forward, experiment, precision, "ragged", recorded, moved)}
        assert found["logits"].passed is passed


def test_every_model_with_layers_is_looked_at_with_four_by_default():
    models = {load(name).model for name in sample_points.DEEP}
    with_layers = {name for name, model in MODELS.items() if "num_layers" in model.__struct_fields__}
    assert set(sample_points.DEEP) <= set(shipped())
    assert {type(model).__name__ for model in models} == with_layers
    assert {getattr(model, "bidirectional", False) for model in models} == {False, True}
    for name in sample_points.DEEP:
        assert sample_points.DEEPEST in sample_points.cases(load(name), "float64", False)


@pytest.mark.parametrize("name", ["hello-gru", "hello-encoder-decoder", "hello-embedding-rnn", "last-step-classifier"])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_points_of_a_case_are_of_one_shape(name: str, precision: Precision):
    """Else JAX would compile for each of them."""

    def shapes(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shapes(item) for key, item in value.items()}
        return (value.shape, value.dtype) if isinstance(value, np.ndarray) else value

    experiment = load(name)
    for case in sample_points.cases(experiment, precision, True):
        points = experiment.points(case, 0, precision)
        assert points[0].name == ""
        assert len({point.name for point in points}) == len(points)
        for other in points[1:]:
            if other.name == "full length" or (case, other.name) == ("own", sample_points.INITIAL):
                continue  # Whose shape is its point.
            assert shapes(other.batch._asdict()) == shapes(points[0].batch._asdict())
            assert shapes(other.parameters) == shapes(points[0].parameters)


def test_every_thorough_case_can_be_recorded():
    experiment = load("hello-stacked-lstm-dropout")
    cases = sample_points.cases(experiment, "float64", True)
    assert {"batch 1", "batch 2", "length 1", "length 2", "one layer", "three layers"} < set(cases)
    for case in cases:
        side = record(gradients, experiment, "float64", case, True)
        found = compare(gradients, experiment, "float64", case, side, side)
        assert found
        assert all(comparison.passed for comparison in found)


def test_a_module_without_the_loss_alone_is_not_checked():
    without = Opened(object())
    with pytest.raises(Unsupported, match="it has no function `loss_gradient`"):
        loss.record(without, load("hello-rnn"), "every step", Request("float64", "cpu", 0))


def test_outputs_that_are_the_logits_keep_their_width_in_other_depths():
    """Both directions would make twice as many classes; explore found it."""
    experiment = override(
        load("last-step-classifier"), model__head=False, model__hidden_size=load("last-step-classifier").model.classes
    )
    deep = sample_points.variant(experiment, sample_points.DEEPEST).model
    assert (deep.num_layers, deep.bidirectional) == (4, False)  # type: ignore[attr-defined]
