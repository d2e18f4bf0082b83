"""Explanations of trainings that part: named where the loop's fault is the cause, silent at others and without one.

The side that departs is a loop of its own over the reference's functions, so that no framework is needed.
"""

from typing import Any

import numpy as np
import pytest

from crosscheck.checks import shipped_path
from crosscheck.comparison import Arrays, Comparison
from crosscheck.diagnosis.finding import Departure
from crosscheck.explain import trajectories
from crosscheck.explain.explanation import Budget, Explanation
from crosscheck.request import Request
from spec import reference
from spec.experiment import Experiment, load, override
from spec.framework import Settings, Trajectory
from spec.models import keep_masks
from spec.parameters import generator_for
from spec.reference.optimizer import renormalized, step
from spec.tasks import IGNORED, Batch
from spec.training import State, initial_state


class Loop:
    """Training, with what may be wrong in it as methods."""

    def __init__(self, experiment: Experiment, seed: int):
        self.experiment, self.seed, self.each = experiment, seed, experiment.training.steps_per_epoch
        self.begun = 0

    def batch(self, at: int) -> Batch:
        return self.experiment.batch(self.seed, at, "float64")

    def mask_step(self, at: int) -> int | None:
        return at

    def gradients(self, state: State) -> Any:
        given, at = self.batch(state.step), self.mask_step(state.step)
        masks = None
        if at is not None:
            size, time = given.inputs.shape[:2]
            masks = keep_masks(self.experiment.model, size, time, generator_for(self.seed, "dropout", at))
        return reference.gradients(self.experiment, state.parameters, given, Settings("float64"), masks)

    def gathered(self, found: Any) -> Any:
        return found

    def advance(self, state: State, found: Any) -> State:
        used = renormalized(self.experiment.model, state.parameters, self.batch(state.step))
        return step(self.experiment.training, state._replace(parameters=used), found)

    def loss(self, before: State, after: State, found: Any) -> float:
        return found.loss

    def judged(self, before: State, after: State) -> np.ndarray:
        batch = self.experiment.evaluation_batch("float64")
        return reference.predict(self.experiment, after.parameters, batch, Settings("float64"))

    def given_back(self, states: list[State]) -> State:
        return states[-1]

    def train(self, state: State, epochs: int) -> Trajectory:
        self.begun = state.step
        states, losses, logits = [state], [], []
        for _ in range(epochs):
            before = states[-1]
            for _ in range(self.each):
                found = self.gradients(states[-1])
                states.append(self.advance(states[-1], self.gathered(found).parameters))
                losses.append(self.loss(states[-2], states[-1], found))
            logits.append(self.judged(before, states[-1]))
        trace = states[1:]
        return Trajectory(
            self.given_back(states),
            np.array(losses),
            np.array(logits),
            {name: np.stack([at.parameters[name] for at in trace]) for name in state.parameters},
            {name: np.stack([at.slots[name] for at in trace]) for name in state.slots},
        )


def recorded(experiment: Experiment, kind: type[Loop]) -> Arrays:
    """As the check names it, but for what bounds are derived from."""
    start = initial_state(experiment.training.optimizer, Request("float64", "cpu", 0).start(experiment))
    whole = kind(experiment, 0).train(start, experiment.training.epochs)
    half = trajectories.resumed_from(experiment)
    middle = State(
        {name: array[half - 1] for name, array in whole.parameters.items()},
        {name: array[half - 1] for name, array in whole.slots.items()},
        half,
    )
    again = kind(experiment, 0).train(middle, experiment.training.epochs // 2)
    arrays = {"loss": whole.losses, "resumed/loss": again.losses, "logits": whole.logits}
    kinds = ("slots/", whole.slots), ("parameters/", whole.parameters), ("start/", start.parameters)
    given_back = ("final/", {**whole.state.parameters, **whole.state.slots})
    return arrays | {part + name: array for part, held in (*kinds, given_back) for name, array in held.items()}


def first_difference(experiment: Experiment, one: Arrays, two: Arrays) -> tuple[str, int | None] | None:
    """The name and the step, as the check has them."""
    steps = experiment.training.steps_per_epoch
    found = []
    for name in one:
        if name.partition("/")[0] not in ("loss", "slots", "parameters", "logits"):
            continue
        for at, (mine, other) in enumerate(zip(one[name], two[name], strict=True)):
            if np.abs(mine - other).max() > 1e-9 * np.abs(mine).max():
                found.append((at if name != "logits" else (at + 1) * steps - 1, name))
                break
    if found:
        step, name = min(found, key=lambda both: both[0])
        return name, step
    for side in (one, two):
        for name in side:
            if name.startswith("final/"):
                last = side.get(f"parameters/{name[6:]}", side.get(f"slots/{name[6:]}"))
                assert last is not None
                if not np.array_equal(last[-1], side[name]):
                    return f"final parameters/{name[6:]}", None
        half = trajectories.resumed_from(experiment)
        if not np.allclose(side["resumed/loss"], side["loss"][half:], rtol=1e-9):
            return "resumed/loss", half
    return None


def failed(check: str, name: str, step: int | None, case: str) -> Comparison:
    return Comparison(
        experiment="any",
        check=check,
        precision="float64",
        case=case,
        tensor=name,
        sides=("honest", "other"),
        passed=False,
        elements=1,
        step=step,
    )


def explained(experiment: Experiment, kind: type[Loop], run: float = 1e4) -> Explanation | None:
    sides = {"honest": recorded(experiment, Loop), "other": recorded(experiment, kind)}
    place = first_difference(experiment, *sides.values())
    if place is None:
        return None
    name, step = place
    failure = failed("trajectory", name, step, "recipe")
    departure = Departure(side="other", stage="loss", tensor=name, step=step)
    with np.errstate(all="ignore"):
        return trajectories.explain(experiment, failure, departure, sides, 0, Budget(run))


class ReadsPadding(Loop):
    def batch(self, at: int) -> Batch:
        return super().batch(at)._replace(lengths=None)


class BeginsWithZeros(Loop):
    def batch(self, at: int) -> Batch:
        return super().batch(at)._replace(initial=None)


class CountsIgnored(Loop):
    def batch(self, at: int) -> Batch:
        given = super().batch(at)
        return given._replace(targets=np.where(given.targets == IGNORED, 0, given.targets))


class RepeatsBatches(Loop):
    def batch(self, at: int) -> Batch:
        return super().batch(at % self.each)


class LengthsBeginAgain(Loop):
    def batch(self, at: int) -> Batch:
        return super().batch(at)._replace(lengths=super().batch(at - self.begun).lengths)


class NeverDrops(Loop):
    def mask_step(self, at: int) -> int | None:
        return None


class OneMask(Loop):
    def mask_step(self, at: int) -> int | None:
        return 0


class AddsUp(Loop):
    total: Any = None

    def gathered(self, found: Any) -> Any:
        before = self.total or dict.fromkeys(found.parameters, 0.0)
        self.total = {name: value + before[name] for name, value in found.parameters.items()}
        return found._replace(parameters=self.total)


class BeginsAnew(Loop):
    def advance(self, state: State, found: Any) -> State:
        rest = state.step % self.each
        slots = state.slots if rest else {name: 0.0 * slot for name, slot in state.slots.items()}
        return super().advance(State(state.parameters, slots, rest), found)._replace(step=state.step + 1)


class LossAfter(Loop):
    def loss(self, before: State, after: State, found: Any) -> float:
        return super().gradients(after._replace(step=before.step)).loss


class JudgedEarly(Loop):
    def judged(self, before: State, after: State) -> np.ndarray:
        return super().judged(before, before)


class JudgedOnPadding(Loop):
    def judged(self, before: State, after: State) -> np.ndarray:
        batch = self.experiment.evaluation_batch("float64")._replace(lengths=None)
        return reference.predict(self.experiment, after.parameters, batch, Settings("float64"))


class GivesBackTooEarly(Loop):
    def given_back(self, states: list[State]) -> State:
        return State(states[-2].parameters, states[-1].slots, states[-1].step)


class RescalesNothing(Loop):
    def advance(self, state: State, found: Any) -> State:
        return step(self.experiment.training, state, found)


def small(name: str) -> Experiment:
    """A recipe that takes the reference a fraction of a second."""
    found = override(load(name), training__epochs=2, training__steps_per_epoch=4)
    if name == "ragged-lstm":
        return override(found, model__hidden_size=2, task__batch_size=4, task__length=4)
    return override(found, model__hidden_size=3)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("ragged-lstm", ReadsPadding, "training read padding"),
        ("ragged-lstm", BeginsWithZeros, "each batch began with states of zero"),
        ("ragged-lstm", CountsIgnored, "what is ignored counted as class 0 in training"),
        ("ragged-lstm", LengthsBeginAgain, "lengths began again where a training goes on"),
        ("ragged-lstm", JudgedOnPadding, "the evaluation after an epoch read padding"),
        ("ragged-lstm", RepeatsBatches, "every epoch had the first one's batches"),
        ("hello-stacked-lstm-dropout", NeverDrops, "nothing were dropped in training"),
        ("hello-stacked-lstm-dropout", OneMask, "every step had the first one's masks"),
        ("hello-rnn", AddsUp, "gradients of earlier steps were added up"),
        ("hello-rnn", BeginsAnew, "the optimizer began anew with each epoch"),
        ("hello-rnn", LossAfter, "a step's loss were measured after it"),
        ("hello-rnn", JudgedEarly, "each epoch were judged as it began"),
        ("hello-rnn", GivesBackTooEarly, "parameters before the last step were given back"),
        ("hello-embedding-max-norm", RescalesNothing, "kept the rows that max_norm rescales"),
    ],
)
def test_a_fault_of_the_loop_is_named(name: str, kind: type[Loop], words: str):
    found = explained(small(name), kind)
    assert found is not None
    assert words in found.looks_like, (found.tried, found.stopped)
    assert found.side == "other"


class EightBits(Loop):
    def advance(self, state: State, found: Any) -> State:
        return super().advance(state._replace(step=state.step % 256), found)._replace(step=state.step + 1)


class BeginsAgain(Loop):
    """Past the recipe's end, with the first steps' batches."""

    def batch(self, at: int) -> Batch:
        return super().batch(at % (self.each * self.experiment.training.epochs))


class RoughFarOn(Loop):
    def advance(self, state: State, found: Any) -> State:
        after = super().advance(state, found)
        return State({name: value + 1e-6 for name, value in after.parameters.items()}, after.slots, after.step)


@pytest.mark.parametrize(
    ("window", "kind", "words"),
    [
        ("step 256", EightBits, "the optimizer counted steps in 8 bits"),
        ("the recipe's end", BeginsAgain, "batches of the first steps came again after the recipe's last"),
        ("step 256", RoughFarOn, ""),
        ("start", ReadsPadding, "training read padding"),
    ],
)
def test_a_window_of_the_shipped_path(window: str, kind: type[Loop], words: str):
    experiment = small("ragged-lstm")
    begun = {one.name: one.state for one in shipped_path.windows(experiment, Request("float64", "cpu", 0))}[window]
    sides: dict[str, Arrays] = {}
    for side, each in (("honest", Loop), ("other", kind)):
        run = each(experiment, 0).train(begun, 2)
        if window == "start":
            sides[side] = {"start/plain/loss": run.losses}
            continue
        parts = ("slots/", run.slots), ("parameters/", run.parameters), ("", {"loss": run.losses})
        sides[side] = {f"{window}/recorded/{part}{n}": a for part, held in parts for n, a in held.items()}
    name, step = ("start/plain/loss", 0) if window == "start" else differs(sides)
    failure = failed("shipped-path", name, step, shipped_path.STRETCHES)
    departure = Departure(side="other", stage="loss", tensor=name, step=step)
    with np.errstate(all="ignore"):
        found = trajectories.explain(experiment, failure, departure, sides, 0, Budget(1e4))
    assert found is not None
    assert words in found.looks_like
    assert bool(words) == bool(found.looks_like)


def differs(sides: dict[str, Arrays]) -> tuple[str, int]:
    """The first step at which the two sides part, and where."""
    one, two = sides.values()
    found = [
        (step, name)
        for name in one
        for step in range(len(one[name]))
        if np.abs(one[name][step] - two[name][step]).max() > 1e-9 * np.abs(one[name][step]).max()
    ]
    step, name = min(found)
    return name, step


class Rough(Loop):
    """Gradients that are off by a thousandth, which is no variant."""

    def gathered(self, found: Any) -> Any:
        return found._replace(parameters={name: 1.001 * value for name, value in found.parameters.items()})


class ScaledLoss(Loop):
    def loss(self, before: State, after: State, found: Any) -> float:
        return 1.0001 * found.loss


class Wanders(Loop):
    """The first loss is that of another batch, and what follows is not."""

    def batch(self, at: int) -> Batch:
        return super().batch(at if at else 1)


class JudgedRoughly(Loop):
    def judged(self, before: State, after: State) -> np.ndarray:
        return 1.0001 * super().judged(before, after)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("hello-rnn", Rough), ("hello-rnn", ScaledLoss), ("ragged-lstm", Wanders), ("hello-rnn", JudgedRoughly)],
)
def test_a_fault_that_is_no_variant_is_not_named(name: str, kind: type[Loop]):
    found = explained(small(name), kind)
    assert found is not None
    assert not found.looks_like
    assert found.tried


def test_an_honest_loop_is_not_explained():
    assert explained(small("hello-rnn"), Loop) is None


def test_without_time_no_training_is_explained():
    found = explained(small("hello-rnn"), LossAfter, run=0.0)
    assert found is not None
    assert not found.looks_like
    assert found.stopped
