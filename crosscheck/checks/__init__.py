"""The ladder. Each check presupposes the one below, so the first that fails is where to look.

A check is a module here, all with the same skeleton: what it asks of an implementation (`cases`, `record`) and how it
judges what two sides recorded (`compare`). A new check is a new module and a place in `LADDER`.
"""

from collections.abc import Sequence
from typing import Protocol

from crosscheck.checks import (
    convergence,
    devices,
    dropout,
    forward,
    generation,
    gradients,
    initialization,
    layouts,
    loss,
    members,
    optimizer,
    outcome,
    round_trip,
    shipped_path,
    structure,
    trajectory,
)
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.request import Request
from crosscheck.subject import Subject
from spec.framework import Framework, Precision


class Check(Protocol):
    """What a module in this package offers."""

    NAME: str
    """As `--checks` and the report's columns have it."""

    QUESTION: str
    """What it finds out, in a line."""

    PRECISIONS: tuple[Precision, ...]
    """What it computes in."""

    SAME_INPUTS: bool
    """Whether both sides are handed the same bytes; the recordings' digests of them must then agree."""

    def inapplicable(self, subject: Subject) -> str:
        """Why the question makes no sense for this experiment; empty where it does."""
        ...

    def cases(self, subject: Subject, precision: Precision, thorough: bool) -> tuple[str, ...]:
        """The parts that are recorded and compared one by one; an implementation may leave one of them out.

        thorough: also those that are worth it only where minutes do not count.
        """
        ...

    def record(self, framework: Framework, subject: Subject, case: str, request: Request) -> Arrays:
        """Ask the implementation; runs in the worker. Raises Unsupported where the implementation leaves it out."""
        ...

    def compare(self, subject: Subject, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
        """Judge two recordings, in the order of computation; runs in the parent, which has no framework."""
        ...


class Settling(Check, Protocol):
    """A check that decides nothing before it has seen all experiments, so that error rates are those of a whole run."""

    def settle(self, groups: Sequence[Sequence[Comparison]]) -> list[list[Comparison]]:
        """The same comparisons, each experiment's in a group, decided."""
        ...


BY_DEFAULT: tuple[Check, ...] = (
    structure,
    initialization,
    round_trip,
    forward,
    loss,
    gradients,
    optimizer,
    layouts,
    trajectory,
    dropout,
    shipped_path,
    members,
    devices,
    generation,
    outcome,
)
"""The checks that run where none is named."""

ON_REQUEST: tuple[Settling, ...] = (convergence,)
"""Those that take minutes: they run where they are named, or all cases are asked for."""

LADDER: tuple[Check, ...] = BY_DEFAULT + ON_REQUEST
"""Every check, from the ground up."""

ESSENTIAL: tuple[str, ...] = (forward.NAME, gradients.NAME, trajectory.NAME)
"""The checks without which two sides are not known to be the same. The others say where a difference comes from, or
look at what these three have looked at from another side."""

TRAINING: tuple[str, ...] = tuple(
    check.NAME
    for check in (
        gradients,
        optimizer,
        layouts,
        trajectory,
        dropout,
        shipped_path,
        members,
        devices,
        outcome,
        convergence,
    )
)
"""The checks that a declared leave-out covers, see spec.options."""
