"""Training as the train command runs it: unrecorded, with a side's own dropout masks, in chunks, at any step.

Trajectory asks for one recorded call with the spec's masks, from the first step to the recipe's last. The command asks
for none of that. So each side is held here against itself: what is recorded against what is not, one call against
several, the first call against a later one. And both sides are held against each other where trajectory does not look:
past the recipe's end, past 256 and 65,536 steps, for other seeds.

Each such training is a window of a few steps around a border, from parameters and slots that lie anywhere, as in the
middle of a training: nobody has to train as far. A side that compiles is asked for as many epochs as the recipe has,
for which that is done already; nothing else is compiled, but for own masks in float64 and in the case "chunks".
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from crosscheck.bounds import mixed_precision, tolerances, zero_gradients
from crosscheck.checks import dropout
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.probes import determinism, equations, telling, witness
from crosscheck.request import Request
from crosscheck.subject import Subject
from spec.command.routine import chunk_lengths
from spec.errors import Unsupported
from spec.framework import Framework, MaskSource, Precision, Settings, Side, Trajectory
from spec.parameters import Parameters, generator_for
from spec.points import LARGE_TRAINING
from spec.tasks import Batch, logits_shape, repeat
from spec.training import State, initial_state

NAME: str = "shipped-path"
QUESTION: str = "is what the train command runs, unrecorded, in chunks, with own masks, what has been checked?"
PRECISIONS: tuple[Precision, ...] = ("float64", "float32")
# What one side is asked differs from what the other is: who compiles is asked for what is compiled.
SAME_INPUTS: bool = True

STRETCHES, HANDED, SEEDS, STATE, CHUNKS = "stretches", "masks by the spec", "seeds", "what is left behind", "chunks"
"""Cases in float64: trainings with own masks, with masks that are handed over (of models that drop units), by seed;
what a call leaves in the process; and the recipe in the command's own chunks."""

LARGE = LARGE_TRAINING
"""The case of a training at whose size an implementation may take other code."""

OWN = "own masks"
"""The case in float32, as the check dropout's: how often own masks drop inside `train`, and that steps have others."""

START, END = "start", "the recipe's end"

FAR = {"step 256": 2**8, "step 65536": 2**16}
"""Borders at which a step's number that is kept in too few bits begins anew."""

STRETCH = determinism.STRETCH
"""Steps on either side of a border."""

LOOKED_AT = 20
"""Steps of a training that are compared, at most: those of who compiles are as many as the recipe has."""

PREDICTED = ", predicted"
"""Behind the name of an evaluation by `predict`."""

LARGER = 5
"""So many times the ragged batch is one that is larger than any other check's."""

STEPS_OF_MASKS = 288
"""Losses of train mode by which the rate of own masks is judged. Half the rate makes their variance half of what it
should be, or less: with so many that is 6 standard errors off, and its chance below 1e-11."""

RUN = 4
"""Losses in a row that no other step may have had: one alone may, since float32 has few numbers between them."""

DRAWN = 20_000
"""Losses of the equations that stand for their law, so many that their own chance hardly counts: their variance has a
standard error of 0.01, that of STEPS_OF_MASKS 0.083."""

DRAWN_EACH = 99
"""The same where each step has a batch of its own, among whose losses its own has one of 100 ranks."""


def inapplicable(subject: Subject) -> str:
    return "" if subject.training.epochs else "nothing is trained"


def cases(subject: Subject, precision: Precision, thorough: bool) -> tuple[str, ...]:
    drops = subject.has_dropout
    if precision == "float32":
        return (OWN,) if drops and (thorough or subject.stands_for_others(_dropping)) else ()
    own = thorough or subject.stands_for_others(_varying)
    if not own and not subject.stands_for_others(_run):
        return (STATE,) if not drops and subject.stands_for_others(_predicted) else ()
    large = subject.variant(LARGE) is not subject and (thorough or subject.stands_for_others(_begun))
    chunks = (CHUNKS,) if own else ()
    return (STRETCHES, *((HANDED,) if drops else ()), SEEDS, STATE, *chunks, *((LARGE,) if large else ()))


def _dropping(subject: Subject) -> list[str]:
    """The kind of model, where it drops units."""
    return [subject.family] if subject.has_dropout else []


def _run(subject: Subject) -> list[str]:
    """What the command's own call can get wrong: by the model, the recipe, and what there is beside both.

    Nothing where units are dropped, whose masks are to be compiled for: see `_varying`.
    """
    if subject.has_dropout:
        return []
    training = subject.training
    parts = (training.loss, training.optimizer, training.schedule)
    rounded = ["rounded products"] if mixed_precision.rounds(subject) else []
    return [subject.family, *(type(part).__name__ for part in parts), *rounded, *subject.own_of_members]


def _begun(subject: Subject) -> list[str]:
    """Of which experiment a large training is asked by default: of batches that have all that batches may have."""
    had = {"lengths", "initial states"} <= set(subject.own_of_members)
    return ["large"] if had and not subject.has_dropout else []


def _varying(subject: Subject) -> list[str]:
    """What is drawn anew at each step, and so depends on the seed and the step's number."""
    drawn = {"masks": subject.has_dropout, "batches": subject.has_drawn_batches}
    drawn |= {kind: kind in subject.own_of_members for kind in ("lengths", "initial states")}
    return [what for what, there in drawn.items() if there]


def record(framework: Framework, subject: Subject, case: str, request: Request) -> Arrays:
    # Each side is asked for what it has compiled, or for what takes little: no call is handed the same to both.
    asked = _CASES[case](witness.aside(framework, again=False), subject, request)
    return dict(asked)


class TrainingWindow(NamedTuple):
    """A few steps of training. name: of its border; state: where it begins."""

    name: str
    state: State


def windows(subject: Subject, request: Request) -> Iterator[TrainingWindow]:
    """The first steps; and those around each border, from a state that no training has led to."""
    yield TrainingWindow(START, initial_state(subject.training.optimizer, request.start(subject)))
    for name, border in _borders(subject).items():
        # Before the first step slots are zero, whatever a state says: some optimizers make them only then.
        yield TrainingWindow(name, _anywhere(subject, request, max(1, border - STRETCH)))


def _borders(subject: Subject) -> dict[str, int]:
    """By the name of a window, a step. Where nothing is drawn anew, the recipe's end is a step like any other."""
    end = subject.training.epochs * subject.training.steps_per_epoch
    return {END: end, **FAR} if _varying(subject) else FAR


def _anywhere(subject: Subject, request: Request, step: int) -> State:
    """A state at that step. Slots are squares, since some of them are averages of squares."""
    slots = {
        f"{name}.{slot}": np.square(values)
        for number, slot in enumerate(subject.training.optimizer.slots, 1)
        for name, values in Request(request.precision, "cpu", request.seed + number).start(subject).items()
    }
    return State(request.start(subject), slots, step)


class Trainer(NamedTuple):
    """Asks one side for trainings of a window.

    epochs: of a call, each of `each` steps. whole: whether that is the recipe; else half of it is asked for too.
    """

    side: Side
    request: Request
    epochs: int
    each: int
    whole: bool

    def __call__(
        self,
        state: State,
        *,
        record: bool = False,
        masks: MaskSource = "own",
        epochs: int = 0,
        seed: int | None = None,
    ) -> Trajectory:
        seed = self.request.seed if seed is None else seed
        epochs = epochs or self.epochs
        return self.side.train(state, epochs, seed, record=record, masks=masks)

    def asked(self, state: State) -> np.ndarray:
        """How long a call is, in epochs and in steps, and which step it has then come to."""
        steps = self.epochs * self.each
        return np.array([self.epochs, steps, state.step + steps])


def _trainer(framework: Framework, subject: Subject, request: Request) -> Trainer:
    """Of two stretches, each an epoch of STRETCH steps; of the whole recipe where that is what is compiled."""
    side = framework.open(subject, request.settings)
    if side.compiles or request.options.compiled:
        return Trainer(side, request, subject.training.epochs, subject.training.steps_per_epoch, True)
    return Trainer(framework.open(determinism.shortened(subject), request.settings), request, 2, STRETCH, False)


def _stretches(framework: Framework, subject: Subject, request: Request) -> Iterator[tuple[str, np.ndarray]]:
    """Recorded and not, in one call and in two, and the first call once more when all is done."""
    train = _trainer(framework, subject, request)
    masks: MaskSource = "own" if subject.has_dropout else "spec"
    first: State | None = None
    for window in windows(subject, request):
        recorded = train(window.state, record=True, masks=masks)
        yield from _named(f"{window.name}/recorded", recorded, train.asked(window.state))
        if not _asked_plainly(subject, window.name):
            continue
        plain = train(window.state)
        yield from _named(f"{window.name}/plain", plain, train.asked(window.state))
        yield from _resumed(train, window, recorded, plain)
        first = first or window.state
    if first is not None:
        yield from _named(f"{START}/again", train(first), train.asked(first))


def _asked_plainly(subject: Subject, window: str) -> bool:
    """Whether a window is also asked for as the command does: where nothing is drawn anew, the first steps alone."""
    return window == START or bool(_varying(subject))


def _resumed(
    train: Trainer, window: TrainingWindow, recorded: Trajectory, plain: Trajectory
) -> Iterator[tuple[str, np.ndarray]]:
    """The same from the state after the first stretch, as far as `plain` goes."""
    at = f"{window.name}/resumed"
    if not train.whole:
        begun = train(window.state, epochs=1)
        ended = train(begun.state, epochs=1)
        yield from _named(at, _joined([begun, ended]), train.asked(window.state))
        return
    if len(plain.losses) > STRETCH and recorded.parameters:
        ended = train(recorded.after(STRETCH, window.state.step))
        losses = np.concatenate([plain.losses[:STRETCH], ended.losses[: len(plain.losses) - STRETCH]])
        yield f"{at}/loss", losses[:LOOKED_AT]


def _joined(parts: Sequence[Trajectory]) -> Trajectory:
    """Trainings that follow each other, as one; unrecorded."""
    losses, logits = (np.concatenate(column) for column in zip(*(part[1:3] for part in parts), strict=True))
    return Trajectory(parts[-1].state, losses, logits, {}, {})


def _named(at: str, trajectory: Trajectory, asked: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """What is compared of a training: its first steps, and the state that it gives back. asked: see Trainer."""
    state, losses, logits, parameters, slots, carried = trajectory[:6]
    yield f"{at}/asked", asked
    yield f"{at}/loss", losses[:LOOKED_AT]
    yield f"{at}/logits", logits[:LOOKED_AT]
    yield f"{at}/steps", np.array([state.step])
    for kind, arrays in (("parameters", parameters), ("slots", slots), ("carried", carried)):
        yield from ((f"{at}/{kind}/{name}", array[: 2 * STRETCH]) for name, array in arrays.items())
    for name, array in {**state.parameters, **state.slots, **state.carried}.items():
        yield f"{at}/final/{name}", array


def _handed(framework: Framework, subject: Subject, request: Request) -> Iterator[tuple[str, np.ndarray]]:
    """With masks that are handed over, recorded and not."""
    train = _trainer(framework, subject, request)
    for window in windows(subject, request):
        recorded = train(window.state, record=True, masks="spec")
        yield from _named(f"{window.name}/recorded", recorded, train.asked(window.state))
        if window.name == START:
            yield from _named(f"{window.name}/plain", train(window.state, masks="spec"), train.asked(window.state))


def _by_seed(framework: Framework, subject: Subject, request: Request) -> Iterator[tuple[str, np.ndarray]]:
    """The first losses for several seeds, some of which are the same in their last 8, 16 or 31 bits."""
    train = _trainer(framework, subject, request)
    state = initial_state(subject.training.optimizer, request.start(subject))
    for seed in seeds(subject, request):
        yield f"{seed}/asked", train.asked(state)
        yield f"{seed}/own", train(state, seed=seed).losses[:LOOKED_AT]
        if not subject.has_dropout:
            continue  # The same, without masks.
        with suppress(Unsupported):  # Said in the case of masks that are handed over.
            yield f"{seed}/spec", train(state, seed=seed, masks="spec").losses[:LOOKED_AT]


def seeds(subject: Subject, request: Request) -> list[int]:
    """Those that are looked at; two where they are no matter."""
    first = request.seed
    if not _varying(subject):
        return [first, first + 1]
    far = [first % 2**8 + 2**bits for bits in (8, 16, 31)]
    return list(dict.fromkeys([first, first + 1, first + 2, first + 3, *far, 2**32 - 1]))


class Generators(NamedTuple):
    """The process-wide random generators: Python's, NumPy's, and those that the framework tells of."""

    side: Side

    def read(self, draw: bool) -> dict[str, np.ndarray]:
        """Their states. draw: after a number was drawn of each, so that none is where a seed has left it."""
        if draw:
            random.random()
            np.random.random()
        _, words, gauss = random.getstate()
        _, keys, *rest = np.random.get_state(legacy=True)
        found = {
            "Python": np.array([*words, math.nan if gauss is None else gauss]),
            "NumPy": np.array([*np.asarray(keys), *rest], np.float64),
        }
        if self.side.generators is not None:
            found |= self.side.generators(draw)
        return found

    def around(self, function: str, call: Callable[[], Any]) -> tuple[Any, list[tuple[str, np.ndarray]]]:
        """What the call gave, and the states before and after it."""
        before = self.read(draw=True)
        answer = call()
        after = self.read(draw=False)
        states = (("before", before), ("after", after))
        return answer, [(f"{function}/{n} {when}", array) for when, held in states for n, array in held.items()]


def _left_behind(framework: Framework, subject: Subject, request: Request) -> Iterator[tuple[str, np.ndarray]]:
    """Evaluations before and after a training of the same process; and generators before and after each call."""
    side, start = framework.open(subject, request.settings), request.start(subject)
    train = _trainer(framework, subject, request)
    state = initial_state(subject.training.optimizer, start)
    evaluate = _evaluations(side, subject, request, train.whole)
    around = Generators(side).around
    before, states = around("forward", lambda: evaluate(start))
    yield from states
    _, states = around("initialize", lambda: side.initialize(request.seed))
    yield from states
    batch = subject.batch(request.seed, 0, request.precision)
    _, states = around("gradients", lambda: side.gradients(start, batch))
    yield from states
    if subject.has_dropout:
        _, states = around("dropout", lambda: side.forward(start, batch, dropout=request.seed))
        yield from states
    _, states = around("train", lambda: train(state))
    yield from states
    for when, found in (("before", before), ("after", evaluate(start))):
        yield from ((f"evaluated/{name} {when}", array) for name, array in found.items())


def _evaluations(
    side: Side, subject: Subject, request: Request, whole: bool
) -> Callable[[Parameters], dict[str, np.ndarray]]:
    """Eval mode on ragged batches, and on a larger one where that need not be compiled."""
    batches = _evaluated(subject, request.seed, request.precision)
    if whole:
        del batches["larger"]

    def evaluate(parameters: Parameters) -> dict[str, np.ndarray]:
        found = {n: side.forward(parameters, b)["logits"] for n, b in batches.items()}
        if side.predict is not None and (subject.decodes or not whole or subject.stands_for_others(_predicted)):
            found |= {name + PREDICTED: side.predict(parameters, batch) for name, batch in batches.items()}
        return found

    return evaluate


def _predicted(subject: Subject) -> list[str]:
    """Which `predict` a model has: one for each kind is compiled."""
    return [", ".join(subject.stages())]


def _evaluated(subject: Subject, seed: int, precision: Precision) -> dict[str, Batch]:
    """Batches for eval mode, by name."""
    ragged = subject.points("ragged", seed, precision)[0].batch
    return {"ragged": ragged, "larger": repeat(ragged, LARGER)}


def _in_chunks(framework: Framework, subject: Subject, request: Request) -> Iterator[tuple[str, np.ndarray]]:
    """The recipe in one call that is recorded, and each of the command's chunks from where that call stood."""
    training, seed = subject.training, request.seed
    side = framework.open(subject, request.settings)
    state, each = initial_state(training.optimizer, request.start(subject)), training.steps_per_epoch
    whole = side.train(state, training.epochs, seed, record=True)
    yield "whole/loss", whole.losses
    yield "whole/logits", whole.logits
    chunks: list[Trajectory] = []
    done = 0
    for length in chunk_lengths(training.epochs, 0, each):
        chunks.append(side.train(state, length, seed))
        done += length
        state = whole.after(done * each)
        for kind, held, own in (
            ("parameters", state.parameters, chunks[-1].state.parameters),
            ("slots", state.slots, chunks[-1].state.slots),
            ("carried", state.carried, chunks[-1].state.carried),
        ):
            yield from ((f"whole/{kind}/{name}/{done}", array) for name, array in held.items())
            yield from ((f"chunks/{kind}/{name}/{done}", array) for name, array in own.items())
    joined = _joined(chunks)
    yield "chunks/loss", joined.losses
    yield "chunks/logits", joined.logits
    if each > 1:
        yield from _in_parts(side, initial_state(training.optimizer, request.start(subject)), whole, each // 2, seed)


def _in_parts(side: Side, state: State, whole: Trajectory, part: int, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Two parts of the first epoch, the second from where the first has come to, as a checkpoint within an epoch is."""
    begun = side.train(state, 1, seed, part=part)
    ended = side.train(begun.state, 1, seed, part=part)
    yield "begun/loss", whole.losses[: 2 * part]
    yield "parts/loss", np.concatenate([begun.losses, ended.losses])
    for kind, held, own in zip(("parameters", "slots"), whole[3:5], ended.state[:2], strict=True):
        yield from ((f"begun/{kind}/{name}/{2 * part}", array[2 * part - 1]) for name, array in held.items())
        yield from ((f"parts/{kind}/{name}/{2 * part}", array) for name, array in own.items())


def _own_masks(framework: Framework, subject: Subject, request: Request) -> Iterator[tuple[str, np.ndarray]]:
    """Losses of trainings in which no parameter moves, as the check dropout asks for them: by their masks alone."""
    still = dropout.still(subject)
    start, side = request.start(subject), framework.open(still, request.settings)
    state = initial_state(still.training.optimizer, start)
    for seed, step in _still_calls(subject, request):
        run = side.train(state._replace(step=step), dropout.EPOCHS, seed)
        yield f"losses/{seed}/{step}", run.losses
    yield from ((f"start/{name}", value) for name, value in start.items())


def _still_calls(subject: Subject, request: Request) -> list[tuple[int, int]]:
    """Seeds and first steps: one seed at each border, and others at the start until there are enough losses."""
    each = dropout.EPOCHS * dropout.STEPS
    end = subject.training.epochs * subject.training.steps_per_epoch
    steps = sorted({0, each, max(end - each // 2, 2 * each), *FAR.values()})
    count = math.ceil(STEPS_OF_MASKS / each) - len(steps)
    return [(request.seed, step) for step in steps] + [(request.seed + 1 + n, 0) for n in range(count)]


def _large(framework: Framework, subject: Subject, request: Request) -> Iterator[tuple[str, np.ndarray]]:
    """The command's own call, of a training so large that other code may be taken."""
    large = subject.variant(LARGE)
    state = initial_state(large.training.optimizer, request.start(large))
    trained = framework.open(large, request.settings).train(state, large.training.epochs, request.seed, masks="spec")
    yield f"{LARGE}/loss", trained.losses
    yield f"{LARGE}/logits", trained.logits
    yield from ((f"{LARGE}/parameters/{name}", value) for name, value in trained.state.parameters.items())


_CASES: dict[str, Callable[[Framework, Subject, Request], Iterator[tuple[str, np.ndarray]]]] = {
    STRETCHES: _stretches,
    HANDED: _handed,
    SEEDS: _by_seed,
    STATE: _left_behind,
    CHUNKS: _in_chunks,
    LARGE: _large,
    OWN: _own_masks,
}


def compare(subject: Subject, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
    """Each side against itself, then, where both were handed the same, against each other.

    In a few steps of float64 rounding is far below half of its digits (`tolerances.WIDEST`); so it is over the recipe,
    where the check trajectory holds losses to 1e-9. What is drawn anew, forgotten or left out is off by its own size.
    """
    if place.case == LARGE:
        return list(_judge_large(subject.variant(LARGE), place, first, second))
    found: list[Comparison] = []
    for side, arrays in zip(place.sides, (first, second), strict=True):
        found += _malformed(subject, place.within(side), arrays)
    if found:
        return found
    for side, arrays in zip(place.sides, (first, second), strict=True):
        found += _JUDGES[place.case](subject, place.within(side), side, arrays)
    if place.case in (STRETCHES, HANDED, SEEDS, STATE):
        found += _both(subject, place, first, second)
    return found


def _malformed(subject: Subject, place: Place, arrays: Arrays) -> list[Comparison]:
    """A failure for each answer of a side that has not the shape that was asked for, or is not there: two answers that
    are cut alike would pass for each other, and from others nothing can be taken out."""
    shapes: dict[str, tuple[int, ...]] = {}
    ends: dict[str, int] = {}
    # What was asked for again comes last: it says least of where something is wrong.
    for name, asked in sorted(arrays.items(), key=lambda item: item[0].startswith(f"{START}/again")):
        at, _, end = name.rpartition("/")
        if end != "asked":
            continue
        epochs, steps, reached = map(int, asked)
        parts = _shapes(subject, epochs, steps, recorded=at.endswith("/recorded"))
        if place.case == SEEDS:
            parts = {part: parts["loss"] for part in ("own", "spec") if part == "own" or f"{at}/{part}" in arrays}
        else:
            ends[f"{at}/steps"] = reached
        shapes |= {f"{at}/{part}": shape for part, shape in parts.items()}
    if place.case == STATE:
        shapes |= _shapes_of_evaluations(subject, place, arrays)
    if place.case == CHUNKS:
        epochs = subject.training.epochs
        parts = _shapes(subject, epochs, epochs * subject.training.steps_per_epoch, looked_at=None)
        shapes |= {f"{at}/{part}": parts[part] for at in ("whole", "chunks") for part in ("loss", "logits")}
        half = subject.training.steps_per_epoch // 2
        shapes |= {f"{at}/loss": (2 * half,) for at in ("begun", "parts") if half}
    checked = [
        place.whole_number(name, expected, arrays.get(name), arrays.get(name)) for name, expected in ends.items()
    ]
    for name, shape in shapes.items():
        array = arrays.get(name)
        if array is None or array.shape != shape or array.dtype != place.precision or not np.isfinite(array).all():
            checked.append(place.close(name, array, array, shape=shape))
    return [comparison for comparison in checked if comparison.failed]


def _shapes(
    subject: Subject, epochs: int, steps: int, recorded: bool = False, looked_at: int | None = LOOKED_AT
) -> dict[str, tuple[int, ...]]:
    """What a training of so many epochs and steps must have given, see _named."""
    seen = slice(looked_at)
    losses, evaluated = len(range(steps)[seen]), len(range(epochs)[seen])
    batch = subject.evaluation_batch("float64")
    table = {parameter.name: parameter.shape for parameter in subject.parameters()}
    slots = {f"{name}.{slot}": shape for name, shape in table.items() for slot in subject.training.optimizer.slots}
    shapes = {"loss": (losses,), "logits": (evaluated, *logits_shape(batch.targets, subject.classes))}
    shapes |= {f"final/{name}": shape for name, shape in (table | slots).items()}
    if recorded:
        first = min(steps, 2 * STRETCH)
        kinds = {"parameters": table, "slots": slots}
        shapes |= {f"{kind}/{n}": (first, *shape) for kind, held in kinds.items() for n, shape in held.items()}
    return shapes


def _shapes_of_evaluations(subject: Subject, place: Place, arrays: Arrays) -> dict[str, tuple[int, ...]]:
    """Those of logits before and after a training; the larger batch's where it was asked for."""
    batches = _evaluated(subject, place.seed, place.precision).items()
    logits = {name: logits_shape(batch.targets, subject.classes) for name, batch in batches}
    names = dict.fromkeys(name.rpartition(" ")[0] for name in arrays if name.startswith("evaluated/"))
    return {
        f"{name} {when}": logits[name.removeprefix("evaluated/").removesuffix(PREDICTED)]
        for name in names
        for when in ("before", "after")
    }


def _judge_stretches(subject: Subject, place: Place, side: str, arrays: Arrays) -> Iterator[Comparison]:
    for name in (START, *_borders(subject)):
        asked = _asked_plainly(subject, name)
        pairs = [("plain", "recorded")] if (asked and place.case == STRETCHES) or name == START else []
        pairs += [("resumed", "plain")] if asked and place.case == STRETCHES else []
        for one, other in pairs:
            yield from _alike(subject, place, side, arrays, f"{name}/{one}", f"{name}/{other}")
    if place.case == STRETCHES:
        one, other = f"{START}/again", f"{START}/plain"
        for end in ("loss", "logits"):
            pair = (arrays.get(f"{one}/{end}"), arrays.get(f"{other}/{end}"))
            yield place.within(side, "again", "at first").identical(f"{one}/{end}", *pair)


def _alike(subject: Subject, place: Place, side: str, arrays: Arrays, one: str, other: str) -> Iterator[Comparison]:
    """Two trainings of one side that must have come to the same. What a resumed one has, it is held to."""
    kept = kept_of(subject)
    here = place.within(side, one.rpartition("/")[2], other.rpartition("/")[2])
    table = [parameter.name for parameter in subject.parameters()]
    slots = [f"{name}.{slot}" for name in table for slot in subject.training.optimizer.slots]
    short = f"{one}/final/{table[0]}" not in arrays and one.endswith("resumed")
    ends = ["loss"] if short else ["loss", "logits", *(f"final/{name}" for name in (*table, *slots))]
    if short and len(arrays.get(f"{other}/loss", ())) <= STRETCH and f"{one}/loss" not in arrays:
        return  # A recipe of so few steps has nothing to be resumed.
    if not short:
        done, expected = arrays.get(f"{one}/steps"), arrays.get(f"{other}/steps")
        if done is None or expected is None:
            yield here.missing(f"{one}/steps", done, expected)
        else:
            said = int(done[0]), int(expected[0])
            yield here.equal(f"{one}/steps", *said, "steps done, as the state that is given back says")
    size = _largest(arrays, f"{other}/final/", f"{one}/final/")
    for end in ends:
        keep = kept.get(end.removeprefix("final/"))
        if keep is not None and not keep.any():
            continue
        pair = (arrays.get(f"{one}/{end}"), arrays.get(f"{other}/{end}"))
        yield _close(here, f"{one}/{end}", *pair, not end.startswith("final/"), keep, size)


def _close(
    place: Place,
    tensor: str,
    one: np.ndarray | None,
    other: np.ndarray | None,
    stepwise: bool,
    keep: np.ndarray | None = None,
    size: float = 1.0,
) -> Comparison:
    """Within half of the digits of what was added up."""
    bound, floor = tolerances.WIDEST[place.precision], tolerances.SHARE * (1.0 if stepwise else size)
    return place.close(tensor, one, other, bound=bound, floor=floor, stepwise=stepwise, keep=keep)


def _largest(arrays: Arrays, *prefixes: str) -> float:
    return tolerances.largest(*(array for name, array in arrays.items() if name.startswith(prefixes)))


def kept_of(subject: Subject) -> dict[str, np.ndarray]:
    """Which elements are compared, by the names of parameters and slots, where that is not all."""
    if not zero_gradients.blown_up(subject.training):
        return {}
    ends = ("", *(f".{slot}" for slot in subject.training.optimizer.slots))
    kept = {parameter.name: zero_gradients.kept(parameter) for parameter in subject.parameters()}
    return {f"{name}{end}": keep for name, keep in kept.items() if keep is not None for end in ends}


def _both(subject: Subject, place: Place, first: Arrays, second: Arrays) -> Iterator[Comparison]:
    """The sides against each other, over the steps that both have, where nothing is a side's own."""
    if place.case == SEEDS:
        own = "spec" if subject.has_dropout else "own"
        for name in [name for name in first if name.endswith(f"/{own}") and name in second]:
            yield _close(place, name, *_steps(first[name], second[name]), True)
        return
    if place.case == STATE:
        # Of a process that has trained before, "before" is after too, and it is the other side that shows it.
        name = "evaluated/ragged after"
        yield _close(place, "logits, ragged", first.get(name), second.get(name), False)
        name = f"evaluated/ragged{PREDICTED} after"
        if name in first and name in second:
            yield _close(place, f"logits, ragged{PREDICTED}", first[name], second[name], False)
        return
    if place.case == STRETCHES and subject.has_dropout:
        return
    # The first steps are trajectory's, which derives a bound for each.
    for window in _borders(subject):
        at = f"{window}/recorded"
        table = [parameter.name for parameter in subject.parameters()]
        slots = [f"slots/{name}.{slot}" for slot in subject.training.optimizer.slots for name in table]
        for end in ["loss", *slots, *(f"parameters/{name}" for name in table)]:
            one, two = first.get(f"{at}/{end}"), second.get(f"{at}/{end}")
            if one is not None and two is not None:
                one, two = _steps(one, two)
            yield _close(place, f"{at}/{end}", one, two, True)


def _steps(one: np.ndarray, two: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The steps of a window that both have."""
    count = min(len(one), len(two), 2 * STRETCH)
    return one[:count], two[:count]


def _judge_seeds(subject: Subject, place: Place, side: str, arrays: Arrays) -> Iterator[Comparison]:
    """Whatever is drawn is another one for each seed; where nothing is, the seed is no matter."""
    streams = [array for name, array in arrays.items() if name.endswith("/own")]
    if len(streams) < 2:
        yield place.failed("losses by seed", f"missing in {side}: expected those of several seeds, got {len(streams)}")
        return
    for index, stream in enumerate(streams):
        yield place.close(f"losses of seed {index}", stream, stream, bound=1.0)
    if not _varying(subject):
        here = place.within(side, "a second seed", "the first")
        yield _close(here, "losses of a second seed", streams[1], streams[0], True)
    elif _tells(subject):
        distinct = len({stream[: 2 * STRETCH].tobytes() for stream in streams})
        expected = len(streams)
        if distinct < expected:
            expected = max(distinct, _told_apart(subject, place, min(map(len, streams))))
        note = "streams of batches or masks, by their losses"
        yield place.against(side, "seeds").equal("seeds", distinct, expected, note)


def _judge_large(large: Subject, place: Place, first: Arrays, second: Arrays) -> Iterator[Comparison]:
    """The sides against each other. All is float64, and few steps are taken, so rounding is far below half of the
    digits."""
    training = large.training
    shapes: dict[str, tuple[int, ...]] = {"loss": (training.epochs * training.steps_per_epoch,)}
    shapes["logits"] = (training.epochs, *logits_shape(large.evaluation_batch("float64").targets, large.classes))
    shapes |= {f"parameters/{parameter.name}": parameter.shape for parameter in large.parameters()}
    bound = tolerances.WIDEST[place.precision]
    for name, shape in shapes.items():
        one, two = first.get(f"{LARGE}/{name}"), second.get(f"{LARGE}/{name}")
        stepwise = not name.startswith("parameters/")
        yield place.close(
            f"{LARGE}/{name}", one, two, bound=bound, floor=tolerances.SHARE, shape=shape, stepwise=stepwise
        )


def _tells(subject: Subject) -> bool:
    """Whether chance alone hardly gives two seeds the same stream."""
    if subject.has_drawn_batches:
        return True
    return dropout.same(subject) ** (2 * STRETCH) < tolerances.TRAIN_MODE_LEVEL


def _told_apart(subject: Subject, place: Place, steps: int) -> int:
    """How many of the seeds so many losses can tell apart, see crosscheck.probes.telling. By masks alone all or 0."""
    request = Request("float64", "cpu", place.seed)
    asked, start, steps = seeds(subject, request), request.start(subject), min(steps, 2 * STRETCH)
    if subject.has_drawn_batches:
        return telling.count(subject, asked, steps, start)
    return len(asked) if telling.all_differ(subject, place.seed, steps, start) else 0


def _judge_left_behind(subject: Subject, place: Place, side: str, arrays: Arrays) -> Iterator[Comparison]:
    whats = (name.removesuffix(when) for name in arrays for when in (" before", " after") if name.endswith(when))
    for what in dict.fromkeys(whats):
        here = place.within(side, "before", "after")
        pair = (arrays.get(f"{what} before"), arrays.get(f"{what} after"))
        if what.startswith("evaluated/"):
            here = place.within(side, "before a training", "after it")
            what = f"logits, {what.removeprefix('evaluated/')}"
        else:
            function, _, generator = what.partition("/")
            what = f"{generator}'s global generator, {function}"
        yield here.identical(what, *pair)
    ragged, larger = (arrays.get(f"evaluated/{name} after") for name in ("ragged", "larger"))
    if ragged is not None and larger is not None:
        here = place.within(side, "among others", "in a smaller batch")
        yield _close(here, "logits, larger", larger[: len(ragged)], ragged, False)
    predicted = arrays.get(f"evaluated/ragged{PREDICTED} after")
    if predicted is not None and not subject.decodes:
        here = place.within(side, "predict", "forward")
        yield _close(here, f"logits, ragged{PREDICTED}", predicted, ragged, False)


def _judge_chunks(subject: Subject, place: Place, side: str, arrays: Arrays) -> Iterator[Comparison]:
    kept = kept_of(subject)
    size = _largest(arrays, "whole/parameters/")
    cuts = [("chunks", "whole", ["loss", "logits"])]
    cuts += [("parts", "begun", ["loss"])] if subject.training.steps_per_epoch > 1 else []
    for cut, whole, always in cuts:
        here = place.within(side, f"in {cut}", "in one call")
        for name in dict.fromkeys([*always, *(n.partition("/")[2] for n in arrays if n.startswith(f"{whole}/"))]):
            tensor, _, _ = name.partition("/")[2].rpartition("/")
            keep = kept.get(tensor)
            if keep is not None and not keep.any():
                continue
            pair = (arrays.get(f"{cut}/{name}"), arrays.get(f"{whole}/{name}"))
            yield _close(here, f"{cut}/{name}", *pair, name in always, keep, size)


def _judge_own_masks(subject: Subject, place: Place, side: str, arrays: Arrays) -> Iterator[Comparison]:
    """Every step has masks of its own, wherever a training begins, and drops as often as the spec says: losses are
    distributed like those of the equations with the spec's masks."""
    still = dropout.still(subject)
    calls = {name: losses for name, losses in arrays.items() if name.startswith("losses/")}
    count = dropout.EPOCHS * dropout.STEPS
    guards = [place.close(name, a, a, bound=1.0, shape=(count,)) for name, a in calls.items()]
    yield from guards
    if not calls or not all(guard.passed for guard in guards):
        return
    start = {n.removeprefix("start/"): a.astype(np.float64) for n, a in arrays.items() if n.startswith("start/")}
    losses = np.concatenate(list(calls.values())).astype(np.float64)
    at = [(int(n.split("/")[1]), int(n.split("/")[2]) + step) for n in calls for step in range(count)]
    if (
        not subject.has_drawn_batches
        and losses.size**2 / 2 * dropout.same(subject) ** RUN < tolerances.TRAIN_MODE_LEVEL
    ):
        runs = [call[step : step + RUN].tobytes() for call in calls.values() for step in range(count - RUN + 1)]
        expected = len(runs)
        if len(set(runs)) < expected and not telling.all_differ(still, place.seed, RUN, start):
            expected = len(set(runs))
        note = f"different runs of {RUN} losses, by their masks alone, over steps, calls and seeds"
        yield place.against(side, "expected").equal("own masks, one a step", len(set(runs)), expected, note)
    scores = None if subject.reference is None else _scores(still, start, losses, at)
    if scores is not None:
        yield from _as_the_law(place.against(side, equations.EXACT), scores)


def _as_the_law(place: Place, scores: np.ndarray) -> Iterator[Comparison]:
    """Normal scores of a sample, (size,), of mean 0 and of variance 1: their sum is normal, that of their squares
    chi-squared. Rarer or smaller masks make losses spread less."""
    # Not at the top: workers never judge, and SciPy takes longer to import than their work on a small model.
    from scipy import stats

    size, limit = len(scores), -math.log10(tolerances.TRAIN_MODE_LEVEL / 2)
    mean, square = float(scores.mean()), float((scores**2).mean())
    spread = 2 * min(stats.chi2.cdf(square * size, size), stats.chi2.sf(square * size, size))
    shift = 2 * stats.norm.sf(abs(mean) * math.sqrt(size))
    for tensor, observed, expected, chance in (
        ("own masks, rate", square, 1.0, spread),
        ("own masks, shift", mean, 0.0, shift),
    ):
        unlikely = max(-math.log10(min(chance, 1.0)), 0.0) if chance else math.inf
        what = "variance" if expected else "mean"
        note = f"{what} of {size} losses in units of what the equations' masks give; difference is -log10 of p"
        yield place.limited(tensor, (observed, expected), unlikely, limit, size, note)


def _scores(still: Subject, start: Parameters, losses: np.ndarray, at: list[tuple[int, int]]) -> np.ndarray | None:
    """Normal scores of each loss among those of the equations with masks of the spec; None where these are too few
    different ones to tell masks apart. at: the seed and step of each loss."""
    from scipy.special import ndtri

    if still.has_drawn_batches:
        laws = [_law(still, start, still.batch(seed, step, "float64"), DRAWN_EACH) for seed, step in at]
    else:
        held = tuple((name, array.shape, array.tobytes()) for name, array in start.items())
        laws = [_law_of_one_batch(still, held)] * len(at)
    if min(len(np.unique(law)) for law in {id(law): law for law in laws}.values()) <= len(laws[0]) / 2:
        return None
    ranks = [(np.searchsorted(law, loss) + 0.5) / (len(law) + 1) for law, loss in zip(laws, losses, strict=True)]
    return ndtri(np.array(ranks))


@lru_cache(maxsize=4)
def _law_of_one_batch(still: Subject, held: tuple[tuple[str, tuple[int, ...], bytes], ...]) -> np.ndarray:
    """The law where all batches are one; computed once for both sides, which start alike. held: the start's bytes."""
    start = {name: np.frombuffer(content).reshape(shape) for name, shape, content in held}
    return _law(still, start, still.batch(0, 0, "float64"), DRAWN)


def _law(still: Subject, start: Parameters, batch: Batch, count: int) -> np.ndarray:
    """So many losses of that batch in train mode, sorted."""
    size, time = batch.inputs.shape[:2]
    masks = still.keep_masks(size * count, time, generator_for(0, NAME))
    side = still.reference.open(still, Settings(precision="float64"))
    logits = side.forward(start, repeat(batch, count), dropout=masks)["logits"]
    runs = logits.reshape(count, size, *logits.shape[1:])
    return np.sort(still.training.loss.values(runs, batch.targets))


_JUDGES: dict[str, Callable[[Subject, Place, str, Arrays], Iterator[Comparison]]] = {
    STRETCHES: _judge_stretches,
    HANDED: _judge_stretches,
    SEEDS: _judge_seeds,
    STATE: _judge_left_behind,
    CHUNKS: _judge_chunks,
    OWN: _judge_own_masks,
}
