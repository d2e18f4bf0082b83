"""Writes the pages of docs/ out of the tables, and runs nothing: make tables-pages."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from crosscheck.libraries import defaults, layers, optimizers, pages

ROOT = Path(__file__).parents[2]


def main() -> None:
    for name, text in (
        ("optimizers.md", pages.optimizers(optimizers.table())),
        ("layers.md", pages.layers(layers.table())),
        ("defaults.md", pages.defaults(defaults.table())),
    ):
        (ROOT / "docs" / name).write_text(text)


if __name__ == "__main__":
    main()
