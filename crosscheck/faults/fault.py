"""What a planted fault is."""

from typing import Literal, NamedTuple

from spec.framework import Precision

Implementation = Literal["torch_impl", "flax_impl"]


class Edit(NamedTuple):
    """One replacement in a file of the implementation; `old` must stand there, and its first occurrence is replaced."""

    file: str
    old: str
    new: str


class Fault(NamedTuple):
    """One mutant.

    name: short, lower case, with hyphens; together with `implementation` it is unique. what: the difference, in a
    sentence. entries: the numbers under which the catalogue of porting bugs has it; empty for one of our own.
    experiment: where it is live. check, tensor: the first failure must be there; tensor is a pattern for fnmatch.
    precision: where it is live; most are in float64.
    """

    name: str
    what: str
    implementation: Implementation
    edits: tuple[Edit, ...]
    experiment: str
    check: str
    tensor: str
    entries: tuple[str, ...] = ()
    precision: Precision = "float64"
