"""Two opaque optimizers, told apart by what they make of the same gradients.

Each side's steps are explained by itself: by a family, its constants, and one learning rate a step, which is all that
is free. Only where both are explained to rounding is it said in what they differ.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from crosscheck.explain import known as tables
from crosscheck.explain.decimals import written
from crosscheck.explain.explanation import STOPPED, Budget, Explanation, Fit, OutOfTime, settled
from crosscheck.libraries.optimizers import rows_of

ELEMENTS = 48
"""Of a tensor, so many are looked at."""

CLOSE = 1e-8
"""Of a step's largest movement: a formula that is another one is off by more, gradients being of all sizes."""

ROUNDINGS = 32 * 2.0**-53
"""Of a parameter's size: what a movement, a difference of two such numbers, has of their rounding."""

BETA1, BETA2 = (0.9, 0.95, 0.8, 0.85, 0.99, 0.5, 0.0), (0.999, 0.99, 0.95, 0.98, 0.9, 0.9999)
EPSILONS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-3, 1e-10, 1e-12, 0.0)
SHARES = (0.9, 0.99, 0.95, 0.999, 0.8)
MOMENTA = (0.0, 0.9, 0.95, 0.99, 0.8, 0.5)
DECAYS = (0.0, 1e-4, 5e-4, 4e-3, 1e-3, 1e-2, 0.1)
NORMS = (1.0, 0.1, 0.25, 0.5, 5.0, 10.0)


class Moves(NamedTuple):
    """What an optimizer made of one tensor. gradients: (steps, elements). values: (steps + 1, elements), the start
    first. norms: (steps,), of all tensors' gradients together. axes: of the tensor."""

    gradients: np.ndarray
    values: np.ndarray
    norms: np.ndarray
    axes: int


class Formula(NamedTuple):
    """kind: "adam", "sgd", "rmsprop", and in what it is not the usual one. decay: added to the gradients, or "free":
    what is taken off the parameters beside the step, found with the learning rates. clip: the norm clipped to, or 0."""

    kind: str
    first: float
    second: float
    epsilon: float
    coupled: float = 0.0
    clip: float = 0.0


class Told(NamedTuple):
    """A tensor's optimizer. rates: the learning rate of each step that moved. decay: off the parameters, of a rate."""

    formula: Formula
    rates: np.ndarray
    decay: float


def explain(ours: Sequence[Moves], theirs: Sequence[Moves], budget: Budget) -> Explanation | None:
    """In what two optimizers differ; None where one of them is of no known kind. Raises nothing.

    ours, theirs: of the same tensors.
    """
    tried = [f"the optimizer were {kind}" for kind in KINDS]
    try:
        with np.errstate(all="ignore"):
            pairs = []
            for one, two in zip(ours, theirs, strict=True):
                told = identified(one, budget, pairs[-1][0] if pairs else None)
                pairs.append((told, identified(two, budget, told) if told else None))
    except OutOfTime:
        return Explanation(tried=tried, stopped=STOPPED, seconds=budget.spent)
    except Exception:
        return None
    if any(one is None or two is None for one, two in pairs):
        return Explanation(tried=tried, seconds=budget.spent)
    known = [(one, two) for one, two in pairs if one is not None and two is not None]
    axes = [moves.axes for moves in ours]
    said = list(dict.fromkeys(_words(known, axes)))
    fits = []
    if len(said) == 1:
        ((words, what, values),) = said
        fits = [Fit(file="optimizers", words=words, source="PB71", ratio=0.0, known=_beside(known, what, values))]
    # Two causes at once are less likely than a formula that is not known.
    stopped = f"not told apart: {'; '.join(words for words, *_ in said)}" if len(said) > 1 else ""
    return settled(fits, tried, stopped, "", 1.0, budget.spent)


KINDS = {
    "adam": "Adam",
    "adam, epsilon inside the root": "Adam with its epsilon inside the root",
    "adam, epsilon before the correction": "Adam with its epsilon added before the correction",
    "adam, not corrected": "Adam without corrections",
    "adam, Nesterov's": "Adam with Nesterov's steps",
    "sgd": "SGD",
    "sgd, Nesterov's": "SGD with Nesterov's steps",
    "rmsprop": "RMSprop",
    "rmsprop, epsilon inside the root": "RMSprop with its epsilon inside the root",
}


def directions(formula: Formula, moves: Moves) -> np.ndarray:
    """What each step would be under a learning rate of 1, (steps, elements)."""
    gradients = moves.gradients + formula.coupled * moves.values[:-1]
    if formula.clip:
        gradients = gradients * np.minimum(1.0, formula.clip / moves.norms)[:, None]
    steps = np.arange(1, len(gradients) + 1)[:, None]
    name = formula.kind.partition(",")[0]
    if name == "sgd":
        kept = _averaged(gradients, formula.first, 1.0)
        return gradients + formula.first * kept if "Nesterov" in formula.kind else kept
    v = _averaged(gradients**2, formula.second, 1 - formula.second)
    if name == "rmsprop":
        inside = "inside" in formula.kind
        return gradients / (np.sqrt(v + formula.epsilon) if inside else np.sqrt(v) + formula.epsilon)
    m = _averaged(gradients, formula.first, 1 - formula.first)
    one, two = 1 - formula.first**steps, 1 - formula.second**steps
    match formula.kind.partition(", ")[2]:
        case "epsilon inside the root":
            return m / one / np.sqrt(v / two + formula.epsilon)
        case "epsilon before the correction":
            return np.sqrt(two) / one * m / (np.sqrt(v) + formula.epsilon)
        case "not corrected":
            return m / (np.sqrt(v) + formula.epsilon)
        case "Nesterov's":
            ahead = formula.first * m / (1 - formula.first ** (steps + 1)) + (1 - formula.first) * gradients / one
            return ahead / (np.sqrt(v / two) + formula.epsilon)
        case _:
            return m / one / (np.sqrt(v / two) + formula.epsilon)


def _averaged(values: np.ndarray, share: float, new: float) -> np.ndarray:
    found, kept = np.empty_like(values), np.zeros_like(values[0])
    for step, value in enumerate(values):
        kept = share * kept + new * value
        found[step] = kept
    return found


def fitted(formula: Formula, moves: Moves) -> Told | None:
    """The learning rates and the decay under which the formula makes these moves, to rounding; None for none."""
    made = np.nan_to_num(directions(formula, moves), nan=0.0, posinf=0.0, neginf=0.0)
    before, moved = moves.values[:-1], np.diff(moves.values, axis=0)
    rates, decays = np.zeros(len(made)), np.zeros(len(made))
    for step, (direction, value, move) in enumerate(zip(made, before, moved, strict=True)):
        rough = ROUNDINGS * float(np.abs(value).max())
        if float(np.abs(move).max()) <= rough:
            rates[step] = np.nan
            continue
        columns = np.stack([direction, value], axis=1)
        scale = np.maximum(np.abs(columns).max(axis=0), 1e-300)
        found, *_ = np.linalg.lstsq(columns / scale, -move, rcond=None)
        rates[step], decays[step] = found / scale
        away = np.abs(move + columns @ (found / scale))
        if float(away.max()) > rough + CLOSE * float(np.abs(move).max()):
            return None
    known = np.isfinite(rates) & (np.abs(rates) > 0)
    if not known.any():
        return None
    # Steps whose direction is a rounding of zero say nothing of the decay.
    sure = known & (np.abs(made).max(axis=1) > 1e-3 * np.abs(made[known]).max())
    of_rate = decays[sure] / rates[sure]
    decay = float(np.median(of_rate))
    noise = ROUNDINGS * float(np.abs(before).max()) / max(float(np.abs(rates[sure]).max()), 1e-300)
    if np.abs(of_rate - decay).max() > 1e-6 * max(1.0, abs(decay)) + 1e3 * noise:
        return None
    return Told(formula, np.where(sure, rates, np.nan), 0.0 if abs(decay) < 1e-9 + 1e2 * noise else decay)


def identified(moves: Moves, budget: Budget, like: Told | None = None) -> Told | None:
    """The first formula that explains the moves. like: the other side's, which this one's is likely to be near."""
    for formula in itertools.chain(_near(like) if like else (), _formulas()):
        budget.check()
        # The first steps tell most that do not fit.
        if fitted(formula, _cut(moves, 3)) is None:
            continue
        if (found := fitted(formula, moves)) is not None:
            return found
    return None


def _near(told: Told) -> Iterator[Formula]:
    """The other side's formula, and with one thing changed."""
    formula = told.formula
    yield formula
    family = formula.kind.partition(",")[0]
    for kind in KINDS:
        if kind.partition(",")[0] == family:
            yield formula._replace(kind=kind)
    decay = written(told.decay)
    for coupled in (*((decay,) if decay else ()), *DECAYS):
        yield formula._replace(coupled=coupled)
    for clip in NORMS:
        yield formula._replace(clip=clip)
    for epsilon in EPSILONS:
        yield formula._replace(epsilon=epsilon)
    firsts = {"sgd": MOMENTA, "adam": BETA1}.get(family, (0.0,))
    seconds = {"adam": BETA2, "rmsprop": SHARES}.get(family, (0.0,))
    for first, second in itertools.product(firsts, seconds):
        yield formula._replace(first=first, second=second)


def _cut(moves: Moves, steps: int) -> Moves:
    return moves._replace(
        gradients=moves.gradients[:steps], values=moves.values[: steps + 1], norms=moves.norms[:steps]
    )


def _formulas() -> Iterator[Formula]:
    """Those whose constants are in use; what is coupled or clipped comes last."""
    for kind in ("sgd", "sgd, Nesterov's"):
        for momentum, decay in itertools.product(MOMENTA, DECAYS):
            yield Formula(kind, momentum, 0.0, 0.0, decay)
    for kind in ("rmsprop", "rmsprop, epsilon inside the root"):
        for share, epsilon in itertools.product(SHARES, EPSILONS):
            yield Formula(kind, 0.0, share, epsilon)
    for kind in (kind for kind in KINDS if kind.startswith("adam")):
        for first, second, epsilon in itertools.product(BETA1, BETA2, EPSILONS):
            yield Formula(kind, first, second, epsilon)
    for momentum, clip in itertools.product(MOMENTA, NORMS):
        yield Formula("sgd", momentum, 0.0, 0.0, 0.0, clip)
    for decay, clip in ((decay, 0.0) for decay in DECAYS[1:]):
        for first, second, epsilon in itertools.product(BETA1, BETA2, EPSILONS):
            yield Formula("adam", first, second, epsilon, decay, clip)


Said = tuple[str, str, tuple[float, ...]]
"""Words; in what two sides differ, and its values, where that may be a library's default."""


def _beside(pairs: Sequence[tuple[Told, Told]], what: str, values: tuple[float, ...]) -> str:
    """What the tables say of it: defaults, and with which arguments torch's and optax's are equal."""
    name = {"rmsprop": "RMSprop", "adam": "AdamW" if what == DECAY else ""}.get(_family(pairs[0][0].formula), "")
    equal = [row for row in rows_of(name) if row.verdict == "equal with arguments" and row.best is not None]
    same = f"{equal[0].torch} is {equal[0].best.code}" if equal and equal[0].best and what in IN_ARGUMENTS else ""
    return "; ".join(one for one in (tables.beside(what, values), same) if one)


DECAY, SHARE_KEPT, PLACE = "the weight decay", "the share that squares keep", "where RMSprop's epsilon stands"

IN_ARGUMENTS = (DECAY, SHARE_KEPT, PLACE)
"""In what torch's and optax's defaults differ."""


def _family(formula: Formula) -> str:
    return formula.kind.partition(",")[0]


def _words(known: Sequence[tuple[Told, Told]], axes: Sequence[int]) -> Iterator[Said]:
    """In what each pair differs."""
    for (one, two), count in zip(known, axes, strict=True):
        a, b = one.formula, two.formula
        if b.coupled and not a.coupled and _same(one.decay, b.coupled) and not two.decay:
            yield f"the decay of {b.coupled:g} were added to the gradients in the port (L2)", "", ()
            two = two._replace(decay=one.decay, formula=b._replace(coupled=0.0))
            b = two.formula
        if a.kind != b.kind:
            what = PLACE if _family(a) == _family(b) == "rmsprop" else ""
            yield f"the optimizer were {KINDS[b.kind]} in the port ({KINDS[a.kind]} in the original)", what, ()
        sgd = a.kind.startswith("sgd")
        for what, here, there in (
            ("the momentum" if sgd else "beta1", a.first, b.first),
            (SHARE_KEPT if _family(a) == "rmsprop" else "beta2", a.second, b.second),
            ("the optimizer's epsilon", a.epsilon, b.epsilon),
            ("the decay added to gradients", a.coupled, b.coupled),
        ):
            if here != there:
                yield f"{what} were {there:g} in the port ({here:g} in the original)", what, (here, there)
        if a.clip != b.clip:
            yield f"gradients were clipped to {b.clip:g} in the port ({a.clip or 'not'} in the original)", "", ()
        if not _same(one.decay, two.decay):
            alone = (
                two.decay == 0
                and count < 2
                and any(
                    abs(x.decay - y.decay) <= 1e-5 * abs(x.decay)
                    for (x, y), n in zip(known, axes, strict=True)
                    if n > 1
                )
            )
            here, there = (f"{written(value) or value:g}" if value else "0" for value in (one.decay, two.decay))
            which = f"{DECAY} of tensors of one axis" if alone else DECAY
            yield f"{which} were {there} in the port ({here} in the original)", which, (float(here), float(there))
        yield from ((words, "", ()) for words in _rates(one, two))


def _same(one: float, two: float) -> bool:
    return abs(one - two) <= 1e-5 * max(abs(one), abs(two))


def _rates(one: Told, two: Told) -> Iterator[str]:
    ours, theirs = one.rates, two.rates
    if _alike(ours, theirs):
        return
    if _alike(ours[1:], theirs[:-1]):
        yield "the schedule were a step ahead in the port"
    elif _alike(ours[:-1], theirs[1:]):
        yield "the schedule were a step behind in the port"
    else:
        both = np.isfinite(ours) & np.isfinite(theirs)
        ratio = float(np.median(theirs[both] / ours[both]))
        if not _alike(ours * ratio, theirs):
            yield "the learning rates followed another schedule in the port"
        elif one.formula.kind.startswith("sgd") and one.formula.first and abs(ratio - 1 + one.formula.first) < 1e-6:
            yield f"gradients entered the momentum times 1 - {one.formula.first:g} in the port (dampening)"
        else:
            yield f"the learning rate were {ratio:.6g} of the original's in the port"


def _alike(one: np.ndarray, two: np.ndarray) -> bool:
    both = np.isfinite(one) & np.isfinite(two)
    return bool(both.sum() > 2) and bool(np.allclose(one[both], two[both], rtol=1e-6, atol=0))


def moves(
    start: Mapping[str, np.ndarray],
    gradients: Sequence[Mapping[str, np.ndarray]],
    steps: Sequence[Mapping[str, np.ndarray]],
    paths: Sequence[str],
) -> list[Moves]:
    """Of a matrix and of a tensor of one axis, or of what there is: the elements with the largest gradients first."""
    chosen: dict[int, str] = {}
    for path in paths:
        chosen.setdefault(min(np.ndim(start[path]), 2), path)
    norms = np.array([np.sqrt(sum(float(np.sum(value**2)) for value in given.values())) for given in gradients])
    found = []
    for path in chosen.values():
        series = np.stack([np.ravel(given[path]) for given in gradients])
        order = np.argsort(-np.abs(series).max(axis=0))
        # The largest, which move first, and the faintest of those that move at all, for which epsilon counts.
        alive = order[np.abs(series).max(axis=0)[order] > 0]
        taken = np.unique(np.concatenate([alive[: ELEMENTS // 2], alive[-ELEMENTS // 2 :]]))
        values = np.stack([np.ravel(start[path]), *(np.ravel(step[path]) for step in steps)])
        found.append(Moves(series[:, taken], values[:, taken], norms, np.ndim(start[path])))
    return found
