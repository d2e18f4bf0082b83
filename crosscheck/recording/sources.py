"""What an implementation's process has read, so that it can be told later whether any of that has changed.

Python reports imports, opened files, searched folders, native libraries and processes itself, to audit hooks. What
cannot be seen that way makes a recording unfit to be kept: see `Watch.found`. docs/crosscheck.md has it in words.
"""

import functools
import importlib.machinery
import importlib.util
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType, ModuleType
from typing import Any

import msgspec

from crosscheck.recording import own_code
from crosscheck.recording.packages import Packages
from crosscheck.recording.places import Places, digest, importable, names, outline, signature
from spec import cache, processes
from spec.machine import THREADS

NO_FILES = ("/proc/", "/sys/", "/dev/")
"""Where the system answers in the place of files."""

MEMORY = "/dev/shm/"
"""But for these, which are files."""

TEMPORARY = ("TMPDIR", "TEMP", "TMP")
"""Variables that say where to put files which are made anew in every run."""

GRAIN = 10**8
"""Nanoseconds that a file's time may lag behind the clock: a system counts in ticks, of 10 ms at most."""

LOOKS = ("access", "lstat", "readlink", "stat")
"""Functions of os that tell of a file without opening it, for which there are no events. All others use these."""

LISTINGS = frozenset({"os.listdir", "os.scandir"})

PROCESSES = frozenset(
    {
        *("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile", "os.system", "pty.spawn"),
        "subprocess.Popen",
    }
)
"""Events of another process, whose reads are not this one's."""

ELSEWHERE = frozenset({"socket", "sqlite3", "winreg", "msvcrt"})
"""What the first part of an event's name says of data that come from no file that is opened by Python."""


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """All that a recording was made from, but for what is the same for a whole run, see crosscheck.recording.reuse.

    packages: installed distributions, see crosscheck.recording.packages. files: by name, see
    crosscheck.recording.places; folders: those that stand next to own modules. listed: folders that own files have
    listed; looked: what they have asked about without opening it. searched: what the folders of the import path, and
    the `paths` that were put on it, hold of the modules that were `asked` for, and those of installed packages of the
    `missing` ones. variables: those of the environment that own files have read, with the values that they had at
    first.
    """

    packages: dict[str, str]
    files: dict[str, str]
    folders: dict[str, str]
    listed: dict[str, str]
    looked: dict[str, str]
    paths: list[str]
    asked: list[str]
    missing: list[str]
    searched: dict[str, str]
    variables: dict[str, str]


class Unfit(Exception):
    """Why nobody can say what a recording was made from."""


class Watch:
    """Watches its process from now on. implementation: as it is named on the command line."""

    def __init__(self, implementation: str):
        self._begin = time.time_ns() - GRAIN
        self._places = Places(implementation)
        self._packages = Packages()
        self._kinds: dict[str, str] = {}
        self._read: set[str] = set()
        self._fixed: set[str] = set()
        self._written: set[str] = set()
        self._listed: set[str] = set()
        self._looked: set[str] = set()
        self._paths: set[str] = set()
        self._asked: set[str] = set()
        self._variables: set[str] = set()
        self._scanned: dict[str, str] = {}
        self._unfit = ""
        self._asking = 0
        # What it sets itself comes from nowhere else.
        self._environment = dict(os.environ)
        _watch_looks(self)
        _watch_environment(self)
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            self._note_open(*arguments)
        elif event == "import":
            self._asked.add(arguments[0])
            self._paths.update(os.path.abspath(path) for path in arguments[2] or () if isinstance(path, str))
            if arguments[1] and self._places.kind(arguments[1]) == "own":
                self._blame(f"{arguments[1]} is compiled")
        elif event in LISTINGS:
            # What a package lists, its hashes stand for.
            if self._nearest() == "own":
                self._note_listed(arguments[0])
        elif event in PROCESSES:
            # One of spec.processes calls a function of a module that this process has, and reads what that reads.
            if self._among() and not self._at_work(processes.__file__):
                self._blame(f"it starts a process ({event})")
        elif event.startswith("ctypes."):
            library = arguments[0] if event == "ctypes.dlopen" and arguments else None
            foreign = isinstance(library, str) and os.sep in library and self._places.kind(library) == "own"
            if self._nearest() == "own" or (foreign and self._among()):
                self._blame(f"it calls native code ({event})")
        elif event.partition(".")[0] in ELSEWHERE and self._among():
            self._blame(f"it reads from elsewhere than files ({event})")

    def _note_listed(self, folder: Any) -> None:
        if isinstance(folder, int):
            try:
                folder = os.readlink(f"/proc/self/fd/{folder}")
            except OSError:
                self._blame("it lists a folder by a handle")
                return
        self._listed.add(os.path.abspath(os.fsdecode(folder or ".")))

    def note_look(self, path: Any) -> None:
        """Somebody asks what stands at a path."""
        # Its own questions are nobody else's, and to find that out for each takes longer than all of their answers.
        if self._asking == threading.get_ident():
            return
        if isinstance(path, str | bytes | os.PathLike) and self._nearest(otherwise="python") == "own":
            place = os.path.abspath(os.fsdecode(path))
            if not place.startswith(NO_FILES):
                self._looked.add(place)
                if os.path.isabs(os.fsdecode(path)):
                    self._fixed.add(place)

    def _note_open(self, path: Any, mode: Any, flags: int) -> None:
        if isinstance(path, int):
            return
        named = os.fsdecode(path)
        place = os.path.abspath(named)
        writes = flags & (os.O_WRONLY | os.O_RDWR) != 0
        if place.startswith(NO_FILES) and not place.startswith(MEMORY):
            if place != os.devnull and not writes and self._nearest() == "own":
                self._blame(f"it reads {place}")
            return
        if writes:
            if (place in self._read or (flags & os.O_RDWR and not flags & os.O_TRUNC)) and os.path.exists(place):
                self._blame_if_own(f"it changes {place}, which it reads")
            self._written.add(place)
            return
        self._read.add(place)
        if os.path.isabs(named) and self._nearest() == "own":
            self._fixed.add(place)
        # Relative to a folder that the event does not name.
        if mode is None and not os.path.isabs(named) and not os.path.lexists(place):
            self._blame_if_own(f"it opens {named} by a handle of its folder")

    def note_variable(self, name: str | None) -> None:
        """Own code has read a variable of the environment; None: all of them."""
        if self._nearest(otherwise="python") == "own":
            if name is None:
                self._blame("it goes through the whole environment")
            # Those that say how many threads to use are the same for a whole run, see crosscheck.recording.reuse.
            elif name not in TEMPORARY and name not in THREADS:
                self._variables.add(name)

    def _blame(self, reason: str) -> None:
        self._unfit = self._unfit or reason

    def _blame_if_own(self, reason: str) -> None:
        if self._nearest() == "own":
            self._blame(reason)

    def _nearest(self, otherwise: str = "own") -> str:
        """Whose code is at work: "own", "installed", "ours", or "import" for Python's search for modules.

        otherwise: what to say where Python's own is all there is, as in a thread that it runs.
        """
        return next((kind for kind in self._kinds_outwards() if kind != "python"), otherwise)

    def _among(self) -> bool:
        """Whether own code is among those who are at work, and not only because it imports what is installed.

        Where nobody is who could be asked, as in a thread that the standard library runs, it may be.
        """
        vouched = False
        for kind in self._kinds_outwards():
            if kind in ("own", "import"):
                return kind == "own"
            vouched = vouched or kind != "python"
        return not vouched

    def _at_work(self, path: str) -> bool:
        """Whether a function of that file is among those who are at work."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename != path:
            frame = frame.f_back
        return frame is not None

    def _kinds_outwards(self) -> Iterator[str]:
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            path = frame.f_code.co_filename
            if path != __file__:
                if path not in self._kinds:
                    self._kinds[path] = self._places.kind(path)
                yield self._kinds[path]
            frame = frame.f_back

    def found(self) -> Sources:
        """What was read so far. Raises Unfit where that cannot be vouched for."""
        if self._unfit:
            raise Unfit(self._unfit)
        self._asking = threading.get_ident()
        try:
            return self._found()
        finally:
            self._asking = 0

    def _found(self) -> Sources:
        modules = list(_modules())
        paths = {_source(path) for path in self._read | {path for _, path in modules}} - self._written
        kept = os.environ.get(cache.VARIABLE)
        aside = os.path.join(kept, "") if kept else "\0"

        def aside_has(path: str) -> bool:
            return os.path.join(path, "").startswith(aside)

        files: dict[str, str] = {}
        folders: set[str] = set()
        packages: set[str] = set()
        for path in paths:
            kind = self._places.kind(path)
            if path.startswith(aside) or kind in ("python", "import"):
                continue
            if kind == "installed" and (owners := self._packages.owners(path)) is not None:
                packages |= owners
            # A folder is opened to be synchronized, too.
            elif not os.path.isdir(path):
                files[self._places.name(path, path in self._fixed)] = self._sign(path)
                if path.endswith(".py"):
                    folders.add(os.path.dirname(path))
        own = {name.partition(".")[0] for name, path in modules if self._places.kind(path) == "own"}
        for path in sorted(paths):
            if self._places.kind(path) == "own":
                self._scan(path, own)
        known = {folder for _, folder in self._places.roots()}
        added = sorted(self._places.name(path) for path in self._paths - known if self._places.kind(path) == "own")
        tops = {name.partition(".")[0] for name in self._asked | set(sys.modules)}
        return Sources(
            packages={name: self._packages.signature(name) for name in packages},
            files=files,
            folders={
                self._places.name(path): signature(path)
                for path in folders
                if self._places.kind(path) in ("own", "ours") and not aside_has(path)
            },
            listed={self._places.name(path): names(path) for path in self._listed if not aside_has(path)},
            looked=self._outlines(aside_has),
            paths=added,
            asked=sorted(tops),
            missing=sorted(tops - set(sys.modules)),
            searched=searched(self._places, tops, tops - set(sys.modules), added),
            variables={name: self._environment.get(name, "") for name in self._variables},
        )

    def _outlines(self, aside_has: Callable[[str], bool]) -> dict[str, str]:
        """Of what was looked at. Folders above are where a tree stands, and no matter: `resolve` looks at each."""
        roots = tuple(os.path.join(folder, "") for _, folder in self._places.roots())
        return {
            self._places.name(path, path in self._fixed): outline(path)
            for path in self._looked - self._written
            if not aside_has(path) and not any(root.startswith(os.path.join(path, "")) for root in roots)
        }

    def _sign(self, path: str) -> str:
        with suppress(OSError):
            status = os.stat(path)
            if stat.S_ISREG(status.st_mode) and status.st_mtime_ns > self._begin:
                raise Unfit(f"{path} has changed while it ran")
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                raise Unfit(f"it reads {path}, which is no file")
        return signature(path)

    def _scan(self, path: str, own: set[str]) -> None:
        """Raise Unfit where a source names what reads unseen."""
        if path.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)):
            raise Unfit(f"{path} is compiled")
        if path.endswith(".py"):
            if path not in self._scanned:
                installed = {name for name in sys.modules if "." not in name and self._is_installed(name)}
                self._scanned[path] = own_code.reads_unseen(path, installed - own)
            if reason := self._scanned[path]:
                raise Unfit(f"{path} {reason}")

    def _is_installed(self, name: str) -> bool:
        file = _file(sys.modules[name])
        return file is not None and self._places.kind(file) == "installed"


def unchanged(then: Sources, places: Places, packages: Packages, signatures: dict[str, str]) -> bool:
    """Whether all of it is as it was. signatures: of this run, by path: both sides name the same files again."""

    def now(name: str) -> str:
        path = places.path(name)
        if path not in signatures:
            signatures[path] = signature(path)
        return signatures[path]

    return (
        all(os.environ.get(name, "") == value for name, value in then.variables.items())
        and all(packages.signature(name) == value for name, value in then.packages.items())
        and all(now(name) == value for name, value in (then.files | then.folders).items())
        and all(names(places.path(name)) == value for name, value in then.listed.items())
        and all(outline(places.path(name)) == value for name, value in then.looked.items())
        and searched(places, set(then.asked), set(then.missing), then.paths) == then.searched
    )


def searched(places: Places, asked: set[str], missing: set[str], paths: list[str]) -> dict[str, str]:
    """What an import of these modules would find in each folder of the import path; those without any are left out.

    paths: the names of folders that were put on it.
    """
    found = {label: importable(folder) & asked for label, folder in places.roots()}
    found |= {name: importable(places.path(name)) & asked for name in paths}
    found["installed"] = {name for site in places.sites for name in importable(site)} & missing
    return {label: digest("\n".join(sorted(names)).encode()) for label, names in found.items() if names}


def _watch_looks(watch: Watch) -> None:
    """Have the watch told of every path that os is asked about, os.path and pathlib included."""
    groups: list[Any] = [getattr(os, name) for name in dir(os) if name.startswith("supports_")]
    for name in LOOKS:
        before: Any = getattr(os, name, None)
        if before is None:
            continue
        setattr(os, name, told := _told(watch, before))
        for group in groups:
            if isinstance(group, set) and before in group:
                group.add(told)


def _told(watch: Watch, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def look(path: Any, *arguments: Any, **named: Any) -> Any:
        watch.note_look(path)
        return function(path, *arguments, **named)

    return look


def _watch_environment(watch: Watch) -> None:
    """Have the watch told of every variable that is read by way of os.environ, os.getenv included."""

    kind: Any = type(os.environ)

    class Watched(kind):
        def __getitem__(self, key: Any) -> Any:
            watch.note_variable(os.fsdecode(key) if isinstance(key, str | bytes) else None)
            return super().__getitem__(key)

        def __iter__(self) -> Any:
            watch.note_variable(None)
            return super().__iter__()

        def __len__(self) -> int:
            watch.note_variable(None)
            return super().__len__()

    given: list[Any] = [os.environ, *([os.environb] if os.supports_bytes_environ else [])]
    for variables in given:
        variables.__class__ = Watched


def _modules() -> Iterator[tuple[str, str]]:
    """All modules and their files."""
    for name, module in list(sys.modules.items()):
        if (file := _file(module)) is not None:
            yield name, os.path.abspath(file)


def _file(module: ModuleType) -> str | None:
    """Not by getattr, which makes some modules import others."""
    file = getattr(module, "__dict__", {}).get("__file__")
    return file if isinstance(file, str) else None


def _source(path: str) -> str:
    """The source of a compiled module; a file that is none is its own."""
    if path.endswith(".pyc"):
        with suppress(ValueError):
            return importlib.util.source_from_cache(path)
    return path
