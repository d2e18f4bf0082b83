"""An experiment's verdict in words, for whatever shows lines: the report on a terminal, and the progress of a run."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from crosscheck.judging.verdict import Cell, Verdict, cell_text
from spec import text


class Label(NamedTuple):
    """How a status is shown. style: one that can be read on a light and on a dark ground; it never says it alone."""

    word: str
    style: str
    meaning: str


LABELS: dict[str, Label] = {
    "different": Label("FAIL", "bold red", "the sides differ in the checks that are named, the lowest first"),
    "crashed": Label("CRASH", "bold red", "a side gave no answer in the checks that are named"),
    "underpowered": Label("UNDERPOWERED", "bold magenta", "too few seeds to tell; the number is how many would do"),
    "partly checked": Label("PARTLY CHECKED", "bold magenta", "too little was compared to call the sides the same"),
    "not checked": Label("NOT CHECKED", "bold magenta", "a side leaves out the checks that are named"),
    "left out": Label("LEFT OUT", "magenta", "a side declares that it has no such option"),
    "same": Label("ok", "green", "no difference is beyond its bound; the figure is the largest, in units of its bound"),
    "not applicable": Label("-", "dim", "there is nothing to ask in any of the checks"),
}
"""One for each status, those first that matter most."""

FIGURES = ("underpowered",)
"""Statuses that come with a figure of their own."""


UNNAMED = ("same", "not applicable")
"""Statuses of checks that a row does not name."""


class Row(NamedTuple):
    """A line of a table in words: what became of something, what that is, and more about it, which may be folded."""

    word: str
    style: str
    name: str
    details: str


def row(verdict: Verdict) -> Row:
    """An experiment's row."""
    word, style, _ = LABELS[verdict.status]
    return Row(word, style, verdict.experiment, details(verdict))


def details(verdict: Verdict) -> str:
    """Which checks make the verdict, and what became of the others."""
    parts = []
    for status in LABELS:
        cells = [cell for cell in verdict.cells if cell.status == status]
        if not cells or status in UNNAMED:
            continue
        names = ", ".join(_named(cell) for cell in cells)
        parts.append(f"in {names}" if status == verdict.status else f"{LABELS[status].word} in {names}")
    same = [cell for cell in verdict.cells if cell.status == "same"]
    if same:
        parts.append(_passed(same, alone=not parts))
    return "; ".join(parts)


def _named(cell: Cell) -> str:
    if cell.shown or cell.status in FIGURES:
        return f"{cell.check} ({cell_text(cell)})"
    return cell.check


def _passed(cells: list[Cell], alone: bool) -> str:
    """How many checks agree, and how near the nearest comes to its bound."""
    count = f"{len(cells)} check{'s' if len(cells) > 1 else ''}" + ("" if alone else " ok")
    shown = [f"{cell.check} {cell_text(cell)}" for cell in cells if cell.shown]
    if shown:
        return f"{count}: {', '.join(shown)}"
    measured = [cell for cell in cells if cell.ratio]
    if not alone or not measured:
        return count
    nearest = max(measured, key=lambda cell: cell.ratio or 0.0)
    return f"{count}, {nearest.ratio:.2g} ({nearest.check})"


def legend(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """What the words mean that are used, of experiments and of checks among their details."""
    used = {verdict.status for verdict in verdicts}
    used |= {cell.status for verdict in verdicts for cell in verdict.cells if cell.status not in UNNAMED}
    yield from (f"{label.word}: {label.meaning}" for status, label in LABELS.items() if status in used)


def show(console: Console, rows: Sequence[Row]) -> None:
    """Print a table in words. On a terminal its rows are folded; elsewhere each is one line, however long."""
    cells = [(entry.word, entry.name, entry.details) for entry in rows]
    for entry, lines in zip(rows, table(console, cells), strict=True):
        for number, line in enumerate(lines):
            shown = Text(line)
            if number == 0:
                shown.stylize(entry.style, end=len(line) - len(line.lstrip()) + len(entry.word))
            console.print(shown, soft_wrap=True)


def table(console: Console, rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Each row's lines, further in by two than others where there is room."""
    cells = [[text.visible(cell) for cell in row] for row in rows]
    return text.table([["  " + first, *others] for first, *others in cells], columns(console))


def say(console: Console, line: str, style: str | None = None, indent: int = 2, whole: bool = False) -> None:
    """Print a line, folded as `show` does it. whole: not folded, such as a command that is to be copied."""
    for part in text.fold(text.visible(line), None if whole else columns(console), indent):
        console.print(Text(part, style or ""), soft_wrap=True)


def columns(console: Console) -> int | None:
    """What to fold to; None where there is no terminal."""
    if console.is_dumb_terminal:
        # rich takes each to have 80 columns.
        return text.width()
    return console.width if console.is_terminal else None
