"""What an explanation consists of, and what it may take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

SHARE = 1 / 3
"""Of the run that found the difference, what an explanation may take at most."""

STOPPED = "a third of the run's time is used up"
"""What is said where that was not enough."""


class OutOfTime(Exception):
    """What an explanation may take is used up."""


class Budget:
    """What an explanation may take that begins now: a share of the seconds that the run took.

    Counted is this process's processor time, which other programs on the machine leave alone; so nothing is lost that a
    quiet machine would have found.
    """

    def __init__(self, run: float, share: float = SHARE):
        self.run = run
        self._limit = share * run
        self._began = time.process_time()
        self._waited = 0.0

    @property
    def spent(self) -> float:
        """Seconds."""
        return time.process_time() - self._began + self._waited

    @property
    def share(self) -> float:
        """Of the run, what was spent."""
        return self.spent / self.run if self.run > 0 else 0.0

    def check(self, price: float = 0.0) -> None:
        """Raise OutOfTime where what takes so many seconds more would be too much."""
        if self.spent + price > self._limit:
            raise OutOfTime

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """While this lasts, other processes compute, whose processor time is not known: all that passes counts."""
        wall, own = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self._waited += max(time.perf_counter() - wall - (time.process_time() - own), 0.0)


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What a difference looks like, or what was tried.

    looks_like: the variants that fit, in words; empty where none does. variant: the name of their file, of which there
    is one. source: their numbers in the catalogue of porting bugs. side: the one that departs. before, after: its
    largest distance, in units of the check's bound, from the equations as they are and from the variant. tried: all
    variants that were tried, in words. stopped: why not all of them were, or why what fits is not named. seconds: of
    processor time, what it took; share: of what the run took that found the difference.
    """

    looks_like: str = ""
    variant: str = ""
    source: str = ""
    side: str = ""
    before: float | None = None
    after: float | None = None
    tried: list[str] = []
    stopped: str = ""
    seconds: float = 0.0
    share: float = 0.0


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """A variant under which the side that departs agrees. known: said beside it, see crosscheck.explain.known."""

    file: str
    words: str
    source: str
    ratio: float
    known: str = ""


def settled(fits: list[Fit], tried: list[str], stopped: str, side: str, before: float, seconds: float) -> Explanation:
    """What the fits come to: those of one file are told as one, those of several tell nothing."""
    files = list(dict.fromkeys(fit.file for fit in fits))
    found = Explanation(side=side, before=before, tried=tried, stopped=stopped, seconds=seconds)
    if len(files) > 1:
        both = "; ".join(fit.words for fit in fits)
        return msgspec.structs.replace(found, stopped=f"not told apart: {both}")
    if not files:
        return found
    known = list(dict.fromkeys(fit.known for fit in fits if fit.known)) if len(fits) == 1 else []
    return msgspec.structs.replace(
        found,
        looks_like="; ".join(["as if " + ", or ".join(dict.fromkeys(fit.words for fit in fits)), *known]),
        variant=files[0],
        source=", ".join(dict.fromkeys(fit.source for fit in fits if fit.source)),
        after=max(fit.ratio for fit in fits),
    )
