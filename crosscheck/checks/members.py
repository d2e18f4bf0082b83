"""A member of an ensemble is the run of its seed alone.

Whoever trains many seeds together draws starts, batches and masks for each, and keeps members apart through every step.
What the check outcome asks for is a rate, and a rate hides a member that is another seed's, a key that all share, or a
padding row that is trained. So members are held here against `train` from `initialize`, seed by seed: the first, the
last, and those on either side of a border between chunks. And all are held to be different.

Few seeds and many are two ways where an implementation has a choice, which its `method` tells. Many are what is to be
compiled: by default that is asked where members have something of their own to be got wrong
(`Subject.own_of_members`). Both are asked of few experiments, see `Subject.stands_for_others`.
"""

from collections.abc import Iterator

import msgspec
import numpy as np

from crosscheck.bounds import rounding_spread, tolerances, trajectories
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.probes import determinism, telling, witness
from crosscheck.request import Request
from crosscheck.subject import Subject
from spec.ensemble import NEVER, solved_members
from spec.framework import Framework, Precision
from spec.parameters import generator_for
from spec.tasks import asked, is_numeric, logits_shape
from spec.training import initial_state

NAME: str = "members"
QUESTION: str = "is each member of an ensemble the run of its seed alone, and another one than the others?"
PRECISIONS: tuple[Precision, ...] = ("float64",)
# Seeds only: each side draws its own starts and masks.
SAME_INPUTS: bool = False

FEW, MANY = "few", "many"

SIZES = {FEW: 3, MANY: 70}
"""Members. Implementations that train a few one by one train 70 together: flax_impl does from 64."""

EPOCHS = 3
"""Of a shortened recipe, see `shortened`."""

BY_DEFAULT = ("masks", "padding", "lengths", "initial states", "carried states")
"""Of `Subject.own_of_members`: what is drawn for each member, and what is done for each outside of the model."""

SHORT = 50
"""Steps of a recipe that is not shortened: many members take half a second for it."""

CHUNK = 36
"""Members trained at once of MANY: less than all and more than half, so that there is a border and the last chunk is
shorter, and has to be filled up by who compiles for a number of members."""


def inapplicable(subject: Subject) -> str:
    return "" if subject.training.epochs else "nothing is trained"


def cases(subject: Subject, precision: Precision, thorough: bool) -> tuple[str, ...]:
    del precision
    if thorough or subject.stands_for_others(_looked_for):
        return (FEW, MANY)
    # Own masks are to be compiled for as well.
    return (FEW,) if not subject.has_dropout and subject.stands_for_others(_kept_apart) else ()


def _looked_for(subject: Subject) -> list[str]:
    """The kinds of what members have to themselves that are worth a compilation by default."""
    return [kind for kind in subject.own_of_members if kind in BY_DEFAULT]


def _kept_apart(subject: Subject) -> list[str]:
    """What few members, which are trained as one is or as many are, can get wrong: by the model, and of their own."""
    return [subject.family, *subject.own_of_members]


def seeds(case: str, request: Request) -> list[int]:
    """That follow each other, as people count them up."""
    start = int(generator_for(request.seed, NAME).integers(0, 2**31))
    return list(range(start, start + SIZES[case]))


def looked_at(case: str) -> list[int]:
    """Members, by their number: the first, the last, and those on either side of a border."""
    size = SIZES[case]
    if case == FEW:
        return [0, size - 1]
    # Two chunks of at most CHUNK are of CHUNK members and the rest, or, where they are cut evenly, of half each.
    return sorted({0, size // 2 - 1, size // 2, CHUNK - 1, CHUNK, size - 1})


def record(framework: Framework, subject: Subject, case: str, request: Request) -> Arrays:
    # Nothing that is asked twice: what is not deterministic is no run of its seed either.
    framework = witness.aside(framework, again=False)
    side = framework.open(subject, request.settings)
    if not (side.compiles or request.options.compiled):
        subject = shortened(subject, case)
        side = framework.open(subject, request.settings)
    training, every = subject.training, seeds(case, request)
    members = side.need("train_ensemble")(every, chunk=None if case == FEW else CHUNK)
    found = {"losses": members.losses, "logits": members.logits, "first_solved": members.first_solved}
    found["asked"] = np.array([training.epochs, training.steps_per_epoch])
    found["method"] = np.frombuffer(members.method.encode(), np.uint8)
    spread: dict[str, np.ndarray] = {}
    for member in looked_at(case):
        start, seed = side.initialize(every[member]), every[member]
        run, *moved = (
            side.train(initial_state(training.optimizer, begun), training.epochs, seed)
            for begun in (start, *rounding_spread.perturbed(start, seed, _repeated(case)))
        )
        found |= {f"{member}/losses": run.losses, f"{member}/logits": run.logits}
        named, *others = ({"losses": each.losses, "logits": each.logits} for each in (run, *moved))
        spread = rounding_spread.larger(spread, rounding_spread.measure(named, others, stepwise=True))
    return found | spread


def _repeated(case: str) -> int:
    """How often each member that is looked at is trained again: all together as often as elsewhere."""
    return -(-rounding_spread.RUNS // len(looked_at(case)))


def shortened(subject: Subject, case: str) -> Subject:
    """With a recipe of a few steps, for who compiles nothing: members go by the same code through all of them. Not so
    for many members of a recipe that is short anyway: when it is solved is judged there."""
    training = subject.training
    if case == MANY and training.epochs * training.steps_per_epoch <= SHORT:
        return subject
    training = determinism.shortened(subject).training
    return subject.with_training(msgspec.structs.replace(training, epochs=EPOCHS))


def compare(subject: Subject, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
    """Each side against itself.

    Together or alone, a member is computed from the same numbers, but sums may be added up in another order. In
    float64 that is far below half of the digits over a recipe, as in the check shipped-path, and everything that this
    check is for is off by its own size. Where a training is unstable, rounding grows beyond that; so each member is
    also trained alone from starts that differ in their last bits, and may be as far from its run as FACTOR times the
    furthest of these is by then (crosscheck.bounds.trajectories). Beyond the horizon it has to be finite.

    A run that diverges, alone and as a member, is no difference: it is compared as far as it is finite, and has to
    cease to be so at the same step.
    """
    found: list[Comparison] = []
    for side, arrays in zip(place.sides, (first, second), strict=True):
        found += _judge(subject, place.within(side), side, arrays)
    return found


def _judge(subject: Subject, place: Place, side: str, arrays: Arrays) -> Iterator[Comparison]:
    epochs, each = (int(count) for count in arrays.get("asked", (0, 0)))
    size = SIZES[place.case]
    targets = subject.evaluation_batch(place.precision).targets
    inner = logits_shape(targets, subject.classes)
    shapes = {"losses": (size, epochs * each), "logits": (size, *inner)}
    for member in looked_at(place.case):
        shapes |= {f"{member}/losses": (epochs * each,), f"{member}/logits": (epochs, *inner)}
    # Where a run of a seed alone diverges, others may, which nobody has looked at alone.
    alone = [arrays.get(f"{member}/losses") for member in looked_at(place.case)]
    diverge = any(losses is not None and not np.isfinite(losses).all() for losses in alone)
    given = {name: _finite(arrays.get(name)) if diverge else arrays.get(name) for name in shapes}
    guards = [place.close(name, given[name], given[name], bound=1.0, shape=shape) for name, shape in shapes.items()]
    yield from guards
    if not all(guard.passed for guard in guards):
        return
    first = arrays.get("first_solved")
    if first is None or first.shape != (size,) or first.dtype != np.int64:
        got = "nothing" if first is None else f"{first.dtype} {first.shape}"
        yield place.failed("first_solved", f"expected int64 {(size,)}, got {got} in {side}")
        return
    spread: list[np.ndarray] = []
    for name, count in (("losses", epochs * each), ("logits", epochs)):
        measured = arrays.get(f"{rounding_spread.PREFIX}{name}")
        if measured is None or measured.shape != (count,) or measured.dtype != np.float64:
            got = "nothing" if measured is None else f"{measured.dtype} {measured.shape}"
            yield place.failed(f"envelope of {name}", f"expected float64 {(count,)}, got {got} in {side}")
            return
        spread.append(measured)
    for member in looked_at(place.case):
        here = place.within(side, f"member {member}", "alone")
        alone = arrays[f"{member}/losses"], arrays[f"{member}/logits"]
        losses = here.close(
            f"losses of member {member}",
            arrays["losses"][member],
            alone[0],
            allowed=_allowed(place, spread[0], alone[0], tolerances.SHARE),
            stepwise=True,
            diverges=True,
        )
        yield losses
        bounds = _allowed(place, spread[1], alone[1])
        if np.isfinite(bounds[-1]):
            logits = arrays["logits"][member]
            yield here.close(
                f"logits of member {member}", logits, alone[1][-1], allowed=float(bounds[-1]), diverges=True
            )
        if losses.passed:
            yield _time_to_solve(subject, here, member, int(first[member]), alone[1], bounds)
    method = bytes(arrays["method"].tolist()).decode(errors="replace") if "method" in arrays else "what it does not say"
    yield _distinct(subject, place.against(side, "seeds"), arrays["losses"], method)


def _finite(values: np.ndarray | None) -> np.ndarray | None:
    """With zeros where it is not."""
    return values if values is None else np.where(np.isfinite(values), values, np.zeros((), values.dtype))


def _allowed(place: Place, spread: np.ndarray, alone: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """How far a member may be from its run alone, (steps,); infinite beyond the horizon."""
    size = np.maximum(trajectories.sizes(alone), floor)
    grown = rounding_spread.FACTOR * np.maximum.accumulate(spread)
    grown = trajectories.within_horizon(grown, size)
    return np.maximum(tolerances.WIDEST[place.precision] * size, grown)


def _time_to_solve(
    subject: Subject, place: Place, member: int, got: int, logits: np.ndarray, bounds: np.ndarray
) -> Comparison:
    """The first epoch whose evaluation is solved, by the logits of the run alone, (epochs, *logits' shape), each of
    which is known to within `bounds`, (epochs,).

    Rounding can make or break a tie. So an epoch whose two best logits are no further apart, where anything is asked,
    than rounding may move them can be taken either way. At padding they are all zero.
    """
    batch = subject.evaluation_batch(place.precision)
    solved = solved_members(logits, batch)
    clear = np.ones(len(logits), bool)
    if not is_numeric(batch.targets) and logits.shape[-1] > 1:
        ordered = np.sort(logits[:, asked(batch.targets)], axis=-1)[..., -2:]
        with np.errstate(invalid="ignore"):  # Of two that are infinite there is none ahead.
            ahead = (ordered[..., -1] - ordered[..., 0]).min(axis=1)
        clear = ahead > 2 * bounds
    epochs = np.arange(1, len(logits) + 1)
    sure = next(iter(epochs[solved & clear].tolist()), NEVER)
    doubtful = epochs[~clear & (epochs < sure if sure != NEVER else True)].tolist()
    expected = next(iter([*doubtful, sure])) if got not in (sure, *doubtful) else got
    note = "time to solve, in epochs (-1: never), against the evaluations of the run alone"
    return place.equal(f"first_solved of member {member}", got, expected, note)


def _distinct(subject: Subject, place: Place, losses: np.ndarray, method: str) -> Comparison:
    """No member is another one, whatever rounding has made of it: they start from draws of their own. But where losses
    do not tell one draw from another, by the equations, nothing can be said."""
    order = np.argsort(losses[:, 0])
    ordered = losses[order].astype(np.float64)
    with np.errstate(invalid="ignore"):  # Where both diverge, what came before tells them apart.
        apart = np.abs(np.diff(ordered, axis=0)) / np.maximum(np.abs(ordered[1:]), tolerances.SHARE)
    apart = np.where(np.isfinite(ordered[1:]) | np.isfinite(ordered[:-1]), apart, 0.0)
    near = (apart <= tolerances.WIDEST[place.precision]).all(axis=1)
    note = f"different members, by their losses; trained by {method}"
    found = expected = len(losses) - int(near.sum())
    if near.any() and telling.all_differ(subject, place.seed, min(losses.shape[1], EPOCHS)):
        expected = len(losses)
    return place.equal("members", found, expected, note)
