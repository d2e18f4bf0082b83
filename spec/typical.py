"""Which values a field takes in small experiments, said beside the field itself, once.

A field's type says what is allowed, up to 10^9 units a layer; it does not say at which sizes something can be tried in
a second, nor which epsilons make a difference. `crosscheck explore` draws experiments by what stands here, so that a
new option or model of the spec is drawn as soon as it is there. An alias (`Size`, `Rate`) has values for all its
fields; a field's own take their place. It adds nothing to the schema, and forbids nothing.
"""

from typing import Any

import msgspec

EXTRA = "typical"
"""The key under which a field's annotation has it."""


class Typical(msgspec.Struct, frozen=True):
    """What a field takes beside its default.

    values: the simplest first; of a choice by name, be it of a record, the simplest alone. rare: taken now and then,
    since they cost more; of a choice by name, where there are no other values, the choice itself. letters_of: the text
    has the letters of that other field of its record. as_long_as: and the length of that one. All empty: the field
    keeps its default, or what who draws the experiment gives it.
    """

    values: tuple[int | float | str, ...] = ()
    rare: tuple[int | float | str, ...] = ()
    letters_of: str = ""
    as_long_as: str = ""

    @property
    def drawn(self) -> bool:
        """Whether the field takes other values than its default at all."""
        return self != Typical()


def typical(
    *values: int | float | str, rare: tuple[int | float | str, ...] = (), letters_of: str = "", as_long_as: str = ""
) -> msgspec.Meta:
    """For `Annotated`; see Typical."""
    return msgspec.Meta(extra={EXTRA: Typical(values, rare, letters_of, as_long_as)})


NOT_DRAWN = typical()
"""Of a field that says something about an experiment and is no part of what is computed."""


def of(extra: dict[str, Any] | None) -> Typical | None:
    """What an annotation says, as `msgspec.inspect.Metadata.extra` has it; None where it says nothing."""
    return (extra or {}).get(EXTRA)
