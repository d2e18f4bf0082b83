"""A notebook of each chapter, made of its text and its files when the site is built: python docs/lesson/notebooks.py"""

import json
import re
from pathlib import Path
from typing import Any

import record

FIRST = '%pip install --quiet "torch>=2.13" "jax>=0.8.1" "flax>=0.12.6" "optax>=0.2.6" numpy'
"""What a notebook needs: the bounds of pyproject.toml, which a test holds together."""

LAST = """\
print("losses apart by", max(abs(one - other) for one, other in zip(torch_losses, losses)))"""


def cell(kind: str, text: str, number: int) -> dict[str, Any]:
    made = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": text.strip().splitlines(keepends=True)}
    return made | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def prose(text: str, chapter: Path) -> str:
    """A page's text without what only the site can show. What was measured is put in."""
    measured = (chapter / "made" / "measured.txt").read_text()
    text = re.sub(
        r"^```\{literalinclude\} made/measured.txt.*?^```\n",
        lambda _: f"```\n{measured}```\n",
        text,
        flags=re.MULTILINE | re.DOTALL,
    )
    text = re.sub(r"^\{download\}.*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^:{3,}.*\n|^:[\w-]+:.*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^```\{.*?^```\n", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]+\)", r"\1", text)
    return re.sub(r"\n{3,}", "\n\n", text)


def notebook(chapter: Path) -> dict[str, Any]:
    """The idea, both files, each a cell that runs, and what is to be said of them."""
    page = (chapter / "index.md").read_text()
    idea, _, rest = page.partition("## Side by side")
    shapes = rest[rest.index("## Shapes") : rest.index("## What is printed")]
    surprises = rest[rest.index("## What surprises you here") : rest.index("## Exercise")]
    first, second = record.sides(chapter)
    parts = [
        ("markdown", prose(idea, chapter)),
        ("code", FIRST),
        ("markdown", "## PyTorch\n\nIt leaves its start in a file, which the next cell but one reads."),
        ("code", first.read_text() + "torch_losses = losses\n"),
        ("markdown", "## Flax\n\nThe same start, and so the same numbers."),
        ("code", second.read_text()),
        ("code", LAST),
        ("markdown", prose(shapes, chapter)),
        ("markdown", prose(surprises, chapter)),
    ]
    return {
        "cells": [cell(kind, text, number) for number, (kind, text) in enumerate(parts)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def name_of(chapter: Path) -> str:
    return f"{chapter.name[3:]}.ipynb"


def write() -> None:
    """One beside each chapter's page."""
    for chapter in record.chapters():
        (chapter / name_of(chapter)).write_text(json.dumps(notebook(chapter), indent=1) + "\n")


if __name__ == "__main__":
    write()
