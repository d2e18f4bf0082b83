"""The training loop: what a step is given, what is kept from one to the next, how an epoch is judged."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from crosscheck.checks import shipped_path
from crosscheck.explain.trajectories import FINAL, GIVEN_BACK, OPENING, resumed_from
from crosscheck.explain.variant import Case, Variant
from spec import reference
from spec.framework import Gradients, Settings
from spec.models import keep_masks
from spec.parameters import Parameters, generator_for
from spec.reference import training
from spec.reference.optimizer import renormalized, step
from spec.tasks import Batch, asked, is_numeric, not_asked
from spec.training import State

STAGES = ("loss", "gradient", "slots", "evaluation", "update")

GATHERED = 4
"""Steps whose gradients are added up, at most."""

OfStep = Callable[[Any, int, int], Batch]
"""(experiment, seed, step) -> its batch."""


def batch_of(experiment: Any, seed: int, step: int) -> Batch:
    return experiment.batch(seed, step, "float64")


def other(batch: OfStep = batch_of, masks: Callable[[int], int | None] = lambda step: step) -> dict[str, Any]:
    """Other batches, or the masks of other steps; None for no masks."""

    def gradients_at(experiment: Any, state: State, seed: int, settings: Settings, only: Any = None) -> Gradients:
        given, at = batch(experiment, seed, state.step), masks(state.step)
        size, time = given.inputs.shape[:2]
        dropped = None if at is None else keep_masks(experiment.model, size, time, generator_for(seed, "dropout", at))
        return reference.gradients(experiment, state.parameters, given, settings, dropped, only)

    def advance(experiment: Any, state: State, found: Parameters, seed: int, settings: Settings) -> State:
        used = renormalized(experiment.model, state.parameters, batch(experiment, seed, state.step))
        return step(experiment.training, state._replace(parameters=used), found)

    return {"gradients_at": gradients_at, "advance": advance}


def changed(**fields: Any) -> OfStep:
    return lambda experiment, seed, step: batch_of(experiment, seed, step)._replace(**fields)


def of(number: Callable[[int], int], *fields: str) -> OfStep:
    """These fields are those of another step; all of them without any."""

    def batch(experiment: Any, seed: int, step: int) -> Batch:
        there = batch_of(experiment, seed, number(step))
        if not fields:
            return there
        return batch_of(experiment, seed, step)._replace(**{name: getattr(there, name) for name in fields})

    return batch


def ignored_as_first(experiment: Any, seed: int, step: int) -> Batch:
    given = batch_of(experiment, seed, step)
    return given._replace(targets=np.where(asked(given.targets), given.targets, given.targets.dtype.type(0)))


def without_last(experiment: Any, seed: int, step: int) -> Batch:
    given = batch_of(experiment, seed, step)
    targets = given.targets.copy()
    targets[-1] = not_asked(targets)
    return given._replace(targets=targets)


def judged(change: Callable[[Any], Batch], words: str) -> Variant:
    """The evaluation after each epoch is of another batch."""

    def predict(experiment: Any, parameters: Parameters, batch: Batch, settings: Settings) -> np.ndarray:
        return training.predict(experiment, parameters, change(batch), settings)

    return Variant(words, substitutes={"predict": predict})


def of_experiment(case: Case) -> Iterator[Variant]:
    steps = case.experiment.training.steps_per_epoch
    if case.check == "shipped-path":
        yield from _batches(case)
        yield from _far_on(case, steps)
    if case.check != "trajectory":
        return
    name = case.failure.recorded
    if name.startswith(FINAL):
        yield from _given_back(case)
    elif name in OPENING:
        yield from _batches(case)
        if name != OPENING[0]:
            yield from _begun_again(case)
    elif name == "logits":
        yield from _evaluations(case)
    else:
        yield from _batches(case)
        yield from _orders(case, steps)
        yield from _masks(case)
        yield from _loops(case, steps)


def _batches(case: Case) -> Iterator[Variant]:
    given = batch_of(case.experiment, 0, 0)
    if given.lengths is not None:
        yield Variant("training read padding", substitutes=other(changed(lengths=None)))
    if given.initial is not None:
        yield Variant("each batch began with states of zero", substitutes=other(changed(initial=None)))
        first = of(lambda step: 0, "initial")
        yield Variant("every batch began with the first one's states", substitutes=other(first))
    if not asked(given.targets).all():
        first = "a target of 0" if is_numeric(given.targets) else "class 0"
        yield Variant(f"what is ignored counted as {first} in training", substitutes=other(ignored_as_first))
    if len(given.inputs) > 1:
        words = "the last sequence of each batch did not count"
        yield Variant(words, "PB89", substitutes=other(without_last))


def _orders(case: Case, steps: int) -> Iterator[Variant]:
    if not case.experiment.has_drawn_batches:
        return
    whole = steps * case.experiment.training.epochs
    for words, source, number in (
        ("every epoch had the first one's batches", "PB68", lambda at: at % steps),
        ("each epoch's batches came in reverse", "", lambda at: at // steps * steps + steps - 1 - at % steps),
        ("the training's batches came in reverse", "", lambda at: whole - 1 - at),
        ("each step had the batch of the next", "", lambda at: at + 1),
        ("each step had the batch of the one before", "", lambda at: max(at - 1, 0)),
        ("every step had the first one's batch", "", lambda at: 0),
    ):
        yield Variant(words, source, substitutes=other(of(number)))


def _far_on(case: Case, steps: int) -> Iterator[Variant]:
    """Past the recipe's end, and past step numbers of few bits."""
    whole = steps * case.experiment.training.epochs
    if case.experiment.has_drawn_batches:
        words = "batches of the first steps came again after the recipe's last"
        yield Variant(words, "PB68", substitutes=other(of(lambda at: at % whole)))
    if case.experiment.has_dropout:
        words = "masks of the first steps came again after the recipe's last"
        yield Variant(words, "PB67", substitutes=other(masks=lambda at: at % whole))
    begins = [0, *(max(1, border - shipped_path.STRETCH) for border in (whole, *shipped_path.FAR.values()))]
    for bits in (8, 16):

        def counted(at: int, limit: int = 2**bits) -> int:
            return at % limit

        def loaded(at: int, limit: int = 2**bits) -> int:
            """Where the step alone from which a training goes on is cut, and counting goes on from there."""
            begun = max(step for step in begins if step <= at)
            return begun % limit + at - begun

        words = f"the optimizer counted steps in {bits} bits"
        yield Variant(words, "PB80", substitutes={"advance": _counting(counted)})
        yield Variant(f"{words} where it goes on", "PB80", substitutes={"advance": _counting(loaded)})


def _counting(number: Callable[[int], int]) -> Callable[..., State]:
    """The optimizer's own step number is another one; the batch's is not."""

    def advance(experiment: Any, state: State, found: Parameters, seed: int, settings: Settings) -> State:
        used = renormalized(experiment.model, state.parameters, batch_of(experiment, seed, state.step))
        return step(experiment.training, State(used, state.slots, number(state.step)), found)

    return advance


def _masks(case: Case) -> Iterator[Variant]:
    if not case.experiment.has_dropout:
        return
    yield Variant("nothing were dropped in training", "PB59", substitutes=other(masks=lambda at: None))
    for words, number in (
        ("each step had the masks of the next", lambda at: at + 1),
        ("each step had the masks of the one before", lambda at: max(at - 1, 0)),
        ("every step had the first one's masks", lambda at: 0),
    ):
        yield Variant(words, "PB67", substitutes=other(masks=number))


def _begun_again(case: Case) -> Iterator[Variant]:
    """A training that goes on has what the first steps had."""
    half = resumed_from(case.experiment)

    def begun(at: int) -> int:
        return at - half

    given = batch_of(case.experiment, 0, 0)
    if case.experiment.has_drawn_batches:
        yield Variant("batches began again where a training goes on", "PB68", substitutes=other(of(begun)))
    for field, what in (("lengths", "lengths"), ("initial", "initial states")):
        if getattr(given, field) is not None:
            yield Variant(f"{what} began again where a training goes on", substitutes=other(of(begun, field)))
    if case.experiment.has_dropout:
        yield Variant("masks began again where a training goes on", "PB67", substitutes=other(masks=begun))


def _evaluations(case: Case) -> Iterator[Variant]:
    given = case.experiment.evaluation_batch("float64")
    if given.lengths is not None:
        yield judged(lambda batch: batch._replace(lengths=None), "the evaluation after an epoch read padding")
    if given.initial is not None:
        words = "the evaluation after an epoch began with states of zero"
        yield judged(lambda batch: batch._replace(initial=None), words)
    steps = case.experiment.training.steps_per_epoch
    yield Variant("each epoch were judged as it began", substitutes={"predict": _earlier(case, steps)})
    if steps > 1:
        yield Variant("each epoch were judged before its last step", substitutes={"predict": _earlier(case, 1)})


def _earlier(case: Case, by: int) -> Callable[..., np.ndarray]:
    """Evaluation with the parameters of so many steps before."""

    def predict(experiment: Any, parameters: Parameters, batch: Batch, settings: Settings) -> np.ndarray:
        recorded = {name: case.side[f"parameters/{name}"] for name in parameters}
        same = [np.all(array == parameters[name], axis=tuple(range(1, array.ndim))) for name, array in recorded.items()]
        now = int(np.flatnonzero(np.all(same, axis=0))[-1])
        then = {
            name: (array[now - by] if now >= by else case.side[f"start/{name}"]).astype(np.float64)
            for name, array in recorded.items()
        }
        return training.predict(experiment, then, batch, settings)

    return predict


def _loops(case: Case, steps: int) -> Iterator[Variant]:
    yield Variant("a step's loss were measured after it", substitutes={"gradients_at": _loss_after(case)})
    yield Variant("gradients of earlier steps were added up", substitutes={"gradients_at": _gathered(case)})

    def forgotten(anew: bool) -> Callable[..., State]:
        def advance(experiment: Any, state: State, found: Parameters, seed: int, settings: Settings) -> State:
            slots = state.slots if state.step % steps else {n: np.zeros_like(s) for n, s in state.slots.items()}
            counted = state.step % steps if anew else state.step
            return training.advance(experiment, State(state.parameters, slots, counted), found, seed, settings)

        return advance

    if case.experiment.training.optimizer.slots:
        yield Variant("the optimizer began anew with each epoch", substitutes={"advance": forgotten(True)})
        yield Variant("slots were forgotten at each epoch", substitutes={"advance": forgotten(False)})
    if getattr(case.model.inputs, "max_norm", None) is not None:
        words = "the parameter kept the rows that max_norm rescales"
        yield Variant(words, "PB35", substitutes={"advance": _not_rescaled})


def _not_rescaled(experiment: Any, state: State, found: Parameters, seed: int, settings: Settings) -> State:
    return step(experiment.training, state, found)


def _loss_after(case: Case) -> Callable[..., Gradients]:
    def gradients_at(experiment: Any, state: State, seed: int, settings: Settings, only: Any = None) -> Gradients:
        found = training.gradients_at(experiment, state, seed, settings, only)
        after = {name: case.side[f"parameters/{name}"][state.step].astype(np.float64) for name in state.parameters}
        # The same batch and the same masks.
        there = State(after, {}, state.step)
        return found._replace(loss=training.gradients_at(experiment, there, seed, settings, {}).loss)

    return gradients_at


def _gathered(case: Case) -> Callable[..., Gradients]:
    def gradients_at(experiment: Any, state: State, seed: int, settings: Settings, only: Any = None) -> Gradients:
        found = training.gradients_at(experiment, state, seed, settings, only)
        if only == {}:
            return found
        if state.step > GATHERED:
            raise ValueError
        total = dict(found.parameters)
        for at in range(state.step):
            kept = {
                name: (case.side[f"parameters/{name}"][at - 1] if at else case.side[f"start/{name}"]).astype(np.float64)
                for name in state.parameters
            }
            earlier = training.gradients_at(experiment, State(kept, {}, at), seed, settings, only)
            total = {name: value + earlier.parameters[name] for name, value in total.items()}
        return found._replace(parameters=total)

    return gradients_at


def _given_back(case: Case) -> Iterator[Variant]:
    def earlier(kinds: tuple[str, ...]) -> Callable[..., dict[str, np.ndarray]]:
        return lambda kept: {name: array[-2 if name.startswith(kinds) else -1] for name, array in kept.items()}

    yield Variant("parameters before the last step were given back", answers={GIVEN_BACK: earlier(("parameters/",))})
    words = "parameters and slots before the last step were given back"
    yield Variant(words, answers={GIVEN_BACK: earlier(("parameters/", "slots/"))})
    if getattr(case.model.inputs, "max_norm", None) is None:
        return

    def rescaled(kept: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        last = {name: array[-1] for name, array in kept.items()}
        rows = last["parameters/embedding.weight"]
        batch = case.experiment.evaluation_batch("float64")
        made = renormalized(case.model, {"embedding.weight": rows.astype(np.float64)}, batch)["embedding.weight"]
        return {**last, "parameters/embedding.weight": made.astype(rows.dtype)}

    yield Variant("evaluation rescaled the parameter's rows for good", "PB35", answers={GIVEN_BACK: rescaled})
