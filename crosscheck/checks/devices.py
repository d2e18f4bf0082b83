"""A training on several devices is the training on one.

Each device takes a share of every batch, and shares have unequal numbers of targets. What goes wrong then is off by a
factor that Adam divides away, or shows at the second step only, or where gradients are clipped. So a few steps of the
experiment's own recipe are compared with their slots, which are what the gradients add up to, and a few of SGD whose
gradients are always clipped: on one device by `train`, on several by `train_on_devices`, with the spec's masks, which
are those of the whole batch. An implementation's own masks are others on several devices; that no device drops what
another one does is asked of trainings in which nothing moves.

Several devices are several processes, or one that has to be started. By default they are asked for where something has
to be cut with the batch, of few experiments, see `Subject.stands_for_others`.
"""

import math
from collections.abc import Iterator

import msgspec
import numpy as np

from crosscheck.bounds import tolerances
from crosscheck.checks import dropout, shipped_path
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.probes import equations, witness
from crosscheck.request import Request
from crosscheck.subject import Subject
from spec.framework import Framework, Precision, Settings, Trajectory
from spec.parameters import Parameters, generator_for
from spec.tasks import logits_shape, repeat, rows
from spec.training import SGD, Clipping, ConstantSchedule, Training, initial_state

NAME: str = "devices"
QUESTION: str = "is a training on several devices the training on one?"
# Rounding is then far below half of the digits.
PRECISIONS: tuple[Precision, ...] = ("float64",)
SAME_INPUTS: bool = True

COUNTS = {"2 devices": 2, "4 devices": 4}
"""By case. The first is the one that is asked for by default."""

OWN = "own masks"
"""The case of 2 devices that draw their masks themselves."""

STEPS = 3
"""Of each training: what one step leaves wrong on one device, the next one shows."""

BY_DEFAULT = ("lengths", "initial states", "masks", "carried states")
"""Of `Subject.own_of_members`: what is cut with a batch's sequences and can be cut wrongly."""

CLIPPED = Clipping(max_norm=0.01)
"""So small a norm that every step is clipped."""

RATE = 0.1
"""Of SGD: ten times the clipped norm is the largest parameter's size, and each step is seen to half of the digits."""

LOSSES = 1500
"""Of trainings in which nothing moves, see `_judge_own`."""

FEWEST = 8
"""Sequences of a batch of which that is asked: of two, the losses hardly go together."""

POOL, REDRAWN = 2000, 400
"""Sequences whose logits the reference gives, and batches that are put together of them."""

DEVIATIONS, TELLING = 5.5, 11.0
"""Standard deviations: as many as chance makes once in 2 * 10^7 comparisons, and as many as devices that drop the same
have to make, or nothing is said."""


def inapplicable(subject: Subject) -> str:
    if not subject.training.epochs:
        return "nothing is trained"
    if getattr(subject, "counts_in_whole_batches", False):
        return "it counts in whole batches, which devices share out"
    return "" if _sequences(subject) >= _parts(subject, 2) else "a batch has not a sequence for each of two devices"


def cases(subject: Subject, precision: Precision, thorough: bool) -> tuple[str, ...]:
    del precision
    if not thorough and not subject.stands_for_others(_cut):
        return ()
    fitting = [case for case, count in COUNTS.items() if _sequences(subject) >= _parts(subject, count)]
    alone = not {"lengths", "initial states", "carried states"} & set(subject.own_of_members)
    tells = subject.has_dropout and subject.reference is not None and alone and _sequences(subject) >= FEWEST
    # A thousand steps of several processes: of those at hand in thorough mode alone.
    own = (OWN,) if tells and (thorough or not subject.is_at_hand) else ()
    return (*(fitting if thorough else fitting[:1]), *own)


def _cut(subject: Subject) -> list[str]:
    """What is cut with a batch's sequences, where a batch has as many as are needed."""
    return [] if inapplicable(subject) else [kind for kind in subject.own_of_members if kind in BY_DEFAULT]


def _sequences(subject: Subject) -> int:
    """Of a training batch; a stranger's pair is trained on one device."""
    return getattr(subject, "batch_size", 1)


def _parts(subject: Subject, count: int) -> int:
    """Into how many parts a batch is cut on so many devices."""
    return count * subject.training.accumulate


def record(framework: Framework, subject: Subject, case: str, request: Request) -> Arrays:
    framework = witness.aside(framework, again=False)
    if case == OWN:
        return _own_masks(framework, subject, request)
    found: dict[str, np.ndarray] = {}
    for recipe, training in _recipes(subject).items():
        trained = subject.with_training(training)
        state = initial_state(training.optimizer, request.start(subject))
        several = msgspec.structs.replace(request.settings, devices=COUNTS[case])
        train = framework.open(trained, several).need("train_on_devices")
        alone = framework.open(trained, request.settings).train(state, 1, request.seed, record=True, masks="spec")
        found |= _named(f"{recipe}/alone", alone)
        found |= _named(f"{recipe}/together", train(state, 1, request.seed, record=True, masks="spec"))
    return found


def _recipes(subject: Subject) -> dict[str, Training]:
    """The trainings that are compared, by name: an epoch of STEPS steps each."""
    own = msgspec.structs.replace(subject.training, epochs=1, steps_per_epoch=STEPS)
    clipped = msgspec.structs.replace(
        own, optimizer=SGD(learning_rate=RATE), groups=(), schedule=ConstantSchedule(), clipping=CLIPPED
    )
    return {"own recipe": own, "SGD, clipped": clipped}


def _named(at: str, trajectory: Trajectory) -> dict[str, np.ndarray]:
    """What is compared of a training."""
    state = trajectory.state
    found = {f"{at}/loss": trajectory.losses, f"{at}/logits": trajectory.logits, f"{at}/steps": np.array([state.step])}
    kinds = {"parameters": trajectory.parameters, "slots": trajectory.slots, "carried": trajectory.carried}
    found |= {f"{at}/{kind}/{name}": array for kind, held in kinds.items() for name, array in held.items()}
    final = state.parameters | state.slots | state.carried
    return found | {f"{at}/final/{name}": array for name, array in final.items()}


def _own_masks(framework: Framework, subject: Subject, request: Request) -> Arrays:
    """Losses of trainings on two devices in which nothing moves, that differ by their masks and their batches alone."""
    still = _still(subject)
    start = _blind(request.start(subject))
    state = initial_state(still.training.optimizer, start)
    train = framework.open(still, msgspec.structs.replace(request.settings, devices=2)).need("train_on_devices")
    losses = train(state, 1, request.seed).losses
    return {"losses": losses, **{f"start/{name}": values for name, values in start.items()}}


def compare(subject: Subject, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
    """Each side against itself.

    Sums over sequences are added up in another order, which moves float64 by far less than half of its digits in a few
    steps; everything that this check is for is off by its own size.
    """
    judge = _judge_own if place.case == OWN else _judge
    found: list[Comparison] = []
    for side, arrays in zip(place.sides, (first, second), strict=True):
        found += judge(subject, place.within(side), side, arrays)
    return found


def _judge(subject: Subject, place: Place, side: str, arrays: Arrays) -> Iterator[Comparison]:
    here = place.within(side, f"on {place.case}", "on 1")
    for recipe, training in _recipes(subject).items():
        found: list[Comparison] = []
        trained = subject.with_training(training)
        for name, shape in _shapes(trained).items():
            keep = shipped_path.kept_of(trained).get(name.partition("/")[2])
            if keep is not None and not keep.any():
                continue
            one, two = (arrays.get(f"{recipe}/{where}/{name}") for where in ("together", "alone"))
            stepwise = not name.startswith("final/")
            compared = here.close(
                f"{recipe}: {name}",
                one,
                two,
                bound=tolerances.WIDEST[place.precision],
                floor=tolerances.SHARE,
                shape=shape,
                stepwise=stepwise,
                keep=keep,
            )
            found.append(compared)
        done = (arrays.get(f"{recipe}/{where}/steps") for where in ("together", "alone"))
        found.append(here.whole_number(f"{recipe}: steps", STEPS, *done))
        # A stable sort: where two tensors part at the same step, the one that is computed first comes first.
        found.sort(key=lambda comparison: STEPS if comparison.passed or comparison.step is None else comparison.step)
        yield from found


def _shapes(trained: Subject) -> dict[str, tuple[int, ...]]:
    """What each training must have given."""
    targets = trained.evaluation_batch("float64").targets
    table = {parameter.name: parameter.shape for parameter in trained.parameters()}
    slots = {f"{name}.{slot}": shape for slot in trained.training.optimizer.slots for name, shape in table.items()}
    carried: dict[str, tuple[int, ...]] = dict(getattr(trained, "carried", {}))
    shapes: dict[str, tuple[int, ...]] = {"loss": (STEPS,)}
    for kind, held in (("slots", slots), ("parameters", table), ("carried", carried)):
        shapes |= {f"{kind}/{name}": (STEPS, *shape) for name, shape in held.items()}
    shapes["logits"] = (1, *logits_shape(targets, trained.classes))
    return shapes | {f"final/{name}": shape for name, shape in (table | slots | carried).items()}


def _judge_own(subject: Subject, place: Place, side: str, arrays: Arrays) -> Iterator[Comparison]:
    """Losses spread as they do where the masks of a batch's sequences are independent of each other.

    Were the second device's masks the first one's, the variance of the loss of step s would be r_s times as large: more
    where the shares' losses go up and down together, less where one goes down as the other goes up. With z_s that loss
    in units of its spread, the sum of (r_s - 1) (z_s^2 - 1) is zero but for chance, and the sum of (r_s - 1)^2 where
    devices drop the same. What a batch's loss comes to under independent masks, and under the same ones, is put
    together from the reference's logits of one sequence, since under `_blind` all sequences are alike.
    """
    losses = arrays.get("losses")
    guard = place.close("losses", losses, losses, bound=1.0, shape=(LOSSES,))
    yield guard
    if losses is None or not guard.passed:
        return
    still, generator = _still(subject), generator_for(place.seed, NAME)
    start = {name.removeprefix("start/"): a for name, a in arrays.items() if name.startswith("start/")}
    pool = _pool(still, start, generator)
    found, expected, noise = 0.0, 0.0, 0.0
    for step, loss in enumerate(losses):
        targets = still.batch(place.seed, step, place.precision).targets
        chosen = generator.integers(0, len(pool), size=(REDRAWN, len(targets)))
        apart = still.training.loss.values(pool[chosen], targets)
        half = len(targets) - len(targets) // 2
        chosen[:, half:] = chosen[:, : len(targets) - half]
        alike = still.training.loss.values(pool[chosen], targets)
        squares = (apart - apart.mean()) ** 2 / apart.var()
        weight = alike.var() / apart.var() - 1
        found += weight * ((loss - apart.mean()) ** 2 / apart.var() - 1)
        expected += weight**2
        noise += weight**2 * squares.var()
    found, expected, spread = float(found), float(expected), math.sqrt(noise)
    if expected < TELLING * spread:
        return  # Such losses cannot tell.
    note = (
        f"of {LOSSES} losses; {expected / spread:.3g} where devices drop the same, 0 where they do not, but for chance"
    )
    values = (found / spread, 0.0)
    yield place.against(side, equations.EXACT).limited(
        "own masks of two devices", values, abs(found) / spread, DEVIATIONS, LOSSES, note
    )


def _still(subject: Subject) -> Subject:
    """The experiment with a recipe under which nothing moves, of so many steps."""
    training = dropout.still(subject).training
    return subject.with_training(msgspec.structs.replace(training, epochs=1, steps_per_epoch=LOSSES))


def _blind(start: Parameters) -> Parameters:
    """The start with zeros in the first matrix, by which inputs enter: what comes out is the masks' doing alone."""
    first = next(name for name, values in start.items() if values.ndim > 1)
    return start | {first: np.zeros_like(start[first])}


def _pool(still: Subject, start: Parameters, generator: "np.random.Generator") -> np.ndarray:
    """Logits of single sequences with masks of the spec, (POOL, *logits' shape)."""
    batch = still.batch(0, 0, "float64")
    many = repeat(rows(batch, slice(0, 1)), POOL)
    masks = still.keep_masks(POOL, batch.inputs.shape[1], generator)
    return still.reference.open(still, Settings(precision="float64")).forward(start, many, dropout=masks)["logits"]
