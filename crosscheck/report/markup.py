"""Text in Markdown: what is not ours can form no heading, cell, link, mention or HTML, whatever it holds.

Names and sentences of letters, digits and a little punctuation are shown as they are, everything else as code.
"""

import re

from spec.text import visible, visible_lines

PLAIN = re.compile(r"(?!\d+[.)])[A-Za-z0-9(](?:[A-Za-z0-9 ,.;:()%=/+-]|(?<=[A-Za-z0-9])_(?=[A-Za-z0-9]))*")
"""What means nothing in Markdown, also at the start of a line."""

LINKED = ("//", "www.")
"""What makes a link of plain text."""


def code(text: str) -> str:
    """The text as a code span; empty where it is."""
    shown = visible(text)
    if not shown:
        return ""
    marks = "`" * (_longest(shown) + 1)
    pad = " " if shown[0] == "`" or shown[-1] == "`" or (shown[0] == shown[-1] == " " and shown.strip()) else ""
    return f"{marks}{pad}{shown}{pad}{marks}"


def inline(text: str) -> str:
    """The text as it is where it is plain, else as code."""
    return text if PLAIN.fullmatch(text) and not any(mark in text for mark in LINKED) else code(text)


def fence(text: str) -> str:
    """Lines of text as a block of code."""
    shown = visible_lines(text.strip("\n"))
    marks = "`" * max(_longest(shown) + 1, 3)
    return f"{marks}\n{shown}\n{marks}"


def row(*cells: str) -> str:
    """A table's row of cells that are Markdown already."""
    # A backslash before it would do for some readers of Markdown and not for others.
    inside = " | ".join(cell.replace("|", "\\x7c") for cell in cells)
    return f"| {inside} |"


def head(*cells: str) -> str:
    """A table's header and the line below it."""
    return f"{row(*cells)}\n{row(*['---'] * len(cells))}"


def _longest(text: str) -> int:
    """The longest run of backticks."""
    return max(map(len, re.findall("`+", text)), default=0)


def folded(title: str, inside: str) -> str:
    """Markdown that is shown when its title, a text of ours, is clicked."""
    return f"\n<details><summary>{title}</summary>\n\n{inside}\n\n</details>\n"
