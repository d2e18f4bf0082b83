"""Where forward and gradients are looked at: batches, starts and depths, as few shapes and many points of each.

JAX compiles once for each shape and precision, about a second. So a case is one shape, and all that can vary within it
are points of that case: they cost milliseconds.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from crosscheck.bounds import rounding_spread
from crosscheck.comparison import Arrays
from crosscheck.probes.witness import aside
from crosscheck.request import Request
from spec import parameters as spec_parameters
from spec.experiment import Experiment, override, shipped
from spec.framework import Framework, Precision
from spec.models import Embedding
from spec.models.recurrent import Recurrent
from spec.parameters import Parameters
from spec.tasks import IGNORED, Batch, random_batch

LONGEST = 7
"""Steps of the ragged batches, unless the model takes fewer."""

OFFSET = 100.0
"""Added to what ought to have a mean near zero. A float32 of this size has five digits left after the point, enough for
a variance of order 1 taken from centred values (off by 1e-5); as a mean of squares less a squared mean it is the
difference of two numbers of 1e4, off by 1e-3. Exponentials of it overflow wherever nothing is subtracted first."""

BEFORE_NORM = ("self_attn.out_proj.bias", "linear2.bias")
"""Ends of the names of what is added right before a LayerNorm. There the offset must be the same in every feature:
brought in at the model's inputs, random weights would make a spread of it, which hides what it is there to show."""

DEPTHS = {"one layer": 1, "two layers": 2, "three layers": 3, "four layers": 4}
"""The cases of other depths, in float64."""

DEEPEST = "four layers"

DEEP = (
    "hello-bidirectional-gru",
    "hello-gru",
    "hello-stacked-lstm-dropout",
    "hello-stacked-rnn",
    "hello-transformer",
    "hello-transformer-norm-first",
    "last-step-classifier",
)
"""Shipped experiments that are also looked at with four layers by default: each kind of model that has layers, since
their code is shared and a compilation each costs seconds in all. An experiment that is not shipped always is."""

CLEAN, PERMUTED = "clean padding", "permuted rows"
"""Points that must give what the case's first point gave, on the same side."""

INITIAL = "initial states"
"""The point with initial states that are not zero, of a model that takes any."""

LENGTHS: dict[str, list[int]] = {
    "batch 1": [LONGEST],
    "batch 2": [LONGEST, 2],
    "length 1": [1, 1, 1],
    "length 2": [2, 0, 1, 2],
}
"""Further shapes, in thorough mode."""


class Point(NamedTuple):
    """One evaluation within a case. name: empty for the first, which the others vary.

    saturated: whether gates and tanh are driven to their ends by inputs of OFFSET.
    measured: whether it has numbers of its own size, and so an envelope of its own; else the first point's holds.
    """

    name: str
    experiment: Experiment
    parameters: Parameters
    batch: Batch
    saturated: bool = False
    measured: bool = False

    @property
    def prefix(self) -> str:
        """Before the names of what was recorded there."""
        return f"{self.name}/" if self.name else ""

    @property
    def label(self) -> str:
        """Behind a tensor's name in the report."""
        return f" ({self.name})" if self.name else ""


def cases(experiment: Experiment, precision: Precision, thorough: bool) -> tuple[str, ...]:
    """One for each shape."""
    if precision == "float32":
        # The experiment's own batch is looked at in float32 by trajectory's first step.
        return ("own", "ragged") if thorough else ("ragged",)
    found = ("own", "ragged", *(LENGTHS if thorough else ()))
    if not hasattr(experiment.model, "num_layers"):
        return found
    if thorough:
        return found + tuple(DEPTHS)
    deep = experiment.name in DEEP or experiment.name not in shipped()
    return (*found, DEEPEST) if deep else found


def variant(experiment: Experiment, case: str) -> Experiment:
    """The experiment with as many layers as the case asks for.

    Where the last step is read out also with both directions: which states those are is easily mistaken.
    """
    if case not in DEPTHS:
        return experiment
    if _reads_last_step(experiment):
        experiment = override(experiment, model__bidirectional=True)
    # A single layer has no place for dropout; evaluation never drops anything.
    return override(experiment, model__num_layers=DEPTHS[case], **_without_dropout(experiment, DEPTHS[case]))


def _reads_last_step(experiment: Experiment) -> bool:
    return isinstance(experiment.model, Recurrent) and experiment.model.readout == "last step"


def _without_dropout(experiment: Experiment, layers: int) -> dict[str, float]:
    return {"model__dropout": 0.0} if layers == 1 and hasattr(experiment.model, "dropout") else {}


def points(experiment: Experiment, case: str, request: Request) -> list[Point]:
    """The case's points, of as few shapes as can be. The first has no name."""
    experiment = variant(experiment, case)
    start = request.start(experiment)
    if case == "own":
        batch = experiment.task.batch(request.seed, 0, request.precision)
        return [
            Point("", experiment, start, batch, measured=True),
            Point("zeros", experiment, {name: np.zeros_like(value) for name, value in start.items()}, batch),
            Point("zero units", experiment, {name: _zero_units(value) for name, value in start.items()}, batch),
        ]
    batch = _random(experiment, case, request)
    if case != "ragged":
        found = [Point("", experiment, start, batch, measured=True)]
        if case in DEPTHS and _reads_last_step(experiment):
            # A shape of its own. Without padding the last column is the last step, but of one direction only.
            full = random_batch(experiment.model, [LONGEST] * len(batch.inputs), request.seed, request.precision)
            found.append(Point("full length", experiment, start, full, measured=True))
        return found
    littered = batch._replace(inputs=_littered(experiment, batch, request.seed))
    found = [Point("", experiment, start, littered, measured=True)]
    if request.precision == "float32":
        # In float64 there are digits enough to hide what loses them.
        return [*found, _offset(found[0])]
    found += [
        Point(CLEAN, experiment, start, batch),
        Point(PERMUTED, experiment, start, _rows(littered, permutation(len(batch.inputs)))),
        Point("edges", experiment, start, _edges(experiment, littered)),
    ]
    if batch.initial:
        states = random_batch(
            experiment.model,
            _lengths(experiment, case, request.precision),
            request.seed,
            request.precision,
            initial=True,
        ).initial
        found.append(Point(INITIAL, experiment, start, littered._replace(initial=states)))
    return found


def _random(experiment: Experiment, case: str, request: Request) -> Batch:
    """A random batch of the case's shape. Initial states are there and zero, so that others are no other shape."""
    model, lengths = experiment.model, _lengths(experiment, case, request.precision)
    target = (
        max(lengths) + (2 if request.precision == "float32" else -2) if model.decodes and max(lengths) > 2 else None
    )
    batch = random_batch(
        model, lengths, request.seed, request.precision, target_length=target, initial=case == "ragged"
    )
    if batch.initial is None:
        return batch
    return batch._replace(initial={name: np.zeros_like(state) for name, state in batch.initial.items()})


def _lengths(experiment: Experiment, case: str, precision: Precision) -> list[int]:
    """The lengths of the case's sequences; a batch of one length has no padding."""
    longest = min(LONGEST, getattr(experiment.model, "max_length", None) or LONGEST)
    if case == "ragged":
        every = [longest, 1, 2, longest, 3, 0, longest - 1]
        return every if precision == "float64" else every[:1] + every[4:5]
    return [min(length, longest) for length in LENGTHS.get(case, [LONGEST, 3, 1])]


def permutation(count: int) -> np.ndarray:
    """Another order of the rows, in which none stays where it is."""
    return np.roll(np.arange(count)[::-1], 1) if count % 2 == 0 else np.roll(np.arange(count), 3)


def permuted(point: Point, name: str, values: np.ndarray) -> np.ndarray:
    """A tensor of the first point with its rows in the other order; as it is, where it has no such rows."""
    returned = [state.removesuffix("_0") + "_n" for state in point.batch.initial or {}]
    axis, order = -2 if name in returned else 0, permutation(len(point.batch.inputs))
    if values.ndim < 2 or values.shape[axis] != len(order):
        return values
    return np.take(values, order, axis)


def record(
    framework: Framework, points: list[Point], compute: Callable[[Framework, Point], Arrays], request: Request
) -> dict[str, np.ndarray]:
    """What `compute` finds at each point, and what rounding does to it where this side measures that."""

    def named(asked: Framework, point: Point) -> dict[str, np.ndarray]:
        return {point.prefix + name: array for name, array in compute(asked, point).items()}

    recorded: dict[str, np.ndarray] = {}
    for point in points:
        found = named(framework, point)
        recorded |= found
        if request.envelope and point.measured:
            moved = _perturbed(point, request.seed)
            recorded |= rounding_spread.measure(found, (named(aside(framework), perturbed) for perturbed in moved))
    return recorded


def measured(point: Point, name: str, arrays: Arrays) -> float:
    """The envelope that holds for that tensor at that point: its own, or the first point's."""
    # A file has no scalars but arrays of one element.
    return float(np.max(arrays.get(f"{rounding_spread.PREFIX}{point.prefix if point.measured else ''}{name}", 0.0)))


def names(points: list[Point], tensors: list[str]) -> list[str]:
    """Everything that `record` may have left."""
    recorded = [point.prefix + tensor for point in points for tensor in tensors]
    return recorded + [rounding_spread.PREFIX + name for name in recorded]


def _perturbed(point: Point, seed: int) -> Iterator[Point]:
    """The point with parameters and inputs moved in their last bits. A zero is exact, and stays."""
    batch, initial = point.batch, point.batch.initial or {}
    given = {**point.parameters, _INPUTS: batch.inputs, **initial}
    for moved in rounding_spread.perturbed(given, seed):
        kept = {name: np.where(given[name] == 0, given[name], value) for name, value in moved.items()}
        batch = batch._replace(inputs=kept.pop(_INPUTS), initial={name: kept.pop(name) for name in initial} or None)
        yield point._replace(parameters=kept, batch=batch)


_INPUTS = "batch.inputs"


def _zero_units(value: np.ndarray) -> np.ndarray:
    """Every other row zero: such a unit's sum is exactly zero, and what comes after it is not."""
    value = value.copy()
    value[::2] = 0.0
    return value


def _offset(point: Point) -> Point:
    """The same with an offset."""
    experiment, start, batch = point.experiment, point.parameters, point.batch
    point = point._replace(name="offset", measured=True)
    shifted = [name for name in start if name.endswith(BEFORE_NORM)]
    if not shifted and isinstance(experiment.model.inputs, Embedding):
        shifted = ["embedding.weight"]
    if not shifted:
        return point._replace(
            saturated=True, batch=batch._replace(inputs=batch.inputs + batch.inputs.dtype.type(OFFSET))
        )
    moved = {n: v + v.dtype.type(OFFSET) if n in shifted else v for n, v in start.items()}
    return point._replace(saturated=shifted == ["embedding.weight"], parameters=moved)


def _rows(batch: Batch, order: np.ndarray) -> Batch:
    """The batch with its sequences in another order."""
    fields = {name: a[order] for name, a in batch._asdict().items() if isinstance(a, np.ndarray)}
    # States have an axis of layers before that of the rows.
    states = None if batch.initial is None else {name: a[..., order, :] for name, a in batch.initial.items()}
    return batch._replace(**fields, initial=states)


def _edges(experiment: Experiment, batch: Batch) -> Batch:
    """The first and the last index of every vocabulary by turns, and every third target ignored."""
    model = experiment.model

    def ends(like: np.ndarray, first: int, last: int) -> np.ndarray:
        return np.where(np.arange(like.size).reshape(like.shape) % 2, last, first)

    inputs = batch.inputs
    if isinstance(model.inputs, Embedding):
        inputs = ends(inputs, 0, model.inputs.num_embeddings - 1)
    asked = (batch.targets != IGNORED) & (np.arange(batch.targets.size).reshape(batch.targets.shape) % 3 != 1)
    targets = np.where(asked, ends(batch.targets, 0, model.classes - 1), IGNORED)
    symbols = batch.decoder_inputs
    return batch._replace(
        inputs=inputs,
        targets=targets,
        decoder_inputs=None if symbols is None else ends(symbols, model.classes, model.classes - 1),
    )


def _littered(experiment: Experiment, batch: Batch, seed: int) -> np.ndarray:
    """The inputs with NaN and huge numbers, or other indices, where there is padding."""
    inputs = batch.inputs.copy()
    if batch.lengths is None:
        return inputs
    padding = np.arange(inputs.shape[1]) >= batch.lengths[:, None]
    count = int(padding.sum())
    if isinstance(experiment.model.inputs, Embedding):
        generator = spec_parameters.generator_for(seed, "padding")
        inputs[padding] = generator.integers(0, experiment.model.inputs.num_embeddings, count)
    else:
        inputs[padding] = np.where(np.arange(count) % 2, np.nan, 1e30)[:, None]
    return inputs
