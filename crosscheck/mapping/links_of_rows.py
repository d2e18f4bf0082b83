"""A map's links as those of targets: of the rows of what is stacked for a loop, each by itself."""

from collections.abc import Sequence

from crosscheck.mapping.bench import Target
from crosscheck.mapping.link import Link, Map, Part


def by_row(mapping: Map, targets: Sequence[Target]) -> dict[str, Link]:
    """Links by the targets' names. A stacked leaf has to be joined along axis 0, a part for each row."""
    found = {}
    for target in targets:
        link = mapping.links[target.path]
        if target.row is None:
            found[target.name] = link
        elif len(link.parts) > target.row and link.axis == 0:
            part = link.parts[target.row]
            found[target.name] = Link(target.name, "copy", (Part(target.shape, part.pieces),))
    return found
