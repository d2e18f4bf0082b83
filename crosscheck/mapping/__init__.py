"""The map between the parameters of two sides of a stranger's pair: proposed, proven by value, written down.

`propose` finds it, `verify` proves it, `divergences` lists where two sides part under it; `read`, `write` and `emit`
are its file and the converter that it becomes. NumPy and SciPy alone: the sides are asked through `spec.pair.PairSide`.
"""

from crosscheck.mapping.emit import emitted
from crosscheck.mapping.file import read, write, written
from crosscheck.mapping.link import Link, Map, OutputLink, Part, Piece, Unlinked
from crosscheck.mapping.proposal import propose
from crosscheck.mapping.results import Ambiguity, Divergence, Location, MakeInputs, Obstacle, Report
from crosscheck.mapping.verification import divergences, verify

__all__ = [
    "Ambiguity",
    "Divergence",
    "Link",
    "Location",
    "MakeInputs",
    "Map",
    "Obstacle",
    "OutputLink",
    "Part",
    "Piece",
    "Report",
    "Unlinked",
    "divergences",
    "emitted",
    "propose",
    "read",
    "verify",
    "write",
    "written",
]
