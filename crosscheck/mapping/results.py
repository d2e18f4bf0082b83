"""What is found out about a pair under a map."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from spec.pair import Inputs

MakeInputs = Callable[[np.random.Generator], tuple[Inputs, Inputs]]
"""Inputs of the first and of the second side, alike but for layout, drawn from the generator."""

Standing = Literal["proven", "ambiguous", "different", "unfinished"]


class Location(NamedTuple):
    """Where on a side: the module's path, the operation and the user's source line; empty where unknown."""

    module: str
    op: str
    source: str


class OperationPart(NamedTuple):
    """What is known of two operations of which one ought to be the other, in the layout of the first side's value.

    op, module: of the side whose operation it is. value: what that made of `inputs`; other: what the other side has
    there, all before it being alike. inputs: the floating values that enter; behind: those that enter the first of
    them. leaves: the parameters that enter, in order. first: whether `value` is the first side's. tolerance: of equal
    values, in units of the largest.
    """

    op: str
    module: str
    value: np.ndarray
    other: np.ndarray
    inputs: tuple[np.ndarray, ...]
    behind: tuple[np.ndarray, ...]
    leaves: tuple[np.ndarray, ...]
    first: bool
    tolerance: float


class Divergence(NamedTuple):
    """The sides part here, although all that enters agrees (or was made to agree).

    first, second: where on each side; the second is None where no value of it answers to the first's.
    position: index of the largest difference, in the first side's layout. values: of both sides there. size: the
    largest difference, in units of the largest absolute value. forced: whether the comparison went on past it.
    parts: operations of which one may be the cause.
    """

    first: Location
    second: Location | None
    position: tuple[int, ...]
    values: tuple[float, float]
    size: float
    forced: bool
    parts: tuple[OperationPart, ...] = ()


class Stage(NamedTuple):
    """A stage of the forward pass. size: the largest difference there, in units of the largest absolute value; infinite
    where one side has no number. own: whether the sides part there, although all that enters is alike."""

    place: Location
    size: float
    own: bool


class Obstacle(NamedTuple):
    """Why two sides that compute alike cannot train alike, or cannot even be given the same values.

    verdict: "cannot train alike" or "not representable". leaves: paths concerned, of both sides. reason: a sentence.
    """

    verdict: Literal["cannot train alike", "not representable"]
    leaves: tuple[str, ...]
    reason: str


class Ambiguity(NamedTuple):
    """Groups of leaves of the first side that can change places, all at once, and no output shows it."""

    groups: tuple[tuple[str, ...], ...]
    reason: str


class Report(NamedTuple):
    """How far a map got.

    standing: "proven": outputs agree at two random points, and every leaf is accounted for. "ambiguous": so do they,
    and so they would under another map. "different": they part, at `divergences`. "unfinished": some leaf has no place.
    distances: of each pair of outputs at each point, the largest difference over the largest absolute value.
    tolerance: what was allowed, from what is pinned to float32 and from rounding. runs: forward runs of both sides.
    stages: of a forward pass in which they part.
    """

    standing: Standing
    divergences: tuple[Divergence, ...]
    obstacles: tuple[Obstacle, ...]
    ambiguities: tuple[Ambiguity, ...]
    distances: tuple[float, ...]
    tolerance: float
    runs: int
    notes: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()
