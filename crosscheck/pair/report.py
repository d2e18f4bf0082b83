"""A pair's result in three formats: on a terminal, as Markdown, as JSON. What sides say of themselves shapes none."""

import math
from collections.abc import Iterator

import msgspec
from rich.console import Console

from crosscheck.pair.given import SIDES
from crosscheck.pair.result import CheckCell, Difference, PairResult, SourcePlace
from crosscheck.report import data
from crosscheck.report.details import looks_like
from crosscheck.report.markup import code, folded, head, inline, row
from crosscheck.report.rows import Row, say, show

SHOWN = 4
"""So many differences of a check are listed on a terminal; report.json has them all."""

WIDTH = 11
"""Columns of the names of facts."""

WORDS = {
    "same": ("ok", "green"),
    "different": ("FAIL", "bold red"),
    "not representable": ("NOT REPRESENTABLE", "bold red"),
    "cannot train alike": ("CANNOT TRAIN ALIKE", "bold red"),
    "crashed": ("CRASH", "bold red"),
    "ambiguous": ("AMBIGUOUS", "bold magenta"),
    "partly": ("PARTLY", "bold magenta"),
    "expected": ("expected", "magenta"),
    "not checked": ("not checked", "magenta"),
}
"""How a status is shown, and in which style, which never says it alone."""


def terminal(result: PairResult, console: Console) -> None:
    """Print the checks, the first difference with its place, the others, the map and the verdict."""
    one, two = result.sides
    say(console, f"{one.name} ({one.kind}) against {two.name} ({two.kind})", "bold")
    count = " and ".join(f"{side.leaves} leaves, {side.numbers:,} numbers" for side in result.sides)
    say(console, f"{result.pair}, seed {result.seed}: {count}")
    say(console, "")
    show(console, [cell_row(cell) for cell in result.cells])
    say(console, "")
    _differences(result, console)
    for note in result.notes:
        say(console, f"note: {note}")
    for entry in result.unused:
        say(console, f"note: expected, and not found: {entry}")
    say(console, f"map: {result.map_file}")
    compared = sum(cell.comparisons for cell in result.cells), sum(cell.elements for cell in result.cells)
    say(console, f"{compared[0]} comparisons of {compared[1]} values in {result.seconds:.0f} s")
    say(console, result.verdict, "bold green" if result.exit_code == 0 else "bold red")


def cell_row(cell: CheckCell) -> Row:
    """A check's row."""
    word, style = WORDS[cell.status]
    ratio = ""
    if cell.ratio and cell.status == "same":
        ratio = f"{cell.ratio:.2g} of the bound"
    return Row(word, style, cell.check, "; ".join(one for one in (ratio, cell.text) if one))


def _differences(result: PairResult, console: Console) -> None:
    found = [one for one in result.differences if not one.expected]
    known = [one for one in result.differences if one.expected]
    if found:
        first = found[0]
        say(console, f"first difference: {first.name}", "bold red")
        for name, words in facts(first):
            say(console, f"  {name:<{WIDTH}} {words}", indent=WIDTH + 1)
    for check in dict.fromkeys(one.check for one in found):
        others = [one for one in found[1:] if one.check == check]
        for one in others[:SHOWN]:
            say(console, f"also: {one.name}: {_line(one)}", indent=6)
        if len(others) > SHOWN:
            say(console, f"and {len(others) - SHOWN} more in {check}, all in report.json")
    for one in known[:SHOWN]:
        say(console, f"expected: {one.name}: {one.expected}", indent=10)
    if found or known:
        say(console, "")


def facts(one: Difference) -> Iterator[tuple[str, str]]:
    """What is known of a difference, in order."""
    yield "what", one.text
    for side, place in zip(SIDES, (one.first, one.second), strict=True):
        if place is not None:
            yield side, where(place)
    if one.index:
        yield "index", str(list(one.index))
    if one.values is not None:
        yield "values", " and ".join(_value(value) for value in one.values)
    if one.bound is not None and one.size is not None:
        yield "difference", f"{_value(one.size)}, allowed {_value(one.bound)}"
    if one.precision:
        yield "precision", one.precision
    yield from looks_like(one.explanation)


def where(place: SourcePlace) -> str:
    """A place in a line."""
    return ", ".join(word for word in (place.source, place.module, place.op) if word) or "(unknown)"


def _line(one: Difference) -> str:
    places = [where(place) for place in (one.first, one.second) if place is not None]
    values = f"; {' and '.join(_value(value) for value in one.values)}" if one.values is not None else ""
    like = "".join(f"; {name}: {words}" for name, words in looks_like(one.explanation) if _named(one))
    return one.text + values + (f"; at {' / '.join(places)}" if places else "") + like


def _named(one: Difference) -> bool:
    return one.explanation is not None and bool(one.explanation.looks_like)


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.9g}" if math.isfinite(value) else str(value)
    return str(value)


def markdown(result: PairResult) -> str:
    """report.md."""
    return "\n".join(_blocks(result)) + "\n"


def _blocks(result: PairResult) -> Iterator[str]:
    one, two = result.sides
    yield f"# crosscheck pair: {code(result.pair)}"
    yield f"\n**{inline(result.verdict)}**\n"
    for side in (one, two):
        versions = ", ".join(f"{name} {version}" for name, version in side.versions.items())
        yield f"- {side.name}: {code(side.kind)}, {side.leaves} leaves, {side.numbers:,} numbers; {inline(versions)}"
    yield f"- map: {code(result.map_file)}\n"
    yield head("check", "", "largest, in bounds", "what", "seconds")
    for cell in result.cells:
        word = WORDS[cell.status][0]
        ratio = "" if cell.ratio is None else f"{cell.ratio:.2g}"
        yield row(
            cell.check, f"**{word}**" if word.isupper() else word, ratio, inline(cell.text), f"{cell.seconds:.1f}"
        )
    open_still = [one for one in result.differences if not one.expected]
    if open_still:
        yield "\n## Differences, in order\n"
        for number, found in enumerate(open_still):
            yield f"- {code(found.name)}"
            if number <= SHOWN:
                yield from (f"  - {name}: {code(words)}" for name, words in facts(found))
                if found.explanation and not found.explanation.looks_like:
                    yield from folded("tried", found.explanation.tried)
    if known := [one for one in result.differences if one.expected]:
        yield "\n## Expected\n"
        yield from (f"- {code(found.name)}: {code(found.expected)}" for found in known)
    if result.notes or result.unused:
        yield "\n## Notes\n"
        yield from (f"- {code(note)}" for note in result.notes)
        yield from (f"- expected, and not found: {code(entry)}" for entry in result.unused)


def json(result: PairResult) -> bytes:
    """report.json: the fields of crosscheck.pair.result.Result."""
    return data.encode(msgspec.to_builtins(result)) + b"\n"


def plain_text(result: PairResult) -> str:
    """What a terminal of 80 columns shows, for an exception's message."""
    import io

    written = io.StringIO()
    terminal(result, Console(file=written, width=80, force_terminal=True, color_system=None))
    return written.getvalue().rstrip()
