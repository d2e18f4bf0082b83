"""Names for files that stay the same where a tree is moved, and signatures that change with what is read there."""

import hashlib
import importlib.machinery
import os
import stat
import sys
import sysconfig
from pathlib import Path

import crosscheck
import spec

ABSENT = "absent"
"""The signature of what was asked for and not there."""

SITES = ("site-packages", "dist-packages")
"""What folders of installed packages are called."""

OURS = tuple(os.path.join(os.path.dirname(os.path.abspath(str(p.__file__))), "") for p in (crosscheck, spec))
"""crosscheck itself and the spec, whose ways of reading are known: they count as files, but cause no doubt."""

_LIBRARIES = [*(sysconfig.get_paths()[kind] for kind in ("stdlib", "platstdlib")), os.path.dirname(str(os.__file__))]
PYTHON = tuple({os.path.join(way(path), "") for path in _LIBRARIES for way in (os.path.abspath, os.path.realpath)})
"""Python's own modules, which its version stands for."""

ARCHIVE = f"python{sys.version_info.major}{sys.version_info.minor}.zip"
"""Where Python looks for its own modules first."""

SUFFIXES = tuple(sorted(importlib.machinery.all_suffixes(), key=len, reverse=True))


class Places:
    """Where an implementation, ohlol and the working directory are, in this process.

    implementation: a module's name, or the path of one. A file below one of these has a name that begins with a word
    for it; of several that hold a file, the nearest. Any other file's name is its path. `arrangement`: which of these
    folders is which other one, or in it, without which names say nothing.
    """

    def __init__(self, implementation: str):
        listed = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        found = {
            "implementation": _root(implementation),
            "ohlol": os.path.dirname(os.path.dirname(os.path.abspath(spec.__file__))),
            "here": os.getcwd(),
            **{f"PYTHONPATH {i}": os.path.abspath(path) for i, path in enumerate(listed) if path},
        }
        self.sites = sorted({path for path in sys.path if os.path.basename(path) in SITES})
        self._sites = tuple(os.path.join(path, "") for path in self.sites)
        # Of words for one folder, the first: who works in another one has the same names.
        folders: dict[str, str] = {}
        for label, path in found.items():
            if path and not os.path.join(path, "").startswith((*self._sites, *PYTHON)):
                folders.setdefault(path, label)
        self._roots = {label: path for path, label in folders.items()}
        self._nearest = sorted(self._roots.items(), key=lambda root: -len(root[1]))
        self.arrangement = [self._within(found[label]) for label in ("implementation", "ohlol") if found[label]]
        self._kinds: dict[str, str] = {}

    def roots(self) -> list[tuple[str, str]]:
        """The folders in which modules are searched, by their words."""
        return list(self._roots.items())

    def name(self, path: str, fixed: bool = False) -> str:
        """The name of a file. fixed: it was asked for by its whole path, wherever this process works."""
        found = self._within(path)
        return path if fixed and found.partition(":")[0] not in ("implementation", "ohlol") else found

    def _within(self, path: str) -> str:
        for label, root in self._nearest:
            if path == root or path.startswith(os.path.join(root, "")):
                return f"{label}:{os.path.relpath(path, root)}"
        return path

    def path(self, name: str) -> str:
        """Where a file of that name is."""
        label, separator, rest = name.partition(":")
        if separator and not os.path.isabs(name):
            return os.path.normpath(os.path.join(self._roots[label], rest)) if label in self._roots else os.devnull
        return name

    def kind(self, path: str) -> str:
        """Whose file it is: "installed", "python", "ours", or "own"; "import" for what searches modules."""
        if path not in self._kinds:
            self._kinds[path] = self._kind(path)
        return self._kinds[path]

    def _kind(self, path: str) -> str:
        if path.startswith("<frozen importlib"):
            return "import"
        # Generated code is whoever's has it generated, which the frame behind it tells.
        if path.startswith("<") or path.endswith(ARCHIVE):
            return "python"
        folder = os.path.join(path, "")
        if folder.startswith(OURS):
            return "ours"
        if folder.startswith(self._sites):
            return "installed"
        return "python" if folder.startswith(PYTHON) else "own"


def signature(path: str) -> str:
    """A text that changes with what a process sees that reads this file or lists this folder."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            return digest("\n".join(sorted(listing(path))).encode())
        if not stat.S_ISREG(status.st_mode):
            return "no file"
        return digest(Path(path).read_bytes())
    except FileNotFoundError:
        return ABSENT
    except OSError as error:
        return f"unreadable: {error.errno}"


def outline(path: str) -> str:
    """A text that changes with what a process sees that asks what stands here, and not what is in it."""
    try:
        target = os.readlink(path) if os.path.islink(path) else ""
        status = os.stat(path)
    except FileNotFoundError:
        return ABSENT
    except OSError as error:
        return f"unreadable: {error.errno}"
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    return f"{stat.S_IFMT(status.st_mode):o} {size} {target}"


def names(folder: str) -> str:
    """A text that changes with what a process sees that lists this folder."""
    try:
        return digest("\n".join(sorted(os.listdir(folder))).encode(errors="surrogateescape"))
    except FileNotFoundError:
        return ABSENT
    except OSError as error:
        return f"unreadable: {error.errno}"


def listing(folder: str) -> list[str]:
    """What of a folder can matter to an import, or to who looks for a file: reports and runs are folders."""
    with os.scandir(folder) as entries:
        return [
            entry.name
            for entry in entries
            if entry.is_file() or os.path.exists(os.path.join(entry.path, "__init__.py"))
        ]


def importable(folder: str) -> set[str]:
    """The modules that an import would find in a folder."""
    try:
        with os.scandir(folder) as entries:
            return {name for entry in entries if (name := _module(entry))}
    except OSError:
        return set()


def _module(entry: os.DirEntry[str]) -> str:
    if entry.is_dir():
        return entry.name if entry.name.isidentifier() else ""
    suffix = next((suffix for suffix in SUFFIXES if entry.name.endswith(suffix)), None)
    return entry.name.removesuffix(suffix) if suffix else ""


def digest(content: bytes) -> str:
    """Of a file's content."""
    return hashlib.sha256(content).hexdigest()[:32]


def _root(implementation: str) -> str:
    """The folder in which an implementation stands; empty where there is none."""
    path = Path(implementation)
    if path.exists() and (path.suffix == ".py" or len(path.parts) > 1):
        return str(path.resolve().parent)
    top = implementation.partition(".")[0]
    try:
        found = importlib.machinery.PathFinder.find_spec(top)
    except (ImportError, ValueError):
        return ""
    if found is None:
        return ""
    place = found.origin or next(iter(found.submodule_search_locations or ()), "")
    if not place or place in ("built-in", "frozen"):
        return ""
    folder = os.path.dirname(os.path.abspath(place))
    return os.path.dirname(folder) if os.path.basename(place) == "__init__.py" else folder
