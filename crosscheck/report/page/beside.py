"""Other reports that stand in the same directory, in a few words and a table."""

from typing import NamedTuple


class Beside(NamedTuple):
    """place: its anchor. file: where it is from. head, rows: its table, whose rows may be none."""

    place: str
    title: str
    file: str
    verdict: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
