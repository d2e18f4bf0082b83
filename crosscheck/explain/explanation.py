"""What an explanation consists of."""

import msgspec

SHARE = 1 / 3
"""Of the run that found the difference, what an explanation may take at most."""


class OutOfTime(Exception):
    """What an explanation may take is used up."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What a difference looks like, or what was tried.

    looks_like: the variants that fit, in words; empty where none does. variant: the name of their file, of which there
    is one. source: their numbers in the catalogue of porting bugs. side: the one that departs. before, after: its
    largest distance, in units of the check's bound, from the equations as they are and from the variant. tried: all
    variants that were tried, in words. stopped: why not all of them were, or why what fits is not named. seconds: what
    it took; share: of what the run took that found the difference.
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
    """A variant under which the side that departs agrees."""

    file: str
    words: str
    source: str
    ratio: float


def settled(fits: list[Fit], tried: list[str], stopped: str, side: str, before: float, seconds: float) -> Explanation:
    """What the fits come to: those of one file are told as one, those of several tell nothing."""
    files = list(dict.fromkeys(fit.file for fit in fits))
    found = Explanation(side=side, before=before, tried=tried, stopped=stopped, seconds=seconds)
    if len(files) > 1:
        both = "; ".join(fit.words for fit in fits)
        return msgspec.structs.replace(found, stopped=f"not told apart: {both}")
    if not files:
        return found
    return msgspec.structs.replace(
        found,
        looks_like="as if " + ", or ".join(dict.fromkeys(fit.words for fit in fits)),
        variant=files[0],
        source=", ".join(dict.fromkeys(fit.source for fit in fits if fit.source)),
        after=max(fit.ratio for fit in fits),
    )
