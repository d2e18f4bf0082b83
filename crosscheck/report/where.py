"""Where in an implementation's source a stage of the computation is: read as text, nothing of it is imported."""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from crosscheck.recording.implementation import origin
from crosscheck.report.model import SourceLine

LARGEST = 1_000_000
"""Bytes of a source; what is longer is nobody's writing."""

MOST = 200
"""Modules of a folder that are looked through."""

DEFINED = re.compile(r"^(class|def|async def) +(\w+)[ \t]*(?:\(([^()]*)\))?", re.MULTILINE)
"""A class or function of a module, with a class's bases."""

FRAME = re.compile(r'^ *File "([^"\n]+)", line (\d+)(?:, in (\S+))?', re.MULTILINE)

FILES: Mapping[str, tuple[str, ...]] = {
    "initialization": ("parameters", "initialize"),
    "round-trip": ("parameters", "round_trip"),
    "loss": ("loss", "loss_gradient"),
    "optimizer": ("optimizer", "replay"),
    "layouts": ("arrays", "forward"),
    "trajectory": ("training", "train"),
    "dropout": ("dropout", "forward"),
    "shipped-path": ("training", "train"),
    "members": ("members", "ensemble", "train_ensemble"),
    "devices": ("devices", "train_on_devices"),
    "generation": ("generation", "generate"),
    "outcome": ("training", "train"),
    "convergence": ("ensemble", "train_ensemble"),
}
"""Of a check: the file of an implementation that it is about, by the name that the two implementations here give it,
and the function of the contract that is asked, for one that has no such file."""

OF_TRAINING: Mapping[str, tuple[str, ...]] = {
    "clipping": ("optimizer", "train"),
    "update": ("optimizer", "train"),
    "slots": ("optimizer", "train"),
    "evaluation": ("training", "train"),
}
"""The same of a word of a blamed stage of training, whatever the check."""

OF_MODELS = ("structure", "forward", "gradients")
"""Checks whose stages are parts of the model."""


class Definition(NamedTuple):
    """A class or function of a module. body: the lines below it, up to the next."""

    file: Path
    line: int
    kind: str
    name: str
    bases: tuple[str, ...]
    body: str


class SourceFinder:
    """The modules of one implementation, which are read when first asked for. side: whose they are, in the report."""

    def __init__(self, implementation: str, side: str) -> None:
        self._side = side
        self._module = _module(implementation)
        self._read: list[Definition] | None = None

    def stage(self, check: str, stage: str, families: Sequence[str]) -> list[SourceLine]:
        """Where a stage is computed, of models of these kinds, the nearest first; nothing where that is not known."""
        # What has a check of its own was found right by it: a training's loss is wrong by what it is computed of.
        words = [word for word in OF_TRAINING if word in re.split(r"[^\w-]+", stage)]
        if check in OF_MODELS or (check == "trajectory" and stage.startswith("gradient")):
            return self._of_models(stage, families) or self._of_files(("forward",))
        return self._of_files(OF_TRAINING[words[0]] if words else FILES.get(check, ()))

    def frame(self, traceback: str) -> list[SourceLine]:
        """The last place in a traceback that is the implementation's own."""
        if self._module is None:
            return []
        own = str(self._module.parent) + os.sep if self._module.name == "__init__.py" else str(self._module)
        for file, line, name in reversed(FRAME.findall(traceback)):
            if file.startswith(own) or os.path.realpath(file).startswith(own):
                return [SourceLine(side=self._side, file=_shown(Path(file)), line=int(line), name=name)]
        return []

    def _of_models(self, stage: str, families: Sequence[str]) -> list[SourceLine]:
        """The class that all those models share, and where it makes the part that the stage begins with."""
        chains = [chain for family in families if (chain := list(self._chain(family)))]
        if not chains:
            return []
        shared = [one for one in chains[0] if all(one in chain for chain in chains[1:])]
        nearest = shared[:1] or [chain[0] for chain in chains]
        attribute = re.match(r"\w+", stage)
        made = self._made(attribute[0], shared) if attribute and shared else None
        found = [self._line(one) for one in nearest]
        return [*found, made] if made and made not in found else found

    def _made(self, attribute: str, chain: Sequence[Definition]) -> SourceLine | None:
        assigned = re.compile(rf"^ +self\.{attribute}\b *(?::[^=\n]+)?=[^=]", re.MULTILINE)
        for one in chain:
            if at := assigned.search(one.body):
                line = one.line + one.body.count("\n", 0, at.start())
                return SourceLine(side=self._side, file=_shown(one.file), line=line, name=f"{one.name}.{attribute}")
        return None

    def _chain(self, name: str) -> Iterator[Definition]:
        """The class of that name and what it inherits from, as far as that is the implementation's own."""
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            wanted = waiting.pop(0)
            one = next((d for d in self._definitions() if d.kind == "class" and d.name == wanted), None)
            if one is not None and wanted not in seen:
                seen.add(wanted)
                yield one
                waiting += one.bases

    def _of_files(self, names: Sequence[str]) -> list[SourceLine]:
        """What is public in the first file of those names that is there; else a function of such a name.

        In the file: a function of such a name, else the first function, else the first class.
        """
        for name in names:
            inside = [one for one in self._definitions() if one.file.stem == name and one.file != self._module]
            public = [one for one in inside if not one.name.startswith("_")]
            functions = [one for one in self._definitions() if one.kind != "class" and one.name == name]
            public.sort(key=lambda one: (one.name not in names, one.kind == "class"))
            if found := public or functions:
                return [self._line(found[0])]
        return []

    def _line(self, one: Definition) -> SourceLine:
        return SourceLine(side=self._side, file=_shown(one.file), line=one.line, name=one.name)

    def _definitions(self) -> list[Definition]:
        if self._read is None:
            self._read = [one for file in self._files() for one in _defined(file)]
        return self._read

    def _files(self) -> list[Path]:
        if self._module is None:
            return []
        if self._module.name != "__init__.py":
            return [self._module]
        return sorted(self._module.parent.glob("*.py"))[:MOST]


def _module(implementation: str) -> Path | None:
    # To find a module within a package imports that, which may be a framework's.
    package = "" if "/" in implementation else implementation.rpartition(".")[0]
    if package and package not in sys.modules:
        return None
    try:
        return origin(implementation)
    # Names of recordings may be anything, and a path that cannot be is no path.
    except (OSError, ValueError):
        return None


def _defined(file: Path) -> list[Definition]:
    try:
        if not file.is_file() or file.stat().st_size > LARGEST:
            return []
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    starts = list(DEFINED.finditer(text))
    ends = [*(found.start() for found in starts), len(text)][1:]
    return [
        Definition(
            file=file,
            line=text.count("\n", 0, found.start()) + 1,
            kind=found[1],
            name=found[2],
            bases=tuple(re.findall(r"(\w+) *(?:,|$)", found[3] or "")),
            body=text[found.start() : end],
        )
        for found, end in zip(starts, ends, strict=True)
    ]


def _shown(file: Path) -> str:
    """Relative to the working directory where it is below that."""
    try:
        return file.resolve().relative_to(Path.cwd()).as_posix()
    except (OSError, ValueError):
        return str(file)
