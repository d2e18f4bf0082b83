"""At which optimizer step a side departs by itself: the reference takes each step from the side's own state."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from crosscheck.bounds.tolerances import largest
from crosscheck.comparison import Arrays, Comparison
from crosscheck.diagnosis.arbiter import Call
from crosscheck.diagnosis.distance import ROUNDINGS, UNIT, Distance, measure, rounding
from crosscheck.diagnosis.finding import Departure
from crosscheck.subject import Subject
from spec.errors import Unsupported
from spec.framework import Precision, Settings
from spec.parameters import Parameters, generator_for
from spec.training import SGD, Adam, AdamW, RMSprop, State, initial_state

STEP_ROUNDINGS = 16
"""Roundings of an optimizer's step: of a decay, a slot, two corrections, a root, a quotient, the rate and a difference,
on the side's part and on the reference's constants."""

SMALL = 1e-3
"""A gradient that is a smaller share of the largest one comes from cancellation, and has its rounding from there."""

PROBABILITY = 4
"""Roundings of numbers of order 1 in any gradient, however small: it begins with a probability less one."""

DIFFERENT = 4
"""Elements of a tensor that are looked at where the reference is too slow for all: where the sides differ most."""

DRAWN = 12
"""And others, drawn, from which it shows how large gradients are."""

FROM_FEW = 4.0
"""The largest of a million normal numbers is 3 times as large as the largest of DRAWN; and some room."""

CARRIED = "carried/"
"""Before the names of the states that a recorded training carried from step to step."""

Elements = Mapping[str, Sequence[int]]
"""Flat indices of elements, by tensor."""

Found = dict[str, Distance]
"""What a side holds after a step, by the recorded name, against what the equations make of its state before it."""


class Given(NamedTuple):
    """What both sides were handed. gradients: of every step, where they were not to find them."""

    state: State
    seed: int
    gradients: list[Parameters]


def given(subject: Subject, call: Call) -> Given:
    """From the arguments of `train` or `replay`. Raises Unsupported where each side drew masks of its own."""
    if call.name == "replay":
        parameters, gradients = call.arguments
        return Given(initial_state(subject.training.optimizer, parameters), 0, gradients)
    state, _, seed = call.arguments
    if subject.has_dropout and call.options.get("masks", "own") != "spec":
        raise Unsupported("each side drew its own dropout masks")
    return Given(state, seed, [])


def at_step(
    subject: Subject, handed: Given, arrays: Arrays, precision: Precision, step: int, only: Elements | None = None
) -> Found:
    """Loss, slots, parameters and logits after that step, each against one step of the reference.

    only: flat indices of the elements of each tensor that are looked at, where that is not all.
    """
    before = state_after(handed, arrays, step - 1)
    found: Found = {}
    if handed.gradients:
        gradients = handed.gradients[step]
        spread = {name: np.zeros_like(gradient) for name, gradient in gradients.items()}

        def take(gradients: Parameters) -> State:
            return subject.reference.optimizer_step(subject.training, before, gradients)
    else:
        settings = Settings("float64")
        loss, gradients, _ = subject.reference.gradients_at(subject, before, handed.seed, settings, only)
        expected = np.array(loss)
        found["loss"] = measure(arrays["loss"][step], expected, rounding(expected, precision), precision)
        spread = _spread(gradients, precision, 1.0 if only is None else FROM_FEW)
        taken = subject
        if only is not None and subject.training.clipping is not None and subject.training.clipping.max_norm:
            factor = _clipped_by(subject, handed, before, state_after(handed, arrays, step))
            gradients, spread = ({n: factor * value for n, value in each.items()} for each in (gradients, spread))
            taken = subject.with_training(msgspec.structs.replace(subject.training, clipping=None))

        def take(gradients: Parameters) -> State:
            return subject.reference.advance(taken, before, gradients, handed.seed, settings)

    after, up, down = (take({n: g + sign * spread[n] for n, g in gradients.items()}) for sign in (0, 1, -1))
    for name, expected in after.carried.items():
        recorded = arrays.get(CARRIED + name)
        now = recorded[step] if recorded is not None and len(recorded) > step else None
        found[CARRIED + name] = measure(now, expected, rounding(expected, precision), precision)
    for prefix, part in (("slots/", "slots"), ("parameters/", "parameters")):
        kinds = [getattr(state, part) for state in (before, after, up, down)]
        for name in _ordered(subject, part):
            old, new, high, low = (kind[name] for kind in kinds)
            # What the step's own roundings can do, and what those of its gradient can, which Adam may blow up.
            sizes = np.abs(old) + np.abs(new) + np.abs(new - old)
            bound = STEP_ROUNDINGS * UNIT[precision] * sizes + np.maximum(np.abs(high - new), np.abs(low - new))
            recorded = arrays.get(prefix + name)
            now = recorded[step] if recorded is not None and len(recorded) > step else None
            found[prefix + name] = measure(now, new, bound, precision)
    epoch, rest = divmod(handed.state.step + step + 1, subject.training.steps_per_epoch)
    if "logits" in arrays and not handed.gradients and not rest and epoch <= len(arrays["logits"]):
        reached, settings = state_after(handed, arrays, step), Settings("float64")
        batch = subject.evaluation_batch(settings.precision)
        expected = subject.reference.open(subject, settings).predict(reached.parameters, batch)
        bound = rounding(expected, precision)
        found["logits"] = measure(arrays["logits"][epoch - 1], expected, bound, precision)
    return found


def _clipped_by(subject: Subject, handed: Given, before: State, after: State) -> float:
    """The factor by which the equations clip a step's gradients g, of which most are not known.

    What a side has left tells the direction v that it took for g, but for a factor; g . v takes one forward pass for
    each tensor; and |g| = g . v / |v| where the two are parallel. Where they are not, some elements are off, which is
    looked at beside this. A v that is off by a small angle changes it by the square of that. Raises Unsupported where
    v is no number.
    """
    clipping, settings = subject.training.clipping, Settings("float64")
    assert clipping is not None
    assert clipping.max_norm is not None
    if clipping.max_value is not None:
        raise Unsupported("clipping needs all gradients: what is limited one by one is not parallel to them")
    direction = _direction(subject, handed, before, after)
    size = np.sqrt(sum(np.sum(np.square(value)) for value in direction.values()))
    if not np.isfinite(size):
        raise Unsupported("clipping needs all gradients, and those of a side are not finite")
    if size == 0:
        return 1.0
    slopes = subject.reference.slopes_at(subject, before, handed.seed, settings, direction)
    return min(1.0, clipping.max_norm / (abs(sum(slopes.values())) / size + clipping.epsilon))


def _direction(subject: Subject, handed: Given, before: State, after: State) -> Parameters:
    """What a side added to its averages or, without any, took off its parameters: its gradients, times a factor.

    Raises Unsupported where a learning rate of zero leaves no trace of them.
    """
    training = subject.training
    # Rows of an embedding may be rescaled before the step.
    still = {name: np.zeros_like(value) for name, value in before.parameters.items()}
    begun = subject.reference.advance(subject, before, still, handed.seed, Settings("float64"))

    def taken_off(name: str) -> np.ndarray:
        """Without its learning rate."""
        rate = training.learning_rate(before.step, name)
        if not rate:
            raise Unsupported(f"clipping needs all gradients, and {name} has a learning rate of zero")
        return (begun.parameters[name] - after.parameters[name]) / rate

    def added(name: str, slot: str) -> np.ndarray:
        """Beyond what a step without gradients leaves there, of a decay for instance."""
        return after.slots[f"{name}.{slot}"] - begun.slots[f"{name}.{slot}"]

    match training.optimizer:
        case Adam() | AdamW():
            return {name: added(name, "exp_avg") for name in before.parameters}
        case SGD(momentum=momentum) if momentum:
            return {name: added(name, "momentum_buffer") for name in before.parameters}
        case RMSprop(epsilon=epsilon, momentum=momentum):
            roots = {name: np.sqrt(after.slots[f"{name}.square_avg"]) + epsilon for name in before.parameters}
            find = (lambda name: added(name, "momentum_buffer")) if momentum else taken_off
            return {name: root * find(name) for name, root in roots.items()}
        case _:
            return {name: taken_off(name) for name in before.parameters}


def at_which_they_differ(
    subject: Subject, sides: Sequence[Arrays], step: int, failure: Comparison
) -> dict[str, list[int]]:
    """Elements of each parameter at which the sides differ most after a step, in it or in a slot; the one that failed;
    and drawn ones."""
    found = {}
    for parameter in subject.parameters():
        slots = (f"slots/{parameter.name}.{slot}" for slot in subject.training.optimizer.slots)
        names = (f"parameters/{parameter.name}", *slots)
        held = [[side[name][step] for side in sides if len(side.get(name, ())) > step] for name in names]
        drawn = generator_for(step, "elements", parameter.name).integers(parameter.size, size=DRAWN)
        failed = []
        if failure.tensor in names and len(failure.index) == len(parameter.shape):
            failed = [int(np.ravel_multi_index(failure.index, parameter.shape))]
        found[parameter.name] = sorted({*most_different(parameter.shape, held), *failed, *drawn.tolist()})
    return found


def most_different(shape: tuple[int, ...], held: Sequence[Sequence[np.ndarray]]) -> list[int]:
    """Flat indices at which two arrays of that shape differ most; what is a number on one side alone comes first.

    held: for each kind of array what each side has, which counts where both have it.
    """
    elements: list[int] = []
    for arrays in held:
        if len(arrays) == 2 and all(array.shape == shape for array in arrays):
            away = np.nan_to_num(np.abs(arrays[0].astype(np.float64) - arrays[1]).ravel(), nan=np.inf)
            elements += np.argsort(away)[-DIFFERENT:].tolist()
    return elements


def first(find: Callable[[int], Found], failed: int) -> tuple[int, Found]:
    """The first step at which a side departs by itself, looked for up to the one that failed.

    A step takes a gradient, hence not all of them: where the failed step or the one before it departs, and the very
    first does not, the first is found by bisection, as for a fault that stays once it has come. Where none departs:
    the failed step, and what is found there.
    """
    known: dict[int, Found] = {}

    def departs(step: int) -> bool:
        if step not in known:
            known[step] = find(step)
        return any(distance.ratio > 1 for distance in known[step].values())

    near = [step for step in (failed, failed - 1) if step >= 0 and departs(step)]
    if departs(0):
        return 0, known[0]
    if not near:
        return failed, known[failed]
    clean, wrong = 0, min(near)
    while wrong - clean > 1:
        middle = (clean + wrong) // 2
        if departs(middle):
            wrong = middle
        else:
            clean = middle
    return wrong, known[wrong]


def departure(side: str, failure: Comparison, step: int, found: Found) -> Departure:
    """The step's first part that is off: loss, slots, parameters or logits; those after it follow from it."""
    off = [name for name, at in found.items() if at.ratio > 1]
    off = off or [max(found, key=lambda name: found[name].ratio)]
    tensor = off[0]
    wrong = [name for name in off if name.partition("/")[0] == tensor.partition("/")[0]]
    at = found[tensor]
    gradient = "gradient" if failure.check != "optimizer" else "clipping"
    kinds = {"loss": "loss", "carried": "carried state", "slots": f"{gradient} or slots", "logits": "evaluation"}
    has_slots = any(name.startswith("slots/") for name in found)
    stage = kinds.get(tensor.partition("/")[0], "update" if has_slots else f"{gradient} or update")
    return Departure(
        side=side,
        stage=stage,
        tensor=tensor,
        step=step,
        index=at.at,
        value=at.value if at.value is not None else at.note,
        expected=at.expected,
        ratio=at.ratio,
        wrong=wrong,
        downstream=[name for name in off if name not in wrong],
    )


def state_after(handed: Given, arrays: Arrays, step: int) -> State:
    """The side's own state after that step; the start before the first. Raises KeyError where it lacks a tensor."""
    if step < 0:
        return handed.state
    names = {"parameters/": handed.state.parameters, "slots/": handed.state.slots}
    parameters, slots = (
        {name: arrays[prefix + name][step].astype(np.float64) for name in part} for prefix, part in names.items()
    )
    held = {name.removeprefix(CARRIED): array for name, array in arrays.items() if name.startswith(CARRIED)}
    carried = {name: array[step].astype(np.float64) for name, array in held.items()}
    return State(parameters, slots, handed.state.step + step + 1, carried)


def _ordered(subject: Subject, part: str) -> list[str]:
    names = [parameter.name for parameter in subject.parameters()]
    if part == "parameters":
        return names
    return [f"{name}.{slot}" for slot in subject.training.optimizer.slots for name in names]


def _spread(gradients: Parameters, precision: Precision, factor: float) -> Parameters:
    """How far rounding can have moved each gradient, the same for all elements of a tensor.

    factor: how many times larger a tensor's largest gradient may be than the largest that is known.

    Honest steps of eight recipes (every tenth; float64 and float32) are off by 0.36 of it at most.
    """
    sizes = {name: factor * largest(gradient) for name, gradient in gradients.items()}
    least = max(ROUNDINGS * SMALL * max(sizes.values(), default=0.0), PROBABILITY)
    return {
        name: np.full_like(gradient, UNIT[precision] * max(ROUNDINGS * sizes[name], least))
        for name, gradient in gradients.items()
    }
