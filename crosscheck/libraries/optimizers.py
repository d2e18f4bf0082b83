"""torch's optimizers, schedules and clipping beside their optax namesakes, as they were found by running both."""

from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from crosscheck.libraries import made

PATH = Path(__file__).with_name("optimizers.json")

Section = Literal["optimizers", "schedules", "clipping"]

Verdict = Literal["equal", "equal with arguments", "never equal", "no namesake"]


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What was run beside torch's: an expression, and where the two part.

    parts_at: the first step, counted from 1, at which they are further apart than rounding; of clipping the first
    case; None where they never part. size: the largest difference there, as a share of the largest way that any element
    has gone until then (of schedules: of the largest rate; of clipping: of the largest gradient). at_end: the same at
    the last step. failed: what was raised, where the expression could not be run.
    """

    code: str
    parts_at: str | int | None
    size: float = 0.0
    at_end: float = 0.0
    failed: str = ""


class Counterpart(msgspec.Struct, frozen=True, kw_only=True):
    """A class of torch's with its arguments. name: the class. measure: how the two were run.

    namesake: what optax has under that name, with its own defaults where torch's has its own. best: of `tried`
    expressions the one that is equal by the fewest arguments; where none is, the one that parts last.
    """

    section: Section
    name: str
    torch: str
    measure: str
    namesake: Tried | None
    best: Tried | None
    tried: int

    @property
    def verdict(self) -> Verdict:
        if self.namesake is not None and self.namesake.parts_at is None:
            return "equal"
        if self.best is not None and self.best.parts_at is None:
            return "equal with arguments"
        return "never equal" if self.namesake is not None else "no namesake"


class Optimizers(msgspec.Struct, frozen=True, kw_only=True):
    made: made.Made
    rows: tuple[Counterpart, ...]


@cache
def table() -> Optimizers:
    return made.read(Optimizers, PATH)


def rows_of(name: str) -> tuple[Counterpart, ...]:
    """All that is known of a torch class or function by its name, such as "RMSprop"; empty where nothing is."""
    return tuple(row for row in table().rows if row.name == name)
