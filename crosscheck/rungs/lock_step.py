"""The whole recipe from the same start: every step's loss, slots and parameters, every epoch's evaluation logits."""

from collections.abc import Iterator

import msgspec
import numpy as np

from crosscheck import tolerance, zero_gradient
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.request import Request
from crosscheck.tolerance import Growing
from spec.experiment import Experiment
from spec.framework import Framework, Precision
from spec.tasks import predictions
from spec.training import initial_state

NAME: str = "lock-step"
QUESTION: str = "do both take the same steps through the whole recipe, from the same start?"
PRECISIONS: tuple[Precision, ...] = ("float64", "float32")
SAME_INPUTS: bool = True


def inapplicable(experiment: Experiment) -> str:
    return "" if experiment.training.epochs else "nothing is trained"


def cases(experiment: Experiment, precision: Precision, thorough: bool) -> tuple[str, ...]:
    del experiment, precision, thorough
    return ("recipe",)


def record(framework: Framework, experiment: Experiment, case: str, request: Request) -> Arrays:
    del case
    state = initial_state(experiment.training.optimizer, request.start(experiment))
    epochs, seed, settings = experiment.training.epochs, request.seed, request.settings
    trajectory = framework.train(experiment, state, epochs, seed, settings, record=True, masks="spec")
    parts = {
        "start/": state.parameters,
        "slots/": trajectory.slots,
        "parameters/": trajectory.parameters,
        "final/": {**trajectory.state.parameters, **trajectory.state.slots},
    }
    named = {part + name: array for part, arrays in parts.items() for name, array in arrays.items()}
    return {"loss": trajectory.losses, "logits": trajectory.logits, **named}


def compare(experiment: Experiment, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
    training, table = experiment.training, experiment.model.parameters()
    steps = training.epochs * training.steps_per_epoch
    bounds = tolerance.LOCK_STEP[place.precision]
    loss = place.close(
        "loss",
        first.get("loss"),
        second.get("loss"),
        bound=bounds.loss.steps(steps),
        floor=bounds.loss.floor,
        shape=(steps,),
        stepwise=True,
    )
    found = [loss]
    for slot in training.optimizer.slots:
        found += _tensors(experiment, place, "slots/", f".{slot}", first, second, bounds.slots)
    found += _tensors(experiment, place, "parameters/", "", first, second, bounds.parameters)
    found += _drifts(experiment, place, first, second)
    found += _logits(experiment, place, first, second, bounds.logits)
    states = [p.name for p in table] + [f"{p.name}.{slot}" for slot in training.optimizer.slots for p in table]
    trained = ["slots/" + name for name in states[len(table) :]] + ["parameters/" + p.name for p in table]
    found += _final(place, trained, first, second)
    expected = ["loss", "logits", *trained, *("start/" + p.name for p in table), *("final/" + name for name in states)]
    # A stable sort: where two tensors part at the same step, the one that is computed first comes first.
    found.sort(key=lambda comparison: comparison.step if not comparison.passed and comparison.step is not None else -1)
    return found + place.only(expected, first, second)


def _tensors(
    experiment: Experiment, place: Place, prefix: str, suffix: str, first: Arrays, second: Arrays, bound: Growing
) -> Iterator[Comparison]:
    """One kind of state, of every parameter, step by step; the floor is a share of the largest of its kind so far."""
    training, table = experiment.training, experiment.model.parameters()
    steps = training.epochs * training.steps_per_epoch
    shapes = {f"{prefix}{p.name}{suffix}": (steps, *p.shape) for p in table}
    sizes = [
        np.abs(side[name]).reshape(steps, -1).max(axis=1)
        for name, shape in shapes.items()
        for side in (first, second)
        if name in side and side[name].shape == shape
    ]
    largest = np.maximum.accumulate(np.nan_to_num(np.max(sizes, axis=0))) if sizes else np.zeros(steps)
    for parameter, (name, shape) in zip(table, shapes.items(), strict=True):
        keep = zero_gradient.kept(parameter) if zero_gradient.blown_up(training) else None
        if keep is not None and not keep.any() and name in first and name in second:
            continue
        yield place.close(
            name,
            first.get(name),
            second.get(name),
            bound=bound.steps(steps),
            floor=bound.floor * largest,
            shape=shape,
            stepwise=True,
            keep=keep,
        )


def _drifts(experiment: Experiment, place: Place, first: Arrays, second: Arrays) -> Iterator[Comparison]:
    """How far parameters without a gradient wandered."""
    training = experiment.training
    steps = training.epochs * training.steps_per_epoch
    for parameter in experiment.model.parameters():
        name = f"parameters/{parameter.name}"
        if parameter.zero_gradient is None or not zero_gradient.blown_up(training):
            continue
        if any(name not in side or side[name].shape != (steps, *parameter.shape) for side in (first, second)):
            yield place.failed(zero_gradient.rows(parameter), f"{name}: missing or of another shape")
        else:
            start = first[f"start/{parameter.name}"]
            yield zero_gradient.drift(place, training, parameter, start, first[name], second[name])


def _logits(
    experiment: Experiment, place: Place, first: Arrays, second: Arrays, bound: Growing
) -> Iterator[Comparison]:
    """The evaluation batch's logits after each epoch, and the classes that they choose.

    Ties go to the lowest index, but it is rounding that makes a tie. So a choice counts only where on both sides the
    best logit is further ahead than the bound allows two logits to move towards each other.
    """
    one, two = first.get("logits"), second.get("logits")
    training = experiment.training
    targets = experiment.task.evaluation_batch("float64").targets
    shape = (training.epochs, *targets.shape, experiment.model.classes)
    per_epoch = training.steps_per_epoch
    relative = bound.steps(training.epochs * per_epoch)[per_epoch - 1 :: per_epoch]
    logits = place.close("logits", one, two, bound=relative, floor=bound.floor, shape=shape, stepwise=True)
    epoch = logits.step
    yield logits if epoch is None else msgspec.structs.replace(logits, step=(epoch + 1) * per_epoch - 1)
    if one is None or two is None or one.shape != shape or two.shape != shape or shape[-1] < 2:
        return
    ahead = np.minimum(*(np.diff(np.sort(side, axis=-1)[..., -2:])[..., 0] for side in (one, two)))
    size = np.maximum(*(np.abs(side).reshape(len(side), -1).max(axis=1) for side in (one, two)))
    reach = 2 * relative * np.maximum(size, bound.floor)
    clear = ahead > reach.reshape(-1, *[1] * (ahead.ndim - 1))
    differ = clear & (predictions(one) != predictions(two))
    note = f"classes chosen, of {clear.size}; the others are ties within the logits' bound"
    yield place.equal("predictions", int(clear.sum()), int((clear & ~differ).sum()), note, ("clear", "the same"))


def _final(place: Place, trained: list[str], first: Arrays, second: Arrays) -> Iterator[Comparison]:
    """The state that training returns is the last that it recorded."""
    for side, arrays in zip(place.sides, (first, second), strict=True):
        for name in trained:
            recorded, final = arrays.get(name), arrays.get("final/" + name.partition("/")[2])
            last = recorded[-1] if recorded is not None and len(recorded) else None
            yield place.identical(f"final {name}", last, final, (f"{side}, last step", f"{side}, returned"))
