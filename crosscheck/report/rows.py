"""A verdict in words, for whatever shows lines: the report on a terminal, and the progress of a run."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from crosscheck.judging.verdict import Cell, Verdict, cell_text
from crosscheck.report.model import ReportCell, ReportStatus, ReportSubject
from spec import text

AnyCell = Cell | ReportCell


class Label(NamedTuple):
    """How a status is shown. style: one that can be read on a light and on a dark ground; it never says it alone."""

    word: str
    style: str
    meaning: str


LABELS: dict[ReportStatus, Label] = {
    "different": Label("FAIL", "bold red", "the sides differ in the checks that are named, the lowest first"),
    "not representable": Label("NOT REPRESENTABLE", "bold red", "one side has what the other has no place for"),
    "cannot train alike": Label("CANNOT TRAIN ALIKE", "bold red", "alike as they are, and other ones after a step"),
    "crashed": Label("CRASH", "bold red", "a side gave no answer in the checks that are named"),
    "ambiguous": Label("AMBIGUOUS", "bold magenta", "the same, and would be under another map of parameters too"),
    "underpowered": Label("UNDERPOWERED", "bold magenta", "too few seeds to tell; the number is how many would do"),
    "partly checked": Label("PARTLY CHECKED", "bold magenta", "too little was compared to call the sides the same"),
    "not checked": Label("NOT CHECKED", "bold magenta", "a side leaves out the checks that are named"),
    "expected": Label("EXPECTED", "magenta", "the sides differ as the pair says that they do"),
    "left out": Label("LEFT OUT", "magenta", "a side declares that it has no such option"),
    "same": Label("ok", "green", "no difference is beyond its bound; the figure is the largest, in units of its bound"),
    "not applicable": Label("-", "dim", "there is nothing to ask in any of the checks"),
    "not asked": Label("NOT ASKED", "dim", "no lack: the pair gives nothing for it, or it builds on what differs"),
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
    return _row(verdict.experiment, verdict.status, verdict.cells)


def row_of(subject: ReportSubject) -> Row:
    """The same of the report's subject."""
    return _row(subject.name, subject.status, subject.cells)


def _row(name: str, status: ReportStatus, cells: Sequence[AnyCell]) -> Row:
    word, style, _ = LABELS[status]
    return Row(word, style, name, details(status, cells))


def cell_row(cell: ReportCell) -> Row:
    """A row of its own for a check, where there is one subject."""
    word, style, _ = LABELS[cell.status]
    ratio = f"{cell.ratio:.2g} of the bound" if cell.ratio and cell.status == "same" else ""
    return Row(word, style, cell.check, "; ".join(one for one in (ratio, cell.reason, cell.note) if one))


def details(status: ReportStatus, cells: Sequence[AnyCell]) -> str:
    """Which checks make the verdict, and what became of the others."""
    parts = []
    for other in LABELS:
        found = [cell for cell in cells if cell.status == other]
        if not found or other in UNNAMED:
            continue
        names = ", ".join(_named(cell) for cell in found)
        parts.append(f"in {names}" if other == status else f"{LABELS[other].word} in {names}")
    same = [cell for cell in cells if cell.status == "same"]
    if same:
        parts.append(_passed(same, alone=not parts))
    return "; ".join(parts)


def in_short(cell: AnyCell) -> str:
    """A cell of a table: the largest difference in units of its bound, where checks measure one."""
    if isinstance(cell, Cell):
        return cell_text(cell)
    if cell.shown and cell.status in ("same", "different"):
        return f"{cell.status.upper()} {cell.ratio or 0.0:.1f}"
    word = LABELS[cell.status].word
    if cell.status == "underpowered":
        return f"{word} {cell.needed or ''}".strip()
    if cell.status == "same":
        return f"{word} {cell.ratio:.0e}" if cell.ratio else word
    return word if cell.causes else cell.status if word != "-" else word


def _named(cell: AnyCell) -> str:
    if cell.shown or cell.status in FIGURES:
        return f"{cell.check} ({in_short(cell)})"
    return cell.check


def _passed(cells: Sequence[AnyCell], alone: bool) -> str:
    """How many checks agree, and how near the nearest comes to its bound."""
    count = f"{len(cells)} check{'s' if len(cells) > 1 else ''}" + ("" if alone else " ok")
    shown = [f"{cell.check} {in_short(cell)}" for cell in cells if cell.shown]
    if shown:
        return f"{count}: {', '.join(shown)}"
    measured = [cell for cell in cells if cell.ratio]
    if not alone or not measured:
        return count
    nearest = max(measured, key=lambda cell: cell.ratio or 0.0)
    return f"{count}, {nearest.ratio:.2g} ({nearest.check})"


def legend(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """What the words mean that are used, of experiments and of checks among their details."""
    used: set[ReportStatus] = {verdict.status for verdict in verdicts}
    cells = [cell for verdict in verdicts for cell in verdict.cells]
    used |= {cell.status for cell in cells if cell.status not in UNNAMED}
    if any(cell.ratio for cell in cells if cell.status == "same"):
        used.add("same")
    yield from meanings(used)


def meanings(used: set[ReportStatus]) -> Iterator[str]:
    """What those words mean."""
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
