"""What each side's own dropout does: its masks, seen from the outside, against the spec's sites and rates.

A side is held against the law and never against the other side. Masks are observed
(`Subject.observed_masks`), for seeds that follow each other, since people count them up and training does.
That they are all there is to train mode, at the right places, with kept values scaled by 1 / (1 - rate), is asked of
the equations: `spec.reference`, handed the masks that were seen, must come to the same logits, under parameters that
hide nothing.

Where operands are rounded to bfloat16, float32 meets one of 10^5 that is rounded to a neighbour: logits are then a
percent off, and nothing could be told. So the law of the masks is asked of float32 there, as it is elsewhere, and what
the equations say of float64, of a few sequences (crosscheck.bounds.mixed_precision).
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress

import msgspec
import numpy as np

from crosscheck.bounds import mixed_precision, tolerances
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.probes import equations
from crosscheck.request import Request
from crosscheck.statistics import bernoulli
from crosscheck.statistics.distributions import Finding
from crosscheck.subject import Subject
from spec.dropout import DropoutSite
from spec.errors import Unsupported
from spec.framework import Framework, Precision, Settings, Side
from spec.parameters import Parameters, generator_for
from spec.tasks import Batch
from spec.training import SGD, ConstantSchedule, initial_state

NAME: str = "dropout"
QUESTION: str = (
    "does each side's own dropout follow the spec: sites, rates, independence; and is evaluation free of it?"
)
# Where the outcome check's masks come from, as for initial laws.
PRECISIONS: tuple[Precision, ...] = ("float32",)
SAME_INPUTS: bool = True

SEEDS = 8
"""An even number, so that neighbours form pairs."""

VALUES = 80_000
"""Elements of the narrowest site over all seeds: a rate of 0.1 that is off by a tenth is then 9 standard errors off."""

LARGEST_BATCH = 512
"""Sequences at most."""

FEW = 2
"""Sequences of which logits and gradients are held against equations with rounded operands: gradients take those an
evaluation for each element of each product."""

CLOSE = 0.01
"""How far an observed mask may be from 0 or 1 / (1 - rate), relative to the latter: it is read off float32 logits. How
exactly kept values are scaled is seen in the logits of the equations, with their bound."""

EPOCHS, STEPS = 4, 3
"""Of the training that is looked at, in which no parameter moves."""

STILL = 1e-30
"""Its learning rate: below the rounding of any parameter."""

ROUNDING = 2e-6
"""Within so much, relative to the loss or to 1, a float32 loss is eval mode's: seen is 3e-7. Not forward's bound, which
honest losses of train mode meet by chance."""

TIES = 5
"""Losses of 24 that may be equal by chance. Those of hello-stacked-lstm-dropout have the narrowest spread seen, 0.0011
about 1.4: one is within ROUNDING of eval mode's with a chance of 3e-3 (4 of 1440 were), and the same float32 as another
with one of 3e-5 a pair, so that six are in 1e-10 of all cases. A step of eval mode after each evaluation but the last
makes six."""

PARTS = ("before", "eval", "eval again", "after")
"""Logits of the first seed, of eval mode twice, and of the first seed once more."""

EXACT = "exact/"
"""Before the names of the masks under which those were computed, where it is another batch whose masks are judged."""

LOSS = "loss"
"""What is recorded beside the gradients of the first seed by the parameters."""


def inapplicable(subject: Subject) -> str:
    if not subject.has_dropout:
        return "the model drops nothing"
    if subject.reference is None:
        return "nobody knows the equations"
    return "" if subject.training.epochs else "nothing is trained"


def cases(subject: Subject, precision: Precision, thorough: bool) -> tuple[str, ...]:
    del subject, precision, thorough
    return ("seeds", "training")


def record(framework: Framework, subject: Subject, case: str, request: Request) -> Arrays:
    return _train(framework, subject, request) if case == "training" else _forward(framework, subject, request)


def _forward(framework: Framework, subject: Subject, request: Request) -> Arrays:
    subject = subject.observed
    batch, start = _batch(subject, request), request.start(subject)
    seeds = _seeds(request)
    side = framework.open(subject, request.settings)
    seen = [observed(side, subject, batch, seed, request.precision) for seed in seeds]
    found = {f"masks/{site}": np.stack([mask[site] for mask in seen]).astype(np.float32) for site in seen[0]}
    if mixed_precision.rounds(subject):
        request = _wide(subject, request)
        batch, start = subject.observed_batch(FEW, request.seed, request.precision), request.start(subject)
        side = framework.open(subject, request.settings)
        masks = observed(side, subject, batch, seeds[0], request.precision)
        found |= {EXACT + site: mask.astype(np.float32) for site, mask in masks.items()}
    for part, dropout in zip(PARTS, (seeds[0], None, None, seeds[0]), strict=True):
        found[f"logits/{part}"] = side.forward(start, batch, dropout=dropout)["logits"]
    with suppress(Unsupported):  # The check gradients says so.
        slopes = side.gradients(start, batch, dropout=seeds[0])
        found |= {f"gradients/{name}": array for name, array in slopes.parameters.items()}
        found[f"gradients/{LOSS}"] = np.array([slopes.loss], request.precision)
    inputs = {"inputs": batch.inputs, "targets": batch.targets}
    return {**found, **inputs, **{f"start/{name}": value for name, value in start.items()}}


def observed(side: Side, subject: Subject, batch: Batch, seed: int, precision: Precision) -> dict[str, np.ndarray]:
    """The masks of a forward pass in train mode with that seed."""

    def forward(parameters: Parameters) -> dict[str, np.ndarray]:
        given = {name: value.astype(precision) for name, value in parameters.items()}
        outputs = side.forward(given, batch, dropout=seed)
        return {name: value.astype(np.float64) for name, value in outputs.items()}

    return subject.observed_masks(forward, batch)


def _wide(subject: Subject, request: Request) -> Request:
    """What the equations are asked about."""
    return msgspec.structs.replace(request, precision=_precision(subject, request.precision))


def _precision(subject: Subject, precision: Precision) -> Precision:
    """In which a side is held against the equations."""
    return "float64" if mixed_precision.rounds(subject) else precision


def _train(framework: Framework, subject: Subject, request: Request) -> Arrays:
    request = _wide(subject, request)
    frozen, start = still(subject), request.start(subject)
    state = initial_state(frozen.training.optimizer, start)
    first = _seeds(request)[0]
    seeds = (first, first + 1)
    runs = [framework.open(frozen, request.settings).train(state, EPOCHS, seed) for seed in seeds]
    return {
        "seeds": np.array(seeds),
        "losses": np.stack([run.losses for run in runs]),
        "logits": np.stack([run.logits for run in runs]),
        **{f"start/{name}": value for name, value in start.items()},
    }


def still(subject: Subject) -> Subject:
    """The experiment with a recipe under which nothing moves, so that losses differ by their masks alone."""
    training = msgspec.structs.replace(
        subject.training,
        optimizer=SGD(learning_rate=STILL),
        # Some have rates of their own.
        groups=(),
        schedule=ConstantSchedule(),
        clipping=None,
        steps_per_epoch=STEPS,
    )
    return subject.with_training(training)


def _seeds(request: Request) -> list[int]:
    start = int(generator_for(request.seed, NAME).integers(0, 2**31 - SEEDS))
    return list(range(start, start + SEEDS))


def _batch(subject: Subject, request: Request) -> Batch:
    """Sequences of equal length, and as many as give every site enough elements."""
    return subject.observed_batch(_size(subject), request.seed, request.precision)


def _size(subject: Subject) -> int:
    narrowest = min(math.prod(site.shape) for site in subject.dropout_sites(1, subject.observed_length).values())
    return min(max(math.ceil(VALUES / (SEEDS * narrowest) / 2) * 2, 2), LARGEST_BATCH)


def compare(subject: Subject, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
    judge = _judge_training if place.case == "training" else _judge
    if place.case != "training":
        subject = subject.observed
    # What was recorded under one precision, and computed in the other.
    wide = place._replace(precision=_precision(subject, place.precision))
    found: list[Comparison] = []
    for side, arrays in zip(place.sides, (first, second), strict=True):
        found += judge(subject, wide.against(side, "spec"), arrays)
    found = [msgspec.structs.replace(comparison, precision=place.precision) for comparison in found]
    return found + place.only(_expected(subject, place.case), first, second)


def _expected(subject: Subject, case: str) -> list[str]:
    start = [f"start/{parameter.name}" for parameter in subject.parameters()]
    if case == "training":
        return ["losses", "logits", "seeds", *start]
    kinds = ("masks/", EXACT) if mixed_precision.rounds(subject) else ("masks/",)
    sites = [kind + site for kind in kinds for site in subject.dropout_sites(1, 1)]
    gradients = [f"gradients/{name}" for name in (LOSS, *(parameter.name for parameter in subject.parameters()))]
    return [*sites, *(f"logits/{part}" for part in PARTS), *gradients, "inputs", "targets", *start]


def _judge(subject: Subject, place: Place, arrays: Arrays) -> Iterator[Comparison]:
    """One side's eval mode, its masks site by site, then what it computed with them."""
    side = place.sides[0]
    left_out = f"gradients/{LOSS}" not in arrays
    expected = [n for n in _expected(subject, place.case) if not (left_out and n.startswith("gradients/"))]
    if missing := [name for name in expected if name not in arrays]:
        yield place.failed(missing[0], f"missing in {side}", kind="missing")
        return
    batch = Batch(arrays["inputs"], arrays["targets"], None, None)
    sites = subject.dropout_sites(_size(subject), subject.observed_length)
    level = tolerances.TRAIN_MODE_LEVEL / tests(sites)
    earlier: dict[str, np.ndarray] = {}
    yield from _evaluation(subject, place, arrays, batch)
    for name, site in sites.items():
        values = arrays[f"masks/{name}"]
        if values.shape != (SEEDS, *site.shape):
            yield place.failed(name, f"expected shape {(SEEDS, *site.shape)}, got {values.shape} in {side}")
            return
        yield _values(place, name, site, values)
        bits = np.where(np.isnan(values), np.nan, values < 0.5 / (1 - site.rate))
        yield _limited(place, f"{name}, rate", bernoulli.dropped(bits[~np.isnan(bits)], site.rate, level))
        for label, one, two in _pairs(bits):
            if np.all(np.isnan(one) | np.isnan(two)):
                # Narrow models show some of the heads alone; that enough is seen was judged above.
                continue
            yield _limited(place, f"{name}, {label}", _agreement(one, two, (site.rate, site.rate), level, ""))
        if earlier:
            findings = [
                finding
                for other, before in earlier.items()
                for finding in _between(bits, other, before, (site.rate, sites[other].rate), level)
            ]
            worst = max(findings, key=lambda finding: finding.difference / finding.bound)
            yield _limited(place, f"{name}, between sites", worst)
        earlier[name] = bits
    snapped = _snapped(subject, arrays, batch)
    if not any(np.isnan(mask).any() for mask in snapped.values()):
        got = arrays[f"logits/{PARTS[0]}"]
        yield _equations(subject, place, "logits in train mode", arrays, batch, snapped, got)
    if not left_out:
        yield from _slopes(subject, place, arrays, batch, snapped)


def _slopes(
    subject: Subject, place: Place, arrays: Arrays, batch: Batch, masks: dict[str, np.ndarray]
) -> Iterator[Comparison]:
    """`gradients` of a seed are those under the masks of `forward` with that seed.

    The loss is that of the logits which `forward` gave. Along drawn signs each tensor's gradient is the equations' with
    the masks that were seen; where these are not all known, nobody can say.
    """
    side, bound = place.sides[0], tolerances.FORWARD[place.precision]
    logits, loss = arrays[f"logits/{PARTS[0]}"], arrays[f"gradients/{LOSS}"]
    # A loss is what is left of logits, and a mean or a sum of many; a gradient, of a probability less one or none, or
    # of what outputs are off by.
    recipe = subject.training.loss
    with np.errstate(invalid="ignore"):
        expected = np.array([recipe.value(logits.astype(np.float64), batch.targets)])
    floor = recipe.slope(batch.targets, float(expected[0])) * tolerances.largest(logits, np.array(bound.floor))
    here = place.within(side, "gradients of a seed", "forward of it")
    yield here.close("loss of a seed", loss, expected.astype(place.precision), bound=bound.relative, floor=floor)
    if any(np.isnan(mask).any() for mask in masks.values()):
        return
    if mixed_precision.rounds(subject) and not equations.affordable(subject, batch):
        return
    start = _start(arrays)
    signs = {
        name: generator_for(place.seed, "direction", name).choice((-1.0, 1.0), size=value.shape)
        for name, value in start.items()
    }
    exact = subject.reference.slopes(subject, start, batch, Settings(precision="float64"), signs, masks)
    found = {name: arrays[f"gradients/{name}"] for name in start}
    largest = tolerances.largest(*found.values(), np.array(recipe.share(batch.targets, float(expected[0]))))
    here = place.against(side, equations.EXACT)
    for name, direction in signs.items():
        if found[name].shape != direction.shape:
            yield here.failed(f"{name}, of a seed", f"expected shape {direction.shape}, got {found[name].shape}")
            continue
        # Each element may be off by as much as the largest gradient's rounding.
        one = np.array([np.sum(found[name].astype(np.float64) * direction)], place.precision)
        other = np.array([exact[name]], place.precision)
        allowed = found[name].size * bound.relative * largest
        yield here.close(f"{name}, of a seed, along a direction", one, other, allowed=allowed)


def tests(sites: Mapping[str, DropoutSite]) -> int:
    """How many tests that chance could fail are made of one side's masks: no fewer than are made."""
    # The rate, two of the seeds, two of each axis and one of each distance along it, but for the batch's; and at most
    # five of each two sites.
    single = sum(3 + 2 * len(site.shape) + sum(site.shape[1:]) for site in sites.values())
    return single + 5 * (len(sites) * (len(sites) - 1) // 2)


def _values(place: Place, name: str, site: DropoutSite, values: np.ndarray) -> Comparison:
    """Every element that was seen is 0 or 1 / (1 - rate)."""
    kept = 1 / (1 - site.rate)
    seen = values[~np.isnan(values)].astype(np.float64)
    # A wide site beside a narrow one has more than enough, of which narrow heads under high rates show some alone.
    if seen.size < min(values.size / 2, VALUES):
        return place.failed(f"{name}, values", f"seen are {seen.size} of {values.size} elements of the mask")
    away = np.minimum(np.abs(seen), np.abs(seen - kept)) / kept
    worst = int(away.argmax())
    note = f"the worst of {seen.size} elements; kept ones are multiplied by 1 / (1 - rate)"
    target = 0.0 if seen[worst] < kept / 2 else kept
    return place.limited(f"{name}, values", (float(seen[worst]), target), float(away[worst]), CLOSE, seen.size, note)


def _pairs(bits: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Neighbouring seeds; along each axis neighbours, and halves: pairs that are disjoint and hence independent."""
    yield "between seeds", bits[0::2], bits[1::2]
    yield "between seeds, from the second", bits[1:-1:2], bits[2::2]
    names = ("batch", "head", "time", "source") if bits.ndim == 5 else ("batch", "time", "feature")
    for axis, name in enumerate(names, 1):
        half = bits.shape[axis] // 2
        if not half:
            continue
        moved = np.moveaxis(bits, axis, 0)
        for lag in range(2, len(moved)) if name != "batch" else ():
            # Each element is in one pair at most.
            one = [i for i in range(len(moved) - lag) if (i // lag) % 2 == 0]
            yield f"over {name}, {lag} apart", moved[one], moved[[i + lag for i in one]]
        yield f"over {name}", moved[0 : 2 * half : 2], moved[1 : 2 * half : 2]
        yield f"over {name}, halves", moved[:half], moved[half : 2 * half]


def _between(
    bits: np.ndarray, other: str, before: np.ndarray, rates: tuple[float, float], level: float
) -> Iterator[Finding]:
    """Two sites at the same seed and at neighbouring ones; of unequal shapes, as far as the smaller one goes.

    A generator that is started anew for each site gives the same beginning, by elements or feature by feature.
    """
    flat = [side.reshape(len(side), -1) for side in (bits, before)]
    size = min(side.shape[1] for side in flat)
    one, two = (side[:, :size] for side in flat)
    yield _agreement(one, two, rates, level, f" with {other}")
    yield _agreement(one[1:], two[:-1], rates, level, f" with {other} of the seed before")
    yield _agreement(one[:-1], two[1:], rates, level, f" with {other} of the next seed")
    if bits.ndim == before.ndim and bits.shape != before.shape:
        corner = tuple(slice(min(sizes)) for sizes in zip(bits.shape, before.shape, strict=True))
        yield _agreement(bits[corner], before[corner], rates, level, f" with {other}, index by index")


def _agreement(one: np.ndarray, two: np.ndarray, rates: tuple[float, float], level: float, label: str) -> Finding:
    seen = ~(np.isnan(one) | np.isnan(two))
    return bernoulli.agreement(one[seen], two[seen], rates, level, label)


def _evaluation(subject: Subject, place: Place, arrays: Arrays, batch: Batch) -> Iterator[Comparison]:
    """Eval mode is the equations without masks, and leaves train mode as it was."""
    side = place.sides[0]
    before, evaluated, again, after = (arrays[f"logits/{part}"] for part in PARTS)
    yield _equations(subject, place, "logits in eval mode", arrays, batch, None, evaluated)
    twice, later = (place.within(side, second=when) for when in ("again", "after eval mode"))
    yield twice.identical("logits in eval mode, twice", evaluated, again)
    yield later.identical("logits, train mode after eval mode", before, after)


def _equations(
    subject: Subject,
    place: Place,
    tensor: str,
    arrays: Arrays,
    batch: Batch,
    dropout: dict[str, np.ndarray] | None,
    logits: np.ndarray,
) -> Comparison:
    """The logits against those of the equations with these masks."""
    exact = _reference(subject).forward(_start(arrays), batch, dropout=dropout)["logits"]
    bound, here = tolerances.FORWARD[place.precision], place.against(place.alone, equations.EXACT)
    expected = exact.astype(place.precision)
    return here.close(tensor, logits, expected, bound=bound.relative, floor=bound.floor)


def _reference(subject: Subject) -> Side:
    return subject.reference.open(subject, Settings(precision="float64"))


def _snapped(subject: Subject, arrays: Arrays, batch: Batch) -> dict[str, np.ndarray]:
    """The first seed's masks with the spec's own values; NaN where they are not known."""
    snapped = {}
    for name, site in subject.dropout_sites(*batch.inputs.shape[:2]).items():
        kept = 1 / (1 - site.rate)
        seen = arrays[EXACT + name] if EXACT + name in arrays else arrays[f"masks/{name}"][0]
        if seen.shape != site.shape:
            seen = np.full(site.shape, np.nan)
        snapped[name] = np.where(np.isnan(seen), np.nan, np.where(seen < kept / 2, 0.0, kept))
    return snapped


def _start(arrays: Arrays) -> dict[str, np.ndarray]:
    names = [name for name in arrays if name.startswith("start/")]
    return {name.removeprefix("start/"): arrays[name].astype(np.float64) for name in names}


def _judge_training(subject: Subject, place: Place, arrays: Arrays) -> Iterator[Comparison]:
    """Every step has masks of its own, on either side of an evaluation, which has none."""
    side, bound = place.sides[0], tolerances.FORWARD[place.precision]
    if missing := [name for name in _expected(subject, place.case) if name not in arrays]:
        yield place.failed(missing[0], f"missing in {side}", kind="missing")
        return
    batch = still(subject).evaluation_batch(place.precision)
    exact = _reference(subject).forward(_start(arrays), batch)["logits"]
    expected = np.broadcast_to(exact.astype(place.precision), (2, EPOCHS, *exact.shape))
    yield place.against(side, equations.EXACT).close(
        "logits of evaluations",
        arrays["logits"],
        expected,
        bound=bound.relative,
        floor=bound.floor,
    )
    losses = arrays["losses"]
    guard = place.within(side).close("losses", losses, losses, bound=1.0, shape=(2, EPOCHS * STEPS))
    yield guard
    if guard.passed:
        yield from _fresh(subject, place, losses.astype(np.float64), arrays)


def _fresh(subject: Subject, place: Place, losses: np.ndarray, arrays: Arrays) -> Iterator[Comparison]:
    """Something is dropped in every step, before and after evaluations, and never the same."""
    if subject.classes == 1 and not subject.training.loss.numeric:
        # The loss is zero whatever is dropped.
        return
    seeds, steps, start = arrays["seeds"].tolist(), range(losses.shape[1]), _start(arrays)
    batches = [subject.batch(seed, step, place.precision) for seed in seeds for step in steps]
    sites = list(subject.dropout_sites(*_felt(batches[0])).values())
    # In a tiny model, where masks that drop nothing and equal ones are likely, nothing can be said.
    nothing = math.prod((1 - site.rate) ** math.prod(site.shape) for site in sites)
    if losses.size * nothing < tolerances.TRAIN_MODE_LEVEL:
        free = [
            subject.training.loss.value(_reference(subject).forward(start, batch)["logits"], batch.targets)
            for batch in batches
        ]
        equal = int((np.abs(losses.ravel() - free) <= ROUNDING * np.maximum(np.abs(free), 1.0)).sum())
        yield _few(place, "losses in train mode", equal, losses.size, "losses of steps that are eval mode's")
    alike = all(np.array_equal(batch.inputs, batches[0].inputs) for batch in batches)
    if alike and losses.size**2 / 2 * same(subject) < tolerances.TRAIN_MODE_LEVEL:
        again = losses.size - len(np.unique(losses))
        yield _few(place, "losses, one mask a step", again, losses.size, "losses of steps that another step had before")


def same(subject: Subject) -> float:
    """The chance that two steps of a training have the same masks."""
    sites = subject.dropout_sites(*_felt(subject.batch(0, 0, "float64"))).values()
    return math.prod((site.rate**2 + (1 - site.rate) ** 2) ** math.prod(site.shape) for site in sites)


def _felt(batch: Batch) -> tuple[int, int]:
    """Sequences and steps whose masks are sure to reach the loss: of those without padding."""
    count, time = batch.inputs.shape[:2]
    return (count if batch.lengths is None else int((batch.lengths == time).sum())), time


def _few(place: Place, tensor: str, count: int, size: int, note: str) -> Comparison:
    return place.limited(tensor, (count, 0), float(count), float(TIES), size, f"{note}, of {size}; chance makes few")


def _limited(place: Place, tensor: str, finding: Finding) -> Comparison:
    values = (finding.observed, finding.expected)
    return place.limited(tensor, values, finding.difference, finding.bound, finding.size, finding.note)
