"""What a planted fault is."""

from typing import Literal, NamedTuple

from spec.framework import Precision

Implementation = Literal["torch_impl", "flax_impl"]


class Edit(NamedTuple):
    """One replacement in the implementation.

    place: the file, and after a colon the function or class, "recurrent.py:Recurrent.forward"; a file alone for what
    stands in neither. old: must stand there once.
    """

    place: str
    old: str
    new: str

    @property
    def file(self) -> str:
        """The file alone."""
        return self.place.partition(":")[0]


class Fault(NamedTuple):
    """One mutant.

    name: short, lower case, with hyphens; together with `implementation` it is unique. what: the difference, in a
    sentence. entries: the numbers under which the catalogue of porting bugs has it; empty for one of our own.
    experiment: where it is live. check, tensor: the first failure must be there; tensor is a pattern for fnmatch.
    precision: where it is live; most are in float64. option: where no shipped experiment shows it, the text of an
    experiment's file that names the option which does; experiment is then one of crosscheck.faults.given.
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
    option: str = ""
