"""Text that others wrote, and text that people read: what is cut, what is escaped, and how lines are folded.

Names, reasons, exceptions and descriptions come from files and implementations that may hold anything. Where such a
text enters, `admit` bounds it; where any text is shown, `visible` takes the power out of it. Nothing here is a format's
own: Markdown has its metacharacters besides.
"""

import io
import re
import shlex
import shutil
import sys
import textwrap
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

NAME = 500
"""Characters of a name that are kept, at most."""

MESSAGE = 2_000
"""Characters of a reason or of an exception's message that are kept, at most."""

TRACEBACK = 10_000
"""Characters of a traceback that are kept, at most."""

ENTRIES = 30
"""Entries of a description that are kept, at most."""

LEAST = 28
"""Columns that a table's last cell needs beside the others; with fewer it gets lines of its own."""

NARROWEST = 20
"""Columns to fold to, at least."""

GAP = "  "
"""Between the cells of a row."""

COMMAND = re.compile(r"(?<!\S):(?=:)|(?<=#)#(?=\w*\[)")
"""What makes a line a command to a CI system that reads it: `::error::` at its start, `##[error]` anywhere."""


def visible(text: str) -> str:
    """The text in one line that moves no cursor and commands nothing: what is not printable, a line's end or a lone
    surrogate included, is written as a Python string's escape. Doing it twice changes nothing more."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    # Any word may come to stand at the start of a line.
    return COMMAND.sub(_escape, text) if "::" in text or "##" in text else text


def visible_lines(text: str) -> str:
    """The same for a text whose line ends, `\\n`, are its own, as a traceback's are."""
    return "\n".join(visible(line) for line in text.split("\n"))


def admit(text: str, limit: int = MESSAGE, lines: bool = False) -> str:
    """A foreign text as `visible` has it, cut to `limit` characters with a note that says of how many.

    lines: whether its line ends are kept.
    """
    shown = visible_lines if lines else visible
    if len(text) <= limit and len(whole := shown(text)) <= limit:
        return whole
    # No space at its end: what follows could be a word that `visible` has to look at.
    note = f" ... [cut to {limit:,} of {len(text):,} characters] ..."
    kept = max(limit - len(note), 0)
    end = kept // 4
    return shown(text[:limit])[: kept - end] + note + shown(text[-limit:])[-end or limit :]


def descriptions(described: Mapping[Any, Any]) -> dict[str, str]:
    """What an implementation says of itself: the first entries, each bounded."""
    entries = list(described.items())
    count = len(entries) if len(entries) <= ENTRIES else ENTRIES - 1
    kept = {admit(str(key), NAME): admit(str(value), NAME) for key, value in entries[:count]}
    return kept if count == len(entries) else {**kept, "...": f"cut to {count} of {len(entries)} entries"}


def of_json(encoded: str) -> str:
    """The same JSON with what `visible` would escape written as JSON escapes it, so that it says the same."""
    if not encoded.isprintable():
        encoded = "".join(c if c.isprintable() or c == "\n" else _units(c) for c in encoded)
    return COMMAND.sub(lambda found: _units(found[0]), encoded) if "##" in encoded else encoded


def exception(error: BaseException) -> str:
    """An exception's type and what it says as one line, bounded; also where its own `__str__` fails."""
    try:
        said = " ".join(str(error).split())
    except Exception as failure:
        said = f"(its message cannot be had: {type(failure).__name__})"
    return admit(f"{type(error).__name__}: {said}" if said else type(error).__name__)


def trace(error: BaseException) -> str:
    """An exception's traceback, bounded."""
    return admit("".join(traceback.format_exception(error)), TRACEBACK, lines=True)


def command(words: Iterable[str]) -> str:
    """A command line for a POSIX shell, to be read and copied; words that are not printable are quoted as bash does."""
    return " ".join(shlex.quote(word) if visible(word) == word else _quoted(word) for word in words)


def any_encoding() -> None:
    """Let stdout and stderr take every text: what a terminal's encoding lacks is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def width(stream: TextIO | None = None) -> int | None:
    """Columns of the terminal that the stream is, by default standard output; None where it is none: a log has no
    width."""
    stream = sys.stdout if stream is None else stream
    there = stream is not None and stream.isatty()
    return shutil.get_terminal_size().columns if there else None


def fold(text: str, columns: int | None, indent: int = 2) -> list[str]:
    """A line as lines of at most so many columns, the later ones further in by `indent`.

    Words stay whole, and where one is longer the terminal breaks it. columns: None for no limit.
    """
    if columns is None or len(text) <= columns:
        return [text]
    bare = text.lstrip(" ")
    lead = " " * (len(text) - len(bare))
    columns = max(columns, NARROWEST)
    return textwrap.wrap(
        bare,
        columns,
        initial_indent=lead,
        # Half a line at least is left for words.
        subsequent_indent=(lead + " " * indent)[: columns // 2],
        break_long_words=False,
        break_on_hyphens=False,
    )


def table(rows: Sequence[Sequence[str]], columns: int | None) -> list[list[str]]:
    """Each row's lines. A row's last cell is folded beside the others, or below them where there is no room.

    No cell is cut. columns: None for no limit.
    """
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
    beside = sum(widths) + len(GAP) * len(widths)
    return [_row(row, widths, beside, columns) for row in rows]


def _row(row: Sequence[str], widths: Sequence[int], beside: int, columns: int | None) -> list[str]:
    *cells, last = row
    head = "".join(f"{cell:<{width}}{GAP}" for cell, width in zip(cells, widths, strict=True))
    if columns is None:
        return [(head + last).rstrip()]
    if columns - beside >= LEAST:
        first, *more = fold(last, columns - beside, 0) or [""]
        return [(head + first).rstrip(), *(" " * beside + line for line in more)]
    short = GAP.join(cell.strip() for cell in cells)
    return [*fold(short, columns, 4), *(fold(" " * 4 + last, columns, 0) if last else [])]


def _escape(found: re.Match[str]) -> str:
    return f"\\x{ord(found[0]):02x}"


def _units(character: str) -> str:
    """Its UTF-16 as JSON escapes it."""
    units = memoryview(character.encode("utf-16-le")).cast("H")
    return "".join(f"\\u{unit:04x}" for unit in units)


def _quoted(word: str) -> str:
    """As $'...', which bash, zsh and ksh read; the bytes are the file system's, so that lone surrogates are too."""
    inside = "".join(
        c if c.isprintable() and c not in "'\\" else "".join(f"\\x{byte:02x}" for byte in _bytes(c)) for c in word
    )
    return "$'" + COMMAND.sub(_escape, inside) + "'"


def _bytes(character: str) -> bytes:
    try:
        return character.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return character.encode("utf-8", "surrogatepass")
