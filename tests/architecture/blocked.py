"""Run a Python module with some packages made impossible to import: `python blocked.py torch,jax -m pytest ...`."""

import importlib.abc
import runpy
import sys
from collections.abc import Sequence
from types import ModuleType


class Blocker(importlib.abc.MetaPathFinder):
    """Refuses what is blocked, whoever asks."""

    def __init__(self, names: Sequence[str]):
        self.names = set(names)

    def find_spec(self, fullname: str, path: object, target: ModuleType | None = None) -> None:
        if fullname.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"blocked: {fullname}", name=fullname)


if __name__ == "__main__":
    blocked, _, module, *arguments = sys.argv[1:]
    sys.meta_path.insert(0, Blocker(blocked.split(",")))
    # As `python -m` has them while it looks for the module.
    sys.argv, sys.orig_argv = ["-m", *arguments], [sys.executable, "-m", module, *arguments]
    sys.path[0] = ""  # as `python -m` has it: the current directory, not this file's
    runpy.run_module(module, run_name="__main__", alter_sys=True)
