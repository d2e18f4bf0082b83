"""What masks a dropout forward pass applies, seen from the outside.

Stock modules drop inside compiled code, where no hook can look. So each model is given parameters under which its
outputs tell the masks: `observe` asks for the same seed several times, since the outputs of one pass are too few for
all units. What a pass cannot tell (a unit behind another one that was dropped) is NaN.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np

from spec.errors import Unsupported
from spec.experiment import Experiment, override
from spec.framework import Precision
from spec.mixed_precision import bfloat16
from spec.models import Embedding, Model
from spec.models.recurrent import Recurrent
from spec.models.transformer import TransformerEncoder
from spec.parameters import Parameters, generator_for
from spec.tasks import Batch, random_batch

Masks = dict[str, np.ndarray]
"""Dropout site -> what it multiplied by, float64 in the site's shape."""

Forward = Callable[[Parameters], dict[str, np.ndarray]]
"""Parameters -> intermediates, both float64, always of the same batch and with the same seed."""

OPEN = 30.0
"""A bias that opens a gate for good, or closes it: 1 - sigmoid(30) is 1e-13."""

INNER = 0.5
"""What kept units inside of recurrent networks are about: well inside of tanh's range, where it can be inverted."""

LEVELS = 1.0
"""Distance of neighbouring features of a Transformer's hidden state, which tells a norm's shift and scale apart."""

GAIN = 0.25
"""A norm's weight: less than LEVELS, so that features stay apart after it."""

DEEPEST = 4
"""Layers of a Transformer that are looked at, at most: each norm multiplies the rounding of what comes out of the one
before, and at 9 layers a kept value is read off with an error of 1.6 %."""

PATHS = 4
"""Units of the next layer that pass an element on, one after another."""

UNSEEN, BIAS = 0.25, 0.002
"""Shares of a recurrent site's elements: hidden behind later masks, and agreeing with those beyond chance. The latter
is 1.2 standard errors of a share in 80,000 elements; a test's level asks for five."""

SCALED = 0.5
"""Rate of a Transformer's dropout above which one layer is looked at: what is kept is multiplied by more than 2 at
every block, and where norms come first nothing brings it back. At a rate of 0.9 the second layer's kept values are read
off with an error of 1 %."""

LARGEST_TIME = 10
"""Steps at most where masks are observed."""

ATTENDED = {1: 7, 2: 5}
"""Layers of a Transformer that are looked at where attention weights are dropped, at most two, -> steps at most.

Each subset of the steps is tried, and each has to give another sum. What tells steps apart a layer's two norms make
smaller, by GAIN / sqrt(variance of LEVELS) each: to a twentieth or less. Sums are off by 2e-6 in float32, and of 2^T
sums in one dimension the nearest two are about 4^-T of their range apart."""

ATTENDED_ROUNDED = {1: 2}
"""The same where products are of numbers rounded to bfloat16, and so are the sums: to 2^-9 of the levels that they have
in common, where steps are told apart by a fourteenth of those in the first layer, and by a twentieth of that in the
second."""


def time_of(experiment: Experiment) -> int:
    """The length of the sequences to ask for: a single step where only the last one is read out."""
    model = experiment.model
    if model.reads_once:
        return 1
    longest = min(experiment.task.length, LARGEST_TIME)
    if isinstance(model, TransformerEncoder) and model.attention_dropout:
        attended = _attended(model)
        longest = min(longest, attended[min(model.num_layers, max(attended))])
    return min(longest, _symbols(model)) if _by_symbols(model) else longest


def batch_of(experiment: Experiment, size: int, seed: int, precision: Precision) -> Batch:
    """So many sequences of that length, without padding.

    Where attention knows steps by their symbols alone no symbol is there twice: if one of two equal steps is dropped,
    nobody can say which, and if both or none are, it can be said. What is seen would depend on what was dropped.
    """
    lengths, numbers = [time_of(experiment)] * size, experiment.task.numeric
    batch = random_batch(experiment.model, lengths, seed, precision, numbers=numbers)
    if not _by_symbols(experiment.model):
        return batch
    generator, steps = generator_for(seed, "symbols"), batch.inputs.shape[1]
    symbols = np.arange(_symbols(experiment.model))
    return batch._replace(inputs=generator.permuted(np.tile(symbols, (size, 1)), axis=1)[:, :steps])


def _attended(model: TransformerEncoder) -> dict[int, int]:
    return ATTENDED_ROUNDED if model.mixed_precision else ATTENDED


def _symbols(model: Model) -> int:
    """How many there are; 0 where inputs are numbers."""
    return model.inputs.num_embeddings if isinstance(model.inputs, Embedding) else 0


def _by_symbols(model: Model) -> bool:
    """Whether two steps of the same symbol are the same to an attention whose weights are dropped."""
    attends = isinstance(model, TransformerEncoder) and bool(model.attention_dropout) and model.positions == "none"
    return attends and bool(_symbols(model))


def shallow(experiment: Experiment) -> Experiment:
    """The experiment with no more layers than masks can be seen through. All layers are made by the same code.

    A recurrent site is seen where one of PATHS units of every later layer passes it on. Which elements are seen so
    depends on the later masks, and elements that are seen agree with those by more than chance, by |1 - 2 rate| times
    the share of kept ones times that of the unseen, about: one in BIAS at most.
    """
    model = experiment.model
    layers = getattr(model, "num_layers", 1)
    if isinstance(model, TransformerEncoder):
        deepest = min(DEEPEST, max(_attended(model))) if model.attention_dropout else DEEPEST
        layers = min(layers, 1 if model.dropout > SCALED else deepest)
    elif isinstance(model, Recurrent):
        while layers > 2 and not _shows(model, layers):
            layers -= 1
    if isinstance(model, Recurrent) and not model.bias:
        # They are what has something come out of the layers below a site.
        experiment = override(experiment, model__bias=True)
    if isinstance(model, TransformerEncoder) and model.causal and model.attention_dropout:
        # What is dropped of a step that nobody may look at does not show, and masks are drawn whatever is looked at.
        experiment = override(experiment, model__causal=False)
    return experiment if layers == getattr(model, "num_layers", 1) else override(experiment, model__num_layers=layers)


def _shows(model: Recurrent, layers: int) -> bool:
    """Whether the first site of that many layers is seen well enough; it is seen through all later ones."""
    passed = (1 - model.dropout) ** (layers - 2)
    unseen = (1 - passed) ** min(PATHS, model.output_size)
    return unseen <= UNSEEN and abs(1 - 2 * model.dropout) * (1 - model.dropout) * unseen <= BIAS


def observe(experiment: Experiment, forward: Forward, batch: Batch) -> Masks:
    """The masks of a forward pass in train mode. The batch has no padding.

    Raises Unsupported for a model that has no probe here.
    """
    model, (size, time) = experiment.model, batch.inputs.shape[:2]
    masks = {name: np.full(site.shape, np.nan) for name, site in model.dropout_sites(size, time).items()}
    zeros = {parameter.name: np.zeros(parameter.shape) for parameter in model.parameters()}
    match model:
        case Recurrent():
            _recurrent(model, zeros, forward, masks)
        case TransformerEncoder():
            _transformer(model, zeros, forward, masks)
        case _:
            raise Unsupported(f"spec.observed_masks cannot observe the dropout masks of {type(model).__name__}")
    return masks


def _recurrent(model: Recurrent, zeros: Parameters, forward: Forward, masks: Masks) -> None:
    """From the last site to the first: what lies behind a site is then known.

    Recurrence is cut and gates are held open, so that each unit passes on one feature of the layer below.
    """
    width, group = model.output_size, model.classes
    for site in reversed(range(model.num_layers - 1)):
        name = f"rnn.dropout_l{site}"
        # A unit that is dropped further on hides what it passes on, so another one passes it on too.
        later = model.num_layers - 2 - site
        for shift in range(1 if not later else PATHS):
            seen = np.empty_like(masks[name])
            for first in range(0, width, group):
                columns = np.arange(first, min(first + group, width))
                logits = forward(_relay(model, zeros, site, shift, columns))["logits"]
                seen[..., columns] = logits.reshape(*seen.shape[:2], -1)[..., : len(columns)]
                if not model.head:
                    seen[:] = logits.reshape(seen.shape)
                    break
            for layer in reversed(range(site + 1, model.num_layers)):
                seen = _inverse(model, seen)
                if layer > site + 1:
                    behind = masks[f"rnn.dropout_l{layer - 1}"]
                    seen = np.divide(seen, behind, out=np.full_like(seen, np.nan), where=behind > 0.5)
            seen = np.roll(seen, shift, axis=-1) / _passed(model, _inner(model))
            masks[name] = np.where(np.isnan(masks[name]), seen, masks[name])


def _relay(model: Recurrent, zeros: Parameters, site: int, shift: int, columns: np.ndarray) -> Parameters:
    """Parameters under which layers up to `site` give a constant, those after it copy, and the head shows `columns`."""
    parameters = {name: value.copy() for name, value in zeros.items()}
    hidden, candidate = model.hidden_size, {1: 0, 3: 2, 4: 2}[model.gates]
    rows = slice(candidate * hidden, (candidate + 1) * hidden)
    for name, value in parameters.items():
        if not name.startswith("rnn.bias_ih"):
            continue
        at = name.removeprefix("rnn.bias_ih")
        layer, direction = int(at.removesuffix("_reverse").removeprefix("_l")), int(at.endswith("_reverse"))
        # r, z, n: nothing of the old state. i, f, g, o: all in, nothing kept, all out.
        value[:] = np.repeat({1: [0.0], 3: [0.0, -OPEN, 0.0], 4: [OPEN, -OPEN, 0.0, OPEN]}[model.gates], hidden)
        if layer <= site:
            value[rows] = _inner(model)
            continue
        copied = np.roll(np.eye(model.output_size), shift if layer == site + 1 else 0, axis=1)
        parameters[f"rnn.weight_ih{at}"][rows] = copied[direction * hidden : (direction + 1) * hidden]
    if model.head:
        parameters["head.weight"][np.arange(len(columns)), columns] = 1.0
    return parameters


def _inner(model: Recurrent) -> float:
    """The candidate of units that are dropped; those that are kept come to INNER or less."""
    return INNER * (1 - model.dropout)


def _passed(model: Recurrent, value: float) -> float:
    """What a unit whose gates are held open makes of `value`."""
    if getattr(model, "nonlinearity", "tanh") == "relu":
        return max(value, 0.0)
    return math.tanh(math.tanh(value)) if model.gates == 4 else math.tanh(value)


def _inverse(model: Recurrent, values: np.ndarray) -> np.ndarray:
    if getattr(model, "nonlinearity", "tanh") == "relu":
        return values
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.arctanh(np.arctanh(values)) if model.gates == 4 else np.arctanh(values)


def _transformer(model: TransformerEncoder, zeros: Parameters, forward: Forward, masks: Masks) -> None:
    """Half of the features show a block's output, dropped; the others tell the shift and scale of the norm after it."""
    width = model.hidden_size
    if width < 4:
        raise Unsupported(f"spec.observed_masks needs a hidden_size of 4 for a TransformerEncoder, got {width}")
    halves = [np.arange(width) % 2 == parity for parity in (0, 1)]
    passes = max(math.ceil(model.feed_forward_size / (width // 2)), 2)
    for number in range(passes):
        shown = halves[number % 2]
        units = np.resize(np.arange(model.feed_forward_size), (passes, width // 2))[number]
        outputs = forward(_exposed(model, zeros, shown, units))
        hidden = outputs["positions"]
        for layer in range(model.num_layers):
            name = f"encoder.layers.{layer}"
            stage = {s: outputs[f"{name}.{s}"] for s in ("self_attn", "norm1", "linear2", "norm2", "output")}
            first = stage["norm2" if model.norm_first else "norm1"]
            if model.dropout:
                found = _behind_norm(hidden, stage["self_attn"], first, shown)
                _fill(masks[f"{name}.dropout1"], shown, found)
                inner = stage["linear2"][..., shown] - 1.0
                _fill(masks[f"{name}.dropout"], units, inner / _activated(model))
                if model.norm_first:
                    middle = hidden.copy()
                    middle[..., shown] += found * stage["self_attn"][..., shown]
                    found = ((stage["output"] - middle) / np.where(shown, stage["linear2"], 1.0))[..., shown]
                else:
                    found = _behind_norm(stage["norm1"], stage["linear2"], stage["norm2"], shown)
                _fill(masks[f"{name}.dropout2"], shown, found)
            if model.attention_dropout:
                source = stage["norm1"] if model.norm_first else hidden
                _attention(model, masks[f"{name}.self_attn.dropout"], source, stage["self_attn"], shown)
            hidden = stage["output"]


def _exposed(model: TransformerEncoder, zeros: Parameters, shown: np.ndarray, units: np.ndarray) -> Parameters:
    """Parameters under which both blocks of a layer are away from zero on the features `shown`, and zero elsewhere.

    Attention looks at all steps alike. The inner units `units` of the feed-forward block appear one by one.
    """
    parameters = {name: value.copy() for name, value in zeros.items()}
    width = model.hidden_size
    generator = np.random.default_rng(0)
    # Features are 1 / 4 off their levels, whatever the inputs' size: two that met could not tell a norm's scale.
    if "embedding.weight" in parameters:
        parameters["embedding.weight"][:] = generator.normal(size=parameters["embedding.weight"].shape)
    # Steps are told apart by them, of an embedding's symbols that are there twice.
    if "positions.weight" in parameters:
        parameters["positions.weight"][:] = generator.normal(size=parameters["positions.weight"].shape) / 4
    inputs = parameters["input.weight"]
    inputs[:] = generator.normal(size=inputs.shape) / (4 * math.sqrt(inputs.shape[1]))
    levels = _levels(width)
    parameters["input.bias"][:] = levels
    rows, inner = np.flatnonzero(shown), units[: int(shown.sum())]
    for layer in range(model.num_layers):
        at = {n.removeprefix(f"encoder.layers.{layer}."): p for n, p in parameters.items()}
        at["self_attn.in_proj_weight"][2 * width :] = np.eye(width)
        at["self_attn.out_proj.weight"][rows, _read(model, rows)] = 1.0
        at["self_attn.out_proj.bias"][rows] = _away(width)
        at["linear1.bias"][:] = 1.0
        at["linear2.weight"][rows[: len(inner)], inner] = 1.0
        at["linear2.bias"][rows] = 1.0
        for norm in ("norm1", "norm2"):
            at[f"{norm}.weight"][:] = GAIN
            at[f"{norm}.bias"][:] = levels
    return parameters


def _levels(width: int) -> np.ndarray:
    """A different value for each feature, a constant of its own at every step."""
    return LEVELS * (np.arange(width) - (width - 1) / 2)


def _away(width: int) -> float:
    """A bias that keeps attention's output away from zero, whatever the hidden state."""
    return 4 * LEVELS * width


def _read(model: TransformerEncoder, rows: np.ndarray) -> np.ndarray:
    """Which feature of the heads' outputs each shown feature of the block takes: each head has its turn."""
    turn = np.arange(len(rows))
    each = model.hidden_size // model.heads
    return turn % model.heads * each + turn // model.heads % each


def _activated(model: TransformerEncoder) -> float:
    """activation(1)."""
    if model.activation == "gelu-tanh":
        return (1 + math.tanh(math.sqrt(2 / math.pi) * (1 + 0.044715))) / 2
    return 1.0 if model.activation == "relu" else (1 + math.erf(1 / math.sqrt(2))) / 2


def _behind_norm(hidden: np.ndarray, block: np.ndarray, after: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """What the block was multiplied by, on the features `shown`, from norm(hidden + mask block).

    Elsewhere the block is zero, and what the norm was given there is known: hidden = scale after + shift.
    """
    normed = (after - _levels(hidden.shape[-1])) / GAIN
    known, seen = hidden[..., ~shown], normed[..., ~shown]
    centred = seen - seen.mean(-1, keepdims=True)
    scale = ((known - known.mean(-1, keepdims=True)) * centred).sum(-1) / (centred**2).sum(-1)
    shift = known.mean(-1) - scale * seen.mean(-1)
    given = scale[..., None] * normed[..., shown] + shift[..., None]
    return (given - hidden[..., shown]) / block[..., shown]


def _attention(
    model: TransformerEncoder, mask: np.ndarray, source: np.ndarray, output: np.ndarray, shown: np.ndarray
) -> None:
    """Which steps each one looked at: the only subset of them whose values add up to what came out.

    Known is only what would be whatever had been dropped: where any two subsets' sums are far enough apart, and not
    where just the one that was dropped has no other near it, for which some have a better chance than others.
    """
    rows = np.flatnonzero(shown)
    read, (_, time, width) = _read(model, rows), source.shape
    differences = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=time)))
    # Of each two that are opposite one, and not the one that is zero.
    differences = differences[: len(differences) // 2] / (1 - model.attention_dropout)
    subsets = np.array(list(itertools.product((0.0, 1.0), repeat=time))) / (1 - model.attention_dropout)
    rounded = bfloat16 if model.mixed_precision else _as_it_is
    for head in range(model.heads):
        own = read // (width // model.heads) == head
        if not own.any():
            continue
        values = rounded(source[..., read[own]])
        sums = rounded(np.einsum("ks,bsv->bkv", rounded(subsets / time), values))
        context = output[..., rows[own]] - _away(width)
        away = np.linalg.norm(context[:, :, None] - sums[:, None], axis=-1)
        if model.mixed_precision:
            # Of few steps; and what is rounded to the same cannot be told apart.
            one, other = np.triu_indices(len(subsets), 1)
            gap = np.linalg.norm(sums[:, one] - sums[:, other], axis=-1).min(axis=1)
        else:
            gap = np.linalg.norm(np.einsum("ks,bsv->bkv", differences, values) / time, axis=-1).min(axis=1)
        clear = away.min(axis=-1) < gap[:, None] / 4
        mask[:, head] = np.where(clear[..., None], subsets[away.argmin(-1)], mask[:, head])


def _as_it_is(values: np.ndarray) -> np.ndarray:
    return values


def _fill(mask: np.ndarray, features: np.ndarray, found: np.ndarray) -> None:
    """Keep what was found of these features; the first finding stays."""
    part = mask[..., features]
    mask[..., features] = np.where(np.isnan(part), found[..., : part.shape[-1]], part)
