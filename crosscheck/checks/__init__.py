"""The ladder. Each rung presupposes the one below, so the first that fails is where to look.

A rung is a module here, all with the same skeleton: what it asks of an implementation (`cases`, `record`) and how it
judges what two sides recorded (`compare`). A new rung is a new module and a place in `LADDER`.
"""

from collections.abc import Sequence
from typing import Protocol

from crosscheck.checks import (
    convergence,
    forward,
    gradients,
    initial_law,
    layouts,
    lock_step,
    loss,
    optimizer,
    outcome,
    round_trip,
    structure,
    train_mode,
)
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.request import Request
from spec.experiment import Experiment
from spec.framework import Framework, Precision


class Rung(Protocol):
    """What a module in this package offers."""

    NAME: str
    """As `--rungs` and the report's columns have it."""

    QUESTION: str
    """What it finds out, in a line."""

    PRECISIONS: tuple[Precision, ...]
    """What it computes in."""

    SAME_INPUTS: bool
    """Whether both sides are handed the same bytes; the recordings' digests of them must then agree."""

    def inapplicable(self, experiment: Experiment) -> str:
        """Why the question makes no sense for this experiment; empty where it does."""
        ...

    def cases(self, experiment: Experiment, precision: Precision, thorough: bool) -> tuple[str, ...]:
        """The parts that are recorded and compared one by one; an implementation may leave one of them out.

        thorough: also those that are worth it only where minutes do not count.
        """
        ...

    def record(self, framework: Framework, experiment: Experiment, case: str, request: Request) -> Arrays:
        """Ask the implementation; runs in the worker. Raises Unsupported where the implementation leaves it out."""
        ...

    def compare(self, experiment: Experiment, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
        """Judge two recordings, in the order of computation; runs in the parent, which has no framework."""
        ...


class Settling(Rung, Protocol):
    """A rung that decides nothing before it has seen all experiments, so that error rates are those of a whole run."""

    def settle(self, groups: Sequence[Sequence[Comparison]]) -> list[list[Comparison]]:
        """The same comparisons, each experiment's in a group, decided."""
        ...


BY_DEFAULT: tuple[Rung, ...] = (
    structure,
    initial_law,
    round_trip,
    forward,
    loss,
    gradients,
    optimizer,
    layouts,
    lock_step,
    train_mode,
    outcome,
)
"""The rungs that run where none is named."""

ON_REQUEST: tuple[Settling, ...] = (convergence,)
"""Those that take minutes: they run where they are named, or all cases are asked for."""

LADDER: tuple[Rung, ...] = BY_DEFAULT + ON_REQUEST
"""Every rung, from the ground up."""

ESSENTIAL: tuple[str, ...] = (forward.NAME, gradients.NAME, lock_step.NAME)
"""The rungs without which two sides are not known to be the same. The others say where a difference comes from, or look
at what these three have looked at from another side."""

TRAINING: tuple[str, ...] = tuple(
    rung.NAME for rung in (gradients, optimizer, layouts, lock_step, train_mode, outcome, convergence)
)
"""The rungs that a declared leave-out covers, see spec.options."""
