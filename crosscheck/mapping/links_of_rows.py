"""A map's links as those of targets: of the rows of what is stacked for a loop, each by itself."""

from collections.abc import Sequence

from crosscheck.mapping.bench import Target
from crosscheck.mapping.link import Link, Map, Part


def by_row(mapping: Map, targets: Sequence[Target]) -> dict[str, Link]:
    """Links by the targets' names. A stacked leaf has a part, or a group of parts, for each row."""
    found = {}
    for target in targets:
        link = mapping.links[target.path]
        if target.row is None:
            found[target.name] = link
        elif link.stacked > 1 and link.stacked > target.row:
            parts = tuple(Part(part.shape[1:], part.pieces) for part in link.groups()[target.row])
            found[target.name] = Link(target.name, "concat", parts, link.axis - 1)
        elif len(link.parts) > target.row and link.axis == 0:
            part = link.parts[target.row]
            found[target.name] = Link(target.name, "copy", (Part(target.shape, part.pieces),))
    return found
