"""The whole recipe from the same start: every step's loss, slots and parameters, every epoch's evaluation logits.

Bounds are derived from the first side's own runs, see crosscheck.bounds.trajectories.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import TypeGuard

import msgspec
import numpy as np

from crosscheck.bounds import (
    explained_logits,
    gradient_noise,
    mixed_precision,
    rounding_spread,
    tolerances,
    trajectories,
    zero_gradients,
)
from crosscheck.bounds.gradient_noise import Noise
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.probes import witness
from crosscheck.request import Request
from crosscheck.subject import Subject
from spec.framework import Framework, Precision, Trajectory
from spec.parameters import Parameters
from spec.tasks import fingerprint, is_numeric, logits_shape, predictions
from spec.training import initial_state

NAME: str = "trajectory"
QUESTION: str = "do both take the same steps through the whole recipe, from the same start?"
PRECISIONS: tuple[Precision, ...] = ("float64", "float32")
SAME_INPUTS: bool = True

RECIPE = "recipe"
"""The case in which `train` is called once."""

STEP_BY_STEP = "step by step"
"""The case in which it is called for one epoch at a time and handed its own state back."""

RESUMED = "resumed/"
"""Before the names of what a side made of the second half of the recipe, from its own state after the first."""

WHOLE = "whole/"
"""Before the names of what a side recorded of the whole recipe beside its stretches."""

TOGETHER = "starts/loss"
"""The losses of the recipe from the start itself, trained together with the perturbed ones."""

KINDS = ("slots/", "parameters/", "carried/")

BATCHES = "batches"
"""The fingerprints of the batches that each step was trained on; who does not say is not asked."""

SPEC = "the spec"
"""Whose batches they have to be."""


def inapplicable(subject: Subject) -> str:
    return "" if subject.training.epochs else "nothing is trained"


def cases(subject: Subject, precision: Precision, thorough: bool) -> tuple[str, ...]:
    del subject
    return (RECIPE, STEP_BY_STEP) if thorough and precision == "float64" else (RECIPE,)


def record(framework: Framework, subject: Subject, case: str, request: Request) -> Arrays:
    start = request.start(subject)
    trajectory = _train(framework, subject, case, request, start)
    found = _named(trajectory)
    recorded = dict(found)
    if trajectory.batches is not None:
        recorded[BATCHES] = trajectory.batches
    if case == STEP_BY_STEP:
        whole = _named(_train(framework, subject, RECIPE, request, start))
        recorded |= {WHOLE + name: array for name, array in whole.items()}
    if request.envelope and not mixed_precision.alone(subject, request.precision):
        # Only this side trains these runs, so they must not count among the inputs that both are handed.
        first, *others = _repeat(witness.aside(framework), subject, request, start)
        recorded[TOGETHER] = first["loss"]
        recorded |= rounding_spread.measure(first, others, stepwise=True)
    if case == RECIPE and request.precision == "float64":
        recorded |= _resume(witness.aside(framework), subject, request, trajectory)
    final = {**trajectory.state.parameters, **trajectory.state.slots, **trajectory.state.carried}
    recorded["steps"] = np.array([trajectory.state.step])
    parts = {"start/": start, "final/": final}
    return recorded | {part + name: array for part, arrays in parts.items() for name, array in arrays.items()}


def _repeat(framework: Framework, subject: Subject, request: Request, start: Parameters) -> list[dict[str, np.ndarray]]:
    """What is compared, of the recipe from the start itself and from perturbed ones, all run in the same way."""
    perturbed = starts(subject, request, start)
    side = framework.open(subject, request.settings)
    if side.train_starts is not None:
        runs = side.train_starts(perturbed, request.seed)
    else:
        runs = [_train(framework, subject, RECIPE, request, each) for each in perturbed]
    return [_measured(subject, _named(run)) for run in runs]


def starts(subject: Subject, request: Request, start: Parameters) -> list[Parameters]:
    """The start itself, and those that are moved in their last bits."""
    return [start, *rounding_spread.perturbed(start, request.seed, _runs(subject))]


def _resume(framework: Framework, subject: Subject, request: Request, trajectory: Trajectory) -> dict[str, np.ndarray]:
    """The losses and the last state of the second half, trained from the state that the first half left.

    Who compiles trains as many epochs as the recipe has, for which that is done; those beyond its end are dropped.
    """
    epochs, each = subject.training.epochs, subject.training.steps_per_epoch
    half, count = (epochs // 2) * each, epochs * each
    expected = initial_state(subject.training.optimizer, trajectory.state.parameters)
    if not half or (trajectory.parameters.keys(), trajectory.slots.keys()) != (
        expected.parameters.keys(),
        expected.slots.keys(),
    ):
        return {}  # What is missing is said elsewhere.
    state = trajectory.after(half)
    side = framework.open(subject, request.settings)
    left = epochs if side.compiles else epochs - epochs // 2
    again = side.train(state, left, request.seed, record=True, masks="spec")
    named = {name: array for name, array in _named(again).items() if name != "logits"}
    return {
        RESUMED + name: array[: count - half] if name == "loss" else array[count - half - 1]
        for name, array in named.items()
    }


def _runs(subject: Subject) -> int:
    """How often the recipe is repeated: more often where it is short, as a few steps have seen few roundings."""
    steps = subject.training.epochs * subject.training.steps_per_epoch
    return max(rounding_spread.RUNS, -(-tolerances.REPEATED_STEPS // steps))


def _train(framework: Framework, subject: Subject, case: str, request: Request, start: Parameters) -> Trajectory:
    """The recipe from that start, in one call or in one for each epoch."""
    state = initial_state(subject.training.optimizer, start)
    epochs, seed = subject.training.epochs, request.seed
    side, further = (asked.open(subject, request.settings) for asked in (framework, witness.aside(framework)))
    if case == RECIPE:
        return side.train(state, epochs, seed, record=True, masks="spec")
    parts: list[Trajectory] = []
    for _ in range(epochs):
        parts.append(side.train(state, 1, seed, record=True, masks="spec"))
        # From here on each side is handed its own state, and those differ by rounding.
        state, side = parts[-1].state, further
    losses, logits = (np.concatenate(arrays) for arrays in zip(*((p.losses, p.logits) for p in parts), strict=True))
    parameters, slots = _joined(p.parameters for p in parts), _joined(p.slots for p in parts)
    told = [part.batches for part in parts if part.batches is not None]
    batches = np.concatenate(told) if len(told) == len(parts) else None
    return Trajectory(state, losses, logits, parameters, slots, _joined(p.carried for p in parts), batches)


def _joined(parts: Iterator[Parameters]) -> Parameters:
    """Stretches of a trajectory, one behind the other."""
    first, *others = parts
    return {name: np.concatenate([array, *(other[name] for other in others)]) for name, array in first.items()}


def _named(trajectory: Trajectory) -> dict[str, np.ndarray]:
    """What is compared of a trajectory, by the names that it is recorded under."""
    parts = zip(KINDS, (trajectory.slots, trajectory.parameters, trajectory.carried), strict=True)
    named = {kind + name: array for kind, arrays in parts for name, array in arrays.items()}
    return {"loss": trajectory.losses, "logits": trajectory.logits, **named}


def _measured(subject: Subject, named: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same without the elements that are not compared: an envelope of noise that Adam blows up is no measure."""
    kept = _kept(subject)
    return {name: array[:, kept[name]] if name in kept else array for name, array in named.items()}


def _kept(subject: Subject) -> dict[str, np.ndarray]:
    """Which elements are compared, by name, of the tensors where that is not all of them."""
    training, found = subject.training, {}
    for parameter in subject.parameters() if zero_gradients.blown_up(training) else ():
        keep = zero_gradients.kept(parameter)
        if keep is not None:
            found |= dict.fromkeys([f"slots/{parameter.name}.{slot}" for slot in training.optimizer.slots], keep)
            found[f"parameters/{parameter.name}"] = keep
    return found


def compare(subject: Subject, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
    table, slots = subject.parameters(), subject.training.optimizer.slots
    steps = subject.training.epochs * subject.training.steps_per_epoch
    states = [p.name for p in table] + [f"{p.name}.{slot}" for slot in slots for p in table]
    trained = ["slots/" + name for name in states[len(table) :]] + ["parameters/" + p.name for p in table]
    trained += ["carried/" + name for name in carried(subject)]
    states += carried(subject)
    compared = ["loss", "logits", *trained]
    expected = [*compared, "steps", BATCHES, *("start/" + p.name for p in table), *("final/" + name for name in states)]
    handed = list(_batches(subject, place, first, second))
    if mixed_precision.alone(subject, place.precision):
        return [*_each_alone(subject, place, first, second), *handed, *place.only(expected, first, second)]
    if missing := [name for name in compared if rounding_spread.PREFIX + name not in first]:
        note = f"expected envelopes in the first recording, got none of {missing[0]} ({len(missing)} missing in all)"
        return [place.failed("envelope", note)]
    found = [*_trajectories(subject, place, first, second), *_drifts(subject, place, first, second)]
    found += _final(place, trained, first, second)
    found += _steps(subject, place, first, second)
    found += _together(place, first)
    expected += [TOGETHER, *(rounding_spread.PREFIX + name for name in compared)]
    if place.case == RECIPE and place.precision == "float64" and subject.training.epochs > 1:
        expected += [RESUMED + name for name in compared if name != "logits"]
        found += _continued(subject, place, [name for name in compared if name != "logits"], first, second)
    if place.case == STEP_BY_STEP:
        expected += [WHOLE + name for name in compared]
        found += _against_whole(subject, place, first, second)
    found += handed
    # A stable sort: where two tensors part at the same step, the one that is computed first comes first. What has no
    # step is about the whole.
    found.sort(key=lambda comparison: steps if comparison.passed or comparison.step is None else comparison.step)
    return _with_cause(found, handed) + place.only(expected, first, second)


def _each_alone(subject: Subject, place: Place, first: Arrays, second: Arrays) -> Iterator[Comparison]:
    """What of a side's training the bounds of mixed precision do not say: see crosscheck.bounds.mixed_precision."""
    training, table = subject.training, subject.parameters()
    steps = training.epochs * training.steps_per_epoch
    shapes: dict[str, tuple[int, ...]] = {"loss": (steps,)}
    targets = subject.evaluation_batch("float64").targets
    shapes["logits"] = (training.epochs, *logits_shape(targets, subject.classes))
    shapes |= {f"slots/{p.name}.{slot}": (steps, *p.shape) for slot in training.optimizer.slots for p in table}
    shapes |= {f"parameters/{p.name}": (steps, *p.shape) for p in table}
    shapes |= {f"carried/{name}": (steps, *shape) for name, shape in carried(subject).items()}
    for side, arrays in zip(place.sides, (first, second), strict=True):
        here = place.within(side)
        for name, shape in shapes.items():
            one = arrays.get(name)
            yield here.close(name, one, one, bound=1.0, shape=shape)
            if _fits(one, shape) and one.dtype == place.precision:
                yield from mixed_precision.digits(here, name, one)
    yield from _final(place, [name for name in shapes if name not in ("loss", "logits")], first, second)
    yield from _steps(subject, place, first, second)


def _steps(subject: Subject, place: Place, first: Arrays, second: Arrays) -> Iterator[Comparison]:
    """The number of steps that the returned state says it has done."""
    expected = subject.training.epochs * subject.training.steps_per_epoch
    yield place.whole_number("steps", expected, first.get("steps"), second.get("steps"))


def _batches(subject: Subject, place: Place, first: Arrays, second: Arrays) -> Iterator[Comparison]:
    """Whether each step was trained on the spec's batch, to the bit: values are hashes of all of them."""
    if first.get(BATCHES) is None and second.get(BATCHES) is None:
        return
    expected = fingerprints(subject, place)
    for side, arrays in zip(place.sides, (first, second), strict=True):
        told = arrays.get(BATCHES)
        if told is None:
            continue
        here = place.against(side, SPEC, first=True)
        if told.shape != expected.shape or told.dtype != expected.dtype:
            yield here.failed(BATCHES, f"expected {expected.dtype} {expected.shape}, got {told.dtype} {told.shape}")
            continue
        others = np.flatnonzero(told != expected)
        note = f"not the same data: {others.size} of {told.size} steps have other batches" if others.size else ""
        found = here.equal(BATCHES, stream_hash(expected), stream_hash(told), note)
        step = int(others[0]) if others.size else None
        yield msgspec.structs.replace(found, step=step, elements=told.size)


def _with_cause(found: list[Comparison], handed: list[Comparison]) -> list[Comparison]:
    """The same, where what parts first says so if other data are why."""
    other = next((one for one in handed if one.failed), None)
    first = next((number for number, one in enumerate(found) if one.failed), None)
    if other is None or first is None or found[first] in handed:
        return found
    note = "; ".join(filter(None, (found[first].note, other.note)))
    return [*found[:first], msgspec.structs.replace(found[first], note=note), *found[first + 1 :]]


def fingerprints(subject: Subject, place: Place) -> np.ndarray:
    """Of the batches of every step of the recipe, int64 (steps,), see spec.tasks.fingerprint."""
    steps = range(subject.training.epochs * subject.training.steps_per_epoch)
    going_on = getattr(subject, "goes_on", lambda steps: None)(steps)
    drawn = steps if subject.has_drawn_batches else steps[:1]
    found = [
        fingerprint(subject.batch(place.seed, step, place.precision), None if going_on is None else going_on[step])
        for step in drawn
    ]
    return np.array(found if subject.has_drawn_batches else found * len(steps), np.int64)


def stream_hash(fingerprints: np.ndarray) -> str:
    """Sixteen hexadecimal digits that change with any byte of any batch, and with their order."""
    return hashlib.sha256(fingerprints.astype("<i8").tobytes()).hexdigest()[:16]


def _together(place: Place, first: Arrays) -> Iterator[Comparison]:
    """The first side's bounds come of runs that are the recipe's: what it trains together with them is its own run."""
    whole, measured = first.get("loss"), first[rounding_spread.PREFIX + "loss"]
    if whole is None or not whole.ndim or measured.shape != whole.shape:
        return  # Said already.
    size = trajectories.sizes(whole)
    bounds = trajectories.within_horizon(trajectories.loss(measured, size, place.precision), size)
    here = place.within(place.sides[0], "among perturbed starts", "alone")
    yield _close(here, TOGETHER, first.get(TOGETHER), whole, bounds, whole.shape)


def _continued(subject: Subject, place: Place, names: list[str], first: Arrays, second: Arrays) -> Iterator[Comparison]:
    """Each side's second half, trained from its own state after the first, against its own whole recipe.

    Both computed the same from the same, so they may differ by less than the envelope of that step; slots that are
    forgotten, a schedule or a correction that starts again, differ by more.
    """
    training = subject.training
    half = (training.epochs // 2) * training.steps_per_epoch
    for side, arrays in zip(place.sides, (first, second), strict=True):
        here = place.within(side, "trained on", RECIPE)
        for name in names:
            one, whole, measured = arrays.get(RESUMED + name), arrays.get(name), first[rounding_spread.PREFIX + name]
            if whole is None or not whole.ndim or not measured.ndim or len(whole) != len(measured):
                continue  # Said already.
            allowed = trajectories.allowed(measured, trajectories.sizes(whole), place.precision)
            if name == "loss":
                found = here.close(
                    f"{RESUMED}{name}", one, whole[half:], allowed=allowed[half:], stepwise=True, diverges=True
                )
                yield msgspec.structs.replace(found, step=None if found.step is None else half + found.step)
            else:
                keep = _kept(subject).get(name)
                if keep is None or keep.any():
                    yield here.close(
                        f"{RESUMED}{name}", one, whole[-1], allowed=float(allowed[-1]), keep=keep, diverges=True
                    )


def _against_whole(subject: Subject, place: Place, first: Arrays, second: Arrays) -> Iterator[Comparison]:
    """Each side's stretches against its own whole recipe; bounds are the first side's."""
    for side, arrays in zip(place.sides, (first, second), strict=True):
        whole = {name.removeprefix(WHOLE): array for name, array in arrays.items() if name.startswith(WHOLE)}
        bounds = {name: array for name, array in first.items() if name.startswith(rounding_spread.PREFIX)}
        here = place.within(side, STEP_BY_STEP, RECIPE)
        yield from _trajectories(subject, here, {**arrays, **bounds}, whole)


def _trajectories(subject: Subject, place: Place, first: Arrays, second: Arrays) -> Iterator[Comparison]:
    """Everything that has a bound from an envelope."""
    noise = gradient_noise.of(subject, place.precision, place.seed, first)
    yield from _loss(subject, place, first, second)
    for slot in subject.training.optimizer.slots:
        yield from _tensors(subject, place, "slots/", f".{slot}", first, second, noise)
    yield from _tensors(subject, place, "parameters/", "", first, second, noise)
    yield from _carried(subject, place, first, second)
    yield from _logits(subject, place, first, second)


def _loss(subject: Subject, place: Place, first: Arrays, second: Arrays) -> Iterator[Comparison]:
    """The losses; that their bound is one of rounding; how far they are apart in units of the envelope."""
    steps = subject.training.epochs * subject.training.steps_per_epoch
    one, two, measured = first.get("loss"), second.get("loss"), first[rounding_spread.PREFIX + "loss"]
    bounds, size = np.zeros(steps), np.ones(steps)
    if _fits(one, (steps,)) and _fits(measured, (steps,)):
        size = trajectories.sizes(one)
        bounds = trajectories.within_horizon(trajectories.loss(measured, size, place.precision), size)
    loss = _close(place, "loss", one, two, bounds, (steps,))
    if _fits(one, (steps,)) and _fits(two, (steps,)) and loss.elements:
        # Losses that are all zero have no unit of their own.
        least = np.maximum(float(np.finfo(place.precision).eps) * size, float(np.finfo(place.precision).tiny))
        unit = np.maximum(np.maximum.accumulate(measured), least)
        counted = np.isfinite(bounds) & np.isfinite(one) & np.isfinite(two)
        apart = np.abs(one[counted].astype(np.float64) - two[counted]) / unit[counted]
        loss = msgspec.structs.replace(loss, envelopes=float(np.median(apart)) if apart.size else None)
    yield loss
    opening = min(tolerances.FEWEST_STEPS, steps)
    roundings = bounds[:opening] / (float(np.finfo(place.precision).eps) * np.maximum(size[:opening], 1.0))
    largest = float(roundings.max())
    note = (
        f"the loss's bound over the first {opening} steps in units in the last place: rounding has hardly grown there"
    )
    limit = tolerances.OPENING_ROUNDINGS
    yield place.limited(rounding_spread.PREFIX + "loss", (largest, limit), largest, limit, opening, note)


def _tensors(
    subject: Subject, place: Place, prefix: str, suffix: str, first: Arrays, second: Arrays, noise: Noise | None
) -> Iterator[Comparison]:
    """One kind of state, of every parameter, step by step."""
    training, table = subject.training, subject.parameters()
    steps = training.epochs * training.steps_per_epoch
    shapes = {f"{prefix}{p.name}{suffix}": (steps, *p.shape) for p in table}
    given = [first[name] for name, shape in shapes.items() if _fits(first.get(name), shape)]
    largest = np.max([trajectories.sizes(array) for array in given], axis=0) if given else np.zeros(steps)
    kept = _kept(subject)
    for parameter, (name, shape) in zip(table, shapes.items(), strict=True):
        keep = kept.get(name)
        if keep is not None and not keep.any() and name in first and name in second:
            continue
        bounds, measured = np.zeros(steps), first[rounding_spread.PREFIX + name]
        if _fits(first.get(name), shape) and _fits(measured, (steps,)):
            decays = not suffix and training.weight_decay(parameter.name, len(parameter.shape)) > 0
            bounds = trajectories.allowed(measured, trajectories.sizes(first[name]), place.precision, decays)
            if noise is not None:
                bounds = bounds.reshape(steps, *[1] * len(parameter.shape))
                slot, own = suffix.removeprefix("."), parameter.name
                moved = noise.slot(slot, first, second, own) if slot else noise.parameter(first, second, own)
                bounds = np.maximum(bounds, moved)
            bounds = trajectories.within_horizon(bounds, largest)
        yield _close(place, name, first.get(name), second.get(name), bounds, shape, keep)


def _carried(subject: Subject, place: Place, first: Arrays, second: Arrays) -> Iterator[Comparison]:
    """The states in which each step's sequences ended, and from which those of the next go on."""
    steps = subject.training.epochs * subject.training.steps_per_epoch
    for state, shape in carried(subject).items():
        name = f"carried/{state}"
        one, two, measured = first.get(name), second.get(name), first[rounding_spread.PREFIX + name]
        bounds = np.zeros(steps)
        if _fits(one, (steps, *shape)) and _fits(measured, (steps,)):
            size = trajectories.sizes(one)
            bounds = trajectories.within_horizon(trajectories.allowed(measured, size, place.precision), size)
        yield _close(place, name, one, two, bounds, (steps, *shape))


def carried(subject: Subject) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of the states that are carried from step to step: a stranger's models have none."""
    return getattr(subject, "carried", {})


def _close(
    place: Place,
    name: str,
    one: np.ndarray | None,
    two: np.ndarray | None,
    bounds: np.ndarray,
    shape: tuple[int, ...],
    keep: np.ndarray | None = None,
) -> Comparison:
    """The comparison, which fails where the bounds end too soon to have shown anything."""
    found = place.close(name, one, two, allowed=bounds, shape=shape, stepwise=True, keep=keep, diverges=True)
    bounded = int(np.isfinite(bounds).reshape(len(bounds), -1).any(axis=1).sum())
    fewest = min(tolerances.FEWEST_STEPS, len(bounds))
    if found.passed and bounded < fewest:
        return place.failed(name, f"expected a bound for at least {fewest} steps, got one for {bounded}")
    return found


def _fits(array: np.ndarray | None, shape: tuple[int, ...]) -> TypeGuard[np.ndarray]:
    return array is not None and array.shape == shape


def _drifts(subject: Subject, place: Place, first: Arrays, second: Arrays) -> Iterator[Comparison]:
    """How far parameters without a gradient wandered."""
    training = subject.training
    steps = training.epochs * training.steps_per_epoch
    for parameter in subject.parameters():
        name = f"parameters/{parameter.name}"
        if parameter.zero_gradient is None or not zero_gradients.blown_up(training):
            continue
        start, one, two = first.get(f"start/{parameter.name}"), first.get(name), second.get(name)
        if _fits(start, parameter.shape) and all(_fits(each, (steps, *parameter.shape)) for each in (one, two)):
            yield zero_gradients.drift(place, training, parameter, start, first[name], second[name])
        else:
            yield place.failed(zero_gradients.rows(parameter), f"{name}: missing or of another shape")


def _logits(subject: Subject, place: Place, first: Arrays, second: Arrays) -> Iterator[Comparison]:
    """The evaluation batch's logits after each epoch, and the classes that they choose.

    Where they are further apart than their bound, the bound grows by what the parameters, compared themselves, explain.
    Ties go to the lowest index, but it is rounding that makes a tie. So a choice counts only where on both sides the
    best logit is further ahead than the bound allows two logits to move towards each other.
    """
    one, two, measured = first.get("logits"), second.get("logits"), first[rounding_spread.PREFIX + "logits"]
    training = subject.training
    targets = subject.evaluation_batch("float64").targets
    shape = (training.epochs, *logits_shape(targets, subject.classes))
    bounds = np.zeros(training.epochs)
    if _fits(one, shape) and _fits(measured, shape[:1]):
        size = trajectories.sizes(one)
        bounds = trajectories.allowed(measured, size, place.precision)
        if _fits(two, shape):
            with np.errstate(invalid="ignore"):
                apart = np.abs(one.astype(np.float64) - two).reshape(len(bounds), -1).max(axis=1)
            bounds += explained_logits.logits(subject, first, second, apart > bounds)
        bounds = trajectories.within_horizon(bounds, size)
    logits = _close(place, "logits", one, two, bounds, shape)
    epoch, per_epoch = logits.step, training.steps_per_epoch
    yield logits if epoch is None else msgspec.structs.replace(logits, step=(epoch + 1) * per_epoch - 1)
    if not _fits(one, shape) or not _fits(two, shape) or shape[-1] < 2 or is_numeric(targets):
        return
    with np.errstate(invalid="ignore"):  # Of two that are infinite there is none ahead.
        ahead = np.minimum(*(np.diff(np.sort(side, axis=-1)[..., -2:])[..., 0] for side in (one, two)))
    clear = ahead > 2 * bounds.reshape(-1, *[1] * (ahead.ndim - 1))
    differ = clear & (predictions(one) != predictions(two))
    note = f"classes chosen, of {clear.size}; the others are ties within the logits' bound"
    yield place.equal("predictions", int(clear.sum()), int((clear & ~differ).sum()), note, ("clear", "the same"))


def _final(place: Place, trained: list[str], first: Arrays, second: Arrays) -> Iterator[Comparison]:
    """The state that training returns is the last that it recorded."""
    for side, arrays in zip(place.sides, (first, second), strict=True):
        for name in trained:
            recorded, final = arrays.get(name), arrays.get("final/" + name.partition("/")[2])
            last = recorded[-1] if recorded is not None and recorded.ndim and len(recorded) else None
            yield place.within(side, "last step", "returned").identical(f"final {name}", last, final)
