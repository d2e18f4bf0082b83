"""Where crosscheck looks at an experiment: batches, starts and depths, as few shapes and many points of each.

A compiler compiles once for each shape and precision, about a second. So a case is one shape, and all that can vary
within it are points of that case: they cost milliseconds.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from spec import generation
from spec import parameters as spec_parameters
from spec.experiment import Experiment, override
from spec.framework import Precision
from spec.mixed_precision import bfloat16
from spec.models import Embedding, Model
from spec.models.attention import SelfAttention
from spec.models.recurrent import Recurrent
from spec.parameters import Parameters
from spec.sizes import ASKED, RECORDED, TRAINED, TRAINING
from spec.tasks import Batch, asked, not_asked, random_batch
from spec.training import SGD, ConstantSchedule

LONGEST = 7
"""Steps of the ragged batches, unless the model takes fewer."""

OFFSET = 100.0
"""Added to what ought to have a mean near zero. A float32 of this size has five digits left after the point, enough for
a variance of order 1 taken from centred values (off by 1e-5); as a mean of squares less a squared mean it is the
difference of two numbers of 1e4, off by 1e-3. Exponentials of it overflow wherever nothing is subtracted first."""

FAR: dict[Precision, float] = {"float32": 200.0, "float64": 1000.0}
"""Added to every other bias and taken off the ones between: exponentials overflow from 88.8 and 709.8 on. A gate, a
score, an activation or a logit that is far from zero on both sides meets any of them that nothing is subtracted from,
whatever the weights are; an offset of the inputs meets those that the weights happen to lead to."""

LARGE_TARGET = 10.0
"""Of targets that are numbers and far from what a model says at a random start."""

BEFORE_NORM = ("self_attn.out_proj.bias", "linear2.bias")
"""Ends of the names of what is added right before a LayerNorm. There the offset must be the same in every feature:
brought in at the model's inputs, random weights would make a spread of it, which hides what it is there to show."""

DECODED = "decoded"
"""The case, and the tensor, of a model that decodes step by step: what it chooses feeds back."""

CONTINUED = "continued"
"""The case of a model that writes on from a prompt."""

SAMPLED = "sampled"
"""Its point whose symbols are drawn."""

SHARPER = 4.0
"""What the parameters are multiplied by in both: small ones choose the same symbol in every row and at every step."""

MASKED = "masks"
"""The case with masks that are handed over, on ragged batches, of a model that drops units."""

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
their code is shared and a compilation each costs seconds in all. An experiment of one's own always is."""

LARGE = ("hello-lstm-attention", "hello-transformer")
"""Shipped experiments also looked at by default at the largest of spec.sizes.ASKED: a recurrence, and attention with
one head and with several, since what is taken at such sizes is shared."""

INPUTS = "inputs"
"""Beside the parameters' names: the batch's inputs, where they are numbers."""

CLEAN, PERMUTED = "clean padding", "permuted rows"
"""Points that must give what the case's first point gave, on the same side."""

ROUNDED = "rounded weights"
"""The point of a model of mixed precision whose weights are rounded already. As operands they are the same to the bit,
in every precision, and so is all that follows."""

OVERFLOW = "overflow"
"""The point with biases of FAR."""

TIES = "ties"
"""The point of a decoder whose first and last class are equally likely, and likelier than all others, at every step."""

INITIAL = "initial states"
"""The point with initial states that are not zero, of a model that takes any."""

LONG = 256
"""Steps of a sequence where there are many: two blocks of queries in an attention that takes 128 at a time."""

LENGTHS: dict[str, list[int]] = {
    "batch 1": [LONGEST],
    "batch 2": [LONGEST, 2],
    "length 1": [1, 1, 1],
    "length 2": [2, 0, 1, 2],
}
"""Further shapes, in thorough mode."""


LARGE_TRAINING = "a large training"
"""The case of trainings, and the variant of an experiment, that are larger than all of spec.sizes.TRAINED."""

WIDE = 2 * 10**6
"""Parameters of its model, at least."""


class Writing(NamedTuple):
    """What a model is to write on from: a prompt, int64 (batch, time), by how many symbols, and how warm.

    like: a batch of as many steps as are read in all, with the prompt and anything behind it.
    """

    prompt: np.ndarray
    length: int
    temperature: float
    model: Model
    like: Batch

    def whole(self, symbols: np.ndarray) -> Batch:
        """The batch of everything that was read, of what was written, (batch, length)."""
        text = np.concatenate([self.prompt, symbols[:, :-1]], axis=1)
        return self.like._replace(inputs=generation.as_inputs(self.model, text, self.like.inputs.dtype.name))


class Point(NamedTuple):
    """One evaluation within a case. name: empty for the first, which the others vary.

    subject: what is evaluated, an experiment or another depth of it. added: by the names of parameters, and of the
    inputs, how large the numbers are that their gradients are added up from, where they cancel; for a loss whose
    gradient by all logits is 1. repeated: whether these are the same number many times over. measured: whether it has
    numbers of its own size, and so an envelope of its own; else the first point's holds. live: whether a gradient that
    is not zero reaches every parameter there. dropout: masks by site; None in eval mode. writing: what is written on
    from, in the case CONTINUED alone.
    """

    name: str
    subject: Any
    parameters: Parameters
    batch: Batch
    added: Mapping[str, float] = {}
    repeated: bool = False
    measured: bool = False
    live: bool = False
    dropout: Parameters | None = None
    writing: Writing | None = None

    @property
    def prefix(self) -> str:
        """Before the names of what was recorded there."""
        return f"{self.name}/" if self.name else ""


def cases(experiment: Experiment, precision: Precision, thorough: bool) -> tuple[str, ...]:
    """One for each shape."""
    large = tuple(ASKED) if thorough and experiment.stands_for_others(_choosing) else ()
    if experiment.name in LARGE and _choosing(experiment) and precision == "float64":
        large = large or tuple(ASKED)[-1:]
    if precision == "float32":
        # The experiment's own batch is looked at in float32 by trajectory's first step.
        return ("own", "ragged", *large) if thorough else ("ragged",)
    found = ("own", "ragged", *((MASKED,) if experiment.has_dropout else ()), *(LENGTHS if thorough else ()), *large)
    if not hasattr(experiment.model, "num_layers"):
        return found
    if thorough:
        return found + tuple(DEPTHS)
    deep = experiment.name in DEEP or not experiment.is_at_hand
    return (*found, DEEPEST) if deep else found


def variant(experiment: Experiment, case: str) -> Experiment:
    """The experiment with as many layers as the case asks for, or as large as it does.

    Where the last step is read out also with both directions: which states those are is easily mistaken.
    """
    if case == LARGE_TRAINING:
        return _enlarged(experiment)
    if case not in DEPTHS:
        return experiment
    if _reads_last_step(experiment) and _has_head(experiment):
        experiment = override(experiment, model__bidirectional=True)
    # A single layer has no place for dropout; evaluation never drops anything.
    return override(experiment, model__num_layers=DEPTHS[case], **_without_dropout(experiment, DEPTHS[case]))


def _enlarged(experiment: Experiment) -> Experiment:
    """A wider model, and a recipe of few steps under which rounding stays small; itself where it has no width."""
    width, factor = getattr(experiment.model, "hidden_size", 0), 2
    if not width or not _has_head(experiment):
        return experiment
    while (wide := _times_as_wide(experiment, factor)).model.parameter_count < WIDE:
        factor *= 2
    steps = max(
        math.ceil(TRAINED[TRAINING] / wide.multiplications_per_step),
        math.ceil(TRAINED[RECORDED] / (2 * wide.model.parameter_count)),
    )
    recipe = msgspec.structs.replace(
        wide.training,
        optimizer=SGD(learning_rate=0.01, momentum=0.9),
        groups=(),
        schedule=ConstantSchedule(),
        epochs=2,
        steps_per_epoch=math.ceil(steps / 2),
    )
    return wide.with_training(recipe)


def _times_as_wide(experiment: Experiment, factor: int) -> Experiment:
    """With so many times the units; where the head is the embedding's table, that is as wide as they are."""
    changes = {"model__hidden_size": factor * getattr(experiment.model, "hidden_size", 1)}
    if getattr(experiment.model, "tied", False):
        changes["model__inputs__embedding_dim"] = factor * experiment.model.inputs.size
    return override(experiment, **changes)


def _has_head(experiment: Experiment) -> bool:
    """Where the outputs are the logits, their width is given by the classes."""
    return getattr(experiment.model, "head", True)


def _reads_last_step(experiment: Experiment) -> bool:
    return isinstance(experiment.model, Recurrent) and experiment.model.readout == "last step"


def _without_dropout(experiment: Experiment, layers: int) -> dict[str, float]:
    return {"model__dropout": 0.0} if layers == 1 and hasattr(experiment.model, "dropout") else {}


def points(experiment: Experiment, case: str, seed: int, precision: Precision) -> list[Point]:
    """The case's points, of as few shapes as can be. The first has no name."""
    if case == DECODED:
        found = points(experiment, "ragged", seed, precision)
        sharp = [p._replace(parameters={name: SHARPER * value for name, value in p.parameters.items()}) for p in found]
        return [*sharp, _tied(sharp[0])]
    if case == CONTINUED:
        return _continued(experiment, seed, precision)
    experiment = variant(experiment, case)
    start = experiment.start(seed, precision)
    if case == "own":
        batch = experiment.batch(seed, 0, precision)
        found = [
            # A single step has no step before it, and leaves recurrent weights without a gradient.
            Point("", experiment, start, batch, measured=True, live=experiment.task.length > 1),
            _zeros(experiment, start, batch),
            Point("zero units", experiment, _zero_units(start), batch, measured=True),
        ]
        # A shape of its own, since these have no lengths.
        if experiment.stands_for_others(_starting):
            count, time = batch.inputs.shape[:2]
            states = _states(experiment, [time] * count, seed, precision)
            # Of a single step the first point says nothing of recurrent weights.
            found.append(Point(INITIAL, experiment, start, batch._replace(initial=states), measured=True))
        return found
    if case in ASKED:
        batch = _drawn(experiment, _many(experiment.model, ASKED[case]), seed, precision, initial=True)
        # As many rows as there are cancel: each brings what is no larger than the loss's gradient by its logits.
        return [Point("", experiment, start, batch, added=dict.fromkeys(start, 1.0), measured=True)]
    batch = _random(experiment, case, seed, precision)
    if case == MASKED:
        generator = spec_parameters.generator_for(seed, MASKED)
        count, time = batch.inputs.shape[:2]
        drawn = experiment.keep_masks(count, time, generator)
        masks = {site: mask.astype(precision) for site, mask in drawn.items()}
        return [Point("", experiment, start, batch, measured=True, dropout=masks)]
    if case != "ragged":
        found = [Point("", experiment, start, batch, measured=True)]
        if case in DEPTHS and _reads_last_step(experiment):
            # A shape of its own. Without padding the last column is the last step, but of one direction only.
            full = _drawn(experiment, [LONGEST] * len(batch.inputs), seed, precision)
            found.append(Point("full length", experiment, start, full, measured=True))
        return found
    littered = batch._replace(inputs=_littered(experiment, batch, seed))
    found = [Point("", experiment, start, littered, measured=True)]
    if experiment.mixed_precision:
        found.append(_rounded(found[0]))
    if precision == "float32":
        # In float64 there are digits enough to hide what loses them.
        return [*found, _offset(found[0]), _far(found[0], precision)]
    found += [
        Point(CLEAN, experiment, start, batch),
        Point(PERMUTED, experiment, start, _rows(littered, permutation(len(batch.inputs)))),
        Point("edges", experiment, start, _edges(experiment, littered), measured=True),
        _far(found[0], precision),
    ]
    if batch.initial:
        states = _states(experiment, _lengths(experiment, case, precision), seed, precision)
        found.append(Point(INITIAL, experiment, start, littered._replace(initial=states), measured=True))
    return found


def _continued(experiment: Experiment, seed: int, precision: Precision) -> list[Point]:
    """Prompts of a third of the steps of the case "ragged", of whose shape a forward pass is compiled already; in
    sequences that are as long as the batch is, from zero states."""
    model, batch = experiment.model, _random(experiment, "ragged", seed, precision)
    rows, steps = batch.inputs.shape[:2]
    full = None if batch.lengths is None else np.full_like(batch.lengths, steps)
    generator = spec_parameters.generator_for(seed, CONTINUED)
    prompt = generator.integers(0, model.inputs.symbols, (rows, -(-steps // 3)), np.int64)
    # What is read after the prompt is chosen out of the classes.
    greedy = Writing(prompt, steps - prompt.shape[1] + 1, 0.0, model, batch._replace(lengths=full, resets=None))
    start = {name: SHARPER * value for name, value in experiment.start(seed, precision).items()}
    point = Point("", experiment, start, greedy.like, measured=True, writing=greedy)
    # As warm as the parameters are sharp: one symbol would be nearly certain else.
    return [point, point._replace(name=SAMPLED, writing=greedy._replace(temperature=SHARPER))]


def fullest(experiment: Experiment, seed: int, precision: Precision) -> Point:
    """The point whose batch has the most that a batch may have: lengths, and initial states where the model has any."""
    found = {point.name: point for point in points(experiment, "ragged", seed, precision)}
    return found.get(INITIAL, found[""])


def _starting(experiment: Experiment) -> list[str]:
    """The kind of model that an experiment is of, where that begins with states."""
    model = experiment.model
    return [f"{type(model).__name__}, {getattr(model, 'bidirectional', False)}"] if model.initial_states(1) else []


def _choosing(experiment: Experiment) -> list[str]:
    """The kind of model that an experiment is of, where it computes something that code is chosen by."""
    model = experiment.model
    kind = f"{type(model).__name__}, {getattr(model, 'bidirectional', False)}, {getattr(model, 'cell', '')}"
    return [kind] if model.sizes(1, 1) else []


def _many(model: Model, size: int) -> list[int]:
    """Lengths, of all kinds, of as many sequences as make a batch of that size of every kind."""
    longest = min(model.max_length or LONG, LONG)
    count = max(math.ceil(size / each) for each in model.sizes(1, longest).values())
    kinds = [min(length, longest) for length in (longest, longest // 2, 1, 2, 0, longest - 1)]
    return [kinds[row % len(kinds)] for row in range(max(count, len(kinds)))]


def _states(experiment: Experiment, lengths: list[int], seed: int, precision: Precision) -> Parameters | None:
    """Random states to begin a batch of such sequences with."""
    return _drawn(experiment, lengths, seed, precision, initial=True).initial


def _rounded(point: Point) -> Point:
    """The same with what is an operand of products and nothing else rounded to bfloat16."""
    read_as_they_are = ("embedding.weight", "positions.weight")
    parameters = {
        name: value if value.ndim < 2 or name in read_as_they_are else bfloat16(value)
        for name, value in point.parameters.items()
    }
    return point._replace(name=ROUNDED, parameters=parameters)


def _far(point: Point, precision: Precision) -> Point:
    """The same where every exponential that can overflow does."""
    far = FAR[precision]

    def moved(value: np.ndarray) -> np.ndarray:
        signs = np.where(np.arange(value.size) % 2, -1, 1).reshape(value.shape)
        return (value + far * signs).astype(value.dtype)

    # A score is a product of two such numbers, so its gradient by one is as large as the other, and what rounding
    # leaves of 1 in a weight of 1 is multiplied by values of that size too: hence the square below.
    biases = {name: moved(value) for name, value in point.parameters.items() if "bias" in name}
    added = dict.fromkeys([*point.parameters, INPUTS], far**2)
    return point._replace(
        name=OVERFLOW, parameters={**point.parameters, **biases}, added=added, measured=True, live=False
    )


def _tied(point: Point) -> Point:
    """The same with two classes that are chosen between; the logits of the others tell which symbol was fed back."""
    parameters = {name: value.copy() for name, value in point.parameters.items()}
    for tied in (0, -1):
        # Exact: a row of zeros has no rounding.
        parameters["head.weight"][tied] = 0.0
        parameters["head.bias"][tied] = FAR["float32"]
    return point._replace(name=TIES, parameters=parameters)


def _drawn(experiment: Experiment, lengths: list[int], seed: int, precision: Precision, **options: Any) -> Batch:
    """A random batch, with targets of the kind that the experiment's are of, and resets where it has any."""
    task = experiment.task
    options = {"numbers": task.numeric, "resets": task.resets, **options}
    return random_batch(experiment.model, lengths, seed, precision, **options)


def _random(experiment: Experiment, case: str, seed: int, precision: Precision) -> Batch:
    """A random batch of the case's shape. Initial states are there and zero, so that others are no other shape."""
    model, lengths = experiment.model, _lengths(experiment, case, precision)
    target = max(lengths) + (2 if precision == "float32" else -2) if model.decodes and max(lengths) > 2 else None
    batch = _drawn(experiment, lengths, seed, precision, target_length=target, initial=case == "ragged")
    if batch.initial is None:
        return batch
    return batch._replace(initial={name: np.zeros_like(state) for name, state in batch.initial.items()})


def _lengths(experiment: Experiment, case: str, precision: Precision) -> list[int]:
    """The lengths of the case's sequences; a batch of one length has no padding."""
    longest = min(LONGEST, getattr(experiment.model, "max_length", None) or LONGEST)
    if case == "ragged":
        every = [min(length, longest) for length in (longest, 1, 2, longest, 3, 0, longest - 1)]
        return every if precision == "float64" else every[:1] + every[4:5]
    return [min(length, longest) for length in LENGTHS.get(case, [LONGEST, 3, 1])]


def permutation(count: int) -> np.ndarray:
    """Another order of the rows, in which none stays where it is."""
    return np.roll(np.arange(count)[::-1], 1) if count % 2 == 0 else np.roll(np.arange(count), 3)


def _zero_units(start: Parameters) -> Parameters:
    """Every other row zero: such a unit's sum is exactly zero, and what comes after it is not."""
    found = {name: value.copy() for name, value in start.items()}
    for value in found.values():
        value[::2] = 0.0
    return found


def _zeros(experiment: Experiment, start: Parameters, batch: Batch) -> Point:
    """All parameters zero: every class has the same chance, and the gradient of the head's bias is what is left where a
    target of one class has cancelled those of the others, 0 where the classes are balanced. Numbers that have cancelled
    are no larger than the loss's gradient by all logits, and each of them is rounded in the same way."""
    zeros = {name: np.zeros_like(value) for name, value in start.items()}
    return Point("zeros", experiment, zeros, batch, added=dict.fromkeys(start, 1.0), repeated=True)


def _offset(point: Point) -> Point:
    """The same with an offset. `added`: 1 - tanh^2 is what rounding leaves of 1, and it is multiplied by inputs of that
    size."""
    experiment, start, batch = point.subject, point.parameters, point.batch
    point = point._replace(name="offset", measured=True)
    shifted = [name for name in start if name.endswith(BEFORE_NORM)]
    if not shifted and isinstance(experiment.model.inputs, Embedding):
        shifted = ["embedding.weight"]
    if not shifted:
        moved = batch._replace(inputs=batch.inputs + batch.inputs.dtype.type(OFFSET))
        return point._replace(added=_added(experiment, start), batch=moved)
    parameters = {n: v + v.dtype.type(OFFSET) if n in shifted else v for n, v in start.items()}
    added = _added(experiment, start) if shifted == ["embedding.weight"] else {}
    return point._replace(added=added, parameters=parameters)


def _added(experiment: Experiment, start: Parameters) -> dict[str, float]:
    """`Point.added` where everything that the model reads has an offset.

    In an attention whose queries, keys and values are read off directly it enters up to three times. The gradient by
    the scores is w_s (g_s - sum of w g) / sqrt(width) with g_s = v_s . (the gradient by the context), of size OFFSET.
    One step has all of the weight there, so that g cancels, and its rounding is left. For the gradient by a query it is
    multiplied by a key, and for that by the weight that made it by an input too. By the inputs it is multiplied by
    weights instead, which are of order 1.
    """
    found = dict.fromkeys([*start, INPUTS], OFFSET)
    if isinstance(experiment.model, SelfAttention):
        found |= dict.fromkeys(["query.bias", "key.bias", "embedding.weight", INPUTS], OFFSET**2)
        found |= dict.fromkeys(["query.weight", "key.weight"], OFFSET**3)
    return found


def _rows(batch: Batch, order: np.ndarray) -> Batch:
    """The batch with its sequences in another order."""
    fields = {name: a[order] for name, a in batch._asdict().items() if isinstance(a, np.ndarray)}
    # States have an axis of layers before that of the rows.
    states = None if batch.initial is None else {name: a[..., order, :] for name, a in batch.initial.items()}
    return batch._replace(**fields, initial=states)


def _edges(experiment: Experiment, batch: Batch) -> Batch:
    """The first and the last index of every vocabulary by turns, as targets too, or LARGE_TARGET of either sign; and
    every third target ignored."""
    model = experiment.model

    def ends(like: np.ndarray, first: float, last: float) -> np.ndarray:
        return np.where(np.arange(like.size).reshape(like.shape) % 2, last, first)

    inputs = batch.inputs
    if isinstance(model.inputs, Embedding):
        inputs = ends(inputs, 0, model.inputs.num_embeddings - 1)
    kept = asked(batch.targets) & (np.arange(batch.targets.size).reshape(batch.targets.shape) % 3 != 1)
    first, last = (-LARGE_TARGET, LARGE_TARGET) if experiment.task.numeric else (0, model.classes - 1)
    targets = np.where(kept, ends(batch.targets, first, last), not_asked(batch.targets)).astype(batch.targets.dtype)
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
