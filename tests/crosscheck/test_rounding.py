"""What rounding may do to forward and gradients: measured where starts in their last bits do not show it, and derived
where numbers cancel. Each bound is held against what would be wrong, too."""

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from crosscheck.bounds import rounding_spread
from crosscheck.checks import gradients
from crosscheck.comparison import Comparison, Place
from crosscheck.probes import sample_points
from crosscheck.request import Request
from spec import observed_masks
from spec.errors import SpecError
from spec.experiment import Experiment, load, override
from spec.framework import Settings
from spec.points import INPUTS, OFFSET, Point
from spec.tasks import IGNORED, Batch

ENDED = 5.0
"""Near tanh's end: 1 - tanh^2 is 0.0002."""


class Tanh:
    """Computes 1 - tanh(w)^2 in its precision, and refuses float32 where it is told to."""

    def open(self, subject: Any, settings: Settings) -> Any:
        return SimpleNamespace(precision=settings.precision)


def slope(side: Any, point: Point) -> dict[str, np.ndarray]:
    assert point.parameters["w"].dtype == side.precision
    return {"slope": 1 - np.tanh(point.parameters["w"]) ** 2}


def test_the_rounding_of_every_operation_is_measured_and_not_of_the_start_alone():
    batch = Batch(np.zeros((1, 1, 1)), np.zeros((1, 1), np.int64), None, None, None)
    point = Point("", None, {"w": np.array([ENDED])}, batch, measured=True)
    request = Request("float64", "cpu", 0, envelope=True)
    exact = slope(SimpleNamespace(precision="float64"), point)["slope"]
    # What another tanh may make of it, whose result is a unit in the last place away.
    away = abs(float(1 - np.nextafter(np.tanh(ENDED), 0.0) ** 2 - exact[0]))
    moved = (slope(SimpleNamespace(precision="float64"), p) for p in sample_points._perturbed(point, 0))
    start = float(rounding_spread.measure({"slope": exact}, moved)["envelope/slope"])
    assert start == 0
    found = sample_points.record(Tanh(), [point], slope, request)  # type: ignore[arg-type]
    measured = sample_points.measured(point, "slope", found)
    assert away / rounding_spread.FACTOR < measured < 2 * away
    # Where something is chosen in between float32 may choose otherwise, which is no rounding.
    chosen = sample_points.record(Tanh(), [point], slope, request, chosen=True)  # type: ignore[arg-type]
    assert sample_points.measured(point, "slope", chosen) == start


def judged(point: Point, one: dict[str, np.ndarray], two: dict[str, np.ndarray], precision: Any) -> list[Comparison]:
    place = Place("any", gradients.NAME, precision, "own", ("one", "two"))
    found = [{point.prefix + name: array for name, array in side.items()} for side in (one, two)]
    recorded = {rounding_spread.PREFIX + name: np.zeros(()) for name in one}
    return gradients._judge(place, point, point.name, recorded, *(gradients._at(point, side) for side in found))


def alike(found: list[Comparison], tensor: str) -> bool:
    (one,) = [each for each in found if each.tensor.startswith(tensor)]
    return one.passed


def exact(experiment: Experiment, point: Point, precision: Any) -> dict[str, np.ndarray]:
    """The reference's, in that precision."""
    side = experiment.reference.open(experiment, Settings("float64"))
    wide = sample_points._as(point, "float64")
    found = side.gradients(wide.parameters, wide.batch)
    inputs = {} if found.inputs is None else {INPUTS: found.inputs}
    arrays = {gradients.LOSS: np.array([found.loss]), **found.parameters, **inputs}
    return {name: array.astype(precision) for name, array in arrays.items()}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_what_targets_cancel_to_has_the_rounding_of_all_of_them(reduction: str):
    experiment = override(load("hello-gru"), training__loss__reduction=reduction)
    point = next(each for each in experiment.points("own", 0, "float64") if each.name == "zeros")
    asked = int((point.batch.targets != IGNORED).sum())
    one = exact(experiment, point, "float64")
    addend = 1.0 if reduction == "sum" else 1 / asked
    for units, passes in ((asked, True), (1e6, False)):
        two = {**one, "head.bias": one["head.bias"] + units * addend * np.finfo(np.float64).eps / 2}
        assert alike(judged(point, one, two, "float64"), "head.bias") == passes


@pytest.mark.parametrize(
    ("tensor", "away", "passes"),
    [
        # One step has all of the weight: what is left of the scores' gradient is rounding, times keys and inputs.
        ("query.weight", 1e-2, True),
        ("key.weight", 1e-2, True),
        ("query.weight", 10.0, False),
        ("query.bias", 1e-4, True),
        ("query.bias", 1e-1, False),
        # Nothing of the kind comes after a value.
        ("value.weight", 1e-2, False),
    ],
)
def test_an_offset_enters_the_gradients_of_queries_and_keys_more_than_once(tensor: str, away: float, passes: bool):
    experiment = override(load("hello-self-attention"), model__hidden_size=12)
    point = next(each for each in experiment.points("ragged", 0, "float32") if each.name == "offset")
    assert point.added["value.weight"] == OFFSET
    one = exact(experiment, point, "float32")
    two = {**one, tensor: one[tensor] + np.float32(away)}
    assert alike(judged(point, one, two, "float32"), tensor) == passes


def test_a_transformer_of_one_feature_is_refused():
    changed = override(load("hello-transformer"), model__heads=1, model__positions="none")
    with pytest.raises(SpecError, match=r"hidden_size: expected at least 2 .* got 1"):
        override(changed, model__hidden_size=1)


def test_steps_that_attention_cannot_tell_apart_are_not_asked_for():
    """Which of two equal steps is dropped nobody can say; but that neither is, or both are."""
    inputs = {"name": "Embedding", "num_embeddings": 3, "embedding_dim": 2}
    experiment = load("hello-transformer-dropout")
    changes = {"task__encoding": "index", "task__characters": "eho", "task__source": "hohohe", "task__target": "ohohoe"}
    by_symbols = override(
        experiment,
        **changes,
        model__inputs=inputs,
        model__classes=3,
        model__positions="none",
        model__attention_dropout=0.5,
    )
    batch = by_symbols.observed_batch(20, 0, "float64")
    assert batch.inputs.shape == (20, 3)
    assert (np.sort(batch.inputs, axis=1) == np.arange(3)).all()
    assert len(np.unique(batch.inputs, axis=0)) > 3
    placed = override(by_symbols, model__positions="sinusoidal")
    # What tells steps apart two layers have made small.
    assert placed.observed_batch(20, 0, "float64").inputs.shape == (20, 5)
    assert observed_masks.time_of(override(placed, model__num_layers=1)) == 6
    assert observed_masks.time_of(override(placed, model__attention_dropout=0.0)) == 6


@pytest.mark.parametrize(
    ("rates", "layers"), [((0.1, 0.0), 4), ((0.1, 0.1), 2), ((0.9, 0.0), 1), ((0.0, 0.9), 2), ((0.9, 0.1), 1)]
)
def test_masks_are_read_off_no_deeper_than_they_can_be(rates: tuple[float, float], layers: int):
    rate, attention = rates
    deep = override(load("hello-transformer-dropout"), model__num_layers=6)
    deep = override(deep, model__dropout=rate, model__attention_dropout=attention)
    assert deep.observed.model.num_layers == layers  # type: ignore[union-attr]


def test_what_is_known_of_attention_s_masks_does_not_depend_on_them():
    """Two steps with the same value: that both are dropped could be said, that one is could not."""
    model: Any = SimpleNamespace(heads=1, hidden_size=4, attention_dropout=0.5, mixed_precision=None)
    shown, generator = np.array([True, False, True, False]), np.random.default_rng(0)
    source = generator.normal(size=(3, 3, 4))
    source[0, 1] = source[0, 0]
    masks = np.where(generator.random((3, 1, 3, 3)) < 0.5, 0.0, 2.0)
    read = observed_masks._read(model, np.flatnonzero(shown))
    output = np.zeros((3, 3, 4))
    output[..., shown] = masks[:, 0] @ source[..., read] / 3 + observed_masks._away(4)
    seen = np.full_like(masks, np.nan)
    observed_masks._attention(model, seen, source, output, shown)
    assert np.isnan(seen[0]).all()
    assert (seen[1:] == masks[1:]).all()


def test_a_tiny_chance_of_equal_masks_is_a_chance():
    from crosscheck.checks import dropout, shipped_path

    experiment = override(load("hello-stacked-lstm-dropout"), model__num_layers=12, model__hidden_size=16)
    batch = experiment.batch(0, 0, "float64")
    large = batch._replace(inputs=np.concatenate([batch.inputs] * 50))
    subject: Any = SimpleNamespace(
        has_drawn_batches=False, dropout_sites=experiment.dropout_sites, batch=lambda *_: large
    )
    assert dropout.same(subject) == 0.0
    assert shipped_path._tells(subject)
    assert msgspec.to_builtins(experiment)["model"]["num_layers"] == 12
