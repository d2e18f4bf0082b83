"""What has to be there before anything else is imported, said in one line where it is not.

`spec` and `crosscheck` ask here first of all. So this file, and what is imported before it, is written in a syntax that
every Python since 3.7 reads, and imports nothing but the standard library.
"""

from __future__ import annotations

import sys
from importlib import util
from pathlib import Path

PYTHON = (3, 11)
"""The oldest that works, as pyproject.toml has it."""

PACKAGES = ("msgspec", "numpy", "rich", "safetensors")
"""What nothing works without: the distribution's dependencies but matplotlib, whose absence costs a plot."""

SUFFIX = "_impl"
"""The folder of an implementation is named after the extra that installs what it needs."""


def extras() -> dict[str, str]:
    """The extras of the distribution `ohlol` that install what a package of it needs, by the package."""
    found = sorted(path.parent.name for path in Path(__file__).resolve().parents[1].glob(f"*{SUFFIX}/train.py"))
    each = {name: name[: -len(SUFFIX)] for name in found}
    return {**each, "crosscheck": ",".join(["crosscheck", *each.values()])}


EXTRAS = extras()

COULD_NOT_RUN = 3
"""Exit code, that of spec.errors.FrameworkMissing, which cannot be imported from here."""


def check(*packages: str) -> None:
    """Let the process go on only under a Python that is new enough, with these packages installed.

    Raises ImportError. Where a command of the project is run by `python -m`, and nobody could catch that, it ends the
    process with one line instead.
    """
    said = problem(packages)
    if not said:
        return
    # "-m" is what Python has there until it has found the module.
    if sys.argv[:1] == ["-m"] or _command() in (*EXTRAS, "spec"):
        sys.stderr.write(f"error: {said}\n")
        raise SystemExit(COULD_NOT_RUN)
    raise ImportError(said)


def problem(packages: tuple[str, ...]) -> str:
    """What is wrong with this Python or its packages, and what helps; empty if nothing is."""
    if sys.version_info[:2] < PYTHON:
        wanted, got = (".".join(map(str, version)) for version in (PYTHON, sys.version_info[:3]))
        install = f"python{wanted} -m pip install {_requirement(_asked(), installed=False)}"
        return f"expected Python {wanted} or newer, got {got} ({sys.executable}); to install it for one: {install}"
    missing = [name for name in packages if not is_installed(name)]
    if missing:
        return f"expected {', '.join(missing)} to be installed, got none; {hint(_asked())}"
    return ""


def is_installed(name: str) -> bool:
    """Whether there is a package of that name; it is not imported."""
    if name in sys.modules:
        return True
    try:
        return util.find_spec(name) is not None
    except ImportError:
        return False


def hint(extras: str) -> str:
    """How to install `ohlol` with these extras for the Python that runs."""
    # Reading what is installed takes longer than the rest of this file, and only an error needs it.
    from importlib import metadata

    try:
        metadata.distribution("ohlol")
        installed = True
    except metadata.PackageNotFoundError:
        installed = False
    return f"to install it: pip install {_requirement(extras, installed)}"


def _requirement(extras: str, installed: bool) -> str:
    """For pip, which completes what is installed, and else needs the folder where the project is."""
    folder = Path(__file__).resolve().parents[1]
    wanted = f"ohlol[{extras}]" if extras else "ohlol"
    from_folder = not installed and (folder / "pyproject.toml").exists()
    return f'"{wanted} @ {folder.as_uri()}"' if from_folder else f'"{wanted}"'


def _asked() -> str:
    """The extras of what `python -m` is to run, as far as that can be told."""
    return EXTRAS.get(_command(), "")


def _command() -> str:
    """The package that `python -m` runs a module of, as far as that can be told."""
    words = getattr(sys, "orig_argv", [])
    found = getattr(sys.modules.get("__main__"), "__spec__", None)
    name = words[words.index("-m") + 1] if "-m" in words[:-1] else getattr(found, "name", "")
    return name.partition(".")[0]
