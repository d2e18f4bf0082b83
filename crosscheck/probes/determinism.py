"""Does an implementation answer the same when it is asked the same again? On a CPU it must, bit for bit.

A side whose answers change from one call to the next would widen its own bounds: they are derived from what a change
of the last bits does to its answers (crosscheck.bounds.rounding_spread), and chance would be taken for rounding. So
either side is asked again, in every precision: at once, which shows what goes by the number of the call, and of each
function once more when all else has been asked, which shows what goes by the time of day or by what was computed in
between.

Whole trainings and replays are asked again of a side that compiles them, for which another length would be compiled
anew and the same takes milliseconds. Elsewhere that would cost half of the comparison's time. There a stretch of
STRETCH steps is asked for twice, of a training from the start and from the middle of the recipe, where another step
number counts; whoever is deterministic in each step is so in the whole.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from crosscheck import plain
from crosscheck.comparison import Unsteady
from crosscheck.subject import Subject
from spec.framework import Ensemble, Framework, Settings
from spec.training import State

CALLS: Mapping[str, int] = {
    "initialize": 1,
    "round_trip": 1,
    "forward": 8,
    "gradients": 8,
    "loss_gradient": 12,
    "predict": 8,
    "generate": 2,
    "replay": 1,
    "train": 2,
    "train_starts": 1,
    "train_ensemble": 1,
}
"""So many of a case's calls are asked again at once: every point of a subject's case, every set of the
check loss, and of the others as many as there are ways to call them."""

LATER = ("initialize", "forward", "gradients", "loss_gradient", "predict")
"""Functions whose first call is made once more when all else has been asked."""

STRETCH = 2
"""Steps of a training or a replay, so that a fault of every other one is seen."""

MEMBERS = 2
"""Starts or seeds of those that are trained together."""


class Asked(NamedTuple):
    """Which function of which side."""

    subject: Subject
    settings: Settings
    function: str


class _Call(NamedTuple):
    """A call that can be made again, and what it gave: copies, since a buffer that is used again would agree."""

    key: str
    asked: Asked
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    answer: dict[str, Any]


class Repeats:
    """Asks one implementation again what it is asked about one experiment. `found`: by the key of an answer."""

    def __init__(self, framework: Framework):
        self.found: dict[str, list[Unsteady]] = {}
        self._framework = framework
        self._key, self._precision = "", ""
        self._counts: dict[str, int] = {}
        self._first: dict[tuple[str, str], _Call] = {}

    def begin(self, key: str, precision: str) -> None:
        """From here on calls belong to that answer."""
        self._key, self._precision = key, precision
        self._counts = dict(CALLS)

    def ask(
        self, asked: Asked, arguments: tuple[Any, ...], options: dict[str, Any], answer: Any, compiles: bool
    ) -> None:
        """Ask again what was just answered, or a part of it where all of it takes long.

        compiles: whether the side compiles trainings, see the module.
        """
        function = asked.function
        if self._counts.get(function, 0) < 1:
            return
        self._counts[function] -= 1
        for subject, given, expected in _again(asked, arguments, answer, compiles or asked.settings.compiled):
            which = asked._replace(subject=subject)
            once = self._call(which, given, options) if expected is None else expected
            call = _Call(self._key, which, given, options, _copied(once))
            self._compare(call, self._call(which, given, options))
            self._compare(call, once)  # It may have been written over.
            if function in LATER:
                self._first.setdefault((function, self._precision), call)

    def finish(self) -> None:
        """Ask each function's first question once more, after everything else."""
        for call in self._first.values():
            try:
                self._compare(call, self._call(call.asked, call.arguments, call.options))
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
                self._note(call.key, Unsteady(function=call.asked.function, tensor="", values=("an answer", text)))

    def _call(self, asked: Asked, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        function = self._framework.open(asked.subject, asked.settings).need(asked.function)
        answer = function(*arguments, **options)
        plain.check(asked.function, answer)
        return answer

    def _compare(self, call: _Call, again: Any) -> None:
        for unsteady in differences(call.asked.function, call.answer, dict(plain.leaves(again))):
            self._note(call.key, unsteady)

    def _note(self, key: str, unsteady: Unsteady) -> None:
        noted = self.found.setdefault(key, [])
        if all((unsteady.function, unsteady.tensor) != (other.function, other.tensor) for other in noted):
            noted.append(unsteady)


def _again(
    asked: Asked, arguments: tuple[Any, ...], answer: Any, whole: bool
) -> Iterator[tuple[Subject, tuple[Any, ...], Any]]:
    """What to ask, and the answer that is known already, or None. whole: whether whole trainings are asked again."""
    subject = asked.subject
    match asked.function:
        case "train" if not whole:
            state, _, *rest = arguments
            for begin in (state, _middle(answer, state)):
                if begin is not None:
                    yield shortened(subject), (begin, 1, *rest), None
        case "replay" if not whole:
            parameters, gradients = arguments
            yield subject, (parameters, gradients[:STRETCH]), None
        case "train_starts" if not whole:
            starts, *rest = arguments
            yield shortened(subject), (starts[:MEMBERS], *rest), None
        case "train_ensemble":
            seeds, *rest = arguments
            if not whole:
                yield shortened(subject), (seeds[:MEMBERS], *rest), None
            else:
                # A single member needs nothing compiled but what trained the others one by one.
                alone = Ensemble(answer.losses[:1], answer.logits[:1], answer.first_solved[:1], answer.method)
                yield subject, (seeds[:1], *rest), alone if answer.method == "loop" else None
        case _:
            yield subject, arguments, answer


def shortened(subject: Subject) -> Subject:
    """The experiment with a recipe of STRETCH steps."""
    return subject.with_training(msgspec.structs.replace(subject.training, epochs=1, steps_per_epoch=STRETCH))


def _middle(trajectory: Any, start: State) -> State | None:
    """The state after half of a recorded training; None where it was not recorded, or is too short."""
    half = len(trajectory.losses) // 2
    recorded = [trajectory.parameters, trajectory.slots, trajectory.carried]
    if half < STRETCH or not trajectory.parameters or any(len(a) <= half for held in recorded for a in held.values()):
        return None
    return trajectory.after(half, start.step)


def _copied(answer: Any) -> dict[str, Any]:
    return {name: np.array(leaf) if isinstance(leaf, np.ndarray) else leaf for name, leaf in plain.leaves(answer)}


def differences(function: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[Unsteady]:
    """What of two answers is not the same bits, a tensor each. one, two: leaves by name."""
    for name in {**one, **two}:
        if name not in one or name not in two:
            words = ("there" if name in one else "missing", "there" if name in two else "missing")
            yield Unsteady(function=function, tensor=name, values=words)
            continue
        here, there = np.asarray(one[name]), np.asarray(two[name])
        if (here.shape, here.dtype) != (there.shape, there.dtype):
            words = (f"{here.dtype} {here.shape}", f"{there.dtype} {there.shape}")
            yield Unsteady(function=function, tensor=name, values=words)
        elif here.dtype.kind in plain.NUMBERS and here.tobytes() != there.tobytes():
            # As bytes, since NaN != NaN and -0.0 == 0.0.
            size = here.dtype.itemsize
            bits = [np.ascontiguousarray(side).view(f"V{size}").reshape(here.shape) for side in (here, there)]
            differ = np.argwhere(bits[0] != bits[1])
            at = tuple(int(i) for i in differ[0])
            yield Unsteady(
                function=function,
                tensor=name,
                index=at,
                values=(_value(here[at]), _value(there[at])),
                differing=len(differ),
                elements=here.size,
            )


def _value(number: Any) -> float | str:
    value = float(number)
    return value if np.isfinite(value) else str(value)
