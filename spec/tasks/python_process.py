"""Draws batches of a task in Python for a process that does not import people's files. See spec.tasks.python."""

import sys
from typing import Any

import msgspec
import numpy as np

from spec.errors import UsageError
from spec.tasks.python import Python, draw


def main() -> int:
    """Read what is asked as JSON, and leave the arrays where that says; what is wrong is one line on stderr."""
    asked = msgspec.json.decode(sys.stdin.buffer.read())
    try:
        task = msgspec.convert(asked["task"], Python)
        arrays: Any = {}
        for step in asked["steps"]:
            drawn = draw(task, asked["seed"], step)
            arrays |= {f"{step}/{number}": array for number, array in enumerate(drawn)}
        np.savez(asked["place"], **arrays)
    except (UsageError, ValueError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
