"""Packages that are as if they were not installed: in this process for a while, and in those that it starts."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blocked.sitecustomize import Blocker

JAX = ("jax", "jaxlib", "flax", "optax", "orbax")
TORCH = ("torch",)
IMPLEMENTATIONS = ("torch_impl", "flax_impl")
FOLDER = str(Path(__file__).parent)


def environment(names: tuple[str, ...], given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables for a process to which these packages, and those that `given` blocks already, are not there.

    One that is given as blocking none may import them all: a test that plants a package says so that way.
    """
    blocked = given.get("BLOCKED")
    names = () if blocked == "" else tuple(sorted({*names, *filter(None, (blocked or "").split(","))}))
    paths = [path for path in given.get("PYTHONPATH", "").split(os.pathsep) if path and path != FOLDER]
    return {**given, "BLOCKED": ",".join(names), "PYTHONPATH": os.pathsep.join([FOLDER, *paths])}


@contextmanager
def not_installed(*names: str) -> Iterator[None]:
    """Nothing can import these packages, loaded before or not; nor can a process that is started, whatever its `env`.

    Implementations that were loaded hold their framework: they are forgotten for as long, and loaded anew when asked.
    """

    def among(module: str) -> bool:
        return module.partition(".")[0] in (*names, *IMPLEMENTATIONS)

    def start(self: Any, *arguments: Any, env: Mapping[str, str] | None = None, **options: Any) -> None:
        initialize(self, *arguments, env=environment(names, os.environ if env is None else env), **options)

    initialize, blocker = subprocess.Popen.__init__, Blocker(names)
    before = {module: sys.modules.pop(module) for module in list(sys.modules) if among(module)}
    sys.meta_path.insert(0, blocker)
    subprocess.Popen.__init__ = start
    try:
        yield
    finally:
        subprocess.Popen.__init__ = initialize
        sys.meta_path.remove(blocker)
        for module in [module for module in sys.modules if among(module)]:
            del sys.modules[module]
        sys.modules.update(before)
